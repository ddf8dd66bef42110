"""Operators whose signature changed, written as an older opset has them.

ReduceMean(x, axes=[2])                    ReduceMean{axes=[2]}(x)
Split{num_outputs=3}(x)           ->       Split(x, sizes)
Resize{axes=[2,3]}(x, ,scales)             Resize(x, ,[1,1,*scales])
Reshape{allowzero=1}(x, shape)             Reshape(x, shape)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ldmc.passes.rewrites.editor import Editor, integers_of, static_shape

Lowering = Callable[[ir.Node, Editor], None]


class Refusal(Exception):
    """Why a node cannot be written in the older opset."""


def _reduce(node: ir.Node, editor: Editor) -> None:
    """Axes as an attribute. Source: onnx, ReduceMean-13 and -18."""
    attribute = node.attributes.pop("noop_with_empty_axes", None)
    given = node.inputs[1] if len(node.inputs) > 1 else None
    axes = integers_of(given) if given is not None else []
    if axes is None:
        raise Refusal("its axes are computed, and are an attribute there")
    if not axes and attribute is not None and attribute.as_int():
        if node.op_type not in _PLAIN_REDUCTIONS:
            raise Refusal(
                "it has noop_with_empty_axes=1 and no axes, and does more to an element than to reduce it"
            )
        stand = editor.in_place_of(node)
        stand.finish(stand.op("Identity", [node.inputs[0]]))
        return
    node.resize_inputs(1)
    if axes:
        node.attributes.add(ir.AttrInt64s("axes", axes))


def _split(node: ir.Node, editor: Editor) -> None:
    """Sizes written out: the last part is the smaller one where the sides do not divide. Source: onnx, Split-18."""
    number = node.attributes.pop("num_outputs", None)
    if number is None or (len(node.inputs) > 1 and node.inputs[1] is not None):
        return
    shape = static_shape(node.inputs[0])
    if shape is None:
        raise Refusal("the side it splits is not known")
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    side, parts = shape[axis], number.as_int()
    size = -(-side // parts)
    sizes = [min(size, max(side - k * size, 0)) for k in range(parts)]
    constant = editor.constant(np.array(sizes, dtype=np.int64), f"{node.name or 'Split'}.sizes")
    node.resize_inputs(2)
    node.replace_input_with(1, constant)


def _resize(node: ir.Node, editor: Editor) -> None:
    """Scales or sizes of every axis, and nothing that came with 18 or 19. Source: onnx, Resize-13, -18 and -19."""
    for name, neutral in (("antialias", 0), ("keep_aspect_ratio_policy", "stretch")):
        attribute = node.attributes.pop(name, None)
        if attribute is not None and attribute.value != neutral:
            raise Refusal(f"it has {name}={attribute.value}")
    mode = node.attributes.get("coordinate_transformation_mode")
    if mode is not None and mode.value == "half_pixel_symmetric":
        raise Refusal("it has coordinate_transformation_mode=half_pixel_symmetric")
    attribute = node.attributes.pop("axes", None)
    if attribute is None:
        return
    shape = static_shape(node.inputs[0])
    if shape is None:
        raise Refusal("it has axes, and its input's shape is not known")
    axes = [axis % len(shape) for axis in attribute.as_ints()]
    rank, neutral_roi = len(shape), [0.0] * len(shape) + [1.0] * len(shape)
    _spread(node, editor, 1, [*axes, *(axis + rank for axis in axes)], neutral_roi)
    _spread(node, editor, 2, axes, [1.0] * rank)
    _spread(node, editor, 3, axes, shape)


def _pad(node: ir.Node, editor: Editor) -> None:
    """Pads of every axis. Source: onnx, Pad-13, -18 and -19."""
    if "mode" in node.attributes and node.attributes["mode"].value == "wrap":
        raise Refusal("it has mode=wrap")
    if len(node.inputs) < 4:
        return
    if node.inputs[3] is not None:
        shape, axes = static_shape(node.inputs[0]), integers_of(node.inputs[3])
        if shape is None or axes is None:
            raise Refusal("its axes are computed, or its input's rank is not known")
        rank = len(shape)
        places = [axis % rank for axis in axes]
        _spread(node, editor, 1, [*places, *(axis + rank for axis in places)], [0] * 2 * rank)
    node.resize_inputs(3)


def _spread(node: ir.Node, editor: Editor, index: int, places: Sequence[int], neutral: Sequence[Any]) -> None:
    """Input `index` holds numbers for some axes: those at `places`, and `neutral` elsewhere."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None or (value.shape is not None and value.shape.is_static() and 0 in value.shape.numpy()):
        return
    tensor = value.const_value
    if tensor is None or isinstance(tensor, ir.LazyTensor):
        raise Refusal(f"its input {value.name} is computed, and is not of every axis")
    given = tensor.numpy()
    whole = np.array(neutral, dtype=given.dtype)
    whole[list(places)] = given
    node.replace_input_with(index, editor.constant(whole, f"{node.name or node.op_type}.input_{index}"))


def _reshape(node: ir.Node, editor: Editor) -> None:
    """Without allowzero, which opset 14 added. Source: onnx, Reshape-13 and -14."""
    attribute = node.attributes.get("allowzero")
    if attribute is not None and attribute.as_int() and editor.opset < 14:
        sides = integers_of(node.inputs[1])
        if sides is None or 0 in sides:
            raise Refusal("it has allowzero=1, and its shape is computed or holds a zero")
    if editor.opset < 14:
        node.attributes.pop("allowzero", None)


def _cast_like(node: ir.Node, editor: Editor) -> None:
    like = node.inputs[1]
    if like is None or like.dtype is None:
        raise Refusal("the type it casts to is not known")
    stand = editor.in_place_of(node)
    stand.finish(stand.op("Cast", [node.inputs[0]], {"to": int(like.dtype)}))


# Those that leave a single element as it is; ReduceL2 of one element is its absolute value.
_PLAIN_REDUCTIONS = frozenset(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"))
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")

SIGNATURES: dict[str, Lowering] = {
    "CastLike": _cast_like,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Split": _split,
    **{f"Reduce{name}": _reduce for name in _REDUCTIONS},
}
