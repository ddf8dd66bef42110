"""Memory of a bundle as the page shows it: the plan's phases against the target's budget, and the run, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ldmc.report.cards import Card, Tile
from ldmc.report.charts.bars import Limit, Row, Segment, bars
from ldmc.report.charts.memory import BANDS, Run, activations, whole_run
from ldmc.report.inputs import Bundle, Json
from ldmc.report.tables import Cell, Column, Notes, Table, absent, figure, text
from ldmc.report.units import MIB, mib, size

_NO_PLAN = "No plan is in this bundle: memory is planned from ONNX graphs, and a part of it is in another form."
_NO_TIMELINE = "This bundle keeps no reports/timeline.json; build it again to see memory operator by operator."
_NAMED = 3  # buffers that a caption names
_LEGEND = tuple((colour, band) for band, colour in BANDS.items())
_PHASES = {"build_host": "building on the host", "build_device": "building on the device", "run": "running"}


@dataclass(frozen=True)
class MemoryView:
    """why: in place of everything, where there is no plan. basis: what the prediction rests on, phase by phase."""

    why: str
    verdict: str = ""
    cards: tuple[Card, ...] = ()
    table: Table | None = None
    basis: tuple[tuple[str, str], ...] = ()
    remedies: tuple[str, ...] = ()


def budget_tile(plan: Json | None) -> Tile:
    """Fits or over, with the figures."""
    if plan is None:
        return Tile("Memory", "not planned", "no ONNX graph to plan from")
    peak = _device_peak(plan)
    budget = plan["budget_bytes"]
    if budget is None:
        return Tile("Memory", size(peak), "predicted; this target has no budget")
    if plan["fits"]:
        return Tile("Memory", "Fits", f"{size(peak)} of {size(budget)}, predicted", "good", peak / budget)
    return Tile("Memory", "Over", f"{size(peak)} of {size(budget)}: {size(plan['over_bytes'])} too much", "bad", 1.0)


def memory_view(bundle: Bundle, ident: str) -> MemoryView:
    """Charts, and the table behind them."""
    plan = bundle.memory
    if plan is None:
        return MemoryView(_NO_PLAN)
    cards = [_phases_card(plan, f"{ident}-phases")]
    runs = _runs(plan, bundle.timeline or {})
    if runs:
        cards.insert(0, _whole_card(runs, plan["budget_bytes"], f"{ident}-run"))
    else:
        cards.append(Card("Memory over the run", why=_NO_TIMELINE))
    cards += [
        _activations_card(run, (bundle.timeline or {})[run.name], f"{ident}-live-{index}")
        for index, run in enumerate(runs)
    ]
    basis = tuple(
        (_PHASES[name], f"{said['basis']}: {said['source']}")
        for name, said in plan.get("basis", {}).items()
        if name in _PHASES
    )
    remedies = tuple(f"{remedy['spec']}: {size(remedy['peak_bytes'])}" for remedy in plan.get("remedies", ()))
    return MemoryView("", _verdict(plan), tuple(cards), _table(plan, f"{ident}-memory-table"), basis, remedies)


def _device_peak(plan: Json) -> int:
    return max(int(plan["build_device"]["peak_bytes"]), int(plan["run"]["peak_bytes"]))


def _verdict(plan: Json) -> str:
    name = "build_device" if plan["build_device"]["peak_bytes"] > plan["run"]["peak_bytes"] else "run"
    phase = plan[name]
    at = f" ({phase['peak_node']})" if phase["peak_node"] else ""
    words = f"Predicted peak on {plan['target']}: {size(phase['peak_bytes'])}, while {_PHASES[name]}{at}."
    if plan["budget_bytes"] is None:
        return words + " The target has no memory budget."
    left = plan["budget_bytes"] - phase["peak_bytes"]
    verb = f"leaves {size(left)} of" if left >= 0 else f"is {size(-left)} over"
    return f"{words} It {verb} the budget of {size(plan['budget_bytes'])}."


def _runs(plan: Json, timeline: Json) -> list[Run]:
    """Components with their timelines, what is fixed raised so that each peak is the plan's own."""
    found = []
    together = plan["load"] == "together"
    names = [
        name
        for name in sorted(plan["components"], key=lambda n: (n != "unet", n))
        if timeline.get(name, {}).get("steps")
    ]
    most = max((max(timeline[name]["live_bytes"]) for name in names), default=0)
    for name in names:
        line = timeline[name]
        phase = plan["run"] if together else plan["components"][name]["run"]
        parts = dict(phase["parts"])
        parts["activations"] = max(parts["activations"] - (most if together else max(line["live_bytes"])), 0)
        found.append(Run(name, tuple(line["live_bytes"]), tuple(line["steps"]), line["peak_step"], parts))
    return found


