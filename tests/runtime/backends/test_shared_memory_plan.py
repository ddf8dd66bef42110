"""Tensors in one block: none overlaps another that is alive at the same step."""

import numpy as np
import pytest

from ldmc.runtime.backends.shared_memory_plan import Interval, place


def overlaps(intervals, offsets):
    """Pairs that share bytes while both are alive."""
    spans = [(one, offsets[one.name], offsets[one.name] + one.size_bytes) for one in intervals]
    return [(one.name, other.name) for index, (one, start, end) in enumerate(spans)
            for other, other_start, other_end in spans[index + 1:]
            if one.meets(other) and start < other_end and other_start < end]


def test_what_is_never_alive_together_shares():
    intervals = [Interval("a", 1000, 0, 1), Interval("b", 1000, 1, 2), Interval("c", 1000, 2, 3)]
    offsets, total = place(intervals)
    assert offsets["a"] == offsets["c"] != offsets["b"]
    assert total == 2048


def test_what_a_step_reads_is_not_where_it_writes():
    offsets, total = place([Interval("in", 256, 0, 0), Interval("out", 256, 0, 1)])
    assert offsets["in"] != offsets["out"] and total == 512


def test_a_small_one_goes_into_a_gap():
    intervals = [Interval("low", 512, 0, 9), Interval("gone", 1024, 0, 1), Interval("high", 768, 0, 9),
                 Interval("late", 300, 2, 9)]
    offsets, total = place(intervals)
    assert not overlaps(intervals, offsets)
    assert total == 512 + 1024 + 768
    assert 0 <= offsets["late"] < total


def test_nothing_needs_nothing():
    assert place([]) == ({}, 0)


@pytest.mark.parametrize("seed", range(20))
def test_any_tensors(seed):
    rng = np.random.RandomState(seed)
    intervals = []
    for index in range(rng.randint(2, 30)):
        first = int(rng.randint(0, 8))
        intervals.append(Interval("t%d" % index, int(rng.randint(1, 5000)), first, first + int(rng.randint(0, 4))))
    offsets, total = place(intervals)
    assert not overlaps(intervals, offsets)
    assert all(offset % 256 == 0 for offset in offsets.values())
    assert max(offsets[one.name] + one.size_bytes for one in intervals) <= total
    alive = max(sum(one.size_bytes for one in intervals if one.first <= step <= one.last) for step in range(12))
    assert alive <= total <= sum(one.size_bytes + 256 for one in intervals)
