"""Files of weights: what each tensor is, read from the header, and its values in pieces.

    diffusion_pytorch_model.safetensors   ->   conv_in.weight: F16 [64, 3, 3, 3]     opened anew for each tensor
    diffusion_pytorch_model.bin           ->   conv_in.weight: float16 [64, 3, 3, 3] mapped; runs no code

Nothing here keeps a tensor, and nothing here knows a network.
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ldmc.errors import ModelError
from ldmc.ir import CHUNK_ELEMENTS

# dtype of a safetensors header -> PyTorch's name, for those that are read as values.
_VALUES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
READABLE = tuple(_VALUES.values())
_LONGEST_HEADER_BYTES = 100_000_000  # what safetensors itself allows


@dataclass(frozen=True)
class Stored:
    """What a file says of one tensor. dtype: PyTorch's name where its values can be read, else the file's own.

    flaw: why it holds no readable values whatever its dtype (`is sparse`), or "".
    """

    shape: tuple[int, ...]
    dtype: str
    flaw: str = ""


class SafetensorsFile:
    """One `.safetensors` file, opened anew for each tensor so that its pages do not stay mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def tensors(self) -> dict[str, Stored]:
        """Every tensor by name.

        Raises:
            ModelError: the file is truncated or not of this format, or names a tensor twice.
        """
        header = _read_header(self.path)
        stored = {name: _described(self.path, name, entry) for name, entry in header.items()}
        if all(tensor.dtype in READABLE for tensor in stored.values()):
            self._open()  # holds the offsets to the file's size; a dtype that it does not know it calls a broken file
        return stored

    def pieces(self, name: str) -> Iterator[Any]:
        """The values of one tensor as torch tensors of whole rows, in order."""
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
            raise broken(self.path, error) from error


class PickleFile:
    """One `.bin` file: mapped rather than read, where its format allows; nothing in it can run code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def tensors(self) -> dict[str, Stored]:
        """Every tensor by name.

        Raises:
            ModelError: the file is truncated, or no state dict of tensors.
        """
        return {
            name: Stored(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), _flaw(tensor))
            for name, tensor in self._state.items()
        }

    def pieces(self, name: str) -> Iterator[Any]:
        """The values of one tensor as flat torch tensors, in order."""
        yield from self._state[name].detach().resolve_neg().flatten().split(CHUNK_ELEMENTS)

    @cached_property
    def _state(self) -> Mapping[str, Any]:
        import torch

        try:
            # The format of torch before 1.6 is no zip archive and cannot be mapped.
            mmap = zipfile.is_zipfile(self.path)
            state = torch.load(self.path, map_location="cpu", weights_only=True, mmap=mmap)
        except Exception as error:  # whatever a damaged pickle makes its reader stumble over
            raise broken(self.path, error) from error
        if not isinstance(state, dict):
            raise _no_state_dict(self.path, f"it holds a {type(state).__name__}")
        for name, value in state.items():
            if not isinstance(name, str) or not isinstance(value, torch.Tensor):
                raise _no_state_dict(self.path, f"{name!r} is a {type(value).__name__}")
        return state


WeightFile = SafetensorsFile | PickleFile


def weight_file(path: Path) -> WeightFile:
    """The reader of a file, by its suffix."""
    return SafetensorsFile(path) if path.suffix == ".safetensors" else PickleFile(path)


def require_file(path: Path) -> None:
    """Refuse what has the name of a weight file and cannot be read as one; opening a FIFO would wait for ever.

    Raises:
        ModelError: it is a folder, a device, a FIFO, a socket, or a link to nowhere.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        what = "is a link to nowhere" if path.is_symlink() else f"cannot be read: {error.strerror}"
        raise ModelError(f"{path} {what}", fix="download the file again") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a FIFO" if stat.S_ISFIFO(mode) else "a device or socket"
        raise ModelError(f"{path} is {kind}, not a file of weights", fix="remove it, or download the file again")


def broken(file: Path, error: Exception | str) -> ModelError:
    """The error for a file that its format's reader does not read."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    size = f"{file.stat().st_size} bytes" if file.exists() else "gone"
    denied = isinstance(error, PermissionError)
    return ModelError(
        f"{file} ({size}) cannot be read as weights: {reason}",
        fix="check its permissions" if denied else "the file is truncated or damaged; download it again",
    )


def _read_header(path: Path) -> dict[str, Any]:
    """The JSON object in front of the values, without `__metadata__`: 8 bytes of length, then so much text."""
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            prefix = stream.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if length < 2 or length > min(size - 8, _LONGEST_HEADER_BYTES):
                raise broken(path, f"its header of {length} bytes does not fit the file")
            text = stream.read(length)
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (OSError, ValueError, RecursionError) as error:  # JSON and Unicode errors are ValueErrors
        raise broken(path, error) from error
    if not isinstance(header, dict):
        raise broken(path, f"its header is a JSON {type(header).__name__}")
    header.pop("__metadata__", None)
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key, value in pairs:
        if key in entries:
            raise ValueError(f"{key!r} is in its header twice")
        entries[key] = value
    return entries


def _described(path: Path, name: str, entry: Any) -> Stored:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    dtype = entry.get("dtype") if isinstance(entry, dict) else None
    sides = isinstance(shape, list) and all(type(side) is int and side >= 0 for side in shape)
    if not sides or not isinstance(dtype, str) or shape is None:
        raise broken(path, f"its header says of {name!r} no dtype and shape")
    return Stored(tuple(shape), _VALUES.get(dtype, dtype))


def _flaw(tensor: Any) -> str:
    """What keeps a pickled tensor from being read as plain values."""
    import torch

    if tensor.is_quantized:
        return "is quantised"
    if tensor.layout is not torch.strided:
        return f"is sparse ({str(tensor.layout).removeprefix('torch.')})"
    return "is a meta tensor, without values" if tensor.is_meta else ""


def _no_state_dict(path: Path, why: str) -> ModelError:
    return ModelError(
        f"{path} holds no state dict of tensors: {why}", fix="save the model with torch.save(net.state_dict())"
    )
