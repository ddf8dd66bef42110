"""The scheduler section of the manifest, from a diffusers scheduler configuration of any age.

Bundles are sampled with DDIM (see `ldmc.runtime.ddim`); what matters of the configuration is the
noise schedule and DDIM's own switches. Checkpoints of diffusers 0.0.x say `timesteps` where later
ones say `num_train_timesteps`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ldmc.errors import ModelError
from ldmc.runtime.ddim import DDIM
from ldmc.runtime.errors import BundleProblem

# diffusers' own defaults of DDIMScheduler, for keys that a configuration leaves out.
_DEFAULTS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "prediction_type": "epsilon",
    "thresholding": False,
    "timestep_spacing": "leading",
    "rescale_betas_zero_snr": False,
}
_NUMBERS = ("beta_start", "beta_end", "clip_sample_range")
_FIX = "mend scheduler/scheduler_config.json; bundles are sampled with DDIM"


def scheduler_section(config: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's scheduler section.

    Raises:
        ModelError: a value is of a wrong kind, or one that the runtime's DDIM does not know.
    """
    config = dict(config)
    if "timesteps" in config:
        config.setdefault("num_train_timesteps", config["timesteps"])
    section = {key: config.get(key, default) for key, default in _DEFAULTS.items()}
    for key in _NUMBERS:
        if isinstance(section[key], bool) or not isinstance(section[key], (int, float)):
            raise ModelError(f"the scheduler's {key} is {section[key]!r}, expected a number", fix=_FIX)
    try:
        DDIM(section)
    except BundleProblem as problem:
        raise ModelError(problem.message, fix=_FIX) from problem
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"the scheduler's trained_betas are no list of numbers: {error}", fix=_FIX
        ) from error
    return {"type": "ddim", **section}
