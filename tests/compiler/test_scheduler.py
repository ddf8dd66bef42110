"""The scheduler section: the class decides, its own defaults, old names, and what is not implemented."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest

from ldmc.compiler import frontend
from ldmc.compiler.scheduler import _OF_OTHERS, CLASSES, scheduler_section
from ldmc.errors import ModelError
from ldmc.runtime.schedulers import sampler_of

PRESETS = Path(frontend.__file__).parent / "presets"


def of_class(name: str, **keys: Any) -> dict[str, Any]:
    return {"_class_name": name, **keys}


DDIM_CLASS = "DDIMScheduler"
# Every scheduler of diffusers that imports here, by name.
SCHEDULERS = {
    name: cls
    for name in dir(diffusers.schedulers)
    if name.endswith("Scheduler")
    and (cls := getattr(diffusers.schedulers, name, None)) is not None
    and ".schedulers." in cls.__module__
}


@pytest.mark.parametrize("name", CLASSES)
def test_keys_left_out_have_the_class_s_own_defaults(name: str) -> None:
    parameters = inspect.signature(getattr(diffusers, name).__init__).parameters
    spacing = {"timestep_spacing": "leading"} if name == "EulerDiscreteScheduler" else {}
    section = scheduler_section(of_class(name, **spacing))
    assert section.pop("type") == CLASSES[name].type
    assert section == {key: parameters[key].default for key in section} | spacing
    for key, default in CLASSES[name].implemented.items():
        assert parameters[key].default == default


@pytest.mark.parametrize("name", CLASSES)
def test_every_key_of_a_class_is_decided_on(name: str) -> None:
    known = CLASSES[name]
    parameters = set(inspect.signature(getattr(diffusers, name).__init__).parameters) - {"self"}
    assert parameters == known.implemented.keys() | known.only.keys() | known.unread


@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - set(CLASSES)))
def test_a_class_that_is_not_implemented_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        scheduler_section(of_class(name))
    assert name in caught.value.message
    for implemented in CLASSES:
        assert implemented in caught.value.message


@pytest.mark.parametrize("name", [None, "", 3, ["DDIMScheduler"]])
def test_a_scheduler_without_a_class_is_refused(name: Any) -> None:
    with pytest.raises(ModelError, match="the checkpoint's scheduler is"):
        scheduler_section({"_class_name": name})


def test_the_keys_of_other_classes_are_theirs_alone() -> None:
    for key in _OF_OTHERS:
        owners = [name for name, cls in SCHEDULERS.items() if key in inspect.signature(cls.__init__).parameters]
        assert owners, key


def test_what_the_class_does_not_read_is_left_out() -> None:
    section = scheduler_section(of_class(DDIM_CLASS, beta_start=0.5, steps_offset=1, skip_prk_steps=True))
    assert (section["beta_start"], section["steps_offset"]) == (0.5, 1)
    assert not {"_class_name", "skip_prk_steps"} & section.keys()


def test_an_old_timesteps_that_diffusers_would_ignore_is_refused() -> None:
    assert scheduler_section(of_class(DDIM_CLASS, timesteps=1000))["num_train_timesteps"] == 1000
    both = of_class(DDIM_CLASS, timesteps=400, num_train_timesteps=400)
    assert scheduler_section(both)["num_train_timesteps"] == 400
    with pytest.raises(ModelError, match="timesteps is 400.* takes 1000") as caught:
        scheduler_section(of_class(DDIM_CLASS, timesteps=400))
    assert "rename timesteps to num_train_timesteps" in caught.value.fix


def test_the_configuration_is_not_changed() -> None:
    config = of_class(DDIM_CLASS, timesteps=1000)
    scheduler_section(config)
    assert config == of_class(DDIM_CLASS, timesteps=1000)


@pytest.mark.parametrize("preset", frontend.PRESETS)
def test_the_presets_sample_like_diffusers(preset: str) -> None:
    config = json.loads((PRESETS / preset / "scheduler" / "scheduler_config.json").read_text())
    theirs = getattr(diffusers, config["_class_name"]).from_config(config)
    theirs.set_timesteps(20)
    ours = sampler_of(scheduler_section(config))
    np.testing.assert_array_equal(ours.timesteps(20), theirs.timesteps.numpy())


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_what_is_accepted_the_runtime_accepts(schedule: str, prediction: str) -> None:
    ours = sampler_of(
        scheduler_section(of_class(DDIM_CLASS, beta_schedule=schedule, prediction_type=prediction))
    )
    assert len(ours.timesteps(20)) == 20


# configuration -> parts of the message
REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "schedule": ({"beta_schedule": "sigmoid"}, ("beta_schedule is 'sigmoid'", "scaled_linear")),
    "schedule of no name": ({"beta_schedule": None}, ("beta_schedule is None", "scaled_linear")),
    "prediction": ({"prediction_type": "flow"}, ("prediction_type is 'flow'", "v_prediction")),
    "thresholding": ({"thresholding": True}, ("thresholding is True", "with thresholding False")),
    "a key of nobody": ({"colour": "warm"}, ("colour is not a key that ldmc knows of DDIMScheduler",)),
    "NaN": ({"beta_start": float("nan")}, ("beta_start is nan", "from 0 to 1")),
    "infinite": ({"beta_end": float("inf")}, ("beta_end is inf", "from 0 to 1")),
    "a switch of a wrong type": ({"clip_sample": 1}, ("clip_sample is 1", "true or false")),
    "spacing": ({"timestep_spacing": "random"}, ("timestep_spacing is 'random'", "trailing")),
    "steps of a wrong type": (
        {"num_train_timesteps": "1000"},
        ("num_train_timesteps is '1000'", "an integer"),
    ),
    "no steps": ({"num_train_timesteps": 0}, ("num_train_timesteps is 0", "from 1")),
    "old steps of a wrong type": ({"timesteps": "many"}, ("timesteps is 'many'",)),
    "negative offset": ({"steps_offset": -1}, ("steps_offset is -1",)),
    "beta of a wrong type": ({"beta_start": "small"}, ("beta_start is 'small', expected a number",)),
    "range of a wrong type": ({"clip_sample_range": None}, ("clip_sample_range is None, expected a number",)),
    "betas of a wrong length": ({"trained_betas": [0.1, 0.2]}, ("2 trained_betas for 1000 timesteps",)),
    "betas of a wrong type": ({"trained_betas": 0.5}, ("trained_betas are not a list of numbers",)),
    "betas that are no numbers": (
        {"trained_betas": ["a"], "num_train_timesteps": 1},
        ("trained_betas are not a list of numbers",),
    ),
}


@pytest.mark.parametrize(("config", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_sampled_is_refused_at_the_build(
    config: dict[str, Any], message: tuple[str, ...]
) -> None:
    with pytest.raises(ModelError) as caught:
        scheduler_section(of_class(DDIM_CLASS, **config))
    for part in ("scheduler", *message):
        assert part in caught.value.message
    assert caught.value.fix


# Published ways to have Euler that the runtime does not implement.
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "timestep_spacing is 'linspace'; this runtime has leading, trailing"),
        ({"use_karras_sigmas": True}, "use_karras_sigmas is True"),
        ({"use_beta_sigmas": True}, "use_beta_sigmas is True"),
        ({"use_exponential_sigmas": True}, "use_exponential_sigmas is True"),
        ({"interpolation_type": "log_linear"}, "interpolation_type is 'log_linear'"),
        ({"timestep_type": "continuous"}, "timestep_type is 'continuous'"),
    ],
)
def test_what_is_not_implemented_of_euler_is_refused(keys: dict[str, Any], message: str) -> None:
    spacing = {"timestep_spacing": "leading"} if keys else {}
    with pytest.raises(ModelError) as caught:
        scheduler_section(of_class("EulerDiscreteScheduler", **spacing, **keys))
    assert message in caught.value.message
