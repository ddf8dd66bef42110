"""From what the user typed after `--model` to a Program.

    preset name     configurations carried in the package; weights from the hub or its cache
    local folder    diffusers layout
    hub id          owner/name

in this order. Nothing here reads a weight: components carry a source that can.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ldmc.compiler import hub
from ldmc.compiler.checkpoint import Checkpoint, read_checkpoint
from ldmc.errors import ModelError, UsageError
from ldmc.ir import Component, Form, Network, Program, WeightSource

DEFAULT_MODEL = "ldm-celebahq-256"
# Preset -> the hub id that has its weights.
PRESETS = {"ldm-celebahq-256": "CompVis/ldm-celebahq-256"}
_REAL_WEIGHTS = (
    "give a folder with weights (--model DIR), a hub id whose weights can be fetched (--model owner/name)"
)
_THREE_WAYS = f"{_REAL_WEIGHTS}, or ask for placeholder weights (--random-weights)"


@dataclass(frozen=True)
class ModelRequest:
    """What the user asked for.

    model: as typed after --model, or None. random_seed: seed of --random-weights, or None.
    require_weights: real weights or an error.
    """

    model: str | None = None
    random_seed: int | None = None
    require_weights: bool = False


@dataclass(frozen=True)
class Opened:
    """A model that was found: its name, kind (`preset`, `folder` or `hub`), checkpoint, and weight files if any."""

    name: str
    kind: str
    checkpoint: Checkpoint
    weights: dict[str, list[Path]] | None


def open_model(request: ModelRequest, warn: Callable[[str], None]) -> Opened:
    """Find the model and its weight files.

    Raises:
        UsageError: nothing is called that. ModelError: it is broken, or has no weights where it must.
    """
    if request.model is None:
        return _open_default(request, warn)
    named = request.model
    if named in PRESETS:
        opened = _open_named_preset(named, with_weights=request.random_seed is None)
    elif named and Path(named).is_dir():  # "" would be this folder
        opened = _opened(Path(named).resolve().name, "folder", Path(named))
    elif hub.is_hub_id(named):
        folder = hub.fetch(named, with_weights=request.random_seed is None)
        opened = _opened(named.rpartition("/")[2], "hub", folder)
    else:
        near = difflib.get_close_matches(named, PRESETS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"unknown model {named!r}: no preset, no folder, no hub id",
            fix=f"{hint}presets are {', '.join(PRESETS)}",
        )
    if opened.weights is None and request.random_seed is None:
        raise ModelError(f"model {named!r} has no weights", fix=_THREE_WAYS)
    return opened


def require_drawable(opened: Opened) -> None:
    """Refuse a model with which nothing here draws: neither a bundle's loader nor PyTorch's level of a bench.

    Raises:
        ModelError: its UNet takes more than a latent and a timestep.
    """
    from ldmc.compiler.networks import is_text_conditioned

    if not is_text_conditioned(opened.checkpoint.unet):
        return
    raise ModelError(
        f"{opened.name} is of {opened.checkpoint.pipeline}, whose UNet takes a text context: nothing draws with it yet",
        fix="give an unconditional model; `ldmc plan` tells of this one what memory it takes on a target",
    )


def read_program(opened: Opened, request: ModelRequest, *, hashes: bool = True) -> Program:
    """Build the networks without weights, check the weight files against them, and describe the source.

    hashes: whether weight files are read whole for their SHA-256, which a bundle's source has.
    """
    from ldmc.compiler.networks import build_decoder, build_unet

    seed = request.random_seed if opened.weights is None or request.random_seed is not None else None
    if opened.weights is None and seed is None:
        seed = 0
    components = []
    for name, build in (("unet", build_unet), ("decoder", build_decoder)):
        skeleton = build(opened.checkpoint)
        weights = _weights(opened, name, skeleton, seed)
        payload = Network(skeleton.module, skeleton.mode, weights, skeleton.fp32_modules)
        components.append(Component(name, Form.TORCH, payload, skeleton.inputs, skeleton.outputs))
    _check_fit(*components)
    source = {
        # A folder's name, not its place: bundles are published, and the same checkpoint gives the same bytes anywhere.
        "model": opened.name if opened.kind == "folder" else request.model or DEFAULT_MODEL,
        "kind": opened.kind,
        "config_sha256": opened.checkpoint.config_sha256,
        "weights": _weights_section(opened, seed, hashes),
    }
    return Program(opened.name, tuple(components), opened.checkpoint.scheduler, source)


def _check_fit(unet: Component, decoder: Component) -> None:
    """What the UNet gives, the decoder takes."""
    given, taken = unet.outputs[0].shape[1], decoder.inputs[0].shape[1]
    if given != taken:
        raise ModelError(
            f"the unet gives {given} channels, the decoder takes {taken}",
            fix="give a folder whose unet and decoder are of one model",
        )


def _open_default(request: ModelRequest, warn: Callable[[str], None]) -> Opened:
    """The preset, with the hub's weights if they can be had, else with placeholder weights and a warning."""
    if request.random_seed is not None:
        return _open_preset(DEFAULT_MODEL, with_weights=False)
    try:
        opened = _open_preset(DEFAULT_MODEL, with_weights=True)
        if opened.weights is None:
            raise ModelError(
                f"{PRESETS[DEFAULT_MODEL]!r} has no weight files on the hub, or none in its cache"
            )
        return opened
    except ModelError as error:
        if request.require_weights:
            raise ModelError(f"no weights for {DEFAULT_MODEL}: {error.message}", fix=_THREE_WAYS) from error
        warn(
            f"PLACEHOLDER WEIGHTS: {error.message}. The build goes on with random weights: sizes and speeds are "
            f"real, pictures are noise. For real weights {_REAL_WEIGHTS}."
        )
        return _open_preset(DEFAULT_MODEL, with_weights=False)


