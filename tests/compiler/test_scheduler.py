"""The scheduler section: diffusers' defaults, old names, and what DDIM here does not know."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import DDIMScheduler

from ldmc.compiler import frontend
from ldmc.compiler.scheduler import scheduler_section
from ldmc.errors import ModelError
from ldmc.runtime.ddim import DDIM

PRESETS = Path(frontend.__file__).parent / "presets"


def test_keys_left_out_have_diffusers_own_defaults() -> None:
    parameters = inspect.signature(DDIMScheduler.__init__).parameters
    section = scheduler_section({})
    assert section.pop("type") == "ddim"
    assert section == {key: parameters[key].default for key in section}


def test_what_is_given_is_kept_and_what_ddim_does_not_use_is_left_out() -> None:
    section = scheduler_section(
        {"_class_name": "PNDMScheduler", "beta_start": 0.5, "steps_offset": 1, "skip_prk_steps": True}
    )
    assert (section["beta_start"], section["steps_offset"]) == (0.5, 1)
    assert not {"_class_name", "skip_prk_steps"} & section.keys()


def test_old_configurations_say_timesteps() -> None:
    assert scheduler_section({"timesteps": 400})["num_train_timesteps"] == 400
    assert scheduler_section({"timesteps": 400, "num_train_timesteps": 500})["num_train_timesteps"] == 500


def test_the_configuration_is_not_changed() -> None:
    config = {"timesteps": 400}
    scheduler_section(config)
    assert config == {"timesteps": 400}


@pytest.mark.parametrize("preset", frontend.PRESETS)
def test_the_presets_sample_like_diffusers(preset: str) -> None:
    config = json.loads((PRESETS / preset / "scheduler" / "scheduler_config.json").read_text())
    section = scheduler_section(config)
    theirs = DDIMScheduler(**{key: value for key, value in section.items() if key != "type"})
    theirs.set_timesteps(20)
    ours = DDIM(section)
    np.testing.assert_array_equal(ours.timesteps(20), theirs.timesteps.numpy())


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_what_is_accepted_the_runtime_accepts(schedule: str, prediction: str) -> None:
    ours = DDIM(scheduler_section({"beta_schedule": schedule, "prediction_type": prediction}))
    assert len(ours.timesteps(20)) == 20


# configuration -> parts of the message
REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "schedule": ({"beta_schedule": "sigmoid"}, ("beta_schedule is 'sigmoid'", "scaled_linear")),
    "schedule of no name": ({"beta_schedule": None}, ("beta_schedule is None", "scaled_linear")),
    "prediction": ({"prediction_type": "flow"}, ("prediction_type is 'flow'", "v_prediction")),
    "thresholding": ({"thresholding": True}, ("thresholding",)),
    "spacing": ({"timestep_spacing": "random"}, ("timestep_spacing is 'random'", "trailing")),
    "steps of a wrong type": (
        {"num_train_timesteps": "1000"},
        ("num_train_timesteps is '1000'", "an integer"),
    ),
    "no steps": ({"num_train_timesteps": 0}, ("num_train_timesteps is 0", "from 1")),
    "old steps of a wrong type": ({"timesteps": "many"}, ("num_train_timesteps is 'many'",)),
    "negative offset": ({"steps_offset": -1}, ("steps_offset is -1",)),
    "beta of a wrong type": ({"beta_start": "small"}, ("beta_start is 'small', expected a number",)),
    "range of a wrong type": ({"clip_sample_range": None}, ("clip_sample_range is None, expected a number",)),
    "betas of a wrong length": ({"trained_betas": [0.1, 0.2]}, ("2 trained_betas for 1000 timesteps",)),
    "betas of a wrong type": ({"trained_betas": 0.5}, ("trained_betas are no list of numbers",)),
    "betas that are no numbers": (
        {"trained_betas": ["a"], "timesteps": 1},
        ("trained_betas are no list of numbers",),
    ),
}


@pytest.mark.parametrize(("config", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_sampled_is_refused_at_the_build(
    config: dict[str, Any], message: tuple[str, ...]
) -> None:
    with pytest.raises(ModelError) as caught:
        scheduler_section(config)
    for part in ("the scheduler", *message):
        assert part in caught.value.message
    assert "scheduler_config.json" in caught.value.fix
