"""Pseudo numerical methods (PNDM and PLMS), step for step as diffusers' PNDMScheduler.

    skip_prk_steps   951, 901, 901, 851, ... 1    PLMS: linear multistep of rising order; its second step is made again
    else             four calls for each of the first three steps (Runge-Kutta), then linear multistep of order four

Source: Liu et al. 2022, https://arxiv.org/abs/2202.09778, formulas 9, 12, 13 and algorithm 2.
"""

import numpy as np

from ..errors import InputProblem
from .base import Sampler, switch

RUNGE_KUTTA_STEPS = 3
# Weights of the outputs, the newest first (Adams-Bashforth), by how many there are.
MULTISTEP = {
    1: ((1.0,), 1.0), 2: ((3.0, -1.0), 2.0), 3: ((23.0, -16.0, 5.0), 12.0), 4: ((55.0, -59.0, 37.0, -9.0), 24.0),
}


class PNDM(Sampler):
    """See `base.Sampler`."""

    name = "pndm"

    def __init__(self, config):
        Sampler.__init__(self, config)
        self.skips_runge_kutta = switch(config, "skip_prk_steps", False)
        to_one = switch(config, "set_alpha_to_one", False)
        self._final_alpha = np.float32(1) if to_one else self._alphas_cumprod[0]
        self._calls = None
        self._done = 0
        self._outputs = []  # of full steps, the newest last
        self._sum = 0.0  # of a Runge-Kutta step's outputs so far, weighted
        self._held = None  # the sample that a step made of several calls began at

    def timesteps(self, steps):
        """See `base.Sampler.timesteps`: one more than `steps` for PLMS, nine more with Runge-Kutta."""
        spaced = self._spaced(steps)
        if self.skips_runge_kutta:
            calls = np.concatenate([spaced[:1], spaced[1:2], spaced[1:]])
        else:
            calls = self._with_runge_kutta(spaced)
        self._calls, self._done = calls, 0
        self._outputs, self._sum, self._held = [], 0.0, None
        return np.ascontiguousarray(calls)

    def step(self, model_output, t, sample, eta=0.0, noise=None):
        """See `base.Sampler.step`."""
        t = int(t)
        self.check_range([t])
        warming_up = not self.skips_runge_kutta and self._done < 4 * RUNGE_KUTTA_STEPS
        result = (self._runge_kutta if warming_up else self._multistep)(model_output, t, sample)
        self._done += 1
        return result.astype(np.float32, copy=False)

    def _with_runge_kutta(self, spaced):
        """Each of the first three steps calls at its own timestep, twice half way down, and at its end."""
        if len(spaced) <= RUNGE_KUTTA_STEPS:
            message = "steps is %d; this scheduler (pndm without skip_prk_steps) takes 4 or more" % len(spaced)
            raise InputProblem(message)
        half = self._stride // 2
        calls = []
        for first, following in zip(spaced[:RUNGE_KUTTA_STEPS], spaced[1:]):
            calls += [first, following + half, following + half, following]
        return np.concatenate([np.array(calls, dtype=np.int64), spaced[RUNGE_KUTTA_STEPS:]])

    def _runge_kutta(self, output, t, sample):
        stage = self._done % 4
        first = int(self._calls[self._done - stage])
        if stage == 0:
            self._outputs.append(output)
            self._held = sample
        weighted = self._sum + output * np.float32(1.0 / 3 if stage in (1, 2) else 1.0 / 6)
        self._sum = 0.0 if stage == 3 else weighted
        # The first two calls lead half way, the last two to the end of the step.
        reached = t - self._stride // 2 if stage in (0, 2) else t
        return self._moved(self._held, first, reached, weighted if stage == 3 else output)

    def _multistep(self, output, t, sample):
        previous = t - self._stride
        again = self.skips_runge_kutta and self._done == 1
        if again:  # the first step once more, now with the mean of its two ends
            previous, t = t, t + self._stride
            return self._moved(self._held, t, previous, (output + self._outputs[-1]) / np.float32(2))
        self._outputs = self._outputs[-3:] + [output]
        if self._done == 0:
            self._held = sample
        weights, divisor = MULTISTEP[len(self._outputs)]
        terms = [np.float32(weight) * one for weight, one in zip(weights, self._outputs[::-1])]
        return self._moved(sample, t, previous, sum(terms[1:], terms[0]) / np.float32(divisor))

    def _moved(self, sample, t, previous, output):
        """The sample at timestep `previous` (formula 9)."""
        one = np.float32(1)
        alpha = self._alphas_cumprod[t]
        alpha_previous = self._alphas_cumprod[previous] if previous >= 0 else self._final_alpha
        if self.prediction_type == "v_prediction":
            output = np.sqrt(alpha) * output + np.sqrt(one - alpha) * sample
        denominator = alpha * np.sqrt(one - alpha_previous) + np.sqrt(alpha * (one - alpha) * alpha_previous)
        return np.sqrt(alpha_previous / alpha) * sample - (alpha_previous - alpha) * output / denominator
