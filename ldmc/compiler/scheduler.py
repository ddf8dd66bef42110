"""The scheduler section of the manifest, from a diffusers scheduler configuration of any age.

Bundles are sampled with DDIM (see `ldmc.runtime.ddim`); what matters of the configuration is the
noise schedule and DDIM's own switches. Checkpoints of diffusers 0.0.x say `timesteps` where later
ones say `num_train_timesteps`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ldmc.errors import ModelError

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
_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
_PREDICTIONS = ("epsilon", "sample", "v_prediction")


def scheduler_section(config: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's scheduler section.

    Raises:
        ModelError: the noise schedule or the prediction type is one that DDIM here does not know.
    """
    config = dict(config)
    if "timesteps" in config:
        config.setdefault("num_train_timesteps", config["timesteps"])
    section = {key: config.get(key, default) for key, default in _DEFAULTS.items()}
    for key, allowed in (("beta_schedule", _SCHEDULES), ("prediction_type", _PREDICTIONS)):
        if section[key] not in allowed:
            raise ModelError(f"scheduler: {key} is {section[key]!r}", fix=f"ldmc samples with {', '.join(allowed)}")
    if section["thresholding"]:
        raise ModelError("scheduler: thresholding is on", fix="set it to false; it is meant for models without latents")
    return {"type": "ddim", **section}
