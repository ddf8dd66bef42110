"""Lines over a sequence: blocks of a network, or run after run. Each point says its number when it is pointed at.

    dB |  o--o                     a ring and a name mark the point to look at
       |      \\
       |       (o) mid_block
       +--------------- blocks in running order
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ldmc.report.charts.callout import STRIP, place
from ldmc.report.charts.drawing import COLOURS, FONT, SMALL, Drawing, broad
from ldmc.report.units import number, short

_HEIGHT = 190.0
_MARGINS = (34.0, 8.0, 18.0, 36.0)
_AIR = 0.1  # share of the height that no line reaches
_CALLED, _MOST_CALLED = FONT - 0.5, 40  # size and letters of a callout's name
_MOST_POINTS_MARKED = 60  # beyond it dots run into each other


@dataclass(frozen=True)
class Point:
    """told: what it says when it is pointed at."""

    x: float
    y: float
    told: str


@dataclass(frozen=True)
class Series:
    """One line. dashed: for what is seen in grey, too."""

    label: str
    colour: str
    points: tuple[Point, ...]
    dashed: bool = False


@dataclass(frozen=True)
class Callout:
    """The point to look at, and what is written there."""

    point: Point
    text: str


def lines(
    ident: str, title: str, series: Sequence[Series], unit: str, below: str, callout: Callout | None = None
) -> str:
    """Draw `series`; `unit` stands over the upright axis, `below` under the other one."""
    description = "; ".join(f"{one.label}: {len(one.points)} points, {_range(one, unit)}" for one in series)
    if callout:
        description += f"; {callout.text}"
    drawing = Drawing(ident, title, description, _HEIGHT, _MARGINS)
    for one in series:
        _draw(drawing, one)
    _axes(drawing, series, unit, below, callout)
    if callout:
        _call(drawing, series, callout)
    return drawing.svg()


def _range(series: Series, unit: str) -> str:
    values = [point.y for point in series.points]
    return f"{number(min(values))} to {number(max(values))} {unit}" if values else "no value"


def _draw(drawing: Drawing, series: Series) -> None:
    axes, colour = drawing.axes, COLOURS[series.colour]
    xs, ys = [point.x for point in series.points], [point.y for point in series.points]
    (line,) = axes.plot(xs, ys, color=colour, lw=1.8, ls=(0, (4, 2)) if series.dashed else "-")
    drawing.mark(line, "line", series.label)
    radius = 4.5 if len(xs) <= _MOST_POINTS_MARKED else 3.0
    for point in series.points:
        (dot,) = axes.plot([point.x], [point.y], "o", ms=radius, color=colour, mew=0)
        drawing.mark(dot, "point", f"{series.label}: {point.told}")


def _axes(drawing: Drawing, series: Sequence[Series], unit: str, below: str, callout: Callout | None) -> None:
    from matplotlib.ticker import MaxNLocator

    axes = drawing.axes
    points = [point for one in series for point in one.points] + ([callout.point] if callout else [])
    values = [point.y for point in points]
    low, high = min([0.0, *values]), max(values, default=1.0)
    share = STRIP / axes.bbox.height if callout else _AIR
    axes.set_ylim(low, low + (high - low or 1.0) / (1 - share))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    drawing.grid("y")
    axes.set_xlim(0.4, max((point.x for point in points), default=1) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    drawing.text(0, 1.03, unit, "muted", size=SMALL, transform=axes.transAxes, ha="right", va="bottom")
    drawing.text(0.5, -0.2, below, "muted", size=SMALL, transform=axes.transAxes, ha="center", va="top")


def _call(drawing: Drawing, series: Sequence[Series], callout: Callout) -> None:
    """A ring around the point, and its name where no line passes."""
    from matplotlib.lines import Line2D
    from matplotlib.path import Path
    from matplotlib.transforms import IdentityTransform

    axes, point = drawing.axes, callout.point
    axes.plot([point.x], [point.y], "o", ms=11, mfc="none", mec=COLOURS["bad"], mew=1.8, clip_on=False)
    curves = [Path(axes.transData.transform([(p.x, p.y) for p in one.points])) for one in series if one.points]
    x, y = axes.transData.transform((point.x, point.y))
    name = _fitting(callout.text, axes.bbox.width)
    found = place(float(x), float(y), broad(name, _CALLED), curves, axes.bbox)
    if found.leader:
        ends = tuple(zip(*found.leader, strict=True))
        axes.add_line(Line2D(*ends, color=COLOURS["bad"], lw=0.8, transform=IdentityTransform()))
    drawing.text(found.x, found.y, name, "bad", size=_CALLED, ha=found.ha, transform=IdentityTransform())


def _fitting(text: str, room: float) -> str:
    """As much of `text` as the axes are broad."""
    return next((cut for most in range(_MOST_CALLED, 1, -1) if broad(cut := short(text, most), _CALLED) <= room), "")
