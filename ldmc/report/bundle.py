"""A bundle as the page shows it: what was built, for what, from what, and what every pass did.

Bundle(manifest, stages, memory)   ->   BundleView(tiles, facts, pipelines, tables, charts, commands)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ldmc.report import again, memory
from ldmc.report.cards import Card, Tile
from ldmc.report.charts.bars import Row, Segment, bars
from ldmc.report.inputs import Bundle, Json
from ldmc.report.tables import Cell, Column, Notes, Table, absent, figure, pairs, text
from ldmc.report.units import mib, number, percent, seconds, size

_NO_BUILD = "the bundle keeps no times; give the JSON of its build, `ldmc build --json`, to the report"
_NO_GRAPH = "multiply-adds (MACs) and the most that is alive at a time are counted in ONNX graphs"
_NO_METER = "the system does not tell the peak of a stage"


@dataclass(frozen=True)
class Step:
    """One pass of a pipeline. kind: asked, inserted or pending. why: it was inserted, or what is waiting."""

    spec: str
    kind: str
    why: str = ""


@dataclass(frozen=True)
class BundleView:
    """Everything the page says of one bundle. pipelines: component -> steps. diffs: (title, table) by stage."""

    ident: str
    title: str
    label: str
    tiles: tuple[Tile, ...]
    facts: tuple[tuple[str, str], ...]
    placeholder: bool
    pipelines: tuple[tuple[str, tuple[Step, ...]], ...]
    insertions: tuple[tuple[str, str, str], ...]
    pending: tuple[str, ...]
    stages: Table
    remarks: tuple[tuple[str, str], ...]
    growth: tuple[Card, ...]
    diffs: tuple[tuple[str, Table], ...]
    unchanged: tuple[str, ...]
    memory: memory.MemoryView
    files: Table
    toolchain: Table
    commands: tuple[tuple[str, str], ...]


def bundle_view(bundle: Bundle, index: int) -> BundleView:
    """Turn what was read into what is shown; `index` keeps the ids of several bundles apart."""
    data, ident = bundle.manifest.data, f"bundle{index}"
    insertions = tuple((e["component"], e["spec"], e["reason"]) for e in _insertions(bundle))
    pending = tuple(
        step["part"] for step in bundle.manifest.finish.get("steps", ()) if step.get("status") == "pending"
    )
    return BundleView(
        ident,
        f"{data['name']} for {data['target']}",
        bundle.label,
        _tiles(bundle, pending),
        _facts(bundle),
        bundle.manifest.placeholder_weights,
        tuple((name, _steps(bundle, name, insertions)) for name in _components(data)),
        insertions,
        pending,
        _stage_table(bundle, f"{ident}-stages"),
        tuple((f"{s['component']} {s['stage']}", line) for s in bundle.stages for line in s.get("remarks", ())),
        tuple(_growth(bundle, name, f"{ident}-growth-{i}") for i, name in enumerate(_components(data))),
        tuple(_diff(stage, f"{ident}-diff{i}") for i, stage in enumerate(bundle.stages) if _changes(stage)),
        tuple(f"{stage['component']} {stage['stage']}" for stage in bundle.stages if not _changes(stage)),
        memory.memory_view(bundle, ident),
        _file_table(data, f"{ident}-files-table"),
        pairs(f"{ident}-tools", "What it was built with", ("Package", "Version"), _versions(data)),
        tuple(again.commands(bundle)),
    )


def _components(data: Json) -> list[str]:
    """In the order in which they run."""
    return sorted(data["components"], key=lambda name: (name != "unet", name))


def _insertions(bundle: Bundle) -> list[Json]:
    return list(bundle.manifest.data.get("insertions") or (bundle.build or {}).get("insertions") or ())


def _versions(data: Json) -> list[tuple[str, str]]:
    return sorted((str(k), str(v)) for k, v in (data.get("toolchain") or {}).items())


def _weights_bytes(data: Json) -> int:
    return sum(int(component["stats"]["bytes"]) for component in data["components"].values())


def _parameters(data: Json) -> int:
    return sum(int(component["stats"]["params"]) for component in data["components"].values())


def _tiles(bundle: Bundle, pending: tuple[str, ...]) -> tuple[Tile, ...]:
    data = bundle.manifest.data
    found = [Tile("Target", data["target"], _engine_words(data)), memory.budget_tile(bundle.memory)]
    files = sum(entry["bytes"] for entry in data["files"])
    found.append(Tile("Size", size(files), f"{size(_weights_bytes(data))} of it weights"))
    before, after = _nodes(bundle, "onnx"), sum(c["stats"]["nodes"] for c in data["components"].values())
    if before:
        found.append(
            Tile("Operators", f"{after:,}", f"{percent(before, after) or 'as many'} since the export ({before:,})")
        )
    if pending:
        found.append(
            Tile(
                "Left to the device",
                f"{len(pending)} engines" if len(pending) > 1 else "1 engine",
                ", ".join(pending),
            )
        )
    if bundle.build:
        peak = bundle.build.get("peak_rss_bytes")
        found.append(Tile("Build", seconds(bundle.build["seconds"]), f"peak memory {size(peak)}" if peak else ""))
    return tuple(found)


def _nodes(bundle: Bundle, name: str) -> int:
    """Operators of all components right after the pass `name`."""
    return sum(int(s["after"]["nodes"]) for s in bundle.stages if again.split(s["pass"])[0].partition("{")[0] == name)


def _engine_words(data: Json) -> str:
    """What runs it: the packages it asks for."""
    packages = data["requirements"]["packages"]
    return ", ".join(f"{name} {packages[name]}" for name in sorted(packages) if name != "numpy")


def _facts(bundle: Bundle) -> tuple[tuple[str, str], ...]:
    data = bundle.manifest.data
    source, weights = data["source"], data["source"]["weights"]
    if bundle.manifest.placeholder_weights:
        made = f"random, seed {weights['seed']}: sizes and speeds are real, pictures are noise"
    else:
        made = ", ".join(f"{file['path']} ({size(file['bytes'])})" for file in weights["files"]) or "none"
    facts = [
        ("Model", f"{data['name']}, {number(_parameters(data) / 1e6)} million parameters"),
        ("From", f"{source['kind']} {source['model']}"),
        ("Weights", made),
        ("For", f"{data['target']}: {_requirements(data)}"),
        ("Loads", "all components at once" if bundle.manifest.load == "together" else "one component at a time"),
    ]
    for name in _components(data):
        entry = data["components"][name]
        shapes = " → ".join(", ".join(_tensor(t) for t in entry[side]) for side in ("inputs", "outputs"))
        parts = f", in {len(entry['parts'])} parts" if len(entry["parts"]) > 1 else ""
        facts.append((name, f"{entry['form']}{parts}: {shapes}"))
    return tuple(facts)


def _requirements(data: Json) -> str:
    packages = data["requirements"]["packages"]
    return ", ".join([f"Python {data['requirements']['python']}", *(f"{n} {packages[n]}" for n in sorted(packages))])


def _tensor(tensor: Json) -> str:
    return f"{tensor['name']} {tensor['dtype']}[{', '.join(map(str, tensor['shape']))}]"


def _steps(bundle: Bundle, component: str, insertions: tuple[tuple[str, str, str], ...]) -> tuple[Step, ...]:
    inserted = {spec.partition("{")[0]: why for name, spec, why in insertions if name == component}
    waiting = {
        s["pass"].partition("{")[0] for s in bundle.stages if s["component"] == component and s["status"] != "done"
    }
    steps = []
    for spec in again.split(bundle.manifest.data["pipeline"][component]):
        name = spec.partition("{")[0]
        if name in waiting:
            steps.append(Step(spec, "pending", "waits for the device"))
        elif name in inserted:
            steps.append(Step(spec, "inserted", inserted[name]))
        else:
            steps.append(Step(spec, "asked"))
    return tuple(steps)


def _stage_table(bundle: Bundle, ident: str) -> Table:
    notes = Notes()
    measured = {(s["component"], s["stage"]): s for s in (bundle.build or {}).get("stages", ())}
    rows = tuple(_stage_row(stage, measured, notes, bundle.build) for stage in bundle.stages)
    columns = (
        Column("Component", numeric=False),
        Column("Stage", numeric=False),
        Column("Status", numeric=False),
        Column("Nodes before"),
        Column("after"),
        Column("change"),
        Column("Weights before", "MiB"),
        Column("after", "MiB"),
        Column("Params", "M"),
        Column("MACs", "G"),
        Column("Alive", "MiB"),
        Column("Time", "s"),
        Column("Peak", "MiB"),
    )
    return Table(ident, "Stages, in the order they ran", columns, rows, tuple(notes.said))


def _stage_row(stage: Json, measured: Any, notes: Notes, build: Json | None) -> tuple[Cell, ...]:
    before, after = stage["before"], stage["after"]
    record = measured.get((stage["component"], stage["stage"]), {})
    took, peak = record.get("seconds"), record.get("peak_rss_bytes")
    why = _NO_METER if build else _NO_BUILD
    macs, alive = after.get("macs"), after.get("peak_activation_bytes")
    return (
        text(stage["component"]),
        text(stage["stage"]),
        Cell(stage["status"], stage["status"], kind=stage["status"]),
        figure(f"{before['nodes']:,}", before["nodes"]),
        figure(f"{after['nodes']:,}", after["nodes"]),
        figure(percent(before["nodes"], after["nodes"]) or "0", after["nodes"] - before["nodes"]),
        figure(mib(before["bytes"]), before["bytes"]),
        figure(mib(after["bytes"]), after["bytes"]),
        figure(number(after["params"] / 1e6), after["params"]),
        figure(number(macs / 1e9), macs) if macs is not None else absent(notes, _NO_GRAPH),
        figure(mib(alive), alive) if alive is not None else absent(notes, _NO_GRAPH),
        figure(number(took), took) if took is not None else absent(notes, why),
        figure(mib(peak), peak) if peak is not None else absent(notes, why),
    )


def _growth(bundle: Bundle, component: str, ident: str) -> Card:
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


def _changes(stage: Json) -> bool:
    """Whether the stage left other operators than it found."""
    return bool(stage["before"]["ops"] != stage["after"]["ops"])


def _diff(stage: Json, ident: str) -> tuple[str, Table]:
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


def _file_table(data: Json, ident: str) -> Table:
    columns = (
        Column("File", numeric=False),
        Column("What", numeric=False),
        Column("Bytes"),
        Column("SHA-256", numeric=False),
    )
    rows = tuple(
        (
            text(entry["path"]),
            text(entry.get("role", "")),
            figure(f"{entry['bytes']:,}", entry["bytes"]),
            Cell(entry["sha256"], entry["sha256"], kind="hash"),
        )
        for entry in data["files"]
    )
    return Table(ident, "Files of the bundle", columns, rows)
