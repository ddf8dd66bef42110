"""Graphs of parts joined, and pieces run alone, against ONNX's own extractor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx.utils
import onnxruntime
import pytest

from ldmc.compiler.fidelity.graph import JoinedGraph, is_within
from tests.compiler.fidelity.conftest import Examined

FIRST = """
<ir_version: 8, opset_import: ["" : 18]>
first (float[2] x) => (float[2] a, float[2] b) <float[2] w = {2, 3}, float[2] view> {
    a = Mul(x, w)
    view = Neg(a)
    b = Add(view, w)
}
"""
# `view` is made again behind the cut, and `w` is another weight of the same name.
SECOND = """
<ir_version: 8, opset_import: ["" : 18]>
second (float[2] a, float[2] b) => (float[2] y) <float[2] w = {5, 7}, float[2] view, float[2] c> {
    view = Neg(a)
    c = Mul(view, w)
    y = Sub(c, b)
}
"""
NAMES = (("one/Mul", "one/Neg", "one/Add"), ("one/Neg", "two/Mul", "two/Sub"))


@pytest.fixture
def joined(tmp_path: Path) -> JoinedGraph:
    for number, text in enumerate((FIRST, SECOND)):
        model = onnx.parser.parse_model(text)
        for node, name in zip(model.graph.node, NAMES[number], strict=True):
            node.name = name
        onnx.checker.check_model(model)
        onnx.save(model, str(tmp_path / f"{number}.onnx"))
    return JoinedGraph([tmp_path / "0.onnx", tmp_path / "1.onnx"], ["x"], ["y"])


def test_parts_are_joined_by_what_crosses_and_by_nothing_else(joined: JoinedGraph) -> None:
    x = np.array([1, 10], "float32")
    piece = joined.piece("y#1", ())
    assert piece.reads == ("x",) and joined.outputs == ("y#1",)
    a = x * [2, 3]
    [y] = piece.open().run(None, {"x": x})
    np.testing.assert_allclose(y, -a * [5, 7] - (-a + [2, 3]))


def test_a_piece_reaches_back_to_what_is_given(joined: JoinedGraph) -> None:
    assert joined.piece("y#1", ["b", "a"]).reads == ("a", "b")
    assert joined.piece("y#1", ["b", "c#1"]).reads == ("b", "c#1")
    assert [node.op_type for node in joined.piece("y#1", ["b", "c#1"]).proto.graph.node] == ["Sub"]


def test_a_module_gives_what_others_read(joined: JoinedGraph) -> None:
    assert joined.given_by("one") == ["b", "view#1"]
    assert joined.given_by("two") == ["y#1"]
    assert joined.given_by("thr") == []


def test_a_node_is_within_its_module_and_those_around() -> None:
    assert is_within("up_blocks.1.resnets.0/Add", "up_blocks.1.resnets.0")
    assert is_within("up_blocks.1.resnets.0.conv1/Conv", "up_blocks.1")
    assert not is_within("up_blocks.10.resnets.0/Add", "up_blocks.1")
    assert not is_within("Div", "conv_in")


def test_a_piece_computes_what_onnx_extracts(fp32: Examined, tmp_path: Path) -> None:
    reads = ["down_blocks.1.attentions.0/Add", "time_embedding.linear_2/Gemm"]
    gives = "mid_block.resnets.0/Add_2"
    file = tmp_path / "piece.onnx"
    onnx.utils.extract_model(str(fp32.bundle / "unet" / "model.onnx"), str(file), reads, [gives])
    noise = np.random.RandomState(0)
    feeds = {
        name: noise.standard_normal(sides).astype("float32")
        for name, sides in zip(reads, [(1, 64, 4, 4), (1, 128)], strict=True)
    }
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    [wanted] = session.run([gives], feeds)
    piece = fp32.joined("unet").piece(gives, reads)
    assert set(piece.reads) == set(reads)
    [given] = piece.open().run([gives], feeds)
    np.testing.assert_allclose(given, wanted, rtol=1e-5, atol=1e-5)


def test_joined_parts_hold_the_nodes_of_every_part(parts: Examined) -> None:
    graph = parts.joined("unet")
    assert graph.outputs == ("output_0#2",)
    assert len({name for node in graph.nodes for name in node.output}) == sum(len(n.output) for n in graph.nodes)
    assert graph.piece(graph.outputs[0], ()).reads == ("input_0", "input_1")
