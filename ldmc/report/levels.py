"""A result of `ldmc bench` as the page shows it: the levels side by side, and the reason wherever there is no number.

    {"levels": [{"title": "PyTorch eager, fp32", "total": {...}}, ...]}   ->   ResultView(tiles, table, cards, pictures)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ldmc.report.cards import Card, Tile
from ldmc.report.charts.bars import Limit, Row, Segment, bars
from ldmc.report.charts.lines import Point, Series, lines
from ldmc.report.inputs import Given, Json
from ldmc.report.pictures import Picture, pictures
from ldmc.report.tables import Cell, Column, Notes, Table, absent, figure
from ldmc.report.units import MIB, decibels, mib, number, seconds, size, times

_NOT_GIVEN = "the result does not say why"
_COLOURS = ("c4", "c2", "c3", "c1", "c5", "c6")
_LEAST_RUNS = 3  # fewer make no line


@dataclass(frozen=True)
class Measure:
    """One column: where its number is, and how it is written.

    key: of the number, and of its reason in `absent`. of: the object it is in. long: its title, in a sentence.
    """

    title: str
    unit: str
    key: str
    written: Callable[[float], str]
    of: str = ""
    long: str = ""

    def value(self, level: Json) -> float | None:
        """The number, or None."""
        holder = (level.get(self.of) or {}) if self.of else level
        found = holder.get(self.key)
        return None if found is None else float(found)

    def why(self, level: Json) -> str:
        """Why there is no number."""
        reasons = level.get("absent") or {}
        said = reasons.get(self.of or self.key) or reasons.get(self.key) or level.get("why") or _NOT_GIVEN
        return f"{self.long or self.title}: {said}"


_RSS, _GPU, _ENERGY, _SPEEDUP = "peak_rss_bytes", "peak_gpu_bytes", "energy_joules", "speedup"
TOTAL = Measure("Total", "s", "p50_seconds", number, "total")
MEASURES = (
    Measure("Denoise", "s", "p50_seconds", number, "denoise"),
    Measure("Decode", "s", "p50_seconds", number, "decode"),
    TOTAL,
    Measure("p90", "s", "p90_seconds", number, "total"),
    Measure("p99", "s", "p99_seconds", number, "total"),
    Measure("Runs", "", "n", lambda value: f"{value:.0f}", "total"),
    Measure("Speedup", "", _SPEEDUP, times),
    Measure("PSNR", "dB", "psnr_db", lambda value: decibels(value).removesuffix(" dB")),
    Measure("Peak", "MiB", _RSS, mib, long="Peak memory"),
    Measure("PSS", "MiB", "peak_pss_bytes", mib, long="Proportional memory (PSS)"),
    Measure("GPU", "MiB", _GPU, mib, long="GPU memory"),
    Measure("Power", "W", "power_watts", number),
    Measure("Energy", "J", _ENERGY, number),
    Measure("Net", "J", "energy_net_joules", number, long="Energy above idle"),
    Measure("Load", "s", "load_seconds", number),
    Measure("First", "s", "first_seconds", number, long="First call"),
)


@dataclass(frozen=True)
class ResultView:
    """Everything the page says of one result."""

    ident: str
    title: str
    model: str
    label: str
    tiles: tuple[Tile, ...]
    table: Table
    unmeasured: tuple[str, ...]
    cards: tuple[Card, ...]
    pictures: tuple[Picture, ...]
    setup: tuple[tuple[str, str], ...]
    packages: tuple[tuple[str, str], ...]
    command: str


def result_view(given: Given, index: int) -> ResultView:
    """Turn a checked result into what is shown; `index` keeps the ids of several results apart."""
    data, ident = given.data, f"result{index}"
    levels = data["levels"]
    table, unmeasured = _table(levels, f"{ident}-levels-table")
    model = str(data["model"].get("name") or "a model")
    device = data.get("device") or "a device without a name"
    return ResultView(
        ident,
        f"{model} on {device}",
        model,
        given.label,
        _tiles(data),
        table,
        unmeasured,
        (
            _latency(levels, f"{ident}-latency"),
            _speedup(levels, f"{ident}-speedup"),
            _memory(levels, f"{ident}-memory"),
            _energy(data, f"{ident}-energy"),
            _every_run(levels, f"{ident}-runs"),
        ),
        pictures(levels),
        tuple(_setup(data)),
        tuple(_flat(data["packages"])),
        str(data.get("command") or ""),
    )


def _total(level: Json) -> float | None:
    return TOTAL.value(level)


def _best(levels: list[Json]) -> Json | None:
    """The fastest bundle that was measured, else the fastest level."""
    measured = [level for level in levels if _total(level) is not None]
    candidates = [level for level in measured if level.get("kind") == "bundle"] or measured
    return min(candidates, key=lambda level: _total(level) or 0.0, default=None)


def _tiles(data: Json) -> tuple[Tile, ...]:
    levels = data["levels"]
    best = _best(levels)
    if best is None:
        return (Tile("Levels", "none measured", levels[0].get("why") or _NOT_GIVEN, "bad"),)
    found = [Tile("Latency", seconds(_total(best) or 0.0), f"median of {best['title']}")]
    baseline = next((level["title"] for level in levels if level.get("kind") == "baseline"), "the baseline")
    speedup, psnr, energy = (best.get(key) for key in ("speedup", "psnr_db", "energy_joules"))
    if speedup is not None:
        kind = "good" if speedup > 1 else ""
        found.append(Tile("Speedup", times(speedup), f"over {baseline}", kind))
    if psnr is not None or best.get("identical"):
        shown = "identical" if best.get("identical") else decibels(psnr or 0.0)
        found.append(Tile("Picture", shown, "PSNR against the baseline's" if psnr is not None else "to the baseline's"))
    memory = best.get("peak_rss_bytes")
    if memory is not None:
        found.append(Tile("Peak memory", size(memory), f"of {best['title']}"))
    if energy is not None:
        found.append(Tile("Energy", f"{number(energy)} J", "a drawing, mean"))
    stopped = [level for level in levels if level["status"] != "measured"]
    if stopped:
        found.append(Tile("Levels without a number", f"{len(stopped)} of {len(levels)}", ", ".join(s["title"] for s in stopped), "bad"))
    return tuple(found)


def _table(levels: list[Json], ident: str) -> tuple[Table, tuple[str, ...]]:
    """The levels, and what was measured of none of them: that is said under the table, not in a column."""
    measured = [level for level in levels if level["status"] == "measured"]
    shown = [m for m in MEASURES if not measured or any(m.value(level) is not None for level in measured)]
    notes = Notes()
    rows = tuple(_row(level, shown, notes) for level in levels)
    unmeasured = [
        f"{measure.long or measure.title}: {_joined(measure.why(level).partition(': ')[2] for level in measured)}"
        for measure in MEASURES
        if measure not in shown
    ]
    columns = (Column("Level", numeric=False), *(Column(m.title, m.unit) for m in shown))
    return Table(ident, "Levels, side by side", columns, rows, tuple(notes.said)), tuple(unmeasured)


def _joined(reasons: Any) -> str:
    return "; ".join(dict.fromkeys(reasons))


def _row(level: Json, shown: list[Measure], notes: Notes) -> tuple[Cell, ...]:
    head = Cell(level["title"], level["title"], kind="head")
    if level["status"] != "measured":
        why = f"{level['status']}: {level.get('why') or _NOT_GIVEN}"
        return (head, Cell(why, None, kind="stopped", span=len(shown)))
    return (head, *(_cell(level, measure, notes) for measure in shown))


def _cell(level: Json, measure: Measure, notes: Notes) -> Cell:
    value = measure.value(level)
    if value is not None:
        return figure(measure.written(value), value)
    if measure.key == "psnr_db" and level.get("identical"):
        return figure("identical", float("1e9"))
    return absent(notes, measure.why(level))


def _measure(key: str) -> Measure:
    return next(measure for measure in MEASURES if measure.key == key)


def _reason(level: Json, measure: Measure) -> str:
    """For a row of a chart: the level's own state first."""
    if level["status"] != "measured":
        return f"{level['status']}: {level.get('why') or _NOT_GIVEN}"
    return measure.why(level).partition(": ")[2]


