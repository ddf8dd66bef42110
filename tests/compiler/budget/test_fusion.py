"""What a TensorRT engine writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ldmc.compiler.budget.fusion import fused_timeline, written_timeline
from ldmc.compiler.budget.slices import cut
from ldmc.compiler.graph import load_summary
from ldmc.compiler.liveness import peak_activation
from ldmc.compiler.summary import GraphSummary
from tests.compiler.budget.graphs import KIB, graph_of


def names(graph: GraphSummary) -> set[str]:
    return {buffer.name for buffer in fused_timeline(graph).buffers}


def attention(kind: str) -> GraphSummary:
    body = "s = MatMul (x, k) d = Mul (s, c) p = Softmax (d) o = MatMul (p, k) y = Relu (o)"
    inputs = f"{kind}[16, 16] x, {kind}[16, 16] k, {kind}[1] c"
    return graph_of(body, inputs, f"{kind}[16, 16] y")


def test_a_chain_of_pointwise_operators_writes_its_last() -> None:
    assert names(graph_of("a = Relu (x) b = Mul (a, a) c = Sigmoid (b) d = Mul (c, x) y = Relu (d)")) == {
        "a",
        "d",
    }


def test_what_a_chain_reads_lives_until_it_runs() -> None:
    """`b` and `c` are never written: `a` is read where `d` is computed."""
    timeline = fused_timeline(
        graph_of("a = Relu (x) b = Neg (a) c = Neg (b) d = Neg (c) e = Relu (d) y = Relu (e)")
    )
    assert {buffer.name: (buffer.first, buffer.last) for buffer in timeline.buffers}["a"] == (0, 3)


def test_a_value_that_more_than_two_read_is_written() -> None:
    body = "a = Neg (x) b = Neg (a) c = Neg (a) d = Neg (a) e = Sum (b, c, d) y = Relu (e)"
    assert "a" in names(graph_of(body))


def test_scores_of_an_attention_are_written_in_fp32_only() -> None:
    assert names(attention("float16")) == {"o"}
    assert names(attention("float")) >= {"p", "o"}


def test_inputs_and_outputs_are_the_callers() -> None:
    assert names(graph_of("y = Relu (x)")) == set()


def test_views_cost_nothing() -> None:
    assert names(graph_of("a = Relu (x) b = Flatten (a) y = Relu (b)", outputs="float[1, 256] y")) == {"a"}


def test_without_fusing_everything_is_written_but_views() -> None:
    graph = graph_of("a = Neg (x) b = Flatten (a) y = Neg (b)", outputs="float[1, 256] y")
    assert {buffer.name for buffer in written_timeline(graph).buffers} == {"x", "a", "y"}
    assert written_timeline(graph).peak_bytes == 3 * KIB
    assert written_timeline(graph, float_bytes=2).peak_bytes == 1.5 * KIB


@pytest.mark.parametrize("parts", [1, 2])
def test_without_fusing_it_is_the_peak_that_reports_have(tiny_bundle_fp16: Path, parts: int) -> None:
    """What `partition` fits, and what the manifest says of steps that are left to do."""
    for part in cut(load_summary(tiny_bundle_fp16 / "unet" / "model.onnx"), parts):
        peak = peak_activation(part)
        assert peak is not None
        assert written_timeline(part).peak_bytes == peak.bytes
