"""Weights of a checkpoint, one tensor at a time.

    unet/ -> its files -> every key, shape and dtype held to the network (headers alone) -> values, a tensor at a time

Nothing here keeps a tensor: reading one opens the file, copies the tensor out in pieces and closes the
file again, so that its pages do not stay mapped and memory does not grow with the checkpoint. Values pass
once, and on the way each is held to be a number.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ldmc.compiler.weight_files import READABLE, Stored, WeightFile, require_file, weight_file
from ldmc.errors import ModelError

_STEM = "diffusion_pytorch_model"
# In the order they are looked for; an index file stands for its shards.
_CANDIDATES = (
    f"{_STEM}.safetensors",
    f"{_STEM}.safetensors.index.json",
    f"{_STEM}.fp16.safetensors",
    f"{_STEM}.safetensors.index.fp16.json",
    f"{_STEM}.bin",
    f"{_STEM}.bin.index.json",
    f"{_STEM}.fp16.bin",
    f"{_STEM}.bin.index.fp16.json",
)
# Attention of diffusers before 0.12 (AttentionBlock) -> after (Attention).
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class CheckpointWeights:
    """Where each parameter lies: `key -> (file, name in the file)`. Implements `ldmc.ir.WeightSource`."""

    entries: Mapping[str, tuple[WeightFile, str]]

    def chunks(self, key: str) -> Iterator[Any]:
        """See `ldmc.ir.WeightSource`. A row larger than a chunk comes whole.

        Raises:
            ModelError: a value is NaN, infinite, or outside the range of float32.
        """
        file, name = self.entries[key]
        pieces = file.pieces(name)
        for piece in pieces:
            chunk = _to_numpy(piece).reshape(-1)
            if not _are_numbers(chunk):
                rest = (_to_numpy(left).reshape(-1) for left in pieces)
                raise _no_numbers(file.path, name, itertools.chain([chunk], rest))
            yield chunk


def preferred_patterns(names: Collection[str]) -> list[str]:
    """Of the file names of one component folder, glob patterns of the one set of weights that would be read."""
    for candidate in _CANDIDATES:
        if candidate not in names:
            continue
        if ".index." not in candidate:
            return [candidate]
        kind = "safetensors" if "safetensors" in candidate else "bin"
        return [candidate, f"{_STEM}*-of-*.{kind}"]
    return []


def find_weights(folder: Path) -> list[Path] | None:
    """The weight files of one component folder, or None if there are none.

    Raises:
        ModelError: an index names shards that are not there, or is not an index; what has the name is no file.
    """
    for path in (folder / name for name in _CANDIDATES):
        if os.path.lexists(path):
            require_file(path)
            return _shards(path) if ".index." in path.name else [path]
    return None


def open_weights(files: list[Path], expected: Mapping[str, tuple[int, ...]]) -> CheckpointWeights:
    """Check `files` against the network and say where each parameter lies. Reads headers, no value.

    expected: every parameter of the network, `key -> shape`.

    Raises:
        ModelError: a file is truncated or not a checkpoint; keys are missing, left over, or there twice; the index
            disagrees with its shards; a shape is wrong; a tensor is stored as something else than real numbers.
    """
    folder = files[0].parent
    readers = [weight_file(path) for path in files]
    entries: dict[str, tuple[WeightFile, str]] = {}
    stored: dict[str, Stored] = {}
    for reader in readers:
        for name, tensor in reader.tensors().items():
            key = _modern_key(name)
            if key in entries:
                raise _twice(key, *entries[key], reader, name)
            entries[key], stored[key] = (reader, name), tensor
    _check_index(folder, files, entries)
    for key in sorted(expected.keys() & stored.keys()):
        _check_kind(*entries[key], stored[key])
    _check_keys(folder, stored.keys(), expected.keys())
    for key, shape in expected.items():
        if stored[key].shape != shape:
            raise ModelError(
                f"{folder}: {key} has shape {list(stored[key].shape)}, the network needs {list(shape)}",
                fix="the weights belong to another config.json; give the config and weights of one model",
            )
    return CheckpointWeights({key: entries[key] for key in expected})


def file_records(files: list[Path], root: Path) -> list[dict[str, Any]]:
    """Path relative to `root`, size and SHA-256 of each file, for the manifest."""
    records = []
    for file in files:
        with file.open("rb") as stream:
            digest = (
                hashlib.file_digest(stream, "sha256").hexdigest()
                if hasattr(hashlib, "file_digest")
                else _digest(stream)
            )
        records.append(
            {"path": file.relative_to(root).as_posix(), "bytes": file.stat().st_size, "sha256": digest}
        )
    return records


def _digest(stream: Any) -> str:
    """Python 3.10 has no `hashlib.file_digest`."""
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _modern_key(name: str) -> str:
    """`mid_block.attentions.0.query.weight` -> `mid_block.attentions.0.to_q.weight`."""
    path, _, leaf = name.rpartition(".")
    module, dot, last = path.rpartition(".")
    if "attentions." in module and last in _OLD_ATTENTION:
        return f"{module}{dot}{_OLD_ATTENTION[last]}.{leaf}"
    return name


def _shards(index: Path) -> list[Path]:
    names = sorted(set(_weight_map(index).values()))
    missing = [name for name in names if not os.path.lexists(index.parent / name)]
    if missing:
        raise ModelError(
            f"{index.parent}: {len(missing)} of {len(names)} shards are missing: {', '.join(missing[:3])}",
            fix="download the missing files beside the index",
        )
    files = [index.parent / name for name in names]
    for file in files:
        require_file(file)
    return files


def _weight_map(index: Path) -> dict[str, str]:
    """An index's key -> file beside it."""
    try:
        entries = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"].items())
        wrong = [name for name in sorted(set(entries.values())) if Path(name).name != name]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{index} is not a shard index: {error}", fix="download the file again") from error
    if wrong or not entries:
        said = f"{wrong[0]!r} is no file beside it" if wrong else "it names no file"
        raise ModelError(f"{index} is not a shard index: {said}", fix="download the file again")
    return entries


