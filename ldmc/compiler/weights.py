"""Weights of a checkpoint, one tensor at a time.

Nothing here keeps a tensor: reading one opens the file, copies the tensor out in pieces and closes the
file again, so that its pages do not stay mapped and memory does not grow with the checkpoint.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ldmc.artifacts.documents import read_json
from ldmc.artifacts.kinds import Record, Table, Text, first_fault
from ldmc.errors import ModelError
from ldmc.ir import CHUNK_ELEMENTS

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


class _SafetensorsFile:
    """One `.safetensors` file, opened anew for each tensor so that its pages do not stay mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def shapes(self) -> dict[str, tuple[int, ...]]:
        with self._open() as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}

    def pieces(self, name: str) -> Iterator[Any]:
        with self._open() as tensors:
            stored = tensors.get_slice(name)
            shape = stored.get_shape()
            if not shape:
                yield tensors.get_tensor(name)
                return
            rows = max(1, CHUNK_ELEMENTS // max(1, math.prod(shape[1:])))
            for start in range(0, shape[0], rows):
                yield stored[start : start + rows]

    def _open(self) -> Any:
        from safetensors import SafetensorError, safe_open

        try:
            return safe_open(self.path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise _broken(self.path, error) from error


class _PickleFile:
    """One `.bin` file: mapped rather than read, where its format allows; nothing in it can run code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self._state.items()}

    def pieces(self, name: str) -> Iterator[Any]:
        yield from self._state[name].detach().flatten().split(CHUNK_ELEMENTS)

    @cached_property
    def _state(self) -> Mapping[str, Any]:
        import torch

        def load(mmap: bool) -> Any:
            return torch.load(self.path, map_location="cpu", weights_only=True, mmap=mmap)

        try:
            # The format of torch before 1.6 is no zip archive and cannot be mapped.
            state = load(mmap=zipfile.is_zipfile(self.path))
        except Exception as error:  # noqa: BLE001  the unpickler raises whatever comes of a damaged opcode
            raise _broken(self.path, error) from error
        if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
            raise ModelError(
                f"{self.path} holds no state dict of tensors",
                fix="save the model with torch.save(net.state_dict())",
            )
        return state


@dataclass(frozen=True)
class CheckpointWeights:
    """Where each parameter lies: `key -> (file, name in the file)`. Implements `ldmc.ir.WeightSource`."""

    entries: Mapping[str, tuple[_SafetensorsFile | _PickleFile, str]]

    def chunks(self, key: str) -> Iterator[Any]:
        """See `ldmc.ir.WeightSource`. A row larger than a chunk comes whole."""
        file, name = self.entries[key]
        for piece in file.pieces(name):
            yield _to_numpy(piece).reshape(-1)


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
        ModelError: an index names shards that are not there, or is not an index.
    """
    for name in _CANDIDATES:
        path = folder / name
        if path.is_file():
            return _shards(path) if ".index." in name else [path]
    return None


def open_weights(files: list[Path], expected: Mapping[str, tuple[int, ...]]) -> CheckpointWeights:
    """Check `files` against the network and say where each parameter lies.

    expected: every parameter of the network, `key -> shape`.

    Raises:
        ModelError: a file is truncated or not a checkpoint; keys are missing or left over; a shape is wrong.
    """
    stored: dict[str, tuple[_SafetensorsFile | _PickleFile, str, tuple[int, ...]]] = {}
    for path in files:
        file = _SafetensorsFile(path) if path.suffix == ".safetensors" else _PickleFile(path)
        for name, shape in file.shapes().items():
            stored[_modern_key(name)] = (file, name, shape)
    folder = files[0].parent
    _check_keys(folder, stored.keys(), expected.keys())
    for key, shape in expected.items():
        if stored[key][2] != shape:
            raise ModelError(
                f"{folder}: {key} has shape {list(stored[key][2])}, the network needs {list(shape)}",
                fix="the weights belong to another config.json; give the config and weights of one model",
            )
    return CheckpointWeights({key: stored[key][:2] for key in expected})


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
    try:
        data = read_json(index)
    except OSError as error:
        raise ModelError(f"{index} cannot be read: {error.strerror}", fix="download the file again") from error
    except ValueError as error:
        raise ModelError(f"{index} is not a shard index: {error}", fix="download the file again") from error
    fault = first_fault(Record({"weight_map": Table(Text())}), data)
    if fault is not None:
        raise ModelError(f"{index} is not a shard index: {fault}", fix="download the file again")
    names = sorted(set(data["weight_map"].values()))
    wrong = [name for name in names if Path(name).name != name]
    if wrong or not names:
        said = f"{wrong[0]!r} is no file beside it" if wrong else "it names no file"
        raise ModelError(f"{index} is not a shard index: {said}", fix="download the file again")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ModelError(
            f"{index.parent}: {len(missing)} of {len(names)} shards are missing: {', '.join(missing[:3])}",
            fix="download the missing files beside the index",
        )
    return [index.parent / name for name in names]


def _broken(file: Path, error: Exception) -> ModelError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    size = f"{file.stat().st_size} bytes" if file.exists() else "gone"
    return ModelError(
        f"{file} ({size}) cannot be read as weights: {reason}",
        fix="the file is truncated or damaged; download it again",
    )


def _to_numpy(tensor: Any) -> Any:
    import torch

    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return np.ascontiguousarray(tensor.detach().numpy())


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
