"""Rules from operator tables: is there such an operator, for such types, with constants where it must have them?

MatMul of INT32 for TensorRT 8.2    ->    finding `type`
"""

from __future__ import annotations

import onnx_ir as ir

from ldmc.passes.rules.base import FOLD, GROUPNORM, Problem, Rule, View, has_input, is_constant

_TABLES = "onnx-tensorrt docs/operators.md"
_DEFINED_BY_OUTPUT = frozenset(("Constant", "ConstantOfShape", "EyeLike", "RandomUniform"))
_NEWEST = (99, 0)
# (operator, input) -> its name, and the TensorRT version from which it may be computed.
_CONSTANT_INPUTS: dict[tuple[str, int], tuple[str, tuple[int, int]]] = {
    ("Conv", 1): ("W", (8, 5)),
    ("Conv", 2): ("B", (8, 5)),
    ("ConvTranspose", 1): ("W", (8, 5)),
    ("ConvTranspose", 2): ("B", (8, 5)),
    ("CumSum", 1): ("axis", _NEWEST),
    ("InstanceNormalization", 1): ("scale", (8, 6)),
    ("InstanceNormalization", 2): ("B", (8, 6)),
    ("Slice", 3): ("axes", (10, 3)),
    ("Split", 1): ("split", _NEWEST),
    ("Squeeze", 1): ("axes", _NEWEST),
    ("TopK", 1): ("K", (8, 6)),
    ("Unsqueeze", 1): ("axes", _NEWEST),
}


def _unknown(node: ir.Node, view: View) -> Problem | None:
    from ldmc.passes.rewrites.unchanged import schema_of

    if node.domain not in ("", "ai.onnx"):
        foreign = view.target.engine.startswith("tensorrt")  # ONNX Runtime has domains of its own
        return Problem(f"is of domain {node.domain}, {view.parser} looks for a plugin") if foreign else None
    if schema_of(node, view.opset) is None:
        return Problem(f"is not an ONNX operator of opset {view.opset}")
    return None


def _unsupported(node: ir.Node, view: View) -> Problem | None:
    if view.table is None or view.table.supports(node.op_type):
        return None
    return Problem(f"is not an operator that {view.parser} has", _replacing(node, view))


def _replacing(node: ir.Node, view: View) -> str:
    """The pass that writes an operator with others."""
    from ldmc.passes.rewrites.functions import FUNCTIONS
    from ldmc.passes.rewrites.lowerings import SIGNATURES
    from ldmc.passes.rewrites.unchanged import schema_of

    if node.op_type in ("InstanceNormalization", "GroupNormalization"):
        return GROUPNORM
    lowered = node.op_type in FUNCTIONS or node.op_type in SIGNATURES
    return view.lowering if lowered and schema_of(node, view.target.opset) is None else ""


def _type(node: ir.Node, view: View) -> Problem | None:
    if view.table is None or not view.table.supports(node.op_type):
        return None
    for value in _typed_values(node):
        if value is None or value.dtype is None or view.table.supports(node.op_type, value.dtype.name):
            continue
        allowed = ", ".join(sorted(view.table.types[node.op_type]))
        return Problem(f"works on {value.dtype.name}; {view.parser} takes {allowed}")
    return None


def _typed_values(node: ir.Node) -> tuple[ir.Value | None, ...]:
    """The values that a table's types are about."""
    if node.op_type in _DEFINED_BY_OUTPUT:
        return tuple(node.outputs)
    if node.op_type == "Cast":
        return (*node.inputs, *node.outputs)
    if node.op_type == "Where":
        return tuple(node.inputs[1:])
    return tuple(node.inputs[:1])


def _mixed(node: ir.Node, view: View) -> Problem | None:
    """Values that one type variable of the schema stands for must be of one type."""
    from ldmc.passes.rewrites.unchanged import schema_of

    schema = schema_of(node, view.opset)
    if schema is None:
        return None
    seen: dict[str, str] = {}
    for k, value in enumerate(node.inputs):
        formal = schema.inputs[min(k, len(schema.inputs) - 1)]
        if value is None or value.dtype is None or not formal.is_homogeneous:
            continue
        first = seen.setdefault(formal.type_str, value.dtype.name)
        if first != value.dtype.name:
            return Problem(f"has inputs of {first} and {value.dtype.name}, which must be of one type")
    return None


def _constant_input(node: ir.Node, view: View) -> Problem | None:
    if view.table is None:
        return None
    places = {k: entry for (op, k), entry in _CONSTANT_INPUTS.items() if op == node.op_type}
    if node.op_type.startswith("Reduce"):
        places = {1: ("axes", _NEWEST)}
    for k, (name, since) in places.items():
        if view.table.version < since and has_input(node, k) and not is_constant(node.inputs[k]):
            return Problem(f"has computed {name}, {view.parser} reads {name} from a constant only")
    return None


RULES = (
    Rule("unknown-operator", "onnx's schemas", find=_unknown, engines="", tabled=False),
    Rule("unsupported-operator", _TABLES, find=_unsupported),
    Rule("type", _TABLES, find=_type),
    Rule("mixed-types", "onnx's schemas; TensorRT's layers do not cast", find=_mixed, tabled=False),
    Rule("constant-input", _TABLES, find=_constant_input, repair=FOLD),
)
