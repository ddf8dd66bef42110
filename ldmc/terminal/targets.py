"""What `ldmc targets` shows: a list of all, or one whole, with the keys of its TOML file."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from ldmc.targets.operator_tables import read_operators
from ldmc.targets.target import MIB, Memory, Target
from ldmc.terminal.text import escape

_WIDEST = 79  # columns of a line that can be wrapped, however wide the terminal is
_INDENT = 15


def describe_target(target: Target) -> dict[str, Any]:
    """A target as data: one of the `targets` array of `ldmc targets --json`.

    Beside the keys of the file: `memory.models_mib`, what is left for models, and `operator_table`, what its engine's
    parser reads (both null where they are not known).
    """
    described = target.to_json()
    if target.memory is not None:
        described["memory"]["models_mib"] = target.memory.models_bytes // MIB
    described["operator_table"] = None
    if target.operators:
        table = read_operators(target.operators)
        described["operator_table"] = {
            "source": table["source"],
            "opset_min": table["opset_min"],
            "opset_max": table["opset_max"],
            "supported": sum(entry["supported"] for entry in table["ops"].values()),
            "listed": len(table["ops"]),
        }
    return described


def print_targets(found: list[Target], console: Console) -> None:
    """One row per target."""
    table = Table()
    table.add_column("target", no_wrap=True)
    table.add_column("what it is")
    table.add_column("models MiB", justify="right", max_width=6)
    table.add_column("default passes (unet)")
    for target in found:
        left = f"{target.memory.models_bytes // MIB}" if target.memory else "-"
        table.add_row(escape(target.name), escape(target.summary), left, escape(target.pipelines["unet"]))
    console.print(table)


def print_target(target: Target, console: Console) -> None:
    """Everything about one target: what it is, its memory as a sum, and where the figures are from."""
    console.print(f"[bold]{escape(target.name)}[/]", highlight=False)
    _print_pairs(_facts(target), console)
    if target.memory is not None:
        whose = "shared by CPU and GPU" if target.memory.shared else "the card's own"
        console.print(f"\n[bold]memory, MiB, {whose}[/]", highlight=False)
        for name, size in _memory(target.memory):
            console.print(f"{escape(name):17}{size:>9}", highlight=False)
    sources = [(key, text) for key, text in _sources(target) if text]
    if sources:
        console.print("\n[bold]sources[/]")
        _print_pairs(sources, console)


def _print_pairs(pairs: Iterable[tuple[str, str]], console: Console) -> None:
    """Keys on the left, what they hold on the right, wrapped there; no blanks at the ends of lines."""
    room = min(console.width, _WIDEST) - _INDENT
    for key, text in pairs:
        lines = [part for line in text.splitlines() for part in textwrap.wrap(line, room)]
        for first, line in zip([key, *[""] * (len(lines) - 1)], lines, strict=True):
            console.print(escape(f"{first:{_INDENT}}{line}"), highlight=False)


def _facts(target: Target) -> list[tuple[str, str]]:
    """The file's keys, less memory and sources, those without a value left out."""
    gpu, compute = target.gpu, target.compute
    capability = f", compute capability {gpu.compute_capability}" if gpu and gpu.compute_capability else ""
    peaks = _listed(compute.peak_gflops) if compute else ""
    facts = [
        ("summary", target.summary),
        ("arch", target.arch),
        ("gpu", f"{gpu.name}{capability}" if gpu else ""),
        ("compute", f"{peaks} GFLOPS; {compute.bandwidth_gb_s:g} GB/s" if compute else ""),
        ("precisions", ", ".join(target.precisions)),
        ("engine", target.engine),
        ("requirements", _listed(target.requirements)),
        ("toolchain", _listed(target.toolchain)),
        ("opset", f"{target.opset} at most"),
        ("operators", _operators(target)),
        ("groupnorm", target.groupnorm),
        ("fp32_islands", ", ".join(target.fp32_islands)),
        ("pipelines", "\n".join(f"{name:8} {spec}" for name, spec in target.pipelines.items())),
        ("device_passes", ", ".join(target.device_passes)),
        ("load", target.load),
        ("power", target.power),
        ("power_modes_w", ", ".join(f"{watts:g}" for watts in target.power_modes_w)),
    ]
    return [(key, text) for key, text in facts if text]


def _operators(target: Target) -> str:
    table = describe_target(target)["operator_table"]
    if table is None:
        return ""
    return f"TensorRT {target.operators} reads {table['supported']} of {table['listed']} listed"


def _listed(table: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in table.items())


def _memory(memory: Memory) -> list[tuple[str, str]]:
    """total - system - libraries = what is left for models."""
    libraries = list(memory.libraries_mib.items())
    return [
        ("total", f"{memory.total_mib:6}"),
        ("the system", f"{-memory.system_mib:6}"),
        *((name, f"{-size:6}") for name, size in libraries),
        *([] if libraries else [("libraries", "not known")]),
        ("left for models", f"{memory.models_bytes // MIB:6}"),
    ]


def _sources(target: Target) -> list[tuple[str, str]]:
    table = describe_target(target)["operator_table"]
    return [
        ("gpu", target.gpu.source if target.gpu else ""),
        ("compute", target.compute.source if target.compute else ""),
        ("memory", target.memory.source if target.memory else ""),
        ("libraries", target.memory.libraries_source if target.memory else ""),
        ("toolchain", target.toolchain_source),
        ("operators", table["source"] if table else ""),
    ]