def _latency(levels: list[Json], ident: str) -> Card:
    """Denoise and decode stacked, as Figure 4 of the paper; the whisker goes to the 90th percentile."""
    title = "Latency by level"
    rows = [_latency_row(level) for level in levels]
    if not any(row.segments for row in rows):
        return Card(title, why=_joined(row.why for row in rows))
    caption = "Median time of one drawing. The thin line reaches to the 90th percentile."
    return Card(title, bars(ident, title, rows, "s"), caption, (("c1", "denoise"), ("c2", "decode")))


def _latency_row(level: Json) -> Row:
    whole = TOTAL.value(level)
    if whole is None:
        return Row(level["title"], why=_reason(level, TOTAL))
    parts = [(name, colour, (level.get(name) or {}).get("p50_seconds")) for name, colour in (("denoise", "c1"), ("decode", "c2"))]
    segments = tuple(
        Segment(part, colour, f"{level['title']}: {name} {seconds(part)}") for name, colour, part in parts if part is not None
    ) or (Segment(whole, "c4", f"{level['title']}: {seconds(whole)}"),)
    return Row(level["title"], segments, seconds(whole), level["total"].get("p90_seconds"))


def _simple(levels: list[Json], measure: Measure, colour: str, shown: Callable[[float], str], scale: float = 1.0) -> list[Row]:
    rows = []
    for level in levels:
        value = measure.value(level)
        if value is None:
            rows.append(Row(level["title"], why=_reason(level, measure)))
            continue
        own = colour if level.get("kind") == "bundle" else "c4"
        rows.append(Row(level["title"], (Segment(value / scale, own, f"{level['title']}: {shown(value)}"),), shown(value)))
    return rows


