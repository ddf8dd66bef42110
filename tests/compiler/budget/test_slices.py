"""A graph cut into parts, as far as memory goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ldmc.compiler.budget.fusion import written_timeline
from ldmc.compiler.budget.operators import weights_bytes
from ldmc.compiler.budget.slices import cut
from tests.compiler.budget.graphs import KIB, MIB, graph_of, weighing


@pytest.mark.parametrize(("parts", "heaviest"), [(1, 10), (2, 6), (3, 4), (9, 4)])
def test_the_heaviest_part_weighs_least(parts: int, heaviest: int) -> None:
    found = cut(weighing(1, 2, 3, 4), parts)
    assert len(found) <= parts
    assert max(weights_bytes(part) for part in found) == heaviest * MIB


def test_nothing_is_lost_or_made() -> None:
    whole = weighing(1, 2, 3, 4)
    parts = cut(whole, 3)
    assert tuple(node for part in parts for node in part.nodes) == whole.nodes
    assert sum(weights_bytes(part) for part in parts) == weights_bytes(whole)


def test_what_crosses_is_an_output_and_an_input() -> None:
    first, second = cut(weighing(3, 3), 2)
    assert [spec.name for spec in first.outputs] == [spec.name for spec in second.inputs] == ["v0"]
    assert [spec.name for spec in second.outputs] == ["y"]


def test_one_part_is_the_whole() -> None:
    graph = graph_of("a = Neg (x) b = Neg (a) y = Add (a, b)")
    (part,) = cut(graph, 1)
    assert (part.inputs, part.nodes, part.outputs) == (graph.inputs, graph.nodes, graph.outputs)
    assert written_timeline(part).peak_bytes == 4 * KIB


def test_a_part_reads_what_was_made_before_it_and_gives_what_is_read_after() -> None:
    """v0 is read in the second part and in the third, past the second."""
    chain = weighing(4, 4, 4)
    last = replace(chain.nodes[2], inputs=("v1", "w2", "v0"))
    first, second, third = cut(replace(chain, nodes=(*chain.nodes[:2], last)), 3)
    assert [spec.name for spec in first.outputs] == ["v0"]
    assert [spec.name for spec in second.inputs] == ["v0"]
    assert [spec.name for spec in third.inputs] == ["v0", "v1"]
