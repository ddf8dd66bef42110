"""A result of `ldmc bench` as the page shows it: the levels side by side, and the reason wherever there is no number.

{"levels": [{"title": "PyTorch eager, fp32", "total": {...}}, ...]}   ->   ResultView(tiles, table, cards, pictures)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ldmc.compiler.levels.doubt import MARK, doubt
from ldmc.report import level_charts
from ldmc.report.cards import Card, Tile
from ldmc.report.inputs import Given, Json
from ldmc.report.measures import MEASURES, NOT_GIVEN, SPEEDUP, TOTAL, Measure, joined
from ldmc.report.pictures import Picture, pictures
from ldmc.report.tables import Cell, Column, Notes, Table, absent, figure
from ldmc.report.units import decibels, number, seconds, size, times


@dataclass(frozen=True)
class ResultView:
    """Everything the page says of one result."""

    ident: str
    title: str
    model: str
    label: str
    tiles: tuple[Tile, ...]
    table: Table
    doubts: tuple[str, ...]
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
        tuple(f"{MARK} {level['title']}: {why}" for level in levels if (why := doubt(level))),
        unmeasured,
        (
            level_charts.latency(levels, f"{ident}-latency"),
            level_charts.speedup(levels, f"{ident}-speedup"),
            level_charts.memory(levels, f"{ident}-memory"),
            level_charts.energy(data, f"{ident}-energy"),
            level_charts.every_run(levels, f"{ident}-runs"),
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
    measured = [level for level in levels if level["status"] == "measured"]
    candidates = [level for level in measured if level.get("kind") == "bundle"] or measured
    return min(candidates, key=lambda level: _total(level) or 0.0, default=None)


def _tiles(data: Json) -> tuple[Tile, ...]:
    levels = data["levels"]
    best = _best(levels)
    if best is None:
        return (Tile("Levels", "none measured", levels[0].get("why") or NOT_GIVEN, "bad"),)
    found = [Tile("Latency", seconds(_total(best) or 0.0), f"median of {best['title']}")]
    baseline = next(level for level in levels if level["status"] == "measured")
    speedup, psnr, energy = (best.get(key) for key in ("speedup", "psnr_db", "energy_joules"))
    if speedup is not None and best is not baseline:
        kind = "good" if speedup > 1 else ""
        found.append(Tile("Speedup", times(speedup), _doubted(f"over {baseline['title']}", best), kind))
    if psnr is not None or best.get("identical"):
        shown = "identical" if best.get("identical") else decibels(psnr or 0.0)
        found.append(
            Tile("Picture", shown, "PSNR against the baseline's" if psnr is not None else "to the baseline's")
        )
    memory = best.get("peak_rss_bytes")
    if memory is not None:
        found.append(Tile("Peak memory", size(memory), f"of {best['title']}"))
    if energy is not None:
        found.append(Tile("Energy", f"{number(energy)} J", "a drawing, mean"))
    stopped = [level for level in levels if level["status"] != "measured"]
    if stopped:
        found.append(
            Tile(
                "Levels without a number",
                f"{len(stopped)} of {len(levels)}",
                ", ".join(s["title"] for s in stopped),
                "bad",
            )
        )
    return tuple(found)


def _doubted(note: str, level: Json) -> str:
    why = doubt(level)
    return f"{note}; {MARK} {why}" if why else note


def _table(levels: list[Json], ident: str) -> tuple[Table, tuple[str, ...]]:
    """The levels, and what was measured of none of them: that is said under the table, not in a column."""
    measured = [level for level in levels if level["status"] == "measured"]
    shown = [m for m in MEASURES if not measured or any(m.value(level) is not None for level in measured)]
    notes = Notes()
    rows = tuple(_row(level, shown, notes) for level in levels)
    unmeasured = [
        f"{measure.long or measure.title}: {joined(measure.why(level).partition(': ')[2] for level in measured)}"
        for measure in MEASURES
        if measure not in shown
    ]
    columns = (Column("Level", numeric=False), *(Column(m.title, m.unit) for m in shown))
    return Table(ident, "Levels, side by side", columns, rows, tuple(notes.said)), tuple(unmeasured)


def _row(level: Json, shown: list[Measure], notes: Notes) -> tuple[Cell, ...]:
    head = Cell(level["title"], level["title"], kind="head")
    if level["status"] != "measured":
        why = f"{level['status']}: {level.get('why') or NOT_GIVEN}"
        return (head, Cell(why, None, kind="stopped", span=len(shown)))
    return (head, *(_cell(level, measure, notes) for measure in shown))


def _cell(level: Json, measure: Measure, notes: Notes) -> Cell:
    value = measure.value(level)
    if value is not None:
        mark = f" {MARK}" if measure.key == SPEEDUP and doubt(level) else ""
        return figure(measure.written(value) + mark, value)
    if measure.key == "psnr_db" and level.get("identical"):
        return figure("identical", float("1e9"))
    return absent(notes, measure.why(level))


def _setup(data: Json) -> list[tuple[str, str]]:
    model, power = data["model"], data["power"]
    rows = [("measured at", data.get("measured_at") or "not given"), ("device", data.get("device") or "not given")]
    for group in (data["machine"], {f"model {key}": value for key, value in model.items()}, data["settings"]):
        rows += [(key.removesuffix("_bytes").replace("_", " "), _plain(key, value)) for key, value in group.items()]
    if data.get("interrupted"):
        rows.append(("interrupted", data["interrupted"]))
    rows.append(("power meter", power.get("meter") or f"none: {power.get('absent') or NOT_GIVEN}"))
    return [(str(a), str(b)) for a, b in rows]


def _plain(key: str, value: Any) -> str:
    if value is None:
        return "none" if key == "gpu" else "default"
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if key.endswith("_bytes") and is_number:
        return size(value)
    return f"{value:,}" if is_number and isinstance(value, int) else str(value)


def _flat(packages: Json) -> list[tuple[str, str]]:
    return [(name, str(version) if version else "not installed") for name, version in packages.items()]
