"""What TensorRT's parser reads wrongly, or not at all, operator by operator.

InstanceNormalization with scale in fp16, 8.2    ->    finding `instancenorm-fp16`: garbage without a word
"""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from ldmc.passes.rules.base import (
    FOLD,
    GROUPNORM,
    PARSER,
    Problem,
    Rule,
    View,
    has_input,
    integer_of,
    is_constant,
    rank_of,
    text_of,
)

_RESIZE_MODES = ("nearest", "linear")
_COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "tf_half_pixel_for_nn")
_PAD_MODES = ("constant", "reflect", "edge")
_CASTS = ("FLOAT", "DOUBLE", "FLOAT16", "INT8", "BOOL", "INT32", "INT64")


def _groupnorm_form(node: ir.Node, view: View) -> Problem | None:
    if view.target.groupnorm != "primitive":
        return None
    return Problem(f"becomes a plugin in {view.parser}, with a cuDNN handle of its own")


def _instancenorm_rank(node: ir.Node, view: View) -> Problem | None:
    rank = rank_of(node.inputs[0])
    return (
        Problem(f"has an input of rank {rank}, {view.parser} takes 3 to 5")
        if rank and not 3 <= rank <= 5
        else None
    )


def _instancenorm_fp16(node: ir.Node, view: View) -> Problem | None:
    half = [value for value in node.inputs[1:] if value is not None and value.dtype is ir.DataType.FLOAT16]
    return (
        Problem("has scale or bias in FLOAT16, whose bytes are read as if they were FLOAT") if half else None
    )


def _resize_mode(node: ir.Node, view: View) -> Problem | None:
    mode = text_of(node, "mode", "nearest")
    return (
        None if mode in _RESIZE_MODES else Problem(f"has mode={mode}; there are {', '.join(_RESIZE_MODES)}")
    )


def _resize_coordinates(node: ir.Node, view: View) -> Problem | None:
    mode = text_of(node, "coordinate_transformation_mode", "half_pixel")
    if mode not in _COORDINATES:
        return Problem(f"has coordinate_transformation_mode={mode}; there are {', '.join(_COORDINATES)}")
    nearest = text_of(node, "nearest_mode", "round_prefer_floor")
    if mode == "tf_half_pixel_for_nn" and nearest != "round_prefer_floor":
        return Problem(f"has {mode} with nearest_mode={nearest}; it goes with round_prefer_floor only")
    return None


def _resize_scales(node: ir.Node, view: View) -> Problem | None:
    """Sizes (input 3) may stand in their place: they are read as a shape."""
    if has_input(node, 3):
        return None
    scales = node.inputs[2] if has_input(node, 2) else None
    if scales is None or not is_constant(scales) or scales.dtype is not ir.DataType.FLOAT:
        return Problem("has no constant FLOAT scales", FOLD if scales is not None else "")
    rank, sides = rank_of(node.inputs[0]), list(scales.shape.numpy()) if scales.shape is not None else []
    if rank is not None and sides != [rank]:
        return Problem(f"has scales of shape {sides} for an input of rank {rank}", view.lowering)
    return None


def _reshape_allowzero(node: ir.Node, view: View) -> Problem | None:
    if view.opset < 14 or "allowzero" in node.attributes:
        return None
    return Problem(
        f"does not write allowzero out, and {view.parser} fails without it from opset 14", view.lowering
    )


def _constant_ints(node: ir.Node, view: View) -> Problem | None:
    names = [name for name in node.attributes if name != "value"]
    return Problem(f"holds its numbers in {names[0]}, which is read as 0 or nothing") if names else None


def _cast_type(node: ir.Node, view: View) -> Problem | None:
    for value in (*node.inputs, *node.outputs):
        if value is not None and value.dtype is not None and value.dtype.name not in _CASTS:
            return Problem(f"casts {value.dtype.name}; there are {', '.join(_CASTS)}")
    return None


def _gemm_rank(node: ir.Node, view: View) -> Problem | None:
    ranks = [rank_of(value) for value in node.inputs[:2]]
    odd = [rank for rank in ranks if rank not in (None, 2)]
    return Problem(f"has an input of rank {odd[0]}, both must be matrices") if odd else None


