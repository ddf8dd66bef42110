"""Peak of live activations, on graphs small enough to count by hand. A float[256] is 1 KiB."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from ldmc.compiler.graph import summarise
from ldmc.compiler.liveness import Peak, live_bytes, peak_activation
from ldmc.compiler.summary import GraphSummary, Initializer

KIB = 1024


def graph_of(body: str, inputs: str = "float[256] x", outputs: str = "float[256] y") -> GraphSummary:
    text = f'<ir_version: 10, opset_import: ["" : 18]> g ({inputs}) => ({outputs}) {{ {body} }}'
    return summarise(ir.from_onnx_text(text))


def in_kib(graph: GraphSummary) -> list[float] | None:
    timeline = live_bytes(graph)
    return None if timeline is None else [size / KIB for size in timeline]


def test_a_chain_frees_as_it_goes() -> None:
    graph = graph_of("a = Neg (x) b = Neg (a) c = Neg (b) y = Neg (c)")
    assert in_kib(graph) == [1, 2, 3, 3, 3]
    assert peak_activation(graph) == Peak(3 * KIB, graph.nodes[1].name)


def test_a_skip_connection_stays_until_its_last_use() -> None:
    graph = graph_of("a = Neg (x) b = Neg (a) c = Neg (b) y = Add (a, c)")
    assert in_kib(graph) == [1, 2, 3, 4, 4]


def test_an_output_nobody_reads_is_freed_at_once() -> None:
    assert in_kib(graph_of("u = Neg (x) y = Neg (x)")) == [1, 2, 2]


def test_graph_outputs_stay_to_the_end() -> None:
    graph = graph_of("y = Neg (x) a = Neg (y) b = Neg (a) z = Neg (b)", outputs="float[256] y, float[256] z")
    assert in_kib(graph) == [1, 2, 3, 4, 4]


def test_views_take_no_bytes_and_keep_what_they_view() -> None:
    axes = "axes = Constant <value = int64[1] {0}> ()"
    graph = graph_of(
        f"{axes} a = Neg (x) v = Unsqueeze (a, axes) w = Flatten (v) "
        "b = Neg (x) c = Add (w, b) y = Squeeze (c, axes)"
    )
    assert in_kib(graph) == [1, 1, 2, 2, 2, 3, 4, 2]


def test_a_view_of_the_input_and_of_a_weight() -> None:
    graph = graph_of(
        "shape = Constant <value = int64[2] {16, 16}> () w = Constant <value = float[1] {1.0}> () "
        "s = Squeeze (w) v = Reshape (x, shape) y = Mul (v, s)",
        outputs="float[16,16] y",
    )
    assert in_kib(graph) == [1, 1, 1, 1, 1, 2]


def test_initializers_and_constants_are_not_activations() -> None:
    graph = graph_of("y = MatMul (x, w)", inputs="float[256] x, float[256,256] w")
    assert in_kib(graph) == [257, 258]
    weights = {"w": Initializer("float32", (256, 256), 256 * KIB)}
    assert in_kib(replace(graph, inputs=graph.inputs[:1], initializers=weights)) == [1, 2]


def test_an_unknown_shape_gives_no_answer() -> None:
    graph = graph_of("y = Neg (x)", inputs="float[N] x", outputs="float[N] y")
    assert live_bytes(graph) is None
    assert peak_activation(graph) is None
    known = graph_of("a = Neg (x) y = Neg (a)")
    untyped = replace(known, nodes=tuple(replace(node, types=()) for node in known.nodes))
    assert peak_activation(untyped) is None


def test_values_that_a_subgraph_reads_stay_alive_for_it() -> None:
    graph = graph_of(
        "a = Neg (x) c = Neg (x) d = Neg (c) y = If (b) < "
        "then_branch = t () => (float[256] r) { r = Neg (a) }, "
        "else_branch = e () => (float[256] q) { q = Abs (d) } >",
        inputs="bool b, float[256] x",
    )
    assert in_kib(graph) == [0.0009765625 + size for size in (1, 2, 3, 4, 4, 3, 2)]  # b is one byte


def test_a_graph_without_nodes() -> None:
    assert peak_activation(GraphSummary()) == Peak(0, "")