def _open_named_preset(name: str, *, with_weights: bool) -> Opened:
    """A preset asked for by name: no weights, no build."""
    try:
        return _open_preset(name, with_weights=with_weights)
    except ModelError as error:
        raise ModelError(f"model {name!r} has no weights: {error.message}", fix=_THREE_WAYS) from error


def _open_preset(name: str, *, with_weights: bool) -> Opened:
    """Configurations from the package; weights, if wanted, from the hub's snapshot."""
    folder = Path(str(resources.files("ldmc.compiler") / "presets" / name))
    checkpoint = read_checkpoint(folder)
    if not with_weights:
        return Opened(name, "preset", checkpoint, None)
    snapshot = hub.fetch(PRESETS[name], with_weights=True)
    return Opened(name, "preset", checkpoint, _find_weights(snapshot, checkpoint.decoder_folder))


def _opened(name: str, kind: str, folder: Path) -> Opened:
    checkpoint = read_checkpoint(folder)
    return Opened(name, kind, checkpoint, _find_weights(folder, checkpoint.decoder_folder))


def _find_weights(folder: Path, decoder_folder: str) -> dict[str, list[Path]] | None:
    from ldmc.compiler.weights import find_weights

    unet, decoder = find_weights(folder / "unet"), find_weights(folder / decoder_folder)
    if unet is None and decoder is None:
        return None
    if unet is None or decoder is None:
        without = "unet" if unet is None else decoder_folder
        raise ModelError(f"{folder / without} has no weights, the other component has", fix=_THREE_WAYS)
    return {"unet": unet, "decoder": decoder}


def _weights(opened: Opened, name: str, skeleton: Any, seed: int | None) -> WeightSource:
    from ldmc.compiler.placeholder import PlaceholderWeights
    from ldmc.compiler.weights import open_weights

    if seed is not None:
        return PlaceholderWeights(seed, name, skeleton.inits)
    assert opened.weights is not None
    return open_weights(opened.weights[name], skeleton.expected)


def _weights_section(opened: Opened, seed: int | None, hashes: bool) -> dict[str, Any]:
    """The manifest's `source.weights`."""
    from ldmc.compiler.weights import file_records

    if seed is not None:
        return {"kind": "placeholder", "seed": seed, "files": []}
    assert opened.weights is not None
    root = opened.weights["unet"][0].parent.parent
    files = file_records(sum(opened.weights.values(), []), root) if hashes else []
    return {"kind": "checkpoint", "seed": None, "files": files}
