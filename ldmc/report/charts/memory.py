"""Memory over a run: all of it against the budget, and what comes and goes in one component.

    - - - - - - - - - budget            |        .
    activations  __^__                  |   ____| |___
    workspace   =======                 |  |    peak  |
    weights     #######                 |__|__________|__
    libraries   #######                  0 1 2 mid 0 1 2     the network's blocks under it

What is drawn is the plan's prediction, as the bundle keeps it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from ldmc.report.charts.drawing import COLOURS, FONT, SMALL, WIDTH, Drawing
from ldmc.report.units import KIB, MIB, size

_HEIGHT = 210.0
_MARGINS = (44.0, 8.0, 20.0, 40.0)
_BLOCK = re.compile(r"^(?:decoder\.|encoder\.)?(?:(down|up)_blocks\.(\d+)|(mid)_block)")
_LEAST_BAND = 0.045  # share of the width that a block's number needs
BANDS = {"libraries": "c4", "weights": "c1", "workspace": "c3", "activations": "c2"}


@dataclass(frozen=True)
class Run:
    """One component while it runs: bytes alive at each operator, and what is there all the time, by BANDS."""

    name: str
    live_bytes: tuple[int, ...]
    steps: tuple[str, ...]
    peak_step: int
    fixed_bytes: dict[str, float]

    @property
    def peak_bytes(self) -> float:
        """The most of everything."""
        return sum(self.fixed_bytes.values()) + max(self.live_bytes, default=0)


def whole_run(ident: str, title: str, runs: Sequence[Run], budget_bytes: int | None) -> str:
    """Everything in memory, component after component, against the budget; the peak is marked."""
    peak = max(runs, key=lambda run: run.peak_bytes)
    told = f"peak {size(peak.peak_bytes)} in {peak.name} at {peak.steps[peak.peak_step]}"
    limit = f"; budget {size(budget_bytes)}" if budget_bytes else ""
    drawing = Drawing(ident, title, told + limit, _HEIGHT, _MARGINS)
    axes, start = drawing.axes, 0.0
    top = max(peak.peak_bytes, budget_bytes or 0) / MIB
    axes.set_ylim(0, top * 1.1)
    for run in runs:  # each as wide as another: operators of different components are not to be compared
        _stack(drawing, run, start)
        drawing.text(start + 0.5, -top * 0.035, run.name, "muted", size=SMALL, ha="center", va="top")
        if run is peak:
            _mark_peak(drawing, start + _share(run), run.peak_bytes / MIB, told, f"peak {size(run.peak_bytes)}")
        start += 1.04
    axes.set_xlim(0, start - 0.04)
    axes.set_xticks([])
    if budget_bytes:
        line = axes.axhline(budget_bytes / MIB, color=COLOURS["bad"], lw=1.4, ls=(0, (4, 3)))
        drawing.mark(line, "limit", f"budget {size(budget_bytes)}")
        drawing.text(
            0, budget_bytes / MIB + top * 0.015, f"budget {size(budget_bytes)}", "bad", size=SMALL, va="bottom"
        )
    _upright(drawing, "MiB")
    drawing.text(
        0.5,
        -0.13,
        "operators in running order",
        "muted",
        size=SMALL,
        transform=axes.transAxes,
        ha="center",
        va="top",
    )
    return drawing.svg()


def _share(run: Run) -> float:
    return (run.peak_step + 0.5) / max(len(run.steps), 1)


def _stack(drawing: Drawing, run: Run, start: float) -> None:
    """The fixed bands, and the activations over them."""
    floor = 0.0
    for band, colour in BANDS.items():
        if band == "activations":
            continue
        height = run.fixed_bytes.get(band, 0.0) / MIB
        area = drawing.axes.fill_between([start, start + 1], floor, floor + height, color=COLOURS[colour], lw=0)
        drawing.mark(area, "area", f"{run.name}: {band} {size(height * MIB)}")
        floor += height
    kept = run.fixed_bytes.get("activations", 0.0) / MIB
    count = max(len(run.live_bytes), 1)
    xs = [start + (index + 0.5) / count for index in range(len(run.live_bytes))]
    tops = [floor + kept + live / MIB for live in run.live_bytes]
    area = drawing.axes.fill_between(xs, floor, tops, color=COLOURS["c2"], lw=0.6)
    most = max(run.live_bytes, default=0) + kept * MIB
    drawing.mark(area, "area", f"{run.name}: activations up to {size(most)}")


def activations(ident: str, title: str, run: Run) -> str:
    """What is alive at each operator of one component, with the network's blocks under it and the peak named."""
    peak_bytes = max(run.live_bytes)
    unit, length = ("MiB", MIB) if peak_bytes >= MIB else ("KiB", KIB)
    told = f"peak {size(peak_bytes)} at {run.steps[run.peak_step]}"
    drawing = Drawing(ident, title, told, _HEIGHT, _MARGINS)
    axes = drawing.axes
    axes.set_xlim(0, len(run.steps))
    axes.set_ylim(0, peak_bytes / length * 1.16)
    area = axes.fill_between(
        [index + 0.5 for index in range(len(run.live_bytes))], 0, [live / length for live in run.live_bytes],
        color=COLOURS["c2"], step="mid", lw=0.6,
    )  # fmt: skip
    drawing.mark(area, "area", told)
    _blocks(drawing, run)
    _mark_peak(drawing, run.peak_step + 0.5, peak_bytes / length, told, f"peak {size(peak_bytes)}")
    axes.set_xticks([])
    _upright(drawing, unit)
    return drawing.svg()


