"""Where an fp16 graph leaves the range of fp16, and what to keep in fp32 so that it does not.

Every fp16 value of the graph is looked at, not only the outputs: an engine that computes in fp32
inside (ONNX Runtime on a CPU) may carry a value through that a GPU would lose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ldmc.runtime.onnx_runtime import import_onnxruntime

_CHUNK_BYTES = 512 * 2**20  # intermediate values held at one time


@dataclass(frozen=True)
class Overflow:
    """The first node, in running order, that gives Inf or NaN from finite inputs."""

    component: str
    node: str

    @property
    def module(self) -> str:
        """Path of the module the node comes from: `mid_block.resnets.0.conv1/Conv` -> `mid_block.resnets.0.conv1`."""
        return self.node.rpartition("/")[0]


def find_overflow(component: str, model_file: Path, inputs: Sequence[Any]) -> Overflow | None:
    """Run the graph in `model_file` on `inputs` (numpy arrays, in order) and look at every fp16 value of it."""
    import onnx

    proto = onnx.load(str(model_file), load_external_data=False)
    known = {value.name: value for value in (*proto.graph.value_info, *proto.graph.output)}
    half = [
        (node, known[name])
        for node in proto.graph.node
        for name in node.output
        if name in known and known[name].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    ]
    declared = list(proto.graph.output)
    feeds = {value.name: array for value, array in zip(proto.graph.input, inputs, strict=True)}
    for chunk in _chunks(half):
        del proto.graph.output[:]
        proto.graph.output.extend(declared)
        proto.graph.output.extend(value for _, value in chunk if value not in declared)
        values = _run(proto, model_file.parent, feeds, [value.name for _, value in chunk])
        for (node, _), value in zip(chunk, values, strict=True):
            if not np.isfinite(value).all():
                return Overflow(component, node.name)
    return None


def find_overflow_in_parts(
    component: str, files: Sequence[Path], inputs: Mapping[str, Any]
) -> Overflow | None:
    """The same for graphs that run in order; values pass from one to the next by name, beginning with `inputs`."""
    import onnx

    values = dict(inputs)
    for file in files:
        proto = onnx.load(str(file), load_external_data=False)
        feeds = {value.name: values[value.name] for value in proto.graph.input}
        found = find_overflow(component, file, list(feeds.values()))
        if found is not None:
            return found
        if file != files[-1]:
            names = [value.name for value in proto.graph.output]
            values.update(zip(names, _run(proto, file.parent, feeds, names), strict=True))
    return None


def cure(
    overflow: Overflow, keep: tuple[str, ...], retry: Callable[[tuple[str, ...]], Overflow | None]
) -> tuple[str, ...] | None:
    """The smallest `keep` found with which nothing overflows; None if none was found.

    keep: what is kept so far. retry: compile with another `keep` and look again.
    Each try keeps one module more: first the block around the node, then the blocks around that.
    """
    current: Overflow | None = overflow
    for _ in range(8):
        if current is None:
            return keep
        wider = next((path for path in _enclosing(current) if path not in keep), None)
        if wider is None:
            return None
        keep = (*(item for item in keep if not item.startswith(f"{wider}.")), wider)
        current = retry(keep)
    return keep if current is None else None


def _enclosing(overflow: Overflow) -> Iterator[str]:
    """`unet/up_blocks.3.resnets.1.conv2` -> itself without its leaf, then each block around it.

    A module that is numbered, `mid_block.attentions.0`, is a block and no leaf: the node is an operator of its own.
    """
    parts = overflow.module.split(".")
    longest = len(parts) if parts[-1].isdigit() else max(1, len(parts) - 1)
    for length in range(longest, 0, -1):
        # `up_blocks.3.resnets` and `up_blocks` are lists, which are never called: a number must follow them.
        if length < len(parts) and parts[length].isdigit():
            continue
        yield f"{overflow.component}/{'.'.join(parts[:length])}"


def _chunks(values: list[tuple[Any, Any]]) -> Iterator[list[tuple[Any, Any]]]:
    chunk: list[tuple[Any, Any]] = []
    size = 0
    for node, value in values:
        size += 2 * math.prod(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        chunk.append((node, value))
        if size > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _run(proto: Any, folder: Path, feeds: dict[str, Any], names: list[str]) -> list[Any]:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4  # fatal: an error is raised, and told once, without the colours of its log
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values: list[Any] = session.run(names, feeds)
    return values
