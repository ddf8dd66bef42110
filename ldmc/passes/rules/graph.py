"""Rules on the graph as a whole: opset, file format, inputs, constants, rank.

opset_import 18, target reads 13    ->    finding `opset`, repaired by opset{to=13}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx_ir as ir

from ldmc.passes.rules.base import PARSER, Problem, Rule, View

_MOST_AXES = 8
_INT32 = np.iinfo(np.int32)
# Inputs whose meaning is to be cut off at the ends: starts and ends of a Slice.
_SATURATING = {("Slice", 1), ("Slice", 2)}


def _opset(view: View) -> Iterator[Problem]:
    if view.opset > view.target.opset:
        clause = f"the graph is of opset {view.opset}, {view.parser} reads {view.target.opset} at most"
        yield Problem(clause, view.lowering)


def _ir_version(view: View) -> Iterator[Problem]:
    from onnx.helper import find_min_ir_version_for, make_opsetid

    newest = find_min_ir_version_for([make_opsetid("", view.target.opset)])
    if view.model.ir_version > newest:
        clause = f"the file format is IR {view.model.ir_version}, {view.parser} was built on IR {newest}"
        yield Problem(clause, view.lowering)


def _static_inputs(view: View) -> Iterator[Problem]:
    for value in view.model.graph.inputs:
        if value.shape is None or not value.shape.is_static():
            sides = list(value.shape) if value.shape is not None else "unknown"
            yield Problem(f"input {value.name} has shape {sides}; an engine is built for static ones")


def _int64_range(view: View) -> Iterator[Problem]:
    """Read from constants in memory only: lazy ones are weights, and weights are not int64."""
    for value in view.model.graph.initializers.values():
        readers = {(use.node.op_type, use.idx) for use in value.uses()}
        if readers - _SATURATING and (found := _outside(value.const_value)) is not None:
            yield Problem(
                f"constant {value.name} holds {found}, which becomes the nearest INT32", node=value.name or ""
            )
    for node in view.model.graph:
        if node.op_type != "Constant" or "value" not in node.attributes:
            continue
        readers = {(use.node.op_type, use.idx) for use in node.outputs[0].uses()}
        if readers - _SATURATING and (found := _outside(node.attributes["value"].as_tensor())) is not None:
            yield Problem(f"holds {found}, which becomes the nearest INT32", node=node.name or "")


def _outside(tensor: ir.TensorProtocol | None) -> int | None:
    """An int64 element that INT32 cannot hold."""
    if tensor is None or isinstance(tensor, ir.LazyTensor) or tensor.dtype is not ir.DataType.INT64:
        return None
    array = tensor.numpy()
    outside = array[(array < _INT32.min) | (array > _INT32.max)]
    return int(outside[0]) if outside.size else None


def _double(view: View) -> Iterator[Problem]:
    """Where it comes in; not each node that it then goes through."""
    graph = view.model.graph
    for value in (*graph.inputs, *graph.initializers.values()):
        if value.dtype is ir.DataType.DOUBLE:
            yield Problem(f"{value.name} is DOUBLE, which becomes FP32", node=value.name or "")
    for node in graph:
        if not _has_double(node.inputs) and _has_double(node.outputs):
            yield Problem("gives DOUBLE, which becomes FP32", node=node.name or "")


def _has_double(values: Iterable[ir.Value | None]) -> bool:
    return any(value is not None and value.dtype is ir.DataType.DOUBLE for value in values)


def _external_data(view: View) -> Iterator[Problem]:
    """Of graphs that were read from disk; what ldmc writes has location, offset and length alone."""
    for value in view.model.graph.initializers.values():
        if not isinstance(value.const_value, ir.ExternalTensor):
            continue
        location = str(value.const_value.location)
        if location.startswith("/") or ".." in location.split("/"):
            yield Problem(
                f"weight {value.name} is at {location}, not in the model's folder", node=value.name or ""
            )


def _rank(node: ir.Node, view: View) -> Problem | None:
    for value in (*node.inputs, *node.outputs):
        if value is not None and value.shape is not None and len(value.shape) > _MOST_AXES:
            return Problem(
                f"{value.name} has {len(value.shape)} axes, a TensorRT tensor has {_MOST_AXES} at most"
            )
    return None


RULES = (
    Rule("opset", "the target's `opset`", whole=_opset, engines="", tabled=False),
    Rule("ir-version", "onnx-tensorrt 8.2-GA vendors ONNX 1.8", whole=_ir_version, before=(8, 3)),
    Rule(
        "static-inputs", "TensorRT's builder asks for a profile otherwise", whole=_static_inputs, tabled=False
    ),
    Rule("int64-range", PARSER, whole=_int64_range, before=(10, 0)),
    Rule("double", PARSER, whole=_double, tabled=False),
    Rule("external-data", PARSER, whole=_external_data, tabled=False),
    Rule("rank", "TensorRT's Dims::MAX_DIMS", find=_rank, tabled=False),
)
