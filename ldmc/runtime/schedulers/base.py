"""What every sampler shares: the noise schedule, the spacing of timesteps, and the checks of its configuration.

All arithmetic is float32 in diffusers' order, because at 1000 steps the difference of two neighbouring alphas is near
float32's resolution and another order drifts.
"""

import math

import numpy as np

from ..errors import BundleProblem, InputProblem

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
TIMESTEP_SPACINGS = ("leading", "linspace", "trailing")
MOST_TRAIN_STEPS = 100000  # a hundred times what is usual: tables stay small whatever a file says
REBUILD = "build the bundle again from a model with a scheduler that ldmc supports"


class Sampler(object):
    """One sampling run: call `timesteps(steps)` once, then `step(...)` for each timestep in order.

    Args:
        config: the manifest's scheduler section; keys left out have the defaults of diffusers' class.
    Raises:
        BundleProblem: the section asks for something that is not supported.
    """

    name = ""
    PREDICTIONS = ("epsilon", "v_prediction")
    SPACINGS = TIMESTEP_SPACINGS
    DEFAULT_SPACING = "leading"
    takes_eta = False  # whether a run can add fresh noise in each step

    def __init__(self, config):
        self.train_steps = integer(config, "num_train_timesteps", 1000, 1, MOST_TRAIN_STEPS)
        self.steps_offset = integer(config, "steps_offset", 0, 0, MOST_TRAIN_STEPS)
        self.prediction_type = choice(config, "prediction_type", "epsilon", self.PREDICTIONS)
        self.timestep_spacing = choice(config, "timestep_spacing", self.DEFAULT_SPACING, self.SPACINGS)
        betas = _betas(config, self.train_steps)
        if config.get("rescale_betas_zero_snr"):
            betas = _rescale_to_zero_snr(betas)
        self._alphas_cumprod = _cumprod(np.float32(1) - betas)
        self._stride = 1

    def timesteps(self, steps):
        """The timesteps of a run's calls of the network, from noise to image: int64, at least `steps` of them.

        Raises: InputProblem where `steps` is outside 1..num_train_timesteps.
        """
        return self._spaced(steps)

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

    def start(self, noise):
        """The first sample of a run, from noise of N(0, 1): float32 of the same shape."""
        return noise

    def network_input(self, sample):
        """What the network is given for `sample` at the step that comes next."""
        return sample

    def step(self, model_output, t, sample, eta=0.0, noise=None):
        """The sample one step nearer to the image.

        Args:
            model_output, sample: float32, one shape. t: the timestep, from `timesteps`.
            eta: 0 to 1: how much fresh noise is added, where `takes_eta`; noise: N(0, 1) like `sample`; needed where
                eta > 0.
        Returns: float32 of the same shape.
        """
        raise NotImplementedError

    def _spaced(self, steps):
        """`steps` timesteps from noise to image by the configured spacing; sets the stride between them."""
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


def integer(config, key, default, least, most):
    """config[key] as an integer in its range, or BundleProblem."""
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        message = "the scheduler's %s is %s, expected an integer from %d to %d" % (key, _shown(value), least, most)
        raise BundleProblem(message, REBUILD)
    return value


def number(config, key, default, least, most):
    """config[key] as a finite number in its range, or BundleProblem."""
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        message = "the scheduler's %s is %s, expected a number from %g to %g" % (key, _shown(value), least, most)
        raise BundleProblem(message, REBUILD)
    return value


def choice(config, key, default, allowed):
    """config[key] as one of `allowed`, or BundleProblem."""
    value = config.get(key, default)
    if not isinstance(value, str) or value not in allowed:
        message = "the scheduler's %s is %s; this runtime has %s" % (key, _shown(value), ", ".join(allowed))
        raise BundleProblem(message, REBUILD)
    return value


def switch(config, key, default):
    """config[key] as a bool, or BundleProblem."""
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise BundleProblem("the scheduler's %s is %s, expected true or false" % (key, _shown(value)), REBUILD)
    return value


def _shown(value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _betas(config, count):
    trained = config.get("trained_betas")
    if trained is not None:
        if not isinstance(trained, (list, tuple)) or not all(map(_is_beta, trained)):
            message = "the scheduler's trained_betas are not a list of numbers from 0 to 1"
            raise BundleProblem(message, REBUILD)
        if len(trained) != count:
            message = "the scheduler has %d trained_betas for %d timesteps" % (len(trained), count)
            raise BundleProblem(message, REBUILD)
        return np.array(trained, dtype=np.float32)
    schedule = choice(config, "beta_schedule", "linear", BETA_SCHEDULES)
    start, end = number(config, "beta_start", 0.0001, 0, 1), number(config, "beta_end", 0.02, 0, 1)
    if schedule == "linear":
        return _linspace(start, end, count)
    if schedule == "scaled_linear":
        roots = _linspace(start ** 0.5, end ** 0.5, count)
        return roots * roots
    return _cosine_betas(count)


def _is_beta(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


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
