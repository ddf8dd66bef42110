"""Samplers in numpy against diffusers' own classes."""

import numpy as np
import pytest

from ldmc.runtime.errors import BundleProblem, InputProblem
from ldmc.runtime.schedulers import sampler_of
from ldmc.runtime.schedulers.ddim import DDIM

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

SHAPE = (2, 3, 4, 4)
BASE = {"num_train_timesteps": 1000, "beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear",
        "clip_sample": False}
VARIANTS = {
    "paper": {},
    "steps_offset": {"steps_offset": 1},
    "final_alpha": {"set_alpha_to_one": False},
    "offset_and_final_alpha": {"steps_offset": 1, "set_alpha_to_one": False},
    "linear": {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "trained_betas": {"trained_betas": np.linspace(1e-4, 0.03, 1000).tolist()},
    "clip": {"clip_sample": True, "clip_sample_range": 0.8},
    "v_prediction": {"prediction_type": "v_prediction"},
    "sample": {"prediction_type": "sample"},
    "linspace": {"timestep_spacing": "linspace"},
    "trailing": {"timestep_spacing": "trailing"},
    "zero_snr": {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"},
}
# Where diffusers' own float32 run is over 1e-5 from its float64 run (torch's float32 square root may be 1 ulp off).
LOOSE = {("v_prediction", 1000), ("zero_snr", 1000), ("trailing", 1)}


def _theirs(config):
    return diffusers.DDIMScheduler(**config)


def _network(sample, alpha, prediction_type):
    """What a perfectly trained network gives where the data are N(0.2, 0.6): so the run ends near such data.

    alpha: the cumulative product of the alphas at this timestep.
    """
    signal, sigma = np.sqrt(alpha), np.sqrt(1 - alpha)
    image = 0.2 + signal * 0.36 / (alpha * 0.36 + 1 - alpha) * (sample.astype(np.float64) - signal * 0.2)
    if prediction_type == "sample":
        return image.astype(np.float32)
    epsilon = (sample - signal * image) / sigma
    if prediction_type == "v_prediction":
        return (signal * epsilon - sigma * image).astype(np.float32)
    return epsilon.astype(np.float32)


def _noise(seed, count):
    return np.random.RandomState(seed).standard_normal((count,) + SHAPE).astype(np.float32)


@pytest.mark.parametrize("steps", [1, 7, 10, 20, 50, 1000])
@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_timesteps_are_those_of_diffusers(variant, steps):
    config = dict(BASE, **VARIANTS[variant])
    theirs = _theirs(config)
    theirs.set_timesteps(steps)
    ours = DDIM(config).timesteps(steps)
    assert ours.dtype == np.int64
    assert ours.tolist() == theirs.timesteps.tolist()


@pytest.mark.parametrize("steps", [1, 10, 20, 50, 1000])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_a_trajectory_is_that_of_diffusers(variant, eta, steps):
    config = dict(BASE, **VARIANTS[variant])
    if steps + config.get("steps_offset", 0) > 1000:
        pytest.skip("diffusers itself reads past its table: see test_a_schedule_past_the_trained_range_is_refused")
    prediction_type = config.get("prediction_type", "epsilon")
    theirs = _theirs(config)
    theirs.set_timesteps(steps)
    ours = DDIM(config)
    sample = _noise(0, 1)[0]
    expected = torch.from_numpy(sample.copy())
    noises = _noise(1, steps)
    for t, noise in zip(ours.timesteps(steps), noises):
        alpha = float(theirs.alphas_cumprod[t])
        output = _network(sample, alpha, prediction_type)
        their_output = torch.from_numpy(_network(expected.numpy(), alpha, prediction_type))
        sample = ours.step(output, t, sample, eta, noise)
        variance_noise = torch.from_numpy(noise) if eta else None
        expected = theirs.step(their_output, int(t), expected, eta=eta, variance_noise=variance_noise).prev_sample
        assert sample.dtype == np.float32
    assert float(expected.abs().max()) < 10
    tolerance = 5e-5 if (variant, steps) in LOOSE else 1e-5
    np.testing.assert_allclose(sample, expected.numpy(), rtol=0, atol=tolerance)


def test_left_out_keys_have_diffusers_defaults():
    theirs = _theirs({})
    theirs.set_timesteps(20)
    ours = DDIM({})
    assert ours.timesteps(20).tolist() == theirs.timesteps.tolist()
    sample, output = _noise(0, 2)
    expected = theirs.step(torch.from_numpy(output), 500, torch.from_numpy(sample)).prev_sample.numpy()
    np.testing.assert_allclose(ours.step(output, 500, sample), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [0, -1, 1001, 2.0, True, None])
def test_steps_outside_the_training_are_refused(steps):
    with pytest.raises(InputProblem, match="steps is"):
        DDIM(BASE).timesteps(steps)


def test_a_schedule_past_the_trained_range_is_refused():
    sampler = DDIM(dict(BASE, steps_offset=1))
    timesteps = sampler.timesteps(1000)
    assert timesteps[0] == 1000
    with pytest.raises(InputProblem, match="reach timestep 1000; the model was trained for 0 to 999"):
        sampler.check_range(timesteps)


def test_eta_without_noise_is_refused():
    sampler = DDIM(BASE)
    sampler.timesteps(10)
    with pytest.raises(InputProblem, match="no noise was given"):
        sampler.step(_noise(0, 1)[0], 900, _noise(1, 1)[0], eta=1.0)


@pytest.mark.parametrize("change, words", [
    ({"thresholding": True}, "thresholding"),
    ({"type": "heun"}, "'heun'; this runtime implements ddim, euler, pndm"),
    ({"type": ["ddim"]}, "this runtime implements"),
    ({"type": "euler"}, "timestep_spacing is 'linspace'; this runtime has leading, trailing"),
    ({"beta_start": float("nan")}, "beta_start is nan, expected a number from 0 to 1"),
    ({"beta_end": float("inf")}, "beta_end is inf"),
    ({"clip_sample": True, "clip_sample_range": float("nan")}, "clip_sample_range is nan"),
    ({"trained_betas": [float("nan")] * 1000}, "trained_betas are not a list of numbers from 0 to 1"),
    ({"num_train_timesteps": 10 ** 8}, "num_train_timesteps is 100000000, expected an integer from 1 to 100000"),
    ({"type": "pndm", "prediction_type": "sample"}, "prediction_type is 'sample'; this runtime has epsilon"),
    ({"prediction_type": "flow"}, "prediction_type is 'flow'; this runtime has epsilon"),
    ({"timestep_spacing": "karras"}, "timestep_spacing is 'karras'"),
    ({"beta_schedule": "sigmoid"}, "beta_schedule is 'sigmoid'"),
    ({"num_train_timesteps": 0}, "num_train_timesteps is 0"),
    ({"steps_offset": "1"}, "steps_offset is '1'"),
    ({"trained_betas": [0.1, 0.2]}, "2 trained_betas for 1000 timesteps"),
])
def test_what_is_not_supported_is_refused(change, words):
    with pytest.raises(BundleProblem, match=words):
        sampler_of(dict(BASE, **change))


# ---- PNDM and Euler

STEPS = (1, 2, 3, 4, 5, 7, 20, 50)
OTHERS = {
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}),
    "pndm_v": ("PNDMScheduler", {"skip_prk_steps": True, "prediction_type": "v_prediction"}),
    "pndm_linspace": ("PNDMScheduler", {"skip_prk_steps": True, "timestep_spacing": "linspace"}),
    "pndm_trailing": ("PNDMScheduler", {"skip_prk_steps": True, "timestep_spacing": "trailing"}),
    "pndm_alpha_one": ("PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": True}),
    "pndm_runge_kutta": ("PNDMScheduler", {}),
    "pndm_runge_kutta_v": ("PNDMScheduler", {"prediction_type": "v_prediction", "beta_schedule": "linear"}),
    "euler": ("EulerDiscreteScheduler", {"timestep_spacing": "leading", "steps_offset": 1}),
    "euler_v": ("EulerDiscreteScheduler", {"timestep_spacing": "leading", "prediction_type": "v_prediction"}),
    "euler_sample": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing", "prediction_type": "sample"}),
    "euler_trailing": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "euler_sigma_min": ("EulerDiscreteScheduler", {"timestep_spacing": "leading", "final_sigmas_type": "sigma_min"}),
    "euler_zero_snr": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True,
                                                  "prediction_type": "v_prediction"}),
}
CURVED = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _both(variant):
    name, change = OTHERS[variant]
    config = dict(CURVED, **change)
    theirs = getattr(diffusers, name)(**config)
    return sampler_of(dict(config, type=variant.partition("_")[0])), theirs