def _whole_card(runs: list[Run], budget: int | None, ident: str) -> Card:
    title = "Memory over the run"
    peak = max(runs, key=lambda run: run.peak_bytes)
    caption = (
        f"Peak {size(peak.peak_bytes)} in {peak.name}, at {peak.steps[peak.peak_step]}. "
        f"{'' if budget else 'This target has no budget. '}The UNet runs once for every step of the picture."
    )
    return Card(title, whole_run(ident, title, runs, budget), caption, _LEGEND)


def _activations_card(run: Run, line: Json, ident: str) -> Card:
    title = f"{run.name}: activations, operator by operator"
    named = [f"{buffer['name']} ({size(buffer['bytes'])})" for buffer in line["alive"][:_NAMED]]
    rest = len(line["alive"]) - len(named)
    more = f" and {rest} more" if rest > 0 else ""
    caption = f"At the peak {run.steps[run.peak_step]} runs. Alive then: {', '.join(named)}{more}."
    return Card(title, activations(ident, title, run), caption)


def _phases_card(plan: Json, ident: str) -> Card:
    """Each component while its engine is built and while it runs, against the budget."""
    rows = []
    for key, verb in (("build_device", "build"), ("run", "run")):
        for name in sorted(plan["components"], key=lambda n: (n != "unet", n)):
            rows.append(_phase_row(f"{verb} {name}", plan["components"][name][key]))
    if plan["load"] == "together":
        rows.append(_phase_row("run both, loaded together", plan["run"]))
    budget = plan["budget_bytes"]
    limit = Limit(budget / MIB, f"budget {size(budget)}") if budget else None
    title = "Building and running on the device"
    return Card(title, bars(ident, title, rows, "MiB", limit), "What each takes by itself, predicted.", _LEGEND)


def _phase_row(label: str, phase: Json) -> Row:
    if not phase["peak_bytes"]:
        return Row(label, why="nothing: it is built on the host")
    segments = tuple(
        Segment(phase["parts"][band] / MIB, colour, f"{label}: {band} {size(phase['parts'][band])}")
        for band, colour in BANDS.items()
        if phase["parts"][band]
    )
    return Row(label, segments, mib(phase["peak_bytes"]))


def _table(plan: Json, ident: str) -> Table:
    columns = (
        Column("Phase", numeric=False),
        Column("Of", numeric=False),
        Column("Libraries", "MiB"),
        Column("Weights", "MiB"),
        Column("Workspace", "MiB"),
        Column("Activations", "MiB"),
        Column("Peak", "MiB"),
        Column("At", numeric=False),
    )
    notes = Notes()
    owners: list[tuple[str, Any]] = [
        ("all", plan),
        *sorted(plan["components"].items(), key=lambda item: item[0] != "unet"),
    ]
    rows = tuple(_table_row(phase, owner, found[phase], notes) for phase in _PHASES for owner, found in owners)
    return Table(ident, "Predicted memory by phase", columns, rows, tuple(notes.said))


def _table_row(phase: str, owner: str, found: Json, notes: Notes) -> tuple[Cell, ...]:
    if not found["peak_bytes"]:
        cells = [absent(notes, "nothing is built on this device: the host does it") for _ in range(6)]
        return (text(_PHASES[phase]), text(owner), *cells)
    parts = [figure(mib(found["parts"][band]), found["parts"][band]) for band in BANDS]
    node = text(found["peak_node"]) if found["peak_node"] else absent(notes, "the peak is not at one operator")
    return (text(_PHASES[phase]), text(owner), *parts, figure(mib(found["peak_bytes"]), found["peak_bytes"]), node)
