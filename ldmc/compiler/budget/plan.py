"""The whole picture against a target's budget.

    plan(target, {"unet": [graph], "decoder": [graph]})   ->   Plan: over by 4012 MiB, and what would make it fit

Components are built one after the other. They run together, or one at a time where the target loads them so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ldmc.compiler.budget import host
from ldmc.compiler.budget.engines import ComponentPlan, plan_component
from ldmc.compiler.budget.phases import Phase, largest, together
from ldmc.compiler.summary import GraphSummary
from ldmc.targets.target import MIB, Target

ONE_AT_A_TIME = "one-at-a-time"
_SHOWN = 3  # contributors that a complaint names


@dataclass(frozen=True)
class Remedy:
    """A change, and the peak predicted with it: that of the phase which is worst then.

    spec: a pass as typed, or what to do. budget_bytes: what it is held against.
    """

    spec: str
    peak_bytes: int
    budget_bytes: int

    @property
    def fits(self) -> bool:
        return self.peak_bytes <= self.budget_bytes

    def to_json(self) -> dict[str, Any]:
        return {"spec": self.spec, "peak_bytes": self.peak_bytes}


@dataclass(frozen=True)
class Plan:
    """What building and running take, predicted. budget_bytes: None where the target's memory is not known.

    load: how the runtime holds components. remedies: what would bring the peak down, least change first; () where all
    fits.
    """

    target: str
    budget_bytes: int | None
    load: str
    build_host: Phase
    build_device: Phase
    run: Phase
    components: tuple[ComponentPlan, ...]
    remedies: tuple[Remedy, ...] = field(default=())

    @property
    def phases(self) -> dict[str, Phase]:
        """By the names that they have in JSON."""
        return {"build_host": self.build_host, "build_device": self.build_device, "run": self.run}

    @property
    def device_peak(self) -> tuple[str, Phase]:
        """The worse of the phases that the budget is for, and its name. What the host holds is not the target's."""
        name = "build_device" if self.build_device.peak_bytes > self.run.peak_bytes else "run"
        return name, self.phases[name]

    @property
    def over_bytes(self) -> int:
        """By how much the worst phase on the device is over its budget; 0 where it fits, or where none is known."""
        if self.budget_bytes is None:
            return 0
        return max(self.device_peak[1].peak_bytes - self.budget_bytes, 0)

    @property
    def spare_bytes(self) -> int | None:
        """What the worst phase leaves of the budget; None where none is known."""
        return None if self.budget_bytes is None else self.budget_bytes - self.device_peak[1].peak_bytes

    @property
    def fits(self) -> bool:
        return self.over_bytes == 0

    def complaint(self) -> str:
        """One sentence: by how much it is over, where, and what it consists of. Empty where it fits."""
        if self.fits or self.budget_bytes is None:
            return ""
        name, phase = self.device_peak
        doing = "building" if name == "build_device" else "running"
        bound = "up to " if phase.basis == "documented multiple" else ""
        named = ", ".join(f"{what} {size / MIB:.0f}" for what, size in phase.contributors()[:_SHOWN])
        return (
            f"over by {self.over_bytes / MIB:.0f} MiB: {doing} {phase.owner} on {self.target} takes {bound}"
            f"{phase.peak_bytes / MIB:.0f} MiB of {self.budget_bytes / MIB:.0f} MiB ({named} MiB)"
        )

    def advice(self) -> str:
        """The remedies that make it fit, in one line; empty where there are none."""
        fitting = [remedy for remedy in self.remedies if remedy.fits]
        return "; ".join(f"{remedy.spec} ({remedy.peak_bytes / MIB:.0f} MiB)" for remedy in fitting)

    def to_json(self) -> dict[str, Any]:
        """The documented output of `ldmc plan --json`, and the bundle's reports/memory.json."""
        return {
            "target": self.target,
            "fits": self.fits,
            "budget_bytes": self.budget_bytes,
            "over_bytes": self.over_bytes,
            "load": self.load,
            **{name: phase.to_json() for name, phase in self.phases.items()},
            "remedies": [remedy.to_json() for remedy in self.remedies],
            "basis": {
                name: {"basis": phase.basis, "source": phase.source} for name, phase in self.phases.items()
            },
            "components": {component.name: _component_json(component) for component in self.components},
        }

    def timelines_json(self) -> dict[str, Any]:
        """The bundle's reports/timeline.json: what is alive while each operator runs; reports draw it."""
        return {component.name: component.timeline.to_json() for component in self.components}


def _component_json(component: ComponentPlan) -> dict[str, Any]:
    return {
        "passes": component.spec,
        "parts": component.parts,
        "weights_bytes": component.weights_bytes,
        "build_host": component.build_host.to_json(),
        "build_device": component.build_device.to_json(),
        "run": component.run.to_json(),
    }


def assess(
    target: Target,
    components: Mapping[str, Sequence[GraphSummary]],
    specs: Mapping[str, str] | None = None,
    *,
    load: str = "",
    float_bytes: int | None = None,
) -> Plan:
    """`planner.plan` without remedies. float_bytes: what a float takes, if not what the graphs say."""
    named = specs or {}
    planned = tuple(
        plan_component(name, named.get(name, ""), graphs, target, float_bytes)
        for name, graphs in components.items()
    )
    load = load or target.load
    return Plan(
        target=target.name,
        budget_bytes=target.memory.budget_bytes if target.memory else None,
        load=load,
        build_host=_build_host(planned, [graph for graphs in components.values() for graph in graphs]),
        build_device=largest([component.build_device for component in planned]),
        run=_run([component.run for component in planned], load),
        components=planned,
    )


def _build_host(planned: Sequence[ComponentPlan], graphs: Sequence[GraphSummary]) -> Phase:
    """The worst component's, with what ldmc's own process holds for the graphs of all."""
    worst = largest([component.build_host for component in planned])
    every = host.own_process(graphs)
    return replace(worst, workspace_bytes=max(worst.workspace_bytes, every.workspace_bytes))


def _run(phases: Sequence[Phase], load: str) -> Phase:
    return largest(phases) if load == ONE_AT_A_TIME else together(phases, shared_scratch=False)
