"""How much of its memory ONNX Runtime's arena touches: buffers of different sizes leave gaps.

    regions of 1, 1, 2, 4, ... MiB, or as large as one buffer needs
    a buffer takes the smallest free chunk that holds it; what is left is split off where it is as large again
    a freed chunk joins its free neighbours

The rules of its BFC arena (onnxruntime/core/framework/bfc_arena.cc, extending by powers of two). A region is only
address space; what counts is what was ever written.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from ldmc.compiler.budget.timeline import Timeline
from ldmc.targets.target import MIB

_ROUND_BYTES = 256
_FIRST_REGION_BYTES = MIB
_MOST_UNSPLIT_BYTES = 128 * MIB
_APART_BYTES = 2**44  # between regions, so that none touches another


@dataclass
class _Chunk:
    bytes: int
    is_free: bool
    before: int | None
    after: int | None


class _Arena:
    """Chunks by address; `free` is sorted by size, then address."""

    def __init__(self) -> None:
        self.chunks: dict[int, _Chunk] = {}
        self.free: list[tuple[int, int]] = []
        self._next_region_bytes = _FIRST_REGION_BYTES
        self._next_address = 0

    def take(self, size_bytes: int) -> int:
        """Allocate; the address."""
        needed = max(-(-size_bytes // _ROUND_BYTES), 1) * _ROUND_BYTES
        place = bisect.bisect_left(self.free, (needed, 0))
        if place == len(self.free):
            self._extend(needed)
            place = bisect.bisect_left(self.free, (needed, 0))
        _, address = self.free.pop(place)
        chunk = self.chunks[address]
        chunk.is_free = False
        left = chunk.bytes - needed
        if left >= needed or left >= _MOST_UNSPLIT_BYTES:
            self._split(address, needed)
        return address

    def give_back(self, address: int) -> None:
        """Free, and join with free neighbours."""
        chunk = self.chunks[address]
        chunk.is_free = True
        if chunk.after is not None and self.chunks[chunk.after].is_free:
            self._join(address, chunk.after)
        if chunk.before is not None and self.chunks[chunk.before].is_free:
            self.free.remove((self.chunks[chunk.before].bytes, chunk.before))
            address, joined = chunk.before, address
            self._absorb(address, joined)
        bisect.insort(self.free, (self.chunks[address].bytes, address))

    def _extend(self, needed: int) -> None:
        has_grown = False
        while needed > self._next_region_bytes:
            self._next_region_bytes *= 2
            has_grown = True
        self.chunks[self._next_address] = _Chunk(self._next_region_bytes, True, None, None)
        bisect.insort(self.free, (self._next_region_bytes, self._next_address))
        self._next_address += _APART_BYTES
        if not has_grown:
            self._next_region_bytes *= 2

    def _split(self, address: int, needed: int) -> None:
        chunk, rest = self.chunks[address], address + needed
        self.chunks[rest] = _Chunk(chunk.bytes - needed, True, address, chunk.after)
        if chunk.after is not None:
            self.chunks[chunk.after].before = rest
        chunk.after, chunk.bytes = rest, needed
        bisect.insort(self.free, (self.chunks[rest].bytes, rest))

    def _join(self, address: int, after: int) -> None:
        self.free.remove((self.chunks[after].bytes, after))
        self._absorb(address, after)

    def _absorb(self, address: int, after: int) -> None:
        chunk, gone = self.chunks[address], self.chunks.pop(after)
        chunk.bytes += gone.bytes
        chunk.after = gone.after
        if gone.after is not None:
            self.chunks[gone.after].before = address


def touched_bytes(timeline: Timeline) -> int:
    """Bytes that are ever written while the buffers of `timeline` come and go in one arena."""
    born: dict[int, list[int]] = {}
    dying: dict[int, list[int]] = {}
    for number, buffer in enumerate(timeline.buffers):
        born.setdefault(buffer.first, []).append(number)
        dying.setdefault(buffer.last, []).append(number)
    arena, addresses = _Arena(), dict[int, int]()
    written: list[tuple[int, int]] = []
    for step in range(len(timeline.steps)):
        for number in born.get(step, ()):
            address = addresses[number] = arena.take(timeline.buffers[number].bytes)
            written.append((address, address + timeline.buffers[number].bytes))
        for number in dying.get(step, ()):
            arena.give_back(addresses.pop(number))
    return _covered_bytes(written)


def _covered_bytes(spans: list[tuple[int, int]]) -> int:
    """Length of the union of `spans`."""
    total, end = 0, -1
    for start, stop in sorted(spans):
        total += max(stop - max(start, end), 0)
        end = max(end, stop)
    return total
