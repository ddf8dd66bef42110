"""How a device builds one engine: what to try, and what next when that is killed for lack of memory.

    8.2    workspace 64 MiB -> 16 MiB -> 16 MiB without cuDNN -> two smaller parts -> ONNX Runtime on the GPU
    10.3   workspace 64 MiB -> 16 MiB                         -> two smaller parts -> ONNX Runtime on the GPU

cuDNN takes 240 to 412 MiB on a Nano as soon as one of its tactics is tried; TensorRT 10 tries none unless asked.
"""

from __future__ import annotations

from typing import Any

from ldmc.ir import Component
from ldmc.runtime.versions import release
from ldmc.targets.builder_memory import WORKSPACE_BYTES
from ldmc.targets.target import MIB, Target

_SMALL_WORKSPACE_BYTES = 16 * MIB
_LIBRARIES = ("cublas", "cublas_lt", "cudnn")
_FALLBACK = "onnxruntime-cuda"


def recipe(part: Component, target: Target) -> dict[str, Any]:
    """The manifest's `ladder` and `weights_bytes` of one part."""
    return {"ladder": rungs(target), "weights_bytes": weight_bytes(part)}


def rungs(target: Target) -> list[dict[str, Any]]:
    """What to try, in order. `finer` stands for the smaller parts that the bundle carries, where it carries some."""
    tried = list(_LIBRARIES) if release(target.toolchain.get("tensorrt", "8")) < (10,) else None
    found: list[dict[str, Any]] = [
        {"workspace_bytes": size, "tactic_sources": tried}
        for size in (WORKSPACE_BYTES, _SMALL_WORKSPACE_BYTES)
    ]
    if tried is not None:
        sources = [library for library in tried if library != "cudnn"]
        found.append({"workspace_bytes": _SMALL_WORKSPACE_BYTES, "tactic_sources": sources})
    return [*found, {"finer": []}, {"fallback": _FALLBACK}]


def weight_bytes(part: Component) -> int:
    """Bytes of the part's initializers, each once."""
    tensors = {
        id(value.const_value): value.const_value.nbytes
        for value in part.payload.graph.initializers.values()
        if value.const_value is not None
    }
    return sum(tensors.values())
