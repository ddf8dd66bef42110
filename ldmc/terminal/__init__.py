"""What people see in the terminal: tables and progress. At 80 columns and in a pipe, too.

Here is what builds, runs and lists show; `targets` and `doctor` have a module each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from ldmc.ir import COMPONENTS
from ldmc.passes import TABLE, pass_class
from ldmc.terminal.engines import engine_lines
from ldmc.terminal.text import escape

if TYPE_CHECKING:
    from ldmc.compiler.driver import BuildResult
    from ldmc.compiler.progress import Written
    from ldmc.compiler.stage import StageRecord
    from ldmc.compiler.verify import VerifyReport

_MIB = 2**20


class RichProgress:
    """Progress of long work on `console`; bars only on a terminal, one line per step in a pipe."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextlib.contextmanager
    def stage(self, title: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """A step begins. total: bytes or steps to be done, or None; the function given advances it."""
        if not self.console.is_terminal:
            self.console.print(f"- {escape(title)}", highlight=False)
            yield lambda _: None
            return
        with Progress(*_columns(total), console=self.console, transient=True) as progress:
            task = progress.add_task(escape(title), total=total)
            yield lambda done: progress.advance(task, done)

    def note(self, message: str) -> None:
        """Something that was decided for the user: one line, wrapped."""
        self.console.print(escape(message), highlight=False, style="cyan")

    def warn(self, message: str) -> None:
        """Something that cannot be missed."""
        self.console.print(
            Panel(escape(message), border_style="bold yellow", title="warning", title_align="left")
        )

    def component_done(self, name: str, records: list[StageRecord], write: Written) -> None:
        """The stage table of one component."""
        self.console.print(stage_table(name, records, write))


def _columns(total: int | None) -> list[Any]:
    columns: list[Any] = [SpinnerColumn(), TextColumn("{task.description}")]
    if total is not None:
        columns += [
            BarColumn(),
            DownloadColumn(binary_units=True) if total > 100_000 else MofNCompleteColumn(),
        ]
    return [*columns, TimeElapsedColumn()]


def stage_table(name: str, records: list[StageRecord], write: Written) -> Table:
    """Stages of one component: time, memory, and what the pass did to the graph."""
    table = Table(title=escape(name), title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("stage")
    for heading in ("s", "peak MiB", "nodes", "params M", "weights MiB", "GMAC"):
        table.add_column(heading, justify="right")
    for record in records:
        before, after = record.before.stats, record.after.stats
        table.add_row(
            escape(record.stage),
            f"{record.seconds:.1f}",
            _mib(record.peak_rss_bytes),
            _arrow(before.nodes, after.nodes),
            f"{after.params / 1e6:.2f}",
            f"{after.bytes / _MIB:.1f}",
            f"{after.macs / 1e9:.4g}" if after.macs is not None else "-",
        )
    table.add_row(
        "write",
        f"{write.reading.seconds:.1f}",
        _mib(write.reading.peak_rss_bytes),
        "",
        "",
        f"{write.bytes / _MIB:.1f}",
        "",
    )
    return table


def _arrow(before: int, after: int) -> str:
    return f"{after}" if before == after else f"{before} -> {after}"


def _mib(size: int | None) -> str:
    return f"{size / _MIB:.0f}" if size is not None else "-"


def print_build(result: BuildResult, console: Console) -> None:
    """The last lines of a build."""
    for record in result.records:
        for remark in record.remarks:
            console.print(
                escape(f"{record.component} {record.stage}: {remark}"), highlight=False, style="dim"
            )
    peak = f", peak memory {_mib(result.peak_rss_bytes)} MiB" if result.peak_rss_bytes else ""
    console.print(
        f"[bold]{escape(str(result.bundle))}[/] for {escape(result.target)}: {result.seconds:.1f} s{peak}",
        highlight=False,
    )


def print_random_weights(console: Console) -> None:
    """The very last line of a build whose weights nobody asked for: the warning is far above it."""
    console.print(
        "RANDOM WEIGHTS: the default model's could not be had, and pictures of this bundle are noise",
        highlight=False,
        style="bold yellow",
        soft_wrap=True,
    )


def print_verify(report: VerifyReport, console: Console) -> None:
    """Agreement with PyTorch, component by component."""
    table = Table(title="against PyTorch eager fp32", title_justify="left")
    for heading in ("", "SNR dB", "needs", "max abs error"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, result in report.components.items():
        table.add_row(escape(name), f"{result.snr_db:.1f}", f"{result.needed_db:.0f}", f"{result.max_abs_error:.2e}")
    if report.image_psnr_db is not None:
        table.add_row("image (PSNR)", f"{report.image_psnr_db:.1f}", f"{report.needed_psnr_db:.0f}", "")
    console.print(table)
    for remark in report.remarks:
        console.print(escape(remark), highlight=False)


def print_manifest(manifest: dict[str, Any], console: Console) -> None:
    """A bundle at a glance."""
    weights = manifest["source"]["weights"]
    origin = (
        f"placeholder, seed {weights['seed']}"
        if weights["kind"] == "placeholder"
        else f"{len(weights['files'])} files"
    )
    total = sum(file["bytes"] for file in manifest["files"])
    console.print(f"[bold]{escape(manifest['name'])}[/] for {escape(manifest['target'])}", highlight=False)
    console.print(
        escape(f"model    {manifest['source']['model']} ({manifest['source']['kind']}), weights: {origin}"),
        highlight=False,
    )
    console.print(f"files    {len(manifest['files'])}, {total / _MIB:.1f} MiB", highlight=False)
    needs = ", ".join(f"{name} {version}" for name, version in manifest["requirements"]["packages"].items())
    console.print(escape(f"needs    python {manifest['requirements']['python']}, {needs}"), highlight=False)
    components = manifest["components"]
    known = [name for name in COMPONENTS if name in components]
    for name in (*known, *sorted(set(components) - set(known))):
        component = components[name]
        stats = component["stats"]
        console.print(f"\n[bold]{escape(name)}[/]  {escape(manifest['pipeline'][name])}", highlight=False)
        for side in ("inputs", "outputs"):
            for spec in component[side]:
                console.print(
                    escape(f"  {side[:-1]:7} {spec['name']}  {spec['dtype']}{spec['shape']}"),
                    highlight=False,
                )
        gmac = f", {stats['macs'] / 1e9:.4g} GMAC" if stats["macs"] is not None else ""
        counted = f"{stats['nodes']} nodes, {stats['params'] / 1e6:.2f} M parameters, {stats['bytes'] / _MIB:.1f} MiB"
        console.print(f"  {counted}{gmac}", highlight=False)
        if len(component["parts"]) > 1:
            console.print(parts_table(component["parts"]))
        for line in engine_lines(name, manifest):
            console.print(escape(f"  {line}"), highlight=False)


def parts_table(parts: list[dict[str, Any]]) -> Table:
    """The parts of one component in running order: their weights, and what is handed on behind each."""
    from ldmc.passes.cutting.crossing import crossing_bytes_of

    table = Table(pad_edge=False)
    for heading in ("part", "form"):
        table.add_column(heading)
    for heading in ("weights MiB", "reads", "gives", "crossing MiB"):
        table.add_column(heading, justify="right")
    for part, crossing in zip(parts, crossing_bytes_of(parts), strict=True):
        weights = f"{part['weights_bytes'] / _MIB:.1f}" if "weights_bytes" in part else "-"
        counts = (str(len(part["inputs"])), str(len(part["outputs"])))
        table.add_row(escape(part["name"]), escape(part["form"]), weights, *counts, f"{crossing / _MIB:.2f}")
    return table


def describe_passes() -> list[dict[str, Any]]:
    """Every pass as data: the `passes` array of `ldmc passes --json`."""
    described = []
    for name in TABLE:
        cls = pass_class(name)
        described.append(
            {
                "name": name,
                "summary": cls.summary,
                "requires": [str(form) for form in cls.requires],
                "produces": str(cls.produces),
                "runs_on": cls.runs_on,
                "tools": list(cls.tools),
                "options": [{"name": f.name, "type": str(f.type), "default": f.default} for f in fields(cls)],
            }
        )
    return described


def print_passes(described: list[dict[str, Any]], console: Console) -> None:
    """One row per pass."""
    table = Table()
    for heading in ("pass", "takes", "gives", "options", "what it does"):
        table.add_column(heading)
    for row in described:
        options = ", ".join(f"{o['name']}={_default(o['default'])}" for o in row["options"])
        table.add_row(
            row["name"], " | ".join(row["requires"]), row["produces"], escape(options), row["summary"]
        )
    console.print(table)


def _default(value: Any) -> str:
    return "[]" if value == () else str(value)