def _blocks(drawing: Drawing, run: Run) -> None:
    """Number the network's blocks under the axis, every other one on a band."""
    axes, count = drawing.axes, len(run.steps)
    below = axes.get_xaxis_transform()
    spans = [span for span in _spans(run.steps) if span[0]]
    for index, (_, number, first, last) in enumerate(spans):
        if index % 2:
            axes.axvspan(first, last, color=COLOURS["band"], lw=0, zorder=0)
        if number and (last - first) / count >= _LEAST_BAND:
            drawing.text(
                (first + last) / 2, -0.03, number, "muted", size=SMALL, transform=below, ha="center", va="top"
            )
    for side, group in groupby(spans, key=lambda span: span[0]):
        found = list(group)
        middle, wide = (found[0][2] + found[-1][3]) / 2, (found[-1][3] - found[0][2]) / count
        label = f"{side} blocks" if wide > 0.2 and side != "mid" else side
        drawing.text(middle, -0.13, label, "muted", size=SMALL, transform=below, ha="center", va="top")


def _spans(steps: Sequence[str]) -> list[tuple[str, str, int, int]]:
    """(down, mid, up or nothing; number; first and last step) of each block, by the first and last operator it has."""
    found: dict[tuple[str, str], list[int]] = {}
    for index, name in enumerate(steps):
        match = _BLOCK.match(name)
        if match:
            key = (match[1] or match[3], match[2] or "")
            found.setdefault(key, [index, index])[1] = index
    spans = sorted((first, last, key) for key, (first, last) in found.items())
    result, start = [], 0
    for first, last, (side, number) in spans:
        begin = max(first, start)
        if last > begin:
            result.append((side, number, begin, last + 1))
            start = last + 1
    return result


def _mark_peak(drawing: Drawing, x: float, y: float, told: str, written: str) -> None:
    axes = drawing.axes
    (dot,) = axes.plot([x], [y], "o", ms=6, color=COLOURS["text"], mew=0, clip_on=False)
    drawing.mark(dot, "point peak", told)
    left, right = axes.get_xlim()
    is_right = x > (left + right) / 2
    axes.annotate(
        written, xy=(x, y), xytext=(-6 if is_right else 6, 5), color=COLOURS["text"],
        textcoords="offset points", ha="right" if is_right else "left", fontsize=FONT,
    )  # fmt: skip


def _upright(drawing: Drawing, unit: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes = drawing.axes
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    drawing.grid("y")
    drawing.text(
        -_MARGINS[0] / (WIDTH - _MARGINS[0]),
        1.03,
        unit,
        "muted",
        size=SMALL,
        transform=axes.transAxes,
        va="bottom",
    )