def _softmax_axis(node: ir.Node, view: View) -> Problem | None:
    rank = rank_of(node.inputs[0])
    if view.opset >= 13 or rank is None or integer_of(node, "axis", 1) % rank == rank - 1:
        return None
    return Problem("flattens its input at its axis; the axis alone is meant from opset 13")


def _einsum(node: ir.Node, view: View) -> Problem | None:
    equation = text_of(node, "equation", "").replace(" ", "")
    if "..." in equation:
        return Problem(f"has an ellipsis ({equation})")
    sides: dict[str, int] = {}
    for term, value in zip(equation.partition("->")[0].split(","), node.inputs, strict=False):
        if any(count > 1 for count in Counter(term).values()):
            return Problem(f"takes a diagonal ({equation})")
        shape = value.shape if value is not None else None
        for letter, side in zip(
            term, shape.numpy() if shape is not None and shape.is_static() else (), strict=False
        ):
            if sides.setdefault(letter, side) != side:
                return Problem(f"broadcasts {letter} ({equation})")
    return None


def _pad_mode(node: ir.Node, view: View) -> Problem | None:
    mode = text_of(node, "mode", "constant")
    return None if mode in _PAD_MODES else Problem(f"has mode={mode}; there are {', '.join(_PAD_MODES)}")


def _fp16_scalar(node: ir.Node, view: View) -> Problem | None:
    source = node.inputs[0]
    if source is None or source.dtype is not ir.DataType.FLOAT16:
        return None
    given = {
        "Gemm": [
            n for n in ("alpha", "beta") if n in node.attributes and node.attributes[n].as_float() != 1.0
        ],
        "Clip": [n for k, n in ((1, "min"), (2, "max")) if has_input(node, k)],
        "Pad": ["constant_value"] if has_input(node, 2) else [],
    }[node.op_type]
    return Problem(f"is in FLOAT16, and its {given[0]} is handled as FLOAT") if given else None


def _ops(*names: str) -> frozenset[str]:
    return frozenset(names)


_ONLY_8_2 = (8, 3)
_INSTANCE = _ops("InstanceNormalization")
_RESTRICTIONS = "onnx-tensorrt docs/operators.md"
RULES = (
    Rule("groupnorm-form", PARSER, _groupnorm_form, ops=_INSTANCE, repair=GROUPNORM),
    Rule(
        "instancenorm-rank", _RESTRICTIONS, _instancenorm_rank, ops=_INSTANCE, before=(8, 6), repair=GROUPNORM
    ),
    Rule("instancenorm-fp16", PARSER, _instancenorm_fp16, ops=_INSTANCE, before=_ONLY_8_2, repair=GROUPNORM),
    Rule("resize-mode", _RESTRICTIONS, _resize_mode, ops=_ops("Resize")),
    Rule("resize-coordinates", _RESTRICTIONS, _resize_coordinates, ops=_ops("Resize")),
    Rule("resize-scales", PARSER, _resize_scales, ops=_ops("Resize"), before=(10, 0)),
    Rule("reshape-allowzero", PARSER, _reshape_allowzero, ops=_ops("Reshape"), before=(8, 4)),
    Rule("constant-ints", PARSER, _constant_ints, ops=_ops("Constant"), before=(8, 7), repair=FOLD),
    Rule("cast-type", PARSER, _cast_type, ops=_ops("Cast"), before=_ONLY_8_2),
    Rule("gemm-rank", PARSER, _gemm_rank, ops=_ops("Gemm")),
    Rule("softmax-axis", PARSER, _softmax_axis, ops=_ops("Softmax", "LogSoftmax"), before=_ONLY_8_2),
    Rule("einsum", _RESTRICTIONS, _einsum, ops=_ops("Einsum"), before=(10, 0)),
    Rule("pad-mode", PARSER, _pad_mode, ops=_ops("Pad"), before=_ONLY_8_2),
    Rule("fp16-scalar", PARSER, _fp16_scalar, ops=_ops("Gemm", "Clip", "Pad"), before=_ONLY_8_2),
)
