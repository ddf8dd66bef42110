"""Where fidelity goes, as tables: a row per stage, a row per block."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ldmc.ir import COMPONENTS
from ldmc.terminal.text import escape

if TYPE_CHECKING:
    from ldmc.compiler.fidelity.results import BlockResult, FidelityReport, StageResult


def print_fidelity(report: FidelityReport, console: Console) -> None:
    """The tables of one examination, each with what it could not compare below it."""
    at = ", ".join(f"t={t}" for t in report.timesteps)
    for name in COMPONENTS:
        calls = at if name == "unet" else "the last latent"
        stages = [row for row in report.stages if row.component == name]
        blocks = [row for row in report.blocks if row.component == name]
        if stages:
            console.print(stages_table(f"{name} by stage, against PyTorch eager fp32 ({calls})", stages))
            _notes([(row.stage, row.why or _departs(row.departs, row.needed_db)) for row in stages], console)
        if blocks:
            console.print(blocks_table(f"{name} by block, against PyTorch eager fp32 ({calls})", blocks))
            _notes([(row.block, row.why or _departs(row.departs, row.needed_db)) for row in blocks], console)
    for remark in report.remarks:
        console.print(escape(remark), highlight=False)
    if any(row.component for row in report.blocks) and report.first_departure is None:
        console.print("no block departs", highlight=False)


def stages_table(title: str, rows: list[StageResult]) -> Table:
    """Stages of one component in running order."""
    table = _table(title, "stage", "form", "SNR dB", "change", "added dB", "max abs error")
    before: float | None = None
    for row in rows:
        change = "" if before is None or row.snr_db is None else _change(row.snr_db - before)
        table.add_row(
            escape(row.stage),
            escape(row.form),
            _decibels(row.snr_db),
            change,
            "none" if row.added_db == -math.inf else _decibels(row.added_db),
            _error(row.max_abs_error),
            style="bold red" if row.departs else None,
        )
        before = row.snr_db if row.snr_db is not None else before
    return table


def blocks_table(title: str, rows: list[BlockResult]) -> Table:
    """Blocks of one component in running order; what a level is made of stands below it."""
    table = _table(title, "block", "SNR dB", "own SNR dB", "max abs error")
    for row in rows:
        table.add_row(
            escape(row.block),
            _decibels(row.snr_db),
            "" if row.is_level else _decibels(row.local_snr_db),
            _error(row.max_abs_error),
            style="bold red" if row.departs else "bold" if row.is_level else None,
        )
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(title=escape(title), title_justify="left", pad_edge=False)
    for heading in headings:
        table.add_column(
            heading, justify="left" if heading in ("stage", "form", "block") else "right", overflow="fold"
        )
    return table


def _notes(reasons: list[tuple[str, str]], console: Console) -> None:
    for name, why in reasons:
        if why:
            console.print(escape(f"{name}: {why}" if name else why), highlight=False)


def _departs(departs: bool, needed_db: float | None) -> str:
    return f"departs, needed are {needed_db:.0f} dB" if departs else ""


def _decibels(value: float | None) -> str:
    """`equal` where the two sides are."""
    return "-" if value is None else "equal" if value == math.inf else f"{value:.1f}"


def _change(decibels: float) -> str:
    return "" if not math.isfinite(decibels) else f"{decibels:+.1f}"


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.2e}"
