"""ONNX graphs on disk: weights in one file beside them, each tensor read, cast and written on its own.

    unet/0.onnx  unet/1.onnx   ->   unet/model.onnx.data      graphs that share weights share the file
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ldmc.errors import BundleError

if TYPE_CHECKING:
    import onnx_ir as ir

_ALIGNMENT_BYTES = 4096  # a page: weights can be mapped straight from the file
_INLINE_BYTES = 1024  # smaller tensors stay in the graph file
_IN_FLIGHT_BYTES = 64 * 2**20  # tensors being read, cast and written at one time


def store(
    models: Iterable[ir.Model], folder: Path, name: str, advance: Callable[[int], None]
) -> dict[int, ir.ExternalTensor]:
    """Write the large weights of `models` to the file `name`, each once; id of a tensor -> where it now is.

    Raises:
        BundleError: the disk is too small. OSError: it cannot be written.
    """
    from onnx_ir.external_data import convert_tensors_to_external

    tensors = _large_weights(models)
    require_space(folder / name, sum(tensor.nbytes for tensor in tensors))
    if not tensors:
        return {}
    written = convert_tensors_to_external(
        tensors,
        folder,
        name,
        alignment=_ALIGNMENT_BYTES,
        align_threshold=_ALIGNMENT_BYTES,
        max_workers=os.cpu_count(),
        max_in_flight_bytes=_IN_FLIGHT_BYTES,
        callback=lambda tensor, _: advance(tensor.nbytes),
    )
    return {id(tensor): where for tensor, where in zip(tensors, written, strict=True)}


def require_space(file: Path, needed_bytes: int) -> None:
    """Refuse to begin a file that its disk cannot hold.

    Raises:
        BundleError: the disk is too small.
    """
    free = shutil.disk_usage(file.parent).free
    if needed_bytes > free:
        raise BundleError(
            f"{file.parent.name}/{file.name} needs {needed_bytes / 2**20:.0f} MiB, "
            f"its disk has {free / 2**20:.0f} MiB free",
            fix="free some space, or write elsewhere with -o",
        )


def save(model: ir.Model, stored: Mapping[int, ir.ExternalTensor], file: Path) -> None:
    """Write the graph, its large weights being where `stored` says; `model` keeps its own."""
    import onnx_ir as ir

    weights = {value: value.const_value for value in model.graph.initializers.values()}
    for value, tensor in weights.items():
        value.const_value = stored.get(id(tensor), tensor)
    try:
        ir.save(model, file)
    finally:
        for value, tensor in weights.items():
            value.const_value = tensor


def _large_weights(models: Iterable[ir.Model]) -> list[ir.TensorProtocol]:
    """What goes to the weights file, each tensor once, in the order of the graphs."""
    found: dict[int, ir.TensorProtocol] = {}
    for model in models:
        for value in model.graph.initializers.values():
            if value.const_value is not None and value.const_value.nbytes > _INLINE_BYTES:
                found.setdefault(id(value.const_value), value.const_value)
    return list(found.values())
