"""When each buffer comes and when it goes, while the operators of a graph run one after the other.

    step          0 conv   1 norm   2 add
    x  4 MiB      |--------------------|          Buffer("x", 4 MiB, first=0, last=2)
    y  4 MiB               |-----------|
    live MiB      4        8        8             peak 8 MiB while `norm` runs

An engine's model turns a graph into one of these; the budget, the chart and the arena read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Buffer:
    """Memory of one or several values. first, last: the steps it is needed in, both included. name: its first value."""

    name: str
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Timeline:
    """steps: names of the operators that run, in order. buffers: in the order in which they are allocated."""

    steps: tuple[str, ...]
    buffers: tuple[Buffer, ...]

    @cached_property
    def live_bytes(self) -> tuple[int, ...]:
        """Bytes of all buffers alive during each step."""
        change = [0] * (len(self.steps) + 1)
        for buffer in self.buffers:
            change[buffer.first] += buffer.bytes
            change[buffer.last + 1] -= buffer.bytes
        live, total = [], 0
        for step in range(len(self.steps)):
            total += change[step]
            live.append(total)
        return tuple(live)

    @property
    def peak_bytes(self) -> int:
        """The most that is alive at one time; 0 where nothing runs."""
        return max(self.live_bytes, default=0)

    @property
    def peak_step(self) -> int:
        """The earliest step at which the peak is reached."""
        return self.live_bytes.index(self.peak_bytes) if self.steps else 0

    @property
    def peak_node(self) -> str:
        """Name of the operator that runs then; empty where nothing runs."""
        return self.steps[self.peak_step] if self.steps else ""

    def alive(self, step: int) -> tuple[Buffer, ...]:
        """What is alive during `step`, the largest first."""
        found = [buffer for buffer in self.buffers if buffer.first <= step <= buffer.last]
        return tuple(sorted(found, key=lambda buffer: (-buffer.bytes, buffer.name)))

    def to_json(self) -> dict[str, Any]:
        """Operators and bytes alive, step by step; at the peak, the buffers too."""
        alive = self.alive(self.peak_step) if self.steps else ()
        return {
            "steps": list(self.steps),
            "live_bytes": list(self.live_bytes),
            "peak_step": self.peak_step,
            "alive": [{"name": buffer.name, "bytes": buffer.bytes} for buffer in alive],
        }


def chained(timelines: tuple[Timeline, ...]) -> Timeline:
    """One after the other: parts of a network, or components of a picture, each giving its memory back at its end."""
    steps: list[str] = []
    buffers: list[Buffer] = []
    for timeline in timelines:
        start = len(steps)
        steps += timeline.steps
        buffers += [Buffer(b.name, b.bytes, b.first + start, b.last + start) for b in timeline.buffers]
    return Timeline(tuple(steps), tuple(buffers))
