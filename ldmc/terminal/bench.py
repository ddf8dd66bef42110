"""Levels side by side, and devices side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from ldmc.compiler.levels.columns import COST, DRAWING, EMPTY, Column, notes
from ldmc.compiler.levels.compare import Comparison, Row
from ldmc.compiler.markdown import cell
from ldmc.terminal.text import escape


_HEADINGS = ("seconds", "x", "J", "x", "W", "MiB", "speedup")


def print_bench(result: dict[str, Any], console: Console) -> None:
    """Times, then memory, power and fidelity; below, why a cell is empty."""
    settings, levels = result["settings"], result["levels"]
    runs = f"{settings['runs']} runs in turn of {settings['steps']} steps, batch {settings['batch']}: seconds, medians"
    filled = [column for column in COST if any(column.cell(level) != EMPTY for level in levels)]
    console.print(_table(runs, levels, DRAWING))
    console.print(_table(f"{result['device']}: what it costs, times in seconds", levels, filled))
    if result["interrupted"]:
        console.print(escape(f"interrupted {result['interrupted']}"), highlight=False)
    for note in notes(levels, (*DRAWING, *COST)):
        console.print(f"- {escape(note)}", highlight=False)
    if result["power"]["meter"]:
        idle = result["power"]["idle_watts"]
        told = f", idle {idle:.2f} W" if idle is not None else ""
        console.print(f"power: {escape(result['power']['meter'])}{told}", highlight=False)


def _table(title: str, levels: Sequence[dict[str, Any]], columns: Sequence[Column]) -> Table:
    table = Table(title=escape(title), title_justify="left", padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("level", overflow="fold")
    for column in columns:
        table.add_column(column.heading.removesuffix(" s"), justify="right", no_wrap=True)
    for level in levels:
        table.add_row(escape(level["name"].removesuffix(".ldmc")), *(column.cell(level) for column in columns))
    return table


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Every level of every device, relative to the first device's baseline."""
    device, level = comparison.reference
    title = escape(f"relative to {device}, {level}")
    table = Table(title=title, title_justify="left", padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("device, level", overflow="fold")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    shown = ""
    for row in comparison.rows:
        if row.device != shown:
            if shown:
                table.add_section()
            table.add_row(f"[bold]{escape(row.device)}[/]")
        table.add_row(f"  {escape(row.level.removesuffix('.ldmc'))}", *_cells(row))
        shown = row.device
    console.print(table)
    for remark in (*comparison.remarks, *_reasons(comparison.rows)):
        console.print(f"- {escape(remark)}", highlight=False)


def comparison_markdown(comparison: Comparison) -> str:
    """The same table, and the notes under it."""
    lines = ["| device | level | " + " | ".join(_HEADINGS) + " |", "|---|---|" + "---|" * len(_HEADINGS)]
    lines += [f"| {cell(row.device)} | {cell(row.level)} | {' | '.join(_cells(row))} |" for row in comparison.rows]
    remarks = (*comparison.remarks, *_reasons(comparison.rows))
    return "\n".join([*lines, "", *(f"- {cell(remark)}" for remark in remarks)]) + "\n"


def _cells(row: Row) -> list[str]:
    peak = None if row.peak_bytes is None else row.peak_bytes / 2**20
    figures = (
        (row.latency_seconds, ".4g"),
        (row.relative_latency, ".2f"),
        (row.energy_joules, ".4g"),
        (row.relative_energy, ".2f"),
        (row.power_watts, ".2f"),
        (peak, ".0f"),
        (row.speedup, ".2f"),
    )
    return [EMPTY if value is None else format(value, form) for value, form in figures]


def _reasons(rows: Sequence[Row]) -> list[str]:
    """Why cells are empty: one line for all cells of a row that share a reason."""
    said = []
    for row in rows:
        for reason in dict.fromkeys(row.absent.values()):
            said.append(f"{row.device}, {row.level}: {reason}")
    return list(dict.fromkeys(said))
