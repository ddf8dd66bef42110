"""The charts of a result of bench: one row for each level, or the reason there is no number.

latency (denoise and decode stacked), speedup, peak memory, energy (above idle and idling), every run in order
"""

from __future__ import annotations

from collections.abc import Callable

from ldmc.report.cards import Card
from ldmc.report.charts.bars import Limit, Row, Segment, bars
from ldmc.report.charts.lines import Point, Series, lines
from ldmc.report.inputs import Json
from ldmc.report.measures import ENERGY, GPU, RSS, SPEEDUP, TOTAL, Measure, joined, measure, reason
from ldmc.report.units import MIB, number, size, time_unit, times

_COLOURS = ("c4", "c2", "c3", "c1", "c5", "c6")
_LEAST_RUNS = 3  # fewer make no line


def latency(levels: list[Json], ident: str) -> Card:
    """Denoise and decode stacked, as Figure 4 of the paper; the whisker goes to the 90th percentile."""
    title = "Latency by level"
    of = time_unit(max((_p90(level) or TOTAL.value(level) or 0.0 for level in levels), default=0.0))
    rows = [_latency_row(level, *of) for level in levels]
    if not any(row.segments for row in rows):
        return Card(title, why=joined(row.why for row in rows))
    caption = "Median time of one drawing. The thin line reaches to the 90th percentile (p90)."
    return Card(title, bars(ident, title, rows, of[0]), caption, (("c1", "denoise"), ("c2", "decode")))


def _p90(level: Json) -> float | None:
    return (level.get("total") or {}).get("p90_seconds")


def _latency_row(level: Json, unit: str, length: float) -> Row:
    """Lengths and numbers in `unit`, which is `length` seconds."""
    whole, p90 = TOTAL.value(level), _p90(level)
    if whole is None:
        return Row(level["title"], why=reason(level, TOTAL))
    parts = [
        (name, colour, (level.get(name) or {}).get("p50_seconds"))
        for name, colour in (("denoise", "c1"), ("decode", "c2"))
    ]
    segments = tuple(
        Segment(part / length, colour, f"{level['title']}: {name} {number(part / length)} {unit}")
        for name, colour, part in parts
        if part is not None
    ) or (Segment(whole / length, "c4", f"{level['title']}: {number(whole / length)} {unit}"),)
    note = f"{number(whole / length)} {unit}"
    if p90 is None:
        return Row(level["title"], segments, note)
    return Row(level["title"], segments, f"{note} (p90 {number(p90 / length)})", p90 / length)


def _simple(
    levels: list[Json], wanted: Measure, colour: str, shown: Callable[[float], str], scale: float = 1.0
) -> list[Row]:
    rows = []
    for level in levels:
        value = wanted.value(level)
        if value is None:
            rows.append(Row(level["title"], why=reason(level, wanted)))
            continue
        own = colour if level.get("kind") == "bundle" else "c4"
        rows.append(
            Row(level["title"], (Segment(value / scale, own, f"{level['title']}: {shown(value)}"),), shown(value))
        )
    return rows


def speedup(levels: list[Json], ident: str) -> Card:
    """The baseline's time over each level's."""
    title = "Speedup over the baseline"
    rows = _simple(levels, measure(SPEEDUP), "c3", times)
    if not any(row.segments for row in rows):
        return Card(title, why=joined(row.why for row in rows))
    return Card(
        title,
        bars(ident, title, rows, "×", Limit(1.0, "as fast", "muted")),
        "",
        (("c3", "bundle"), ("c4", "baselines, for comparison")),
    )


def memory(levels: list[Json], ident: str) -> Card:
    """Peak memory: the process's own memory; on a GPU also the GPU's."""
    on_gpu = any(level.get("peak_gpu_bytes") is not None for level in levels)
    found = measure(GPU if on_gpu else RSS)
    title = "Peak GPU memory by level" if on_gpu else "Peak memory by level"
    rows = _simple(levels, found, "c1", size, MIB)
    if not any(row.segments for row in rows):
        return Card(title, why=joined(row.why for row in rows))
    caption = "Each level runs in a process of its own."
    return Card(
        title, bars(ident, title, rows, "MiB"), caption, (("c1", "bundle"), ("c4", "baselines, for comparison"))
    )


def energy(data: Json, ident: str) -> Card:
    """Energy of a drawing: what is above idle, and what idling takes meanwhile."""
    title, total = "Energy by level", measure(ENERGY)
    rows = []
    for level in data["levels"]:
        value, net = total.value(level), level.get("energy_net_joules")
        if value is None:
            rows.append(Row(level["title"], why=reason(level, total)))
            continue
        above = value if net is None else max(min(net, value), 0.0)
        segments = [
            Segment(above, "c2", f"{level['title']}: {number(above)} J{'' if net is None else ' above idle'}")
        ]
        if above < value:
            segments.append(Segment(value - above, "c4", f"{level['title']}: {number(value - above)} J of idling"))
        rows.append(Row(level["title"], tuple(segments), f"{number(value)} J"))
    power = data["power"]
    if not any(row.segments for row in rows):
        return Card(title, why=power.get("absent") or joined(row.why for row in rows))
    idle = power.get("idle_watts")
    caption = f"Of one drawing, mean. Meter: {power.get('meter')}" + (
        f"; idle takes {number(idle)} W." if idle else "."
    )
    return Card(
        title, bars(ident, title, rows, "J"), caption, (("c2", "above idle"), ("c4", "what idling takes meanwhile"))
    )


def every_run(levels: list[Json], ident: str) -> Card:
    """The total of run after run: drift and throttling show here."""
    title = "Every run, in order"
    shown = [(level["title"], totals) for level in levels if len(totals := _totals(level)) >= _LEAST_RUNS]
    if not shown:
        return Card(title, why=f"fewer than {_LEAST_RUNS} runs of each level are in the result")
    unit, length = time_unit(max(max(totals) for _, totals in shown))
    series = []
    for index, (name, totals) in enumerate(shown):
        points = tuple(
            Point(i, value / length, f"run {i}: {number(value / length)} {unit}")
            for i, value in enumerate(totals, start=1)
        )
        series.append(Series(name, _COLOURS[index % len(_COLOURS)], points, index >= len(_COLOURS)))
    legend = tuple((one.colour, one.label) for one in series)
    return Card(
        title,
        lines(ident, title, series, unit, "run"),
        "Levels take turns, so that drift meets all alike.",
        legend,
    )


def _totals(level: Json) -> list[float]:
    """Seconds of every run that was finished."""
    return [run[2] for run in level.get("run_seconds") or () if len(run) > 2 and run[2] is not None]
