"""What `ldmc doctor` shows: the toolchains of this machine, and what it can do for each target."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from ldmc.compiler.doctor import Ability, Diagnosis
from ldmc.compiler.toolchains import Tool
from ldmc.terminal.text import escape

_CAN = {"whole": "green", "pending": "yellow", "nothing": "red"}


def print_diagnosis(diagnosis: Diagnosis, console: Console) -> None:
    """A row per tool, then a row per target."""
    tools = Table()
    tools.add_column("tool", no_wrap=True)
    tools.add_column("version", no_wrap=True)
    tools.add_column("details, or how to get it")
    for tool in diagnosis.toolchains.tools:
        version = escape(tool.version) if tool.found else "[yellow]missing[/]"
        tools.add_row(escape(tool.name), version, escape(_about(tool)))
    console.print(tools)
    targets = Table()
    targets.add_column("target", no_wrap=True)
    targets.add_column("builds here", no_wrap=True)
    targets.add_column("what is left or missing")
    for ability in diagnosis.abilities:
        colour = _CAN[ability.can]
        targets.add_row(escape(ability.name), f"[{colour}]{ability.can}[/]", escape(_left(ability)))
    console.print(targets)


def _about(tool: Tool) -> str:
    return "; ".join(part for part in (tool.detail, tool.fix) if part)


def _left(ability: Ability) -> str:
    if ability.can == "pending":
        return f"{', '.join(ability.pending)}: {ability.fix}"
    if ability.can == "nothing":
        return f"missing {ability.fix}"
    return ""
