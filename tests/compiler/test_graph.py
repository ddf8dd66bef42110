"""Summaries of graphs: what is counted, that weights stay unread, and the round trip through JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from ldmc.compiler.graph import load_summary, summarise
from ldmc.compiler.summary import GraphSummary, TensorType
from ldmc.errors import UsageError
from ldmc.ir import TensorSpec

# ONNX text gives float16 as its bits: 16384 is 2.0.
CONV = """
<ir_version: 10, opset_import: ["" : 18]>
g (float16[1,3,8,8] x) => (float16[1,4,8,8] y)
<float16[4,3,3,3] w = {0}>
{
    c = Conv <pads = [1,1,1,1]> (x, w)
    two = Constant <value = float16[1] {16384}> ()
    s = Sigmoid (c)
    y = Mul (s, two)
}
"""


def model_with_lazy_weight(shape: tuple[int, ...] = (4, 3, 3, 3)) -> ir.Model:
    def read() -> ir.TensorProtocol:
        raise AssertionError("a weight was read")

    model = ir.from_onnx_text(
        CONV.replace("<float16[4,3,3,3] w = {0}>", "").replace("8] x)", "8] x, float16[4,3,3,3] w)")
    )
    value = model.graph.inputs.pop()
    value.const_value = ir.LazyTensor(read, dtype=ir.DataType.FLOAT16, shape=ir.Shape(shape), name="w")
    model.graph.initializers.add(value)
    return model


def test_counts_nodes_weights_and_macs_without_reading_a_weight() -> None:
    graph = summarise(model_with_lazy_weight())
    assert graph.inputs == (TensorSpec("x", "float16", (1, 3, 8, 8)),)
    assert graph.outputs == (TensorSpec("y", "float16", (1, 4, 8, 8)),)
    assert graph.stats.nodes == 4
    assert graph.stats.ops == {"Constant": 1, "Conv": 1, "Mul": 1, "Sigmoid": 1}
    assert graph.stats.params == 4 * 27 + 1
    assert graph.stats.bytes == 2 * (4 * 27 + 1)
    assert graph.stats.macs == 4 * 64 * 27
    assert graph.stats.peak_activation_bytes == 2 * 64 * (3 + 4 + 4)
    assert graph.opset == 18


def test_the_model_is_not_changed() -> None:
    model = model_with_lazy_weight()
    lazy = model.graph.initializers["w"].const_value
    summarise(model)
    assert model.graph.initializers["w"].const_value is lazy
    assert model.graph.node(0).outputs[0].shape is None


def test_shapes_that_are_not_stated_are_inferred() -> None:
    nodes = {node.op: node for node in summarise(model_with_lazy_weight()).nodes}
    assert str(nodes["Sigmoid"].types[0]) == "float16[1,4,8,8]"
    assert nodes["Conv"].attributes == {"pads": "[1,1,1,1]"}
    assert nodes["Constant"].attributes == {"value": "float16[1]{2}"}


def test_shapes_that_the_graph_computes_are_inferred() -> None:
    graph = summarise(
        ir.from_onnx_text("""
        <ir_version: 10, opset_import: ["" : 18]>
        g (float[1,8,4,4] x, float[8] scale) => (float[1,8,16] y)
        {
            shape = Shape (x)
            first = Constant <value = int64[1] {1}> ()
            one = Constant <value_ints = [1]> ()
            two = Constant <value_ints = [2]> ()
            channels = Slice (shape, one, two)
            zero = Constant <value_ints = [0]> ()
            rest = Constant <value_ints = [-1]> ()
            target = Concat <axis = 0> (zero, channels, rest)
            start = Constant <value_int = 1> ()
            stop = Constant <value_int = 3> ()
            axes = Range (start, stop, start)
            wide = Unsqueeze (scale, axes)
            y = Reshape (x, target)
        }
        """)
    )
    types = {name: str(kind) for name, kind in graph.types().items()}
    assert types["y"] == "float32[1,8,16]"
    assert types["axes"] == "int64[2]"
    assert types["wide"] == "float32[8,1,1]"
    assert graph.stats.peak_activation_bytes is not None


def test_unknown_shapes_stay_unknown_and_leave_totals_unknown() -> None:
    graph = summarise(
        ir.from_onnx_text("""
        <ir_version: 10, opset_import: ["" : 18]>
        g (float[N,3,8,8] x, float[4,3,3,3] w) => (float[N,4,6,6] y)
        { y = Conv (x, w) }
        """)
    )
    assert graph.inputs[0].shape == (-1, 3, 8, 8)
    assert str(graph.nodes[0].types[0]) == "float32[?,4,6,6]"
    assert graph.stats.macs is None
    assert graph.stats.peak_activation_bytes is None


def test_a_graph_whose_shape_arithmetic_fails_is_still_counted() -> None:
    graph = summarise(
        ir.from_onnx_text("""
        <ir_version: 10, opset_import: ["" : 18]>
        g (float[4] x) => (float[M] y)
        {
            shape = Shape (x)
            seven = Constant <value_ints = [7]> ()
            target = Gather <axis = 0> (shape, seven)
            v = Reshape (x, target)
            y = Neg (v)
        }
        """)
    )
    assert graph.stats.nodes == 5
    assert graph.stats.peak_activation_bytes is None


def test_other_domains_are_named_and_functions_leave_macs_unknown() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 18, "com.microsoft" : 1, "local" : 1]>
    g (float[2,4] x) => (float[2,4] y)
    {
        h = com.microsoft.Gelu (x)
        y = local.square (h)
    }
    <domain: "local", opset_import: ["" : 18]>
    square (a) => (b) { b = MatMul (a, a) }
    """
    graph = summarise(ir.from_onnx_text(text))
    assert graph.stats.ops == {"com.microsoft::Gelu": 1, "local::square": 1}
    assert graph.stats.macs is None
    assert dict(graph.opsets) == {"": 18, "com.microsoft": 1, "local": 1}


