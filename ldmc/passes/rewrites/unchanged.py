"""Whether a node means the same in an older opset: schemas compared for what the node uses of them.

    Transpose(float16), 18 -> 13     the same: only bfloat16 and newer types came since
    Cast{saturate=1}, 19 -> 13       the same without the attribute, which is about float8 alone
    ReduceMean(x, axes), 18 -> 13    not the same: axes were an attribute

A node whose schema is of the same version in both opsets is not looked at. The rest is proven, not assumed: every
attribute, input, output and type must be there in both schemas, and mean the same.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnx import defs

# What newer schemas added, and the value with which the older operator is the same. None: must not be given.
_NEUTRAL: dict[tuple[str, str], Any] = {
    ("AveragePool", "dilations"): None,
    ("BatchNormalization", "training_mode"): 0,
    ("Cast", "saturate"): 1,
    ("DequantizeLinear", "block_size"): 0,
    ("DequantizeLinear", "output_dtype"): 0,
    ("GRU", "layout"): 0,
    ("LSTM", "layout"): 0,
    ("LpPool", "ceil_mode"): 0,
    ("LpPool", "dilations"): None,
    ("QuantizeLinear", "block_size"): 0,
    ("QuantizeLinear", "output_dtype"): 0,
    ("QuantizeLinear", "precision"): 0,
    ("QuantizeLinear", "saturate"): 1,
    ("RNN", "layout"): 0,
    ("ScatterElements", "reduction"): "none",
    ("ScatterND", "reduction"): "none",
    ("Shape", "end"): None,
    ("Shape", "start"): 0,
}
_RENAMED = {"input_mean": "mean", "input_var": "var", "running_mean": "mean", "running_var": "var"}
# The same signature, and another meaning: GridSample's modes were renamed in opset 20.
_OTHER_MEANING = frozenset(("GridSample",))
_SUBGRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def schema_of(node: ir.Node, opset: int) -> defs.OpSchema | None:
    """The node's schema in `opset`; None where the opset has no such operator."""
    try:
        return defs.get_schema(node.op_type, opset, node.domain)
    except defs.SchemaError:
        return None


def difference(node: ir.Node, new: defs.OpSchema, old: defs.OpSchema) -> str:
    """What keeps `node`, of schema `new`, from meaning the same under `old`; empty where nothing does."""
    if node.op_type in _OTHER_MEANING:
        return f"it means something else since opset {new.since_version}"
    return (
        _attributes(node, new, old)
        or _values(node.inputs, list(new.inputs), list(old.inputs), "input")
        or _values(node.outputs, list(new.outputs), list(old.outputs), "output")
    )


def drop_neutral(node: ir.Node, old: defs.OpSchema) -> None:
    """Take away the attributes that `old` does not have; `difference` has found that they say nothing."""
    for name in [name for name in node.attributes if name not in old.attributes]:
        node.attributes.pop(name)


def _attributes(node: ir.Node, new: defs.OpSchema, old: defs.OpSchema) -> str:
    for name, attribute in node.attributes.items():
        if attribute.type in _SUBGRAPHS:
            return "it has a subgraph"
        if name not in old.attributes and _NEUTRAL.get((node.op_type, name)) != attribute.value:
            return f"its {name}={attribute.value} is not known there"
    for name in sorted(new.attributes.keys() - old.attributes.keys() - node.attributes.keys()):
        if (node.op_type, name) not in _NEUTRAL:
            return f"attribute {name} came with opset {new.since_version}, and its default may mean something new"
    for name in sorted(old.attributes.keys() - new.attributes.keys()):
        return f"attribute {name} is an input since opset {new.since_version}"
    for name in sorted(old.attributes.keys() & new.attributes.keys() - node.attributes.keys()):
        before, after = old.attributes[name].default_value, new.attributes[name].default_value
        if before.SerializeToString() != after.SerializeToString():
            return f"attribute {name} has another default since opset {new.since_version}"
    return ""


def _values(values: Any, new: list[Any], old: list[Any], side: str) -> str:
    for k, value in enumerate(values):
        if value is None:
            continue
        after, before = _formal(new, k), _formal(old, k)
        name = after.name if after is not None else f"{side} {k}"
        if after is None or before is None or _RENAMED.get(after.name, after.name) != before.name:
            return f"{side} {name} came with a later opset"
        if value.dtype is None:
            return f"the type of {side} {name} is not known"
        if f"tensor({value.dtype.name.lower()})" not in before.types:
            return f"its {side} {name} cannot be {value.dtype.name.lower()} there"
    return ""


def _formal(formals: list[Any], k: int) -> Any:
    """The schema's description of value `k`; the last one stands for all that follow where it is variadic."""
    if k < len(formals):
        return formals[k]
    variadic = formals and str(formals[-1].option).endswith("Variadic")
    return formals[-1] if variadic else None
