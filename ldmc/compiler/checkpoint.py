"""A checkpoint in diffusers layout, read as configuration only: no weights, no torch.

model_index.json                 which folders there are
unet/config.json                 UNet2DModel or UNet2DConditionModel
vqvae/config.json or vae/...     VQModel or AutoencoderKL
scheduler/scheduler_config.json  DDIMScheduler or one it can stand for
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldmc.compiler.config_kinds import check_network, check_scheduler
from ldmc.artifacts.documents import read_json
from ldmc.errors import ModelError

UNETS = ("UNet2DModel", "UNet2DConditionModel")
DECODERS = ("VQModel", "AutoencoderKL")


@dataclass(frozen=True)
class Checkpoint:
    """Configurations of one model.

    unet, decoder, scheduler: parsed JSON. decoder_folder: `vqvae` or `vae`.
    config_sha256: over the four files, in fixed order.
    """

    folder: Path
    unet: Mapping[str, Any]
    decoder: Mapping[str, Any]
    decoder_folder: str
    scheduler: Mapping[str, Any]
    config_sha256: str


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read and check the configuration files of `folder`.

    Raises:
        ModelError: a file is missing or not JSON, or a class is not one that ldmc compiles.
    """
    index = _read_json(folder / "model_index.json")
    decoder_folder = "vqvae" if "vqvae" in index else "vae"
    paths = [
        folder / "model_index.json",
        folder / "unet" / "config.json",
        folder / decoder_folder / "config.json",
        folder / "scheduler" / "scheduler_config.json",
    ]
    _, unet, decoder, scheduler = (_read_json(path) for path in paths)
    _check_class(paths[1], unet, UNETS)
    _check_class(paths[2], decoder, DECODERS)
    check_network(paths[1], unet)
    check_network(paths[2], decoder)
    check_scheduler(paths[3], scheduler)
    _check_size(paths[1], unet)
    _check_scaling(paths[2], decoder)
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return Checkpoint(folder, unet, decoder, decoder_folder, scheduler, digest.hexdigest())


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
    """The decoder divides by `scaling_factor` and adds `shift_factor`, where there are such."""
    for key, without, wrong in (("scaling_factor", 1.0, 0), ("shift_factor", None, None)):
        value = decoder.get(key, without)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value != without and (not number or value == wrong):
            raise ModelError(
                f"{path}: {key} is {value!r}", fix="set it to the number the model was trained with"
            )