def _check_index(
    folder: Path, files: list[Path], entries: Mapping[str, tuple[WeightFile, str]]
) -> None:
    """Shards that an index put together hold what it says: those of two models can have the same names."""
    chosen = next((folder / name for name in _CANDIDATES if os.path.lexists(folder / name)), files[0])
    if ".index." not in chosen.name:
        return
    wanted = {_modern_key(name): file for name, file in _weight_map(chosen).items()}
    for key in sorted(wanted.keys() | entries.keys()):
        file = entries[key][0].path.name if key in entries else None
        if wanted.get(key) != file:
            raise ModelError(
                f"{chosen}: {key} is in {wanted.get(key) or 'none'} by the index, in {file or 'none'} by the shards",
                fix="index and shards are of different models or downloads; download them together",
            )


def _check_kind(file: WeightFile, name: str, tensor: Stored) -> None:
    """A weight is a tensor of real numbers, stored plainly."""
    fix = "give weights in float32, float16, bfloat16, float64, or plain float8 without scales"
    if tensor.flaw:
        raise ModelError(f"{file.path}: {name} {tensor.flaw}", fix=fix)
    if tensor.dtype not in READABLE:
        raise ModelError(f"{file.path}: {name} is stored as {tensor.dtype}, not as real numbers", fix=fix)
    if 0 in tensor.shape:
        raise ModelError(f"{file.path}: {name} has shape {list(tensor.shape)}, no element", fix="check config.json")


def _twice(
    key: str, first: WeightFile, name: str, second: WeightFile, again: str
) -> ModelError:
    places = " and ".join(f"{file.path.name} ({stored})" for file, stored in ((first, name), (second, again)))
    return ModelError(
        f"{first.path.parent}: {key} is there twice, in {places}",
        fix="the files are of different models or downloads; download them together",
    )


def _to_numpy(tensor: Any) -> Any:
    """As numpy has it: bfloat16 and float8, which it lacks, as float32, which holds all their values."""
    if tensor.element_size() == 1 or str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    return np.ascontiguousarray(tensor.detach().numpy())


def _are_numbers(chunk: Any) -> bool:
    """Whether all values are finite in float32, which every weight passes through or ends in."""
    if chunk.dtype == np.float64:
        return bool((np.abs(chunk) <= np.finfo(np.float32).max).all())
    return bool(np.isfinite(chunk).all())


def _no_numbers(file: Path, name: str, chunks: Iterator[Any]) -> ModelError:
    """The error for a tensor, of which `chunks` are the first with a wrong value and all after it."""
    found = {"NaN": 0, "infinite": 0, "outside the range of float32": 0}
    for chunk in chunks:
        wrong = (int(np.isnan(chunk).sum()), int(np.isinf(chunk).sum()))
        inside = chunk.size if _are_numbers(chunk) else int((np.abs(chunk) <= np.finfo(np.float32).max).sum())
        for kind, count in zip(found, (*wrong, chunk.size - inside - sum(wrong)), strict=True):
            found[kind] += count
    counts = " and ".join(f"{count} {kind}" for kind, count in found.items() if count)
    return ModelError(
        f"{file}: {name} holds values that are no numbers for a network: {counts}",
        fix="the training diverged, or the file is damaged: give weights that are finite",
    )


def _check_keys(folder: Path, stored: Any, expected: Any) -> None:
    missing = sorted(set(expected) - set(stored))
    extra = sorted(set(stored) - set(expected))
    if not missing and not extra:
        return
    parts = []
    if missing:
        parts.append(f"{len(missing)} of {len(expected)} parameters are missing (first: {missing[0]})")
    if extra:
        parts.append(f"{len(extra)} are not of this network (first: {extra[0]})")
    raise ModelError(
        f"{folder}: {' and '.join(parts)}", fix="give the weights that belong to this config.json"
    )