def test_nodes_of_subgraphs_count_and_their_names_stay_apart() -> None:
    graph = summarise(
        ir.from_onnx_text("""
        <ir_version: 10, opset_import: ["" : 18]>
        g (bool b, float[2] x) => (float[2] y)
        {
            y = If (b) <
                then_branch = t () => (float[2] r) { r = Neg (x) },
                else_branch = e () => (float[2] r) { r = Abs (x) }
            >
        }
        """)
    )
    assert graph.stats.ops == {"Abs": 1, "If": 1, "Neg": 1}
    keys = [node.key for node in graph.nodes]
    assert len(set(keys)) == 3
    assert keys[-1] == "y"
    assert graph.nodes[0].inputs == ("x",)
    assert graph.nodes[-1].attributes == {"else_branch": "graph(1)", "then_branch": "graph(1)"}


def test_json_round_trip_is_exact_and_compact() -> None:
    graph = summarise(model_with_lazy_weight())
    text = json.dumps(graph.to_json(), separators=(",", ":"))
    assert GraphSummary.from_json(json.loads(text)) == graph
    assert text == json.dumps(summarise(model_with_lazy_weight()).to_json(), separators=(",", ":"))
    assert len(json.dumps(graph.nodes[0].to_json())) < 200


@pytest.mark.parametrize(
    "text", ["float16[1,224,64,64]", "int64[]", "float32[?,3]", "?", "?[2]", "float32", "uint4[3]"]
)
def test_types_round_trip(text: str) -> None:
    assert str(TensorType.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("float16[2,3]", 12), ("uint4[3]", 2), ("bool[]", 1), ("string[2]", None), ("int64[?]", None)],
)
def test_sizes_in_bytes(text: str, size_bytes: int | None) -> None:
    assert TensorType.parse(text).size_bytes == size_bytes


def test_attributes_are_short_and_tell_values_apart() -> None:
    def text_of(values: np.ndarray) -> str:
        node = ir.node("Constant", [], attributes={"value": ir.tensor(values)})
        graph = ir.Graph([], node.outputs, nodes=[node], opset_imports={"": 18}, name="g")
        return summarise(ir.Model(graph, ir_version=10)).nodes[0].attributes["value"]

    long = np.arange(100, dtype=np.float32)
    assert text_of(np.array([1, -1], np.int64)) == "int64[2]{1,-1}"
    assert text_of(long).startswith("float32[100]#")
    assert text_of(long) != text_of(long + 1)
    assert text_of(np.zeros(5000, np.float32)) == "float32[5000]"


def test_a_file_is_read_without_its_external_data(tmp_path: Path) -> None:
    model = ir.from_onnx_text(CONV.replace("{0}", "{" + ",".join(["1"] * 108) + "}"))
    ir.save(model, tmp_path / "m.onnx", external_data="m.onnx.data")
    for path in tmp_path.glob("*.data"):
        path.unlink()
    graph = load_summary(tmp_path / "m.onnx")
    assert graph.initializers["w"] == ("float16", (4, 3, 3, 3), 216)
    assert graph.stats.macs == 4 * 64 * 27


def test_a_file_with_large_inline_weights_and_functions(tmp_path: Path) -> None:
    w = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    square = onnx.helper.make_function(
        "local",
        "f",
        ["a", "b"],
        ["c"],
        [onnx.helper.make_node("MatMul", ["a", "b"], ["c"])],
        [onnx.helper.make_opsetid("", 18)],
    )
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 64])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 64])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("f", ["x", "w"], ["y"], domain="local")], "g", [x], [y], [w]
    )
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("local", 1)]
    onnx.save(
        onnx.helper.make_model(graph, functions=[square], opset_imports=opsets, ir_version=10),
        tmp_path / "f.onnx",
    )
    summary = load_summary(tmp_path / "f.onnx")
    assert summary.stats.ops == {"MatMul": 1}
    assert summary.stats.macs == 2 * 64 * 64
    assert summary.stats.bytes == 64 * 64 * 4


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x08\x0a"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(UsageError, match=r"x\.onnx: is not an ONNX model"):
        load_summary(tmp_path / "x.onnx")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load_summary(tmp_path / "none.onnx")
