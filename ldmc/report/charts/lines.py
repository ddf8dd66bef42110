"""Lines over a sequence: blocks of a network, or run after run. Each point says its number when it is pointed at.

    dB |  o--o                     a ring and a name mark the point to look at
       |      \\
       |       (o) mid_block
       +--------------- blocks in running order
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ldmc.report.charts.drawing import COLOURS, FONT, SMALL, Drawing
from ldmc.report.units import number, short

_HEIGHT = 190.0
_MARGINS = (34.0, 8.0, 18.0, 36.0)
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
    _axes(drawing, series, unit, below)
    if callout:
        _call(drawing, callout)
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


def _axes(drawing: Drawing, series: Sequence[Series], unit: str, below: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes = drawing.axes
    values = [point.y for one in series for point in one.points]
    low, high = min([0.0, *values]), max(values, default=1.0)
    axes.set_ylim(low, low + (high - low or 1.0) * 1.12)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    drawing.grid("y")
    axes.set_xlim(0.4, max((point.x for one in series for point in one.points), default=1) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    drawing.text(0, 1.03, unit, "muted", size=SMALL, transform=axes.transAxes, ha="right", va="bottom")
    drawing.text(0.5, -0.2, below, "muted", size=SMALL, transform=axes.transAxes, ha="center", va="top")


def _call(drawing: Drawing, callout: Callout) -> None:
    axes, point = drawing.axes, callout.point
    axes.plot([point.x], [point.y], "o", ms=11, mfc="none", mec=COLOURS["bad"], mew=1.8)
    left, right = axes.get_xlim()
    is_right = point.x > (left + right) / 2
    top = axes.get_ylim()[1]
    axes.annotate(
        short(callout.text, 40),
        xy=(point.x, point.y),
        xytext=(-10 if is_right else 10, 14 if point.y < top * 0.8 else -16),
        textcoords="offset points",
        ha="right" if is_right else "left",
        fontsize=FONT - 0.5,
        color=COLOURS["bad"],
        parse_math=False,
    )
