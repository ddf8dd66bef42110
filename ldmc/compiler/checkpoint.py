"""A checkpoint in diffusers layout, read as configuration only: no weights, no torch.

model_index.json                 which folders there are
unet/config.json                 UNet2DModel or UNet2DConditionModel
vqvae/config.json or vae/...     VQModel or AutoencoderKL
scheduler/scheduler_config.json  a class of `scheduler.CLASSES`

What is not supported is refused here, by its name and before any work; see `config_keys` and `scheduler`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ldmc.artifacts.documents import read_json
from ldmc.compiler.config_keys import INDEX, KEYS, check_keys
from ldmc.compiler.config_kinds import check_network
from ldmc.compiler.repairs import repaired
from ldmc.compiler.scheduler import scheduler_section
from ldmc.errors import ModelError

UNETS = ("UNet2DModel", "UNet2DConditionModel")
DECODERS = ("VQModel", "AutoencoderKL")
# Pipeline class -> the UNet class it denoises with. Others feed their networks what ldmc does not: an image, a mask.
PIPELINES = {
    "LDMPipeline": "UNet2DModel",
    "LatentDiffusionUncondPipeline": "UNet2DModel",  # as diffusers before 0.1 called it
    "StableDiffusionPipeline": "UNet2DConditionModel",
    "StableDiffusionXLPipeline": "UNet2DConditionModel",
}


@dataclass(frozen=True)
class Checkpoint:
    """Configurations of one model.

    pipeline: class of the whole, as model_index.json has it.
    unet, decoder: parsed JSON. decoder_folder: `vqvae` or `vae`.
    scheduler: the manifest's scheduler section (see `ldmc.compiler.scheduler`).
    config_sha256: over the four files, in fixed order.
    notes: what was taken otherwise than the files say; a sentence each.
    """

    folder: Path
    pipeline: str
    unet: Mapping[str, Any]
    decoder: Mapping[str, Any]
    decoder_folder: str
    scheduler: Mapping[str, Any]
    config_sha256: str
    notes: tuple[str, ...] = field(default=())


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read and check the configuration files of `folder`.

    Raises:
        ModelError: a file is missing or not JSON; a class, a key or a value is not one that ldmc compiles.
    """
    index = _read_json(folder / "model_index.json")
    decoder_folder = "vqvae" if "vqvae" in index else "vae"
    paths = [
        folder / "model_index.json",
        folder / "unet" / "config.json",
        folder / decoder_folder / "config.json",
        folder / "scheduler" / "scheduler_config.json",
    ]
    pipeline = _pipeline(paths[0], index)
    _, unet, decoder, scheduler = (_read_json(path) for path in paths)
    scheduler["_class_name"] = _scheduler_class(paths[3], index, scheduler)
    for path, config, allowed in ((paths[1], unet, UNETS), (paths[2], decoder, DECODERS)):
        _check_class(path, config, allowed)
        check_network(path, config)
        check_keys(str(path), config, KEYS[config["_class_name"]], config["_class_name"])
    if unet["_class_name"] != PIPELINES[pipeline]:
        raise ModelError(
            f"{paths[1]}: _class_name is {unet['_class_name']!r}, and {pipeline} denoises with {PIPELINES[pipeline]}",
            fix="give a folder whose files are of one model",
        )
    _check_channels(paths[1], unet, pipeline)
    unet, scheduler, notes = repaired(pipeline, unet, scheduler)
    _check_size(paths[1], unet)
    _check_scaling(paths[2], decoder)
    section = scheduler_section(scheduler)
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return Checkpoint(
        folder, pipeline, unet, decoder, decoder_folder, section, digest.hexdigest(), tuple(notes)
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = read_json(path)
    except FileNotFoundError as error:
        raise ModelError(
            f"{path} is missing",
            fix="--model takes a folder in diffusers layout (model_index.json, unet/, vqvae/ or vae/, scheduler/)",
        ) from error
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}", fix="check the path and its permissions"
        ) from error
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}", fix="download the file again, or mend it") from error
    if not isinstance(data, dict):
        raise ModelError(
            f"{path} holds a JSON {type(data).__name__}, not an object", fix="download the file again"
        )
    return data


def _pipeline(path: Path, index: Mapping[str, Any]) -> str:
    """The pipeline's class.

    Raises:
        ModelError: it is not one that ldmc compiles, or has parts that ldmc does not know.
    """
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in PIPELINES:
        raise ModelError(
            f"{path}: the pipeline is {name!r}, which ldmc does not compile",
            fix=f"ldmc compiles {', '.join(PIPELINES)}",
        )
    check_keys(str(path), index, INDEX, name)
    return name


def _scheduler_class(path: Path, index: Mapping[str, Any], scheduler: Mapping[str, Any]) -> Any:
    """The scheduler's class, which two files name."""
    entry = index.get("scheduler")
    of_index = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    found = scheduler.get("_class_name", of_index)
    if of_index is not None and found != of_index:
        raise ModelError(
            f"{path}: _class_name is {found!r}, and model_index.json names {of_index!r}",
            fix="name the scheduler that the model is sampled with in both",
        )
    return found


def _check_channels(path: Path, unet: Mapping[str, Any], pipeline: str) -> None:
    """The UNet takes what it gives: further channels would be an image, a mask or a variance."""
    taken, given = unet.get("in_channels"), unet.get("out_channels")
    if taken != given:
        raise ModelError(
            f"{path}: in_channels is {taken!r} and out_channels is {given!r}; {pipeline} feeds the UNet its own output",
            fix="super-resolution, inpainting and learned variances are not implemented",
        )


def _check_class(path: Path, config: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    found = config.get("_class_name")
    if found not in allowed:
        raise ModelError(
            f"{path}: _class_name is {found!r}", fix=f"ldmc compiles {' and '.join(allowed)} here"
        )


def _check_size(path: Path, unet: Mapping[str, Any]) -> None:
    """The latent has a size: it is nowhere else."""
    size = unet.get("sample_size")
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise ModelError(
            f"{path}: sample_size is {size!r}", fix="set it to the latent's side, or to [height, width]"
        )


def _check_scaling(path: Path, decoder: Mapping[str, Any]) -> None:
    """The decoder's latents are scaled, shifted and, where there are such, normalised by channel."""
    for key, without, wrong in (("scaling_factor", 1.0, 0), ("shift_factor", None, None)):
        value = decoder.get(key, without)
        if value != without and (not _is_number(value) or value == wrong):
            raise ModelError(
                f"{path}: {key} is {value!r}", fix="set it to the number the model was trained with"
            )
    mean, std = decoder.get("latents_mean"), decoder.get("latents_std")
    if mean is not None and decoder.get("shift_factor"):
        raise ModelError(
            f"{path}: latents_mean and shift_factor are both set; diffusers decodes with one or the other",
            fix="set the one that the model was trained with",
        )
    channels = decoder.get("latent_channels")
    for key, values in (("latents_mean", mean), ("latents_std", std)):
        if values is None and mean is std:
            continue
        numbers = isinstance(values, list) and all(_is_number(value) for value in values)
        if not numbers or len(values or []) != channels or (key == "latents_std" and 0 in (values or [])):
            raise ModelError(
                f"{path}: {key} is {values!r}, expected {channels} numbers, one for each latent channel",
                fix="set latents_mean and latents_std, or neither",
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