def _speedup(levels: list[Json], ident: str) -> Card:
    title = "Speedup over the baseline"
    rows = _simple(levels, _measure(_SPEEDUP), "c3", times)
    if not any(row.segments for row in rows):
        return Card(title, why=_joined(row.why for row in rows))
    return Card(title, bars(ident, title, rows, "×", Limit(1.0, "as fast", "muted")), "", (("c3", "bundle"), ("c4", "PyTorch, for comparison")))


def _memory(levels: list[Json], ident: str) -> Card:
    """The process's own memory; on a GPU also the GPU's."""
    on_gpu = any(level.get("peak_gpu_bytes") is not None for level in levels)
    measure = _measure(_GPU if on_gpu else _RSS)
    title = "Peak GPU memory by level" if on_gpu else "Peak memory by level"
    rows = _simple(levels, measure, "c1", size, MIB)
    if not any(row.segments for row in rows):
        return Card(title, why=_joined(row.why for row in rows))
    caption = "Each level runs in a process of its own."
    return Card(title, bars(ident, title, rows, "MiB"), caption, (("c1", "bundle"), ("c4", "PyTorch, for comparison")))


def _energy(data: Json, ident: str) -> Card:
    """Energy of a drawing: what is above idle, and what idling takes meanwhile."""
    title, measure = "Energy by level", _measure(_ENERGY)
    rows = []
    for level in data["levels"]:
        value, net = measure.value(level), level.get("energy_net_joules")
        if value is None:
            rows.append(Row(level["title"], why=_reason(level, measure)))
            continue
        above = value if net is None else max(min(net, value), 0.0)
        segments = [Segment(above, "c2", f"{level['title']}: {number(above)} J{'' if net is None else ' above idle'}")]
        if above < value:
            segments.append(Segment(value - above, "c4", f"{level['title']}: {number(value - above)} J of idling"))
        rows.append(Row(level["title"], tuple(segments), f"{number(value)} J"))
    power = data["power"]
    if not any(row.segments for row in rows):
        return Card(title, why=power.get("absent") or _joined(row.why for row in rows))
    idle = power.get("idle_watts")
    caption = f"Of one drawing, mean. Meter: {power.get('meter')}" + (f"; idle takes {number(idle)} W." if idle else ".")
    return Card(title, bars(ident, title, rows, "J"), caption, (("c2", "above idle"), ("c4", "what idling takes meanwhile")))


def _every_run(levels: list[Json], ident: str) -> Card:
    """The total of run after run: drift and throttling show here."""
    title = "Every run, in order"
    series = []
    for level in levels:
        index = len(series)
        totals = [run[2] for run in level.get("run_seconds") or () if len(run) > 2 and run[2] is not None]
        if len(totals) >= _LEAST_RUNS:
            points = tuple(Point(i, value, f"run {i}: {seconds(value)}") for i, value in enumerate(totals, start=1))
            series.append(Series(level["title"], _COLOURS[index % len(_COLOURS)], points, index >= len(_COLOURS)))
    if not series:
        return Card(title, why=f"fewer than {_LEAST_RUNS} runs of each level are in the result")
    legend = tuple((one.colour, one.label) for one in series)
    return Card(title, lines(ident, title, series, "seconds", "run"), "Levels take turns, so that drift meets all alike.", legend)


def _setup(data: Json) -> list[tuple[str, str]]:
    model, power = data["model"], data["power"]
    rows = [("measured at", data.get("measured_at") or "not given"), ("device", data.get("device") or "not given")]
    for group in (data["machine"], {f"model {key}": value for key, value in model.items()}, data["settings"]):
        rows += [(key.removesuffix("_bytes").replace("_", " "), _plain(key, value)) for key, value in group.items()]
    rows.append(("power meter", power.get("meter") or f"none: {power.get('absent') or _NOT_GIVEN}"))
    return [(str(a), str(b)) for a, b in rows]


def _plain(key: str, value: Any) -> str:
    if value is None:
        return "none" if key == "gpu" else "default"
    if key.endswith("_bytes"):
        return size(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _flat(packages: Json) -> list[tuple[str, str]]:
    return [(name, str(version) if version else "not installed") for name, version in packages.items()]
