"""Operators that an older opset does not have, written with those it has.

    Gelu(x)                  ->    x * 0.5 * (1 + Erf(x / sqrt(2)))
    LayerNormalization(x)    ->    ReduceMean, Sub, Mul, ReduceMean, Add, Sqrt, Div, Mul, Add

Source: the function bodies and formulas of onnx's operator documentation.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ldmc.passes.rewrites import norms
from ldmc.passes.rewrites.editor import Editor, StandIn, static_shape
from ldmc.passes.rewrites.lowerings import Lowering, Refusal


def _scalar(stand: StandIn, like: ir.Value, number: float, label: str) -> ir.Value:
    """`number` in the dtype of `like`."""
    if like.dtype is None:
        raise Refusal("the type of its input is not known")
    return stand.constant(np.array(number, dtype=like.dtype.numpy()), label)


def _input(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None  # the first input of all operators here is required
    return value


def _gelu(node: ir.Node, editor: Editor) -> None:
    """Gelu-20."""
    stand, x = editor.in_place_of(node), _input(node)
    approximate = node.attributes.get("approximate")
    if approximate is not None and approximate.value == "tanh":
        cube = stand.op("Mul", [stand.op("Mul", [x, x]), x])
        inner = stand.op("Add", [x, stand.op("Mul", [cube, _scalar(stand, x, 0.044715, "cubic")])])
        root = _scalar(stand, x, math.sqrt(2 / math.pi), "sqrt_2_over_pi")
        curve = stand.op("Tanh", [stand.op("Mul", [inner, root])])
    else:
        curve = stand.op("Erf", [stand.op("Div", [x, _scalar(stand, x, math.sqrt(2), "sqrt_2")])])
    gate = stand.op("Add", [curve, _scalar(stand, x, 1, "one")])
    stand.finish(stand.op("Mul", [stand.op("Mul", [x, _scalar(stand, x, 0.5, "half")]), gate]))


def _mish(node: ir.Node, editor: Editor) -> None:
    """Mish-18."""
    stand, x = editor.in_place_of(node), _input(node)
    stand.finish(stand.op("Mul", [x, stand.op("Tanh", [stand.op("Softplus", [x])])]))


def _hard_swish(node: ir.Node, editor: Editor) -> None:
    """HardSwish-14."""
    stand, x = editor.in_place_of(node), _input(node)
    stand.finish(stand.op("Mul", [x, stand.op("HardSigmoid", [x], {"alpha": 1 / 6, "beta": 0.5})]))


def _layer_norm(node: ir.Node, editor: Editor) -> None:
    """LayerNormalization-17: statistics in fp32 (stash_type 1), scale and bias in the input's dtype."""
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        raise Refusal("its mean or inverse deviation is used")
    node.resize_outputs(1)
    stand, x = editor.in_place_of(node), _input(node)
    value = norms.normalized(stand, x, _trailing_axes(node, x), norms.epsilon_of(node))
    value = stand.op("Mul", [value, node.inputs[1]])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    stand.finish(value if bias is None else stand.op("Add", [value, bias]))


def _rms_norm(node: ir.Node, editor: Editor) -> None:
    """RMSNormalization-23: x / sqrt(mean(x^2) + epsilon) * scale, the square and root in fp32."""
    stand, x = editor.in_place_of(node), _input(node)
    axes, dtype = _trailing_axes(node, x), x.dtype
    narrow = dtype is ir.DataType.FLOAT16
    wide = stand.op("Cast", [x], {"to": int(ir.DataType.FLOAT)}) if narrow else x
    epsilon = np.array(
        norms.epsilon_of(node), dtype=np.float64 if dtype is ir.DataType.DOUBLE else np.float32
    )
    power = stand.mean(stand.op("Mul", [wide, wide]), axes)
    root = stand.op("Sqrt", [stand.op("Add", [power, stand.constant(epsilon, "epsilon")])])
    value = stand.op("Div", [wide, root])
    if narrow:
        value = stand.op("Cast", [value], {"to": int(ir.DataType.FLOAT16)})
    stand.finish(stand.op("Mul", [value, node.inputs[1]]))


def _trailing_axes(node: ir.Node, x: ir.Value) -> range:
    if x.shape is None:
        raise Refusal("its input's rank is not known")
    rank = len(x.shape)
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
    return range(axis % rank, rank)


def _group_norm(node: ir.Node, editor: Editor) -> None:
    """GroupNormalization-18 and -21, whichever version the node is of."""
    if static_shape(node.inputs[0]) is None:
        raise Refusal("its input's shape is not known")
    assert node.version is not None  # written there by the pass
    norms.group_to_primitive(node, editor, node.version)


FUNCTIONS: dict[str, Lowering] = {
    "Gelu": _gelu,
    "GroupNormalization": _group_norm,
    "HardSwish": _hard_swish,
    "LayerNormalization": _layer_norm,
    "Mish": _mish,
    "RMSNormalization": _rms_norm,
}
