"""`chunk` and `split` become one Split, from both exporters; what stays a sequence is refused by name."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from diffusers.models.attention import FeedForward
from torch import nn

from ldmc.errors import PassError
from ldmc.ir import TensorSpec
from ldmc.passes.onnx import without_sequences
from ldmc.passes.rewrites import sequences
from tests.passes.graphs import text_model
from tests.passes.modules import component_of, counts, eager, lowered, noise, run

TOKENS_IN, TOKENS_OUT = TensorSpec("input_0", "float32", (1, 6, 8)), TensorSpec("output_0", "float32", (1, 6, 8))

# opset, graph, (axis, sizes) of the Split, and which of its outputs each node behind it reads.
CASES = {
    "one size": (
        13,
        """(float[2,8] x) => (float[2,4] y) {
            size = Constant<value = int64 {4}>()
            first = Constant<value = int64 {0}>()
            last = Constant<value = int64 {-1}>()
            s = SplitToSequence<axis = -1>(x, size)
            a = SequenceAt(s, first)
            b = SequenceAt(s, last)
            y = Mul(a, b)
        }""",
        (-1, [4, 4]),
        [[0, 1]],
    ),
    "the last is smaller": (
        18,
        """(float[5,2] x) => (float[1,2] y) {
            size = Constant<value = int64 {2}>()
            place = Constant<value = int64 {2}>()
            s = SplitToSequence(x, size)
            a = SequenceAt(s, place)
            y = Neg(a)
        }""",
        (0, [2, 2, 1]),
        [[2]],
    ),
    "sizes, of an unknown side": (
        18,
        """(float[N,2] x) => (float[2,2] y) {
            sizes = Constant<value = int64[2] {3, 2}>()
            place = Constant<value = int64 {1}>()
            s = SplitToSequence(x, sizes)
            a = SequenceAt(s, place)
            y = Neg(a)
        }""",
        (0, [3, 2]),
        [[1]],
    ),
    "as an attribute": (
        11,
        """(float[2,8] x) => (float[2,4] y) {
            size = Constant<value = int64 {4}>()
            place = Constant<value = int64 {1}>()
            s = SplitToSequence<axis = 1>(x, size)
            a = SequenceAt(s, place)
            y = Neg(a)
        }""",
        (1, [4, 4]),
        [[1]],
    ),
    "an output of the graph keeps its name": (
        18,
        """(float[2,8] x) => (float[2,4] y) {
            size = Constant<value = int64 {4}>()
            place = Constant<value = int64 {1}>()
            s = SplitToSequence<axis = 1>(x, size)
            y = SequenceAt(s, place)
        }""",
        (1, [4, 4]),
        [[1]],
    ),
}
LEFT = {
    "a computed place": """(float[2,8] x, int64 place) => (float[2,4] y) {
        size = Constant<value = int64 {4}>()
        s = SplitToSequence<axis = 1>(x, size)
        y = SequenceAt(s, place)
    }""",
    "a computed size": """(float[2,8] x, int64 size) => (float[2,4] y) {
        place = Constant<value = int64 {0}>()
        s = SplitToSequence<axis = 1>(x, size)
        y = SequenceAt(s, place)
    }""",
    "a side that is not known": """(float[N,2] x) => (float[M,2] y) {
        size = Constant<value = int64 {4}>()
        place = Constant<value = int64 {0}>()
        s = SplitToSequence(x, size)
        y = SequenceAt(s, place)
    }""",
    "a place behind the last": """(float[2,8] x) => (float[2,4] y) {
        size = Constant<value = int64 {4}>()
        place = Constant<value = int64 {2}>()
        s = SplitToSequence<axis = 1>(x, size)
        y = SequenceAt(s, place)
    }""",
    "a whole sequence that is read": """(float[2,8] x) => (float[2,8] y) {
        size = Constant<value = int64 {4}>()
        s = SplitToSequence<axis = 1>(x, size)
        y = ConcatFromSequence<axis = 1>(s)
    }""",
}


@pytest.mark.parametrize("case", CASES)
def test_a_sequence_of_known_sizes_becomes_one_split(case: str) -> None:
    opset, text, axis_sizes, reads = CASES[case]
    before, after = text_model(text, opset), text_model(text, opset)
    sequences.lower(after)
    assert sequences.remaining(after) == []
    split, *readers = list(after.graph)
    assert (split.op_type, _axis(split), _sizes(split)) == ("Split", *axis_sizes)
    assert [[split.outputs.index(value) for value in node.inputs] for node in readers] == reads
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    x = noise(*[5 if isinstance(side, str) else side for side in _sides(before)])
    np.testing.assert_array_equal(run(after, x)[0], run(before, x)[0])


def _axis(split: ir.Node) -> int:
    return split.attributes["axis"].as_int()


def _sizes(split: ir.Node) -> list[int]:
    if len(split.inputs) == 1:
        return list(split.attributes["split"].as_ints())
    sizes = split.inputs[1]
    assert sizes is not None and sizes.const_value is not None
    return sizes.const_value.numpy().tolist()


def _sides(model: ir.Model) -> list[int | str]:
    return [side if isinstance(side, int) else "?" for side in model.graph.inputs[0].shape or ()]


def _nodes(model: ir.Model) -> list[tuple[str, list[str], list[str]]]:
    return [
        (node.op_type, [value.name for value in node.inputs], [value.name for value in node.outputs])
        for node in model.graph
    ]


@pytest.mark.parametrize("case", LEFT)
def test_any_other_sequence_stays_as_it_is_and_is_refused_by_name(case: str) -> None:
    model = text_model(LEFT[case], 18)
    before = _nodes(model)
    sequences.lower(model)
    assert _nodes(model) == before
    assert "SplitToSequence" in {node.op_type for node in sequences.remaining(model)}
    with pytest.raises(PassError, match=r"unet: node mod.s/SplitToSequence \(SplitToSequence\) works on a sequence"):
        without_sequences(model, "unet")


def test_a_graph_without_sequences_is_left_alone() -> None:
    model = text_model("(float[2,8] x) => (float[2,8] y) { y = Neg(x) }", 18)
    before = _nodes(model)
    without_sequences(model, "unet")
    assert _nodes(model) == before


class Pieces(nn.Module):
    """GEGLU, and every way to cut a tensor that both exporters have: halves, uneven thirds, sizes, one of two."""

    def __init__(self) -> None:
        super().__init__()
        self.feed = FeedForward(8, activation_fn="geglu")
        self.wide = nn.Linear(8, 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.feed(x)
        narrow, middle, *_ = y.split([1, 2, 4, 1], dim=-1)
        thirds = torch.chunk(self.wide(y), 4, dim=-1)  # 9 sides: three pieces
        rows = y.split(4, 1)[1]
        total: torch.Tensor = y + narrow + middle.sum(-1, keepdim=True) + rows.sum(1, keepdim=True)
        return total + sum(piece.sum(-1, keepdim=True) for piece in thirds)


@pytest.mark.parametrize(
    "spec",
    [
        "onnx",
        "onnx{opset=23}",
        "onnx,fold",
        "torchscript,onnx",
        "torchscript,onnx{opset=13},fold",
        "torchscript,onnx{opset=11}",
        "torchscript,onnx{opset=10}",
    ],
)
def test_both_exporters_write_pieces_that_every_parser_reads(spec: str) -> None:
    x = noise(1, 6, 8)
    model = lowered(component_of(Pieces, [TOKENS_IN], [TOKENS_OUT]), spec).payload
    assert counts(model)["Split"] == 4
    assert not {op for op in counts(model) if "Sequence" in op or op in ("Slice", "Shape")}
    assert "feed.net.0/Split" in {node.name for node in model.graph}
    pieces = [value for node in model.graph if node.op_type == "Split" for value in node.outputs]
    assert all(value.shape is not None and value.shape.is_static() for value in pieces)
    np.testing.assert_allclose(run(model, x)[0], eager(Pieces, x), atol=2e-6)
