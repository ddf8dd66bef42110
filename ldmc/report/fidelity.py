"""A result of `ldmc verify` as the page shows it: agreement with PyTorch by component, by stage and by block.

stages  unet 03-fold  69.1 dB, changed by -77.2 dB    blocks  mid_block.attentions.0  by itself 31.2 dB  <- departs
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Any

from ldmc.report.cards import Card
from ldmc.report.charts.bars import Row, Segment, bars
from ldmc.report.charts.lines import Callout, Point, Series, lines
from ldmc.report.inputs import Given, Json
from ldmc.report.tables import Cell, Column, Notes, Table, absent, figure, text
from ldmc.report.units import IDENTICAL_DB, decibels, number

_NO_PASS = "no pass made it: it is what came before the first one, or what the bundle runs"
_NUMBER = re.compile(r"^\d+-")  # of a stage, in running order
_NOT_GIVEN = "the result does not say why"
_FEW = 2  # blocks that make a line
_TOO_FEW = f"it takes {_FEW} blocks with a number to make a line"
_DB = ("snr_db", "local_snr_db")


@dataclass(frozen=True)
class CheckView:
    """Everything the page says of one verification. missing: what it does not have, and the command to get it."""

    ident: str
    label: str
    ok: bool | None
    verdict: str
    cards: tuple[Card, ...]
    tables: tuple[Table, ...]
    missing: tuple[tuple[str, str], ...]


def check_view(given: Given, index: int, known: Set[str] = frozenset()) -> CheckView:
    """Turn a result of verify into what is shown. known: which of `stages` and `blocks` some result on the page has."""
    data, ident = given.data, f"check{index}"
    components, stages, blocks = data.get("components") or {}, data.get("stages") or [], data.get("blocks") or []
    cards, tables, missing = [], [], []
    if components:
        cards.append(_component_card(components, f"{ident}-components"))
        tables.append(_component_table(components, f"{ident}-component-table"))
    if stages:
        cards += [
            _stage_card(name, rows, f"{ident}-stages-{i}") for i, (name, rows) in enumerate(_by_component(stages))
        ]
        tables.append(_stage_table(stages, f"{ident}-stage-table"))
    elif "stages" not in known:
        missing.append(("how much error each pass added", "ldmc verify BUNDLE --by-stage --json > verify.json"))
    if blocks:
        cards += [
            _block_card(name, rows, f"{ident}-blocks-{i}") for i, (name, rows) in enumerate(_by_component(blocks))
        ]
        tables.append(_block_table(blocks, f"{ident}-block-table"))
    elif "blocks" not in known:
        missing.append(("where in the network error arises", "ldmc verify BUNDLE --by-block --json > verify.json"))
    label = str(data.get("bundle") or given.label)
    return CheckView(ident, label, data.get("ok"), _verdict(data), tuple(cards), tuple(tables), tuple(missing))


def _verdict(data: Json) -> str:
    psnr, error = data.get("image_psnr_db"), data.get("error") or {}
    picture = f"The whole picture: PSNR {decibels(psnr)}." if psnr is not None else ""
    if data.get("ok") is False:
        said = error.get("message") or data.get("overflow") or "it departs from PyTorch"
        return f"Not within its tolerance: {said}. {picture}".strip()
    if data.get("ok"):
        return f"Within its tolerance of PyTorch in fp32. {picture}".strip()
    return picture or "Compared with PyTorch in fp32, on the same noise."


def _by_component(rows: Iterable[Json]) -> list[tuple[str, list[Json]]]:
    found: dict[str, list[Json]] = {}
    for row in rows:
        found.setdefault(str(row["component"]), []).append(row)
    return list(found.items())


def _why(row: Json) -> str:
    return str(row.get("why") or _NOT_GIVEN)


def _row(label: str, row: Json) -> Row:
    """A bar of SNR; where both sides are equal it has no end (999 dB would press all others flat)."""
    value = row.get("snr_db")
    if value is None:
        return Row(label, why=_why(row))
    needed = row.get("needed_db")
    colour = "bad" if needed is not None and value < needed else "c3"
    segment = Segment(max(float(value), 0.0), colour, f"{label}: {decibels(value)}")
    return Row(label, (segment,), decibels(value), endless=value >= IDENTICAL_DB)


def _bars_card(ident: str, title: str, caption: str, rows: list[Row]) -> Card:
    if any(row.endless for row in rows):
        caption += " A bar with a broken end is identical, without any error: on this scale it has no end."
    return Card(title, bars(ident, title, rows, "dB"), caption)


def _component_card(components: Json, ident: str) -> Card:
    title = "Signal over error, by component"
    caption = "Against PyTorch in fp32. At 60 dB the error is a thousandth of the signal."
    return _bars_card(ident, title, caption, [_row(name, row) for name, row in components.items()])


def _stage_card(component: str, rows: list[Json], ident: str) -> Card:
    title = f"{component}: signal over error after each stage"
    drawn = [_row(_stage_name(row), row) for row in rows]
    return _bars_card(ident, title, "Against PyTorch in fp32, on latents of its own loop.", drawn)


def _stage_name(row: Json) -> str:
    """Its pass, or what it is where no pass made it, in the same way: 00-frontend is `frontend`."""
    return str(row.get("pass") or _NUMBER.sub("", str(row.get("stage"))))


def _block_card(component: str, rows: list[Json], ident: str) -> Card:
    """Both lines over the blocks, and the first that departs; where none does, the one with the most error."""
    title = f"{component}: signal over error, block by block"
    cap = max((row[key] for row in rows for key in _DB if _finite(row.get(key))), default=100.0)
    series = [
        Series(label, colour, _points(rows, key, cap), dashed)
        for label, colour, key, dashed in (
            ("up to here", "c1", "snr_db", False),
            ("this block alone", "c2", "local_snr_db", True),
        )
    ]
    series = [one for one in series if len(one.points) >= _FEW]
    if not series:
        return Card(title, why=next((str(row["why"]) for row in rows if row.get("why")), _TOO_FEW))
    callout, caption = None, ""
    if (shown := _shown(rows)) is not None:
        index, value, block, departs = shown
        callout = Callout(Point(index, max(min(value, cap), 0.0), ""), block)
        what = "First to depart" if departs else "No block departs; most error"
        caption = f"{what}: {block}, {decibels(value)} by itself."
    if any(row.get(key) is not None and not _finite(row[key]) for row in rows for key in _DB):
        caption = f"{caption} Identical blocks are drawn at the top.".strip()
    legend = tuple((one.colour, one.label) for one in series)
    return Card(title, lines(ident, title, series, "dB", "blocks, in running order", callout), caption, legend)


def _finite(value: Any) -> bool:
    return value is not None and value < IDENTICAL_DB


def _points(rows: list[Json], key: str, cap: float) -> tuple[Point, ...]:
    return tuple(
        Point(index, max(min(float(row[key]), cap), 0.0), f"{row.get('block')}: {decibels(row[key])}")
        for index, row in enumerate(rows, start=1)
        if row.get(key) is not None
    )


def _shown(rows: list[Json]) -> tuple[int, float, str, bool] | None:
    """Number, SNR by itself and name of the first block that departs, or else of the one with the least, and which.

    None where no block has an error of its own.
    """
    known = [
        (i, float(row["local_snr_db"]), str(row.get("block")), bool(row.get("departs")))
        for i, row in enumerate(rows, 1)
        if _finite(row.get("local_snr_db"))
    ]
    departing = [one for one in known if one[3]]
    return departing[0] if departing else min(known, key=lambda one: one[1], default=None)


def _cell(row: Json, key: str, notes: Notes) -> Cell:
    value = row.get(key)
    if value is None:
        level = key == "local_snr_db" and row.get("is_level")
        return absent(notes, "it is made of the blocks below it" if level else _why(row))
    if key == "added_db" and value <= -IDENTICAL_DB:
        return figure("nothing", float(value))
    return figure(decibels(value) if key.endswith("_db") else number(value), float(value))


def _component_table(components: Json, ident: str) -> Table:
    notes = Notes()
    rows = tuple(
        (text(name), _cell(row, "snr_db", notes), _cell(row, "max_abs_error", notes))
        for name, row in components.items()
    )
    columns = (Column("Component", numeric=False), Column("Signal over error"), Column("Largest error"))
    return Table(ident, "Agreement with PyTorch, by component", columns, rows, tuple(notes.said))


def _stage_table(stages: list[Json], ident: str) -> Table:
    notes = Notes()
    rows = tuple(
        (
            text(row["component"]),
            text(row.get("stage", "")),
            text(row["pass"]) if row.get("pass") else absent(notes, _NO_PASS),
            *(_cell(row, key, notes) for key in ("snr_db", "added_db", "max_abs_error")),
        )
        for row in stages
    )
    columns = (
        Column("Component", numeric=False), Column("Stage", numeric=False), Column("Pass", numeric=False),
        Column("Signal over error"), Column("Changed here, over signal"), Column("Largest error"),
    )  # fmt: skip
    return Table(ident, "Agreement with PyTorch after every stage", columns, rows, tuple(notes.said))


def _block_table(blocks: list[Json], ident: str) -> Table:
    notes = Notes()
    rows = tuple(
        (
            text(row["component"]),
            text(row.get("block", "")),
            *(_cell(row, key, notes) for key in (*_DB, "max_abs_error")),
        )
        for row in blocks
    )
    columns = (
        Column("Component", numeric=False), Column("Block", numeric=False), Column("Up to here"),
        Column("This block alone"), Column("Largest error"),
    )  # fmt: skip
    return Table(ident, "Agreement with PyTorch, block by block", columns, rows, tuple(notes.said))
