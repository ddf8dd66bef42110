"""What `ldmc plan` shows: pipelines as they would run, memory by phase and component, and the verdict."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ldmc.targets.target import MIB, Target
from ldmc.terminal.text import escape

if TYPE_CHECKING:
    from ldmc.compiler.budget.phases import Phase
    from ldmc.compiler.budget.plan import Plan
    from ldmc.compiler.budget.report import PlanReport

_WIDEST = 79
_TITLES = {"build_host": "build, on the host", "build_device": "build, on the device", "run": "run"}


def print_plan(report: PlanReport, console: Console) -> None:
    """Everything, at 80 columns."""
    plan = report.plan
    _print_wrapped("", f"{report.target.name}: {_budget(report.target, plan)}", console, style="bold")
    for lowered in report.lowered:
        _print_wrapped(f"{lowered.name:8} ", lowered.spec.replace(",", ", "), console)
    for line in (line for lowered in report.lowered for line in lowered.insertions):
        _print_wrapped("- ", line, console, style="dim")
    console.print(_phases(plan))
    _print_wrapped("", _verdict(plan), console, style="bold green" if plan.fits else "bold red")
    for remedy in plan.remedies:
        outcome = (
            "fits" if remedy.fits else f"still over by {_mib(remedy.peak_bytes - remedy.budget_bytes)} MiB"
        )
        _print_wrapped("- ", f"{remedy.spec}: {_mib(remedy.peak_bytes)} MiB, {outcome}", console)
    for name, phase in plan.phases.items():
        if phase.peak_node:
            _print_wrapped("", f"{_TITLES[name]}, most is alive at {phase.peak_node}", console)
    for name, phase in plan.phases.items():
        if phase.source:
            _print_wrapped("", f"{_TITLES[name]}: {phase.basis}; {phase.source}", console, style="dim")
    if report.recipes:
        _print_recipes(report, console)


def _budget(target: Target, plan: Plan) -> str:
    how = "components one at a time" if plan.load == "one-at-a-time" else "components together"
    memory = target.memory
    if memory is None:
        return f"memory not known, so nothing is held against it; {how}"
    return f"budget {_mib(memory.budget_bytes)} MiB ({memory.total_mib} less {memory.system_mib} of the system), {how}"


def _phases(plan: Plan) -> Table:
    """Phases as rows; under each that differs between components, the components."""
    table = Table(title="MiB", title_justify="left", title_style="dim", pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("peak", "libraries", "weights", "activations", "workspace"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, phase in plan.phases.items():
        table.add_row(*_row(_TITLES[name], phase), style="bold")
        for title, own in _own_phases(plan, name):
            table.add_row(*_row(title, own))
    return table


def _own_phases(plan: Plan, name: str) -> Iterator[tuple[str, Phase]]:
    """Components' own figures where there are several; the host's process is one for all."""
    if name == "build_host" or len(plan.components) < 2:
        return
    for component in plan.components:
        phase: Phase = getattr(component, name)
        if phase.peak_bytes:
            parts = f" ({component.parts} parts)" if component.parts > 1 else ""
            yield f"  {component.name}{parts}", phase


def _row(title: str, phase: Phase) -> tuple[str, ...]:
    sizes = (
        phase.libraries_bytes,
        phase.weights_bytes,
        phase.activations_bytes,
        phase.workspace_bytes,
    )
    if not phase.peak_bytes:
        return (escape(title), "-", *[""] * len(sizes))
    return (escape(title), _mib(phase.peak_bytes), *map(_mib, sizes))


def _verdict(plan: Plan) -> str:
    name, phase = plan.device_peak
    doing = "building" if name == "build_device" else "running"
    if plan.budget_bytes is None:
        most = f"{_mib(phase.peak_bytes)} MiB, {doing} {phase.owner}"
        return f"no budget to hold it against; the most on the device: {most}"
    if plan.fits:
        spare = plan.budget_bytes - phase.peak_bytes
        return f"fits: {_mib(spare)} MiB to spare, {doing} {phase.owner}"
    return plan.complaint()


def _print_recipes(report: PlanReport, console: Console) -> None:
    """The reference project's rows, and ours under them."""
    assert report.plan.budget_bytes is not None
    table = Table(
        title="the reference project's recipe:\none ONNX, inline weights, trtexec", title_justify="left"
    )
    table.add_column("built on the device")
    table.add_column("MiB, up to", justify="right")
    table.add_column("")
    for recipe in report.recipes:
        over = f"over by {_mib(recipe.over_bytes)} MiB" if recipe.over_bytes else "fits"
        table.add_row(escape(recipe.name), _mib(recipe.peak_bytes), over)
    built = report.plan.build_device.peak_bytes
    spare = report.plan.budget_bytes - built
    verdict = f"fits, {_mib(spare)} MiB to spare" if spare >= 0 else f"over by {_mib(-spare)} MiB"
    table.add_row("as planned above", _mib(built), verdict, style="bold")
    console.print(table)
    _print_wrapped(
        "", f"documented multiples, upper bounds, not measured: {report.recipe_basis}", console, style="dim"
    )


def _print_wrapped(first: str, text: str, console: Console, style: str | None = None) -> None:
    """`text` after `first`, wrapped under itself; no word is cut."""
    room = min(console.width, _WIDEST) - len(first)
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    for start, line in zip([first, *[" " * len(first)] * (len(lines) - 1)], lines, strict=True):
        console.print(f"{escape(start)}{escape(line)}", highlight=False, style=style, soft_wrap=True)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:.0f}"
