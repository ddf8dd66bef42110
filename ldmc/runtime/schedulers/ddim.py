"""DDIM, step for step as diffusers' DDIMScheduler.

Source: Song et al. 2020, https://arxiv.org/abs/2010.02502.
"""

import numpy as np

from ..errors import BundleProblem, InputProblem
from .base import REBUILD, Sampler, number, switch


class DDIM(Sampler):
    """See `base.Sampler`. With eta 1 and as many steps as the model was trained with it is DDPM."""

    name = "ddim"
    PREDICTIONS = ("epsilon", "v_prediction", "sample")
    takes_eta = True

    def __init__(self, config):
        Sampler.__init__(self, config)
        clip_range = number(config, "clip_sample_range", 1.0, 0, 1e6)
        self.clip_range = float(clip_range) if switch(config, "clip_sample", True) else None
        if config.get("thresholding"):
            raise BundleProblem("the scheduler asks for thresholding, which this runtime does not have", REBUILD)
        to_one = switch(config, "set_alpha_to_one", True)
        self._final_alpha = np.float32(1) if to_one else self._alphas_cumprod[0]

    def step(self, model_output, t, sample, eta=0.0, noise=None):
        """See `base.Sampler.step` (formula 12 of the paper)."""
        t = int(t)
        self.check_range([t])
        one = np.float32(1)
        previous = t - self._stride
        alpha = self._alphas_cumprod[t]
        alpha_previous = self._alphas_cumprod[previous] if previous >= 0 else self._final_alpha
        image, epsilon = self._predictions(model_output, sample, np.sqrt(alpha), np.sqrt(one - alpha))
        if self.clip_range is not None:
            image = np.clip(image, np.float32(-self.clip_range), np.float32(self.clip_range))
        variance = (one - alpha_previous) / (one - alpha) * (one - alpha / alpha_previous)
        deviation = np.float32(eta) * np.sqrt(variance)
        # Rounding can leave -1e-10 here, whose root would be NaN.
        direction = np.sqrt(np.maximum(one - alpha_previous - deviation * deviation, np.float32(0)))
        result = np.sqrt(alpha_previous) * image + direction * epsilon
        if eta > 0:
            if noise is None:
                raise InputProblem("eta is %g and no noise was given" % eta, "give noise of the sample's shape")
            result = result + deviation * noise
        return result.astype(np.float32, copy=False)

    def _predictions(self, output, sample, signal, sigma):
        if self.prediction_type == "epsilon":
            return (sample - sigma * output) / signal, output
        if self.prediction_type == "sample":
            return output, (sample - signal * output) / sigma
        return signal * sample - sigma * output, signal * output + sigma * sample
