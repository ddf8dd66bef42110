"""What diffusers corrects in silence when it loads an old Stable Diffusion checkpoint; done here too, and said.

Checkpoints of 2022 were saved with settings that later turned out wrong. `StableDiffusionPipeline` does not believe the
files there, so that whoever does gets another picture.
Source: diffusers 0.42.1, `StableDiffusionPipeline.__init__`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_OLD_UNET = (0, 9, 0)  # a UNet saved by an older diffusers may carry the default sample_size in place of its own
_LATENT_SIDE = 64


def repaired(
    pipeline: str, unet: Mapping[str, Any], scheduler: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The UNet's and the scheduler's configuration as the pipeline takes them, and one sentence for each change."""
    unet, scheduler = dict(unet), dict(scheduler)
    notes: list[str] = []
    if pipeline != "StableDiffusionPipeline":
        return unet, scheduler, notes
    if scheduler.get("steps_offset", 0) != 1:
        notes.append(_note("the scheduler's steps_offset", scheduler.get("steps_offset", 0), 1))
        scheduler["steps_offset"] = 1
    if scheduler.get("clip_sample") is True or (
        "clip_sample" not in scheduler and scheduler.get("_class_name") == "DDIMScheduler"
    ):
        notes.append(_note("the scheduler's clip_sample", True, False))
        scheduler["clip_sample"] = False
    side = unet.get("sample_size")
    if type(side) is int and side < _LATENT_SIDE and _version(unet) < _OLD_UNET:
        notes.append(_note("the UNet's sample_size", side, _LATENT_SIDE))
        unet["sample_size"] = _LATENT_SIDE
    return unet, scheduler, notes


def _note(what: str, found: Any, taken: Any) -> str:
    return f"{what} is {found}; {taken} is taken, as diffusers' StableDiffusionPipeline does"


def _version(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Of the diffusers that saved `config`; the newest where it does not say."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", str(config.get("_diffusers_version", "")))
    return tuple(int(part or 0) for part in found.groups()) if found else (999,)
