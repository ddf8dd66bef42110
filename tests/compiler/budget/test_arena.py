"""The arena's touched bytes, with sizes that can be followed by hand."""

from __future__ import annotations

from ldmc.compiler.budget.arena import touched_bytes
from ldmc.compiler.budget.timeline import Buffer, Timeline
from tests.compiler.budget.graphs import MIB


def touched_mib(*spans: tuple[float, int, int]) -> float:
    """Buffers of so many MiB, each with its first and last step."""
    steps = max(last for _, _, last in spans) + 1
    buffers = tuple(Buffer(f"b{k}", int(size * MIB), *span) for k, (size, *span) in enumerate(spans))
    return touched_bytes(Timeline(tuple("s" * steps), buffers)) / MIB


def test_a_freed_chunk_is_taken_again() -> None:
    assert touched_mib((4, 0, 0), (4, 1, 1), (4, 2, 2)) == 4


def test_buffers_alive_together_lie_apart() -> None:
    assert touched_mib((4, 0, 1), (4, 1, 1)) == 8


def test_a_larger_one_does_not_fit_where_a_smaller_was() -> None:
    assert touched_mib((2, 0, 0), (8, 1, 1)) == 10


def test_a_chunk_is_split_where_as_much_is_left() -> None:
    """8 MiB hold two of 4, and one of 5 whole: its other 3 are lost while it lives."""
    assert touched_mib((8, 0, 0), (4, 1, 1), (4, 1, 1)) == 8
    assert touched_mib((8, 0, 0), (5, 1, 1), (3, 1, 1)) == 11


def test_free_neighbours_join() -> None:
    assert touched_mib((8, 0, 0), (4, 1, 1), (4, 1, 2), (8, 3, 3)) == 8


def test_what_is_not_written_is_not_touched() -> None:
    """The first region is of 1 MiB; a small buffer touches only its own part of it."""
    assert touched_mib((0.25, 0, 0)) == 0.25
