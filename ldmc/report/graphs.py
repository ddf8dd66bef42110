"""What passes did to the graph, as the page shows it: nodes after each stage, and operators before and after each."""

from __future__ import annotations

from ldmc.report.cards import Card
from ldmc.report.charts.bars import Row, Segment, bars
from ldmc.report.inputs import Bundle, Json
from ldmc.report.tables import Cell, Column, Table
from ldmc.report.units import percent


def growth(bundle: Bundle, component: str, ident: str) -> Card:
    """Nodes after each stage of one component."""
    stages = [stage for stage in bundle.stages if stage["component"] == component]
    title = f"{component}: nodes after each stage"
    if not stages:
        return Card(title, why="this bundle keeps no reports of its stages")
    rows = [_growth_row(stage) for stage in stages]
    first = stages[0]["before"]["nodes"]
    rows.insert(0, Row("PyTorch modules", (Segment(first, "c4", f"PyTorch modules: {first:,}"),), f"{first:,}"))
    return Card(title, bars(ident, title, rows, "nodes"))


def _growth_row(stage: Json) -> Row:
    before, after = stage["before"]["nodes"], stage["after"]["nodes"]
    change = percent(before, after) if stage["form"] != "torch" and stage["pass"].partition("{")[0] != "onnx" else ""
    note = f"{after:,}" + (f"  {change}" if change else "")
    colour = "c4" if stage["form"] == "torch" else "c1"
    return Row(stage["pass"], (Segment(after, colour, f"{stage['stage']}: {before:,} to {after:,} nodes"),), note)


def changes(stage: Json) -> bool:
    """Whether the stage left other operators than it found."""
    return bool(stage["before"]["ops"] != stage["after"]["ops"])


def diff(stage: Json, ident: str) -> tuple[str, Table]:
    """Operators before and after one stage, what changed most first."""
    before, after = stage["before"]["ops"], stage["after"]["ops"]
    names = sorted({*before, *after}, key=lambda op: (-abs(after.get(op, 0) - before.get(op, 0)), op))
    rows = []
    for op in names:
        a, b = before.get(op, 0), after.get(op, 0)
        shown = f"{'+' if b > a else '−'}{abs(b - a):,}" if a != b else "0"
        kind = "same" if a == b else ""
        rows.append(
            (
                Cell(op, op, kind=kind),
                Cell(f"{a:,}", a, kind=kind),
                Cell(f"{b:,}", b, kind=kind),
                Cell(shown, b - a, kind=kind),
            )
        )
    columns = (Column("Operator", numeric=False), Column("Before"), Column("After"), Column("Change"))
    a, b = stage["before"]["nodes"], stage["after"]["nodes"]
    title = f"{stage['component']} {stage['stage']}: {a:,} → {b:,} nodes"
    return title, Table(
        ident, f"Operators before and after {stage['component']} {stage['stage']}", columns, tuple(rows)
    )
