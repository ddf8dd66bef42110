"""Live bytes of buffers that come and go."""

from __future__ import annotations

from ldmc.compiler.budget.timeline import Buffer, Timeline, chained

TWO = Timeline(("a", "b", "c"), (Buffer("p", 4, 0, 1), Buffer("q", 3, 1, 2), Buffer("r", 3, 1, 1)))


def test_live_bytes_count_the_first_step_and_the_last() -> None:
    assert TWO.live_bytes == (4, 10, 3)
    assert (TWO.peak_bytes, TWO.peak_step, TWO.peak_node) == (10, 1, "b")


def test_what_is_alive_comes_largest_first() -> None:
    assert [buffer.name for buffer in TWO.alive(1)] == ["p", "q", "r"]
    assert [buffer.name for buffer in TWO.alive(2)] == ["q"]


def test_the_earliest_of_equal_peaks_is_named() -> None:
    equal = Timeline(("a", "b"), (Buffer("p", 4, 0, 0), Buffer("q", 4, 1, 1)))
    assert equal.peak_node == "a"


def test_a_chain_runs_one_after_the_other() -> None:
    chain = chained((TWO, TWO))
    assert chain.live_bytes == (4, 10, 3, 4, 10, 3)
    assert chain.steps == ("a", "b", "c", "a", "b", "c")


def test_nothing_takes_nothing() -> None:
    assert (chained(()).peak_bytes, chained(()).peak_node) == (0, "")
