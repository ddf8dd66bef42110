"""Bars that lie, one row each, the label above the bar and its number behind it: readable on a phone.

PyTorch eager, fp32
########====--  1.17 s (p90 1.3)
the same
############ # # identical    what no number is long enough for: past all others, and broken off
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
_PAST = 1.05  # an endless bar over the longest other one: whole up to here, and then in ever smaller pieces
_PIECES = ((1.065, 0.03), (1.11, 0.02), (1.145, 0.01))
_END = 1.155


@dataclass(frozen=True)
class Segment:
    """A piece of a bar. told: what it says when it is pointed at."""

    value: float
    colour: str
    told: str


@dataclass(frozen=True)
class Row:
    """One bar. note: the number behind it. whisker: where a thin line from its end goes to. why: in place of a bar.

    endless: the bar goes past all others, whatever the value of its one segment, and ends broken off.
    """

    label: str
    segments: tuple[Segment, ...] = ()
    note: str = ""
    whisker: float | None = None
    why: str = ""
    endless: bool = False


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
    axes.set_xlim(0, max(longest * 1.03, *(_needed(row, longest) for row in rows)))
    axes.set_ylim(_ROW * len(rows), 0)
    axes.set_yticks([])
    for index, row in enumerate(rows):
        _draw_row(drawing, row, index * _ROW, longest)
    if any(row.segments and not row.endless for row in rows) or limit:
        _draw_axis(drawing, unit)
    else:
        axes.set_xticks([])  # nothing here has a length to read
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
    return 0.0 if row.endless else max(sum(segment.value for segment in row.segments), row.whisker or 0.0)


def _needed(row: Row, longest: float) -> float:
    """How far the axis must reach for the number to stand behind the bar."""
    end = longest * _END if row.endless else _length(row)
    return end / (1 - (len(row.note) * _LETTER + 8) / WIDTH)


def _draw_row(drawing: Drawing, row: Row, top: float, longest: float) -> None:
    drawing.text(0, top + 13, short(row.label, _MOST_LABEL), va="baseline", ha="left")
    middle = top + 13 + 6 + _BAR / 2
    if not row.segments:
        drawing.text(0, middle + 3, short(row.why, _MOST_WHY), "muted", size=SMALL, style="italic", va="baseline")
        return
    end = _draw_endless(drawing, row, middle, longest) if row.endless else _draw_bar(drawing, row, middle)
    drawing.text(end + longest * 0.018, middle + 4, row.note, size=FONT, va="baseline", ha="left")


def _draw_bar(drawing: Drawing, row: Row, middle: float) -> float:
    """The segments, one after another, and the whisker; returns where they end."""
    start = 0.0
    for segment in row.segments:
        _piece(drawing, segment.colour, middle, start, segment.value, segment.told)
        start += segment.value
    if row.whisker is not None and row.whisker > start:
        drawing.axes.plot([start, row.whisker], [middle, middle], color=COLOURS["muted"], lw=1.2)
        start = row.whisker
    return start


def _draw_endless(drawing: Drawing, row: Row, middle: float, longest: float) -> float:
    """A bar past the longest one that comes apart at its end; returns where that is."""
    only = row.segments[0]
    _piece(drawing, only.colour, middle, 0.0, longest * _PAST, only.told)
    for start, broad in _PIECES:
        _piece(drawing, only.colour, middle, longest * start, longest * broad)
    return longest * _END


def _piece(drawing: Drawing, colour: str, middle: float, start: float, broad: float, told: str = "") -> None:
    (bar,) = drawing.axes.barh([middle], [broad], left=start, height=_BAR, color=COLOURS[colour], lw=0)
    if told:
        drawing.mark(bar, "bar", told)


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
