"""Where to cut: places that let little across and leave parts of even weight, by dynamic programming.

    weights MiB   [ 20 | 41 | 38 | 52 | 47 | 33 | ... ]     between candidates
    crossing MiB      9    6    2    2    6    9            at candidates
    3 parts              ^              ^

First the least that the heaviest part can weigh; then, among all cuts whose parts stay within `UNEVEN` of that, those
over which the fewest bytes cross in all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldmc.passes.cutting.line import Line

# How much heavier than it need be the heaviest part may get where less crosses for it: little, since a builder holds
# the weights several times over and what crosses once.
UNEVEN = 1.05
# A node with less constants than this is not worth a part of its own.
WEIGHTY_BYTES = 4096

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """The places worth cutting at, and what a cut there costs.

    bounds: the start of the line, the candidates in order, the end of the line.
    crossing: bytes that cross each bound. weights: [a, b] bytes of the constants read between bounds a and b, each
    counted once; infinite for a >= b.
    """

    bounds: list[int]
    crossing: Floats
    weights: Floats

    @property
    def most_parts(self) -> int:
        """As many parts as there can be."""
        return len(self.bounds) - 1

    def weight_bytes(self, start: int, stop: int) -> int:
        """Bytes of the constants of a part from bound `start` to bound `stop`."""
        return int(self.weights[self.bounds.index(start), self.bounds.index(stop)])

    def least_heaviest(self, parts: int) -> float:
        """The least that the heaviest of `parts` parts can weigh, in bytes."""
        return float(_best(self.weights, np.zeros_like(self.crossing), parts, np.maximum)[0])

    def choose(self, parts: int, limit_bytes: float = np.inf) -> list[int]:
        """The places of the best cut into `parts` parts, none heavier than `limit_bytes` if that can be."""
        least = self.least_heaviest(parts)
        allowed = max(least, min(least * UNEVEN, limit_bytes))
        total = max(float(self.weights[0, -1]), 1.0)
        # The square of the weights decides between cuts that let as much across: all of them together are one byte.
        cost = np.where(self.weights <= allowed, np.square(self.weights / total), np.inf)
        chosen = _best(cost, self.crossing, parts, np.add)[1]
        return [self.bounds[index] for index in chosen]


def candidates(line: Line) -> Candidates:
    """Between two nodes with weights worth the name, only the place that lets least across is worth looking at."""
    crossing = line.crossing_bytes
    weighty = [at for at in range(len(line.nodes)) if sum(line.weights(at).values()) >= WEIGHTY_BYTES]
    places = []
    for first, second in zip(weighty, weighty[1:]):
        place = min(range(first + 1, second + 1), key=crossing.__getitem__)
        if np.isfinite(crossing[place]):
            places.append(place)
    bounds = [0, *places, len(line.nodes)]
    return Candidates(bounds, np.array([crossing[place] for place in bounds]), _weights(line, bounds))


def _weights(line: Line, bounds: list[int]) -> Floats:
    """[a, b]: bytes of the constants that the nodes between bounds a and b read, each once."""
    reads = [line.weights(at) for at in range(len(line.nodes))]
    earlier: dict[object, int] = {}
    again: dict[
        int, list[tuple[int, int]]
    ] = {}  # a read -> where it counts only if the part starts after the read
    fresh = np.zeros(len(line.nodes))
    for at, weights in enumerate(reads):
        for value, size in weights.items():
            if value in earlier:
                again.setdefault(earlier[value], []).append((at, size))
            else:
                fresh[at] += size
            earlier[value] = at
    found = np.full((len(bounds), len(bounds)), np.inf)
    for a, start in enumerate(bounds[:-1]):
        sums = np.concatenate([[0.0], np.cumsum(fresh[start:])])
        found[a, a + 1 :] = sums[[stop - start for stop in bounds[a + 1 :]]]
        for at in range(start, bounds[a + 1]):
            for later, size in again.get(at, ()):
                fresh[later] += size
    return found


def _best(edge: Floats, node: Floats, parts: int, join: np.ufunc) -> tuple[float, list[int]]:
    """The best way from the first bound to the last in `parts` steps; its cost and the bounds between.

    Going from a to b costs edge[a, b] and then node[b]; `join` puts steps together: their sum, or the largest.
    """
    reached = edge[0] + node
    steps: list[NDArray[np.intp]] = []
    for _ in range(parts - 1):
        through = join(reached[:, None], edge + node[None, :])
        came_from = np.argmin(through, axis=0)
        steps.append(came_from)
        reached = through[came_from, np.arange(len(node))]
    at = len(node) - 1
    cost = float(reached[at])
    chosen: list[int] = []
    for came_from in reversed(steps):
        at = int(came_from[at])
        chosen.append(at)
    return cost, chosen[::-1]
