"""Bars that lie, one row each, the label above the bar and its number behind it: readable on a phone.

PyTorch eager, fp32
########====  1.17 s
TensorRT
stopped: out of memory        a row without a number says why
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ldmc.report.charts.drawing import COLOURS, FONT, SMALL, WIDTH, Drawing
from ldmc.report.units import number, short

_ROW, _BAR = 42.0, 14.0
_LETTER = 6.9  # units of width that a letter of a note takes at most
_MOST_LABEL, _MOST_WHY = 50, 56
_AXIS, _HEAD = 22.0, 16.0


@dataclass(frozen=True)
class Segment:
    """A piece of a bar. told: what it says when it is pointed at."""

    value: float
    colour: str
    told: str


@dataclass(frozen=True)
class Row:
    """One bar. note: the number behind it. whisker: where a thin line from its end goes to. why: in place of a bar."""

    label: str
    segments: tuple[Segment, ...] = ()
    note: str = ""
    whisker: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Limit:
    """A line across all rows, such as a budget."""

    value: float
    label: str
    colour: str = "bad"


def bars(ident: str, title: str, rows: Sequence[Row], unit: str, limit: Limit | None = None) -> str:
    """Draw `rows` from top to bottom; the axis is in `unit`."""
    description = "; ".join(f"{row.label}: {row.note or row.why}" for row in rows)
    if limit:
        description += f"; {limit.label}"
    head = _HEAD if limit else 4.0
    height = head + _ROW * len(rows) + _AXIS
    drawing = Drawing(ident, title, description, height, (1, 1, head, _AXIS))
    axes = drawing.axes
    longest = max([_length(row) for row in rows] + [limit.value if limit else 0.0]) or 1.0
    axes.set_xlim(0, max(longest * 1.03, *(_needed(row) for row in rows)))
    axes.set_ylim(_ROW * len(rows), 0)
    axes.set_yticks([])
    for index, row in enumerate(rows):
        _draw_row(drawing, row, index * _ROW, longest)
    _draw_axis(drawing, unit)
    if limit:
        line = axes.axvline(limit.value, color=COLOURS[limit.colour], lw=1.4, ls=(0, (4, 3)))
        drawing.mark(line, "limit", limit.label)
        right = limit.value > axes.get_xlim()[1] / 2
        drawing.text(
            limit.value, -3, f"{limit.label} " if right else f" {limit.label}", limit.colour, size=SMALL,
            ha="right" if right else "left", va="bottom",
        )  # fmt: skip
    return drawing.svg()


def _length(row: Row) -> float:
    return max(sum(segment.value for segment in row.segments), row.whisker or 0.0)


def _needed(row: Row) -> float:
    """How far the axis must reach for the number to stand behind the bar."""
    return _length(row) / (1 - (len(row.note) * _LETTER + 8) / WIDTH)


def _draw_row(drawing: Drawing, row: Row, top: float, longest: float) -> None:
    drawing.text(0, top + 13, short(row.label, _MOST_LABEL), va="baseline", ha="left")
    middle = top + 13 + 6 + _BAR / 2
    if not row.segments:
        drawing.text(0, middle + 3, short(row.why, _MOST_WHY), "muted", size=SMALL, style="italic", va="baseline")
        return
    start = 0.0
    for segment in row.segments:
        (bar,) = drawing.axes.barh(
            [middle], [segment.value], left=start, height=_BAR, color=COLOURS[segment.colour], lw=0
        )
        drawing.mark(bar, "bar", segment.told)
        start += segment.value
    if row.whisker is not None and row.whisker > start:
        drawing.axes.plot([start, row.whisker], [middle, middle], color=COLOURS["muted"], lw=1.2)
        start = row.whisker
    drawing.text(start + longest * 0.018, middle + 4, row.note, size=FONT, va="baseline", ha="left")


def _draw_axis(drawing: Drawing, unit: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes = drawing.axes
    axes.xaxis.set_major_locator(MaxNLocator(4 if WIDTH < 400 else 6, min_n_ticks=2))
    last = axes.get_xlim()[1]

    def written(value: float, _: int | None) -> str:
        return f"{_plain(value)} {unit}" if value == 0 else _plain(value)

    axes.xaxis.set_major_formatter(FuncFormatter(written))
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= last * 0.97])
    drawing.grid("x")
    labels = axes.get_xticklabels()
    if labels:
        labels[0].set_horizontalalignment("left")


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else number(value).rstrip("0").rstrip(".")
