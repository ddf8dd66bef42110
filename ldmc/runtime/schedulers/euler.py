"""Euler's method on the probability flow, step for step as diffusers' EulerDiscreteScheduler without churn.

    sigma = sqrt((1 - alpha) / alpha)        sample = image + sigma * noise        d sample / d sigma = noise

Source: Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 1.
"""

import numpy as np

from .base import Sampler, choice

SMALLEST_ALPHA = np.float32(2 ** -24)  # stands for the zero of a rescaled schedule, whose sigma would be infinite


class Euler(Sampler):
    """See `base.Sampler`. Timesteps are whole: `linspace`, diffusers' default, asks the network for fractional ones."""

    name = "euler"
    PREDICTIONS = ("epsilon", "v_prediction", "sample")
    SPACINGS = ("leading", "trailing")
    DEFAULT_SPACING = "linspace"

    def __init__(self, config):
        Sampler.__init__(self, config)
        ends_at = choice(config, "final_sigmas_type", "zero", ("zero", "sigma_min"))
        alphas = self._alphas_cumprod.copy()
        if config.get("rescale_betas_zero_snr"):
            alphas[-1] = SMALLEST_ALPHA
        self._all_sigmas = np.sqrt((np.float32(1) - alphas) / alphas)
        self._last_sigma = np.float32(0) if ends_at == "zero" else self._all_sigmas[0]
        self._sigmas = None
        self._done = 0

    def timesteps(self, steps):
        """See `base.Sampler.timesteps`."""
        found = self._spaced(steps)
        # A timestep past the trained range is refused before a step is made; it has no sigma.
        within = np.minimum(found, self.train_steps - 1)
        self._sigmas = np.append(self._all_sigmas[within], self._last_sigma)
        self._done = 0
        return found

    def start(self, noise):
        """See `base.Sampler.start`: the noise as large as the first sigma, or as diffusers has it where steps lead."""
        largest = self._sigmas.max()
        if self.timestep_spacing == "leading":
            largest = np.sqrt(largest * largest + np.float32(1))
        return noise * largest

    def network_input(self, sample):
        """See `base.Sampler.network_input`: of variance 1 again, as the network was trained."""
        sigma = self._sigmas[self._done]
        return sample / np.sqrt(sigma * sigma + np.float32(1))

    def step(self, model_output, t, sample, eta=0.0, noise=None):
        """See `base.Sampler.step`."""
        sigma, following = self._sigmas[self._done], self._sigmas[self._done + 1]
        self._done += 1
        image = self._image(model_output, sample, sigma)
        direction = (sample - image) / sigma
        return (sample + direction * (following - sigma)).astype(np.float32, copy=False)

    def _image(self, output, sample, sigma):
        if self.prediction_type == "epsilon":
            return sample - sigma * output
        if self.prediction_type == "sample":
            return output
        variance = sigma * sigma + np.float32(1)
        return output * (-sigma / np.sqrt(variance)) + sample / variance
