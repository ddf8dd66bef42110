"""DDIM sampling in numpy, step for step as diffusers' DDIMScheduler.

Source: Song et al. 2020, https://arxiv.org/abs/2010.02502. All arithmetic is float32 in diffusers' order,
because at 1000 steps the difference of two neighbouring alphas is near float32's resolution and another
order drifts.
"""

import math

import numpy as np

from .errors import BundleProblem, InputProblem

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
MOST_TRAIN_STEPS = 100000  # a hundred times what models are trained with; each costs memory and, for some, time
TIMESTEP_SPACINGS = ("leading", "linspace", "trailing")
REBUILD = "build the bundle again from a model with a DDIM scheduler that ldmc supports"


class DDIM(object):
    """One sampling run: call `timesteps(steps)` once, then `step(...)` for each timestep in order.

    Args:
        config: the manifest's scheduler section; keys left out have diffusers' defaults.
    Raises:
        BundleProblem: the section asks for something that is not supported.
    """

    def __init__(self, config):
        self.train_steps = _integer(config, "num_train_timesteps", 1000, 1, MOST_TRAIN_STEPS)
        self.steps_offset = _integer(config, "steps_offset", 0, 0, MOST_TRAIN_STEPS)
        self.prediction_type = _choice(config, "prediction_type", "epsilon", PREDICTION_TYPES)
        self.timestep_spacing = _choice(config, "timestep_spacing", "leading", TIMESTEP_SPACINGS)
        self.clip_range = float(config.get("clip_sample_range", 1.0)) if config.get("clip_sample", True) else None
        if config.get("type", "ddim") != "ddim":
            raise BundleProblem("the scheduler is %r; this runtime has ddim" % (config["type"],), REBUILD)
        if config.get("thresholding"):
            raise BundleProblem("the scheduler asks for thresholding, which this runtime does not have", REBUILD)
        betas = _betas(config, self.train_steps)
        if config.get("rescale_betas_zero_snr"):
            betas = _rescale_to_zero_snr(betas)
        self._alphas_cumprod = _cumprod(np.float32(1) - betas)
        self._final_alpha = np.float32(1) if config.get("set_alpha_to_one", True) else self._alphas_cumprod[0]
        self._stride = 1

    def timesteps(self, steps):
        """The timesteps of a run, from noise to image: int64 of shape (steps,).

        Raises: InputProblem where `steps` is outside 1..num_train_timesteps, or the schedule leaves the trained range.
        """
        if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)):
            raise InputProblem("steps is %r, expected an integer" % (steps,))
        if not 1 <= steps <= self.train_steps:
            message = "steps is %d; the model was trained with %d timesteps" % (steps, self.train_steps)
            raise InputProblem(message, "use 1 to %d steps; 20 to 50 are usual" % self.train_steps)
        steps = int(steps)
        self._stride = self.train_steps // steps
        if self.timestep_spacing == "linspace":
            found = np.linspace(0, self.train_steps - 1, steps).round()[::-1].astype(np.int64)
        elif self.timestep_spacing == "leading":
            found = np.arange(steps, dtype=np.int64)[::-1] * self._stride + self.steps_offset
        else:
            found = np.arange(self.train_steps, 0, -self.train_steps / float(steps)).round().astype(np.int64) - 1
        return np.ascontiguousarray(found)

    def check(self, steps):
        """Raises InputProblem where a run of so many steps cannot be drawn."""
        self.check_range(self.timesteps(steps))

    def check_range(self, timesteps):
        """Raises InputProblem where a timestep was never trained (1000 steps of 1000 with a steps_offset of 1)."""
        last = int(max(timesteps))
        if last < self.train_steps:
            return
        message = "%d steps with steps_offset %d reach timestep %d; the model was trained for 0 to %d" % (
            len(timesteps), self.steps_offset, last, self.train_steps - 1)
        raise InputProblem(message, "use %d steps or fewer" % (self.train_steps // 2))

    def step(self, model_output, t, sample, eta=0.0, noise=None):
        """The sample one step nearer to the image (formula 12 of the paper).

        Args:
            model_output, sample: float32, one shape. t: the timestep, from `timesteps`.
            eta: 0 is DDIM, 1 is DDPM. noise: N(0, 1) like `sample`; needed where eta > 0.
        Returns: float32 of the same shape.
        """
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


def _integer(config, key, default, least, most):
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        message = "the scheduler's %s is %r, expected an integer from %d to %d" % (key, value, least, most)
        raise BundleProblem(message, REBUILD)
    return value


def _choice(config, key, default, allowed):
    value = config.get(key, default)
    if value not in allowed:
        message = "the scheduler's %s is %r; this runtime has %s" % (key, value, ", ".join(allowed))
        raise BundleProblem(message, REBUILD)
    return value


def _betas(config, count):
    trained = config.get("trained_betas")
    if trained is not None:
        if len(trained) != count:
            message = "the scheduler has %d trained_betas for %d timesteps" % (len(trained), count)
            raise BundleProblem(message, REBUILD)
        return np.array(trained, dtype=np.float32)
    schedule = _choice(config, "beta_schedule", "linear", BETA_SCHEDULES)
    start, end = config.get("beta_start", 0.0001), config.get("beta_end", 0.02)
    if schedule == "linear":
        return _linspace(start, end, count)
    if schedule == "scaled_linear":
        roots = _linspace(start ** 0.5, end ** 0.5, count)
        return roots * roots
    return _cosine_betas(count)


def _linspace(start, end, count):
    """As torch.linspace in float32: from both ends towards the middle."""
    start, end = np.float32(start), np.float32(end)
    if count == 1:
        return np.array([start], dtype=np.float32)
    step = (end - start) / np.float32(count - 1)
    up = np.arange(count, dtype=np.float32)
    return np.where(np.arange(count) < count // 2, start + step * up, end - step * up[::-1]).astype(np.float32)


def _cosine_betas(count):
    """Nichol and Dhariwal 2021, https://arxiv.org/abs/2102.09672, formula 17."""
    def alpha_bar(time):
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    ratios = [alpha_bar((i + 1) / float(count)) / alpha_bar(i / float(count)) for i in range(count)]
    return np.array([min(1 - ratio, 0.999) for ratio in ratios], dtype=np.float32)


def _rescale_to_zero_snr(betas):
    """Lin et al. 2023, https://arxiv.org/abs/2305.08891, algorithm 1: the last timestep is pure noise."""
    roots = np.sqrt(_cumprod(np.float32(1) - betas))
    first, last = roots[0], roots[-1]
    roots = (roots - last) * (first / (first - last))
    squares = roots * roots
    return np.float32(1) - np.concatenate([squares[:1], squares[1:] / squares[:-1]])


def _cumprod(values):
    """As torch.cumprod of float32 on a CPU: accumulated in float64, rounded once per element."""
    return np.cumprod(values, dtype=np.float64).astype(np.float32)