def _curved(sample, t):
    """A network that is neither linear in the sample nor constant in the timestep."""
    return (np.sin(3 * sample.astype(np.float64) + t / 500.0) * 0.7 + 0.2 * sample).astype(np.float32)


def _whole(variant, steps):
    return "runge_kutta" not in variant or steps >= 4


@pytest.mark.parametrize("variant", sorted(OTHERS))
def test_every_step_of_another_sampler_is_that_of_diffusers(variant):
    for steps in (steps for steps in STEPS if _whole(variant, steps)):
        ours, theirs = _both(variant)
        theirs.set_timesteps(steps)
        timesteps = ours.timesteps(steps)
        assert timesteps.dtype == np.int64 and timesteps.tolist() == theirs.timesteps.tolist()
        # Where the run starts at sigma 4096, float32 itself cannot say the sum of noise and picture any finer.
        tolerance = max(2e-5, 2 * float(np.finfo("float32").eps) * float(theirs.init_noise_sigma))
        noise = _noise(0, 1)[0]
        sample = ours.start(noise)
        expected = torch.from_numpy(noise.copy()) * theirs.init_noise_sigma
        for number, (t, their_t) in enumerate(zip(timesteps, theirs.timesteps)):
            given, their_given = ours.network_input(sample), theirs.scale_model_input(expected, their_t).numpy()
            scale = np.abs(their_given).max()
            place = "%s, %d steps, call %d" % (variant, steps, number)
            np.testing.assert_allclose(given / scale, their_given / scale, rtol=0, atol=tolerance, err_msg=place)
            output = _curved(their_given, int(t))
            sample = ours.step(output, int(t), sample)
            expected = theirs.step(torch.from_numpy(output), their_t, expected).prev_sample
            scale = float(expected.abs().max())
            np.testing.assert_allclose(sample / scale, expected.numpy() / scale, rtol=0, atol=tolerance, err_msg=place)
            assert sample.dtype == np.float32


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_too_few_steps_for_runge_kutta_are_refused(steps):
    with pytest.raises(InputProblem, match="steps is %d; this scheduler .* takes 4 or more" % steps):
        _both("pndm_runge_kutta")[0].check(steps)


@pytest.mark.parametrize("variant", ["pndm", "euler"])
def test_a_run_can_be_made_again_with_one_sampler(variant):
    sampler = _both(variant)[0]

    def run():
        timesteps = sampler.timesteps(5)
        sample = sampler.start(_noise(0, 1)[0])
        for t in timesteps:
            sample = sampler.step(_curved(sampler.network_input(sample), int(t)), int(t), sample)
        return sample

    np.testing.assert_array_equal(run(), run())
