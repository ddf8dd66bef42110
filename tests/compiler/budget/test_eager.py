"""Eager PyTorch: what operators write, and what the caching allocator reserves for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ldmc.compiler.budget.eager import eager_run, eager_timeline, reserved_bytes
from ldmc.compiler.budget.timeline import Buffer, Timeline
from ldmc.compiler.summary import GraphSummary
from ldmc.targets.reader import load_target
from tests.compiler.budget.graphs import KIB, MIB, graph_of

NORM = (
    "a = Flatten (x) b = Mul (a, a) c = Add (b, b) y = Relu (c)",
    "float[256] x",
    "float[1, 256] y",
)


def reserved_mib(*spans: tuple[float, int, int]) -> float:
    steps = max(last for _, _, last in spans) + 1
    buffers = tuple(Buffer(f"b{k}", int(size * MIB), *span) for k, (size, *span) in enumerate(spans))
    return reserved_bytes((Timeline(tuple("s" * steps), buffers),)) / MIB


@pytest.mark.parametrize(
    ("size_mib", "segment_mib"), [(0.001, 2), (1, 2), (1.5, 20), (9.9, 20), (10, 10), (11, 12), (33, 34)]
)
def test_a_request_takes_a_segment_of_its_class(size_mib: float, segment_mib: float) -> None:
    assert reserved_mib((size_mib, 0, 0)) == segment_mib


def test_segments_are_shared_and_never_given_back() -> None:
    assert reserved_mib((1.5, 0, 1), (1.5, 1, 1)) == 20
    assert reserved_mib((30, 0, 0), (30, 1, 1)) == 30
    assert reserved_mib((30, 0, 0), (40, 1, 1)) == 70


def test_gaps_join() -> None:
    assert reserved_mib((8, 0, 0), (8, 0, 1), (16, 2, 2)) == 20


def test_a_normalisation_writes_one_output() -> None:
    graph = graph_of(*NORM)
    named = [
        replace(node, name=f"block.norm1/{node.op}") if node.op != "Relu" else node for node in graph.nodes
    ]
    whole = GraphSummary(graph.inputs, graph.outputs, tuple(named), graph.initializers)
    assert [buffer.name for buffer in eager_timeline(whole, 4).buffers] == ["c", "y"]


def test_distances_of_a_quantiser_are_there_three_times() -> None:
    body = "d = MatMul (x, c) i = ArgMax <axis = 1, keepdims = 0> (d) y = Cast <to = 1> (i)"
    graph = graph_of(body, "float[16, 4] x, float[4, 256] c", "float[16] y")
    distances = [buffer for buffer in eager_timeline(graph, 4).buffers if buffer.name.startswith("distances")]
    assert [buffer.bytes for buffer in distances] == [16 * KIB] * 3


def test_a_run_is_context_weights_and_what_is_reserved() -> None:
    graph = graph_of("y = Relu (x)")
    rtx = eager_run([graph], MIB, 2, load_target("rtx-3070"))
    assert (rtx.libraries_bytes, rtx.weights_bytes, rtx.activations_bytes) == (300 * MIB, 2 * MIB, 2 * MIB)
    nano = load_target("jetson-nano")
    assert nano.memory is not None
    counted = nano.memory.libraries_bytes - nano.memory.libraries_mib["cuDNN"] * MIB
    assert eager_run([graph], MIB, 4, nano).libraries_bytes == counted
