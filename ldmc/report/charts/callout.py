"""Where the name of a point can stand: nearest to it, inside the axes, on no curve.

       ______ .--.__          every free place in the axes is a candidate, the nearest one is taken
    __/      V    a name      a thin line leads to what is far away; one that crosses a curve counts as farther
            (o)               the strip above all curves is kept free by `lines`: there is always a place
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.path import Path
    from matplotlib.transforms import BboxBase

RING = 6.5  # radius of the ring around the point, with its line
_HEIGHT = 14.0  # of a line of text
_DESCENT = 3.0  # of its letters below the baseline
_CLEAR = 4.0  # between text and the middle of a curve: half a dot, and air
_FAR = 10.0  # from the ring: beyond it a line leads to the name
_STEP = 4.0
_CROSSING = 40.0  # a leader that crosses a curve is as bad as one this much longer
STRIP = RING + _CLEAR + _HEIGHT + 2.0  # above the highest point, for the name that has no other place


@dataclass(frozen=True)
class Place:
    """Where a name stands, in pixels. ha, x, y: of its baseline. leader: a line from the ring to it, or nothing."""

    ha: str
    x: float
    y: float
    leader: tuple[tuple[float, float], ...] = ()


def place(x: float, y: float, width: float, curves: Sequence[Path], room: BboxBase) -> Place:
    """Find the place of a name of this `width` for the point (x, y) beside `curves`; all in pixels.

    room: the axes; above all curves a strip of the height STRIP must be free in it.
    """
    from matplotlib.transforms import Bbox

    found = []
    for left, bottom in _candidates(x, width, room):
        box = Bbox.from_extents(left, bottom, left + width, bottom + _HEIGHT)
        near = (min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1))
        away = math.dist((x, y), near) - RING
        if away < _CLEAR or any(curve.intersects_bbox(box.padded(_CLEAR), filled=False) for curve in curves):
            continue
        leader = _leader((x, y), near) if away > _FAR else ()
        cost = away + _CROSSING * _crosses(leader, curves)
        found.append((cost, Place(*_anchor(x, box), box.y0 + _DESCENT, leader)))
    return min(found, key=lambda one: one[0])[1]


def _candidates(x: float, width: float, room: BboxBase) -> Iterator[tuple[float, float]]:
    """(left, bottom) of boxes in the room, from the top down: right of the point, left of it, over it, anywhere."""
    beside, spare = RING + _CLEAR, room.width - width
    anywhere = (room.x0 + index * _STEP for index in range(int(spare / _STEP)))
    for left in (x + beside, x - beside - width, x - width / 2, *anywhere):
        for index in range(int((room.height - _HEIGHT) / _STEP) + 1):
            yield max(min(left, room.x1 - width), room.x0), room.y1 - _HEIGHT - index * _STEP


def _anchor(x: float, box: BboxBase) -> tuple[str, float]:
    """How the name is aligned, so that one which is less broad than feared still begins at its point."""
    if box.x0 >= x:
        return "left", box.x0
    return ("right", box.x1) if box.x1 <= x else ("center", (box.x0 + box.x1) / 2)


def _leader(start: tuple[float, float], end: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    """From the ring's edge to the name."""
    share = RING / math.dist(start, end)
    return (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share), end


def _crosses(leader: tuple[tuple[float, float], ...], curves: Sequence[Path]) -> bool:
    from matplotlib.path import Path

    return bool(leader) and any(curve.intersects_path(Path(leader), filled=False) for curve in curves)
