"""GroupNorm in the forms graphs have it, and how each is written with other operators.

instance    Reshape -> InstanceNormalization -> Reshape -> Mul -> Add      PyTorch's exporter, ONNX Runtime
primitive   Reshape -> ReduceMean, Sub, Mul, ReduceMean, Add, Sqrt, Div -> Reshape -> Mul -> Add
group       GroupNormalization: its scale is per group in opset 18 to 20, per channel from 21
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ldmc.passes.lazy import reshaped
from ldmc.passes.rewrites.editor import Editor, StandIn, static_shape

PER_CHANNEL_SINCE = 21  # the opset from which GroupNormalization's scale and bias are per channel
_WIDE = (ir.DataType.FLOAT, ir.DataType.DOUBLE)  # statistics are computed in these, or in FLOAT


def normalized(stand: StandIn, source: ir.Value, axes: Sequence[int], epsilon: float) -> ir.Value:
    """(source - mean) / sqrt(variance + epsilon) over `axes`, statistics in fp32 at least; of the source's dtype."""
    narrow = source.dtype
    if narrow not in _WIDE:
        source = stand.op("Cast", [source], {"to": int(ir.DataType.FLOAT)})
    wide = np.float64 if narrow is ir.DataType.DOUBLE else np.float32
    centred = stand.op("Sub", [source, stand.mean(source, axes)])
    variance = stand.mean(stand.op("Mul", [centred, centred]), axes)
    shifted = stand.op("Add", [variance, stand.constant(np.array(epsilon, dtype=wide), "epsilon")])
    result = stand.op("Div", [centred, stand.op("Sqrt", [shifted])])
    if narrow is not None and narrow not in _WIDE:
        result = stand.op("Cast", [result], {"to": int(narrow)})
    return result


def affine(stand: StandIn, value: ir.Value, scale: ir.Value, bias: ir.Value, rank: int) -> ir.Value:
    """value * scale + bias with one number for each entry of axis 1; what is 1 or 0 throughout is left out."""
    if not is_filled_with(scale, 1):
        value = stand.op("Mul", [value, _column(stand, scale, rank)])
    if not is_filled_with(bias, 0):
        value = stand.op("Add", [value, _column(stand, bias, rank)])
    return value


def _column(stand: StandIn, value: ir.Value, rank: int) -> ir.Value:
    """[C] -> [C, 1, ...], to be broadcast along the axes after axis 1 of `rank`."""
    tensor, name = value.const_value, value.name or "weight"
    if tensor is not None and not value.is_graph_input():
        return stand.editor.weight(reshaped(tensor, [-1] + [1] * (rank - 2), name), f"{name}:column")
    return stand.op("Unsqueeze", [value, stand.integers(range(1, rank - 1), "column")])


def is_filled_with(value: ir.Value | None, number: float) -> bool:
    """Whether a constant in memory holds `number` throughout; one that is lazy is not read, and is said not to."""
    tensor = value.const_value if value is not None else None
    if tensor is None or isinstance(tensor, ir.LazyTensor) or (value is not None and value.is_graph_input()):
        return False
    return bool((tensor.numpy() == number).all())


def epsilon_of(node: ir.Node) -> float:
    """The node's epsilon; both operators have the same default."""
    return node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5


def instance_to_primitive(node: ir.Node, editor: Editor) -> None:
    """Write an InstanceNormalization out. Its input [N, C, ...] must have a known rank of at least 3."""
    source, scale, bias = node.inputs
    assert source is not None and scale is not None and bias is not None and source.shape is not None
    rank = len(source.shape)
    stand = editor.in_place_of(node)
    value = normalized(stand, source, range(2, rank), epsilon_of(node))
    stand.finish(affine(stand, value, scale, bias, rank))


def group_to_primitive(node: ir.Node, editor: Editor, opset: int) -> None:
    """Write a GroupNormalization, as `opset` has it, out. Its input [N, C, ...] must be static."""
    _group_to_others(node, editor, opset, primitive=True)


def group_to_instance(node: ir.Node, editor: Editor, opset: int) -> None:
    """Write a GroupNormalization, as `opset` has it, with InstanceNormalization over its groups."""
    _group_to_others(node, editor, opset, primitive=False)


def _group_to_others(node: ir.Node, editor: Editor, opset: int, *, primitive: bool) -> None:
    source, scale, bias = node.inputs
    shape, groups = static_shape(source), node.attributes["num_groups"].as_int()
    assert source is not None and scale is not None and bias is not None and shape is not None
    stand = editor.in_place_of(node)
    split = stand.integers([shape[0], groups, -1], "groups")
    value = stand.op("Reshape", [source, split])
    value.type = source.type  # what is computed in fp32 is decided by it
    per_group = opset < PER_CHANNEL_SINCE
    if primitive:
        value = normalized(stand, value, [2], epsilon_of(node))
        value = affine(stand, value, scale, bias, 3) if per_group else value
    else:
        assert source.dtype is not None
        ones, zeros = np.ones(groups, source.dtype.numpy()), np.zeros(groups, source.dtype.numpy())
        inner = (scale, bias) if per_group else (stand.constant(ones, "ones"), stand.constant(zeros, "zeros"))
        value = stand.op("InstanceNormalization", [value, *inner], {"epsilon": epsilon_of(node)})
    value = stand.op("Reshape", [value, stand.integers(shape, "shape")])
    stand.finish(value if per_group else affine(stand, value, scale, bias, len(shape)))
