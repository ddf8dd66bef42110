"""One stage: a pass applied to a component, measured by the driver and written as a report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from ldmc.compiler.graph import GraphSummary, summarise
from ldmc.compiler.parts import PartRecord, summarise_parts
from ldmc.ir import Component, Form, Package, Script, Stats


@dataclass(frozen=True)
class Snapshot:
    """A component as it stands between two stages. graph is None for forms that have none; parts () for one file."""

    form: Form
    stats: Stats
    graph: GraphSummary | None
    parts: tuple[PartRecord, ...] = ()


def snapshot(component: Component) -> Snapshot:
    """Count a component without running it or reading a weight."""
    if component.form is Form.ENGINE:
        return replace(snapshot(component.payload.source), form=Form.ENGINE)
    if component.form is Form.ONNX:
        graph = summarise(component.payload)
        assert graph.stats is not None
        return Snapshot(component.form, graph.stats, graph)
    if component.form is Form.PARTS:
        whole, parts = summarise_parts(component)
        return Snapshot(component.form, whole.stats, whole, parts)
    if component.form is Form.TORCHSCRIPT:
        return Snapshot(component.form, _script_stats(component.payload), None)
    if component.form is Form.AOTI:
        return Snapshot(component.form, _package_stats(component.payload), None)
    return Snapshot(component.form, _module_stats(component.payload.module), None)


def _module_stats(module: Any) -> Stats:
    """Leaf modules by type; parameters and bytes as declared."""
    leaves = [m for m in module.modules() if next(m.children(), None) is None]
    parameters = list(module.parameters())
    return Stats(
        nodes=len(leaves),
        ops=dict(sorted(Counter(type(leaf).__name__ for leaf in leaves).items())),
        params=sum(p.numel() for p in parameters),
        bytes=sum(p.numel() * p.element_size() for p in parameters),
    )


def _script_stats(script: Script) -> Stats:
    """Operators of the graph by kind, such as `aten::linear`; constants are no operators."""
    kinds = Counter(node.kind() for node in script.module.inlined_graph.nodes())
    del kinds["prim::Constant"]
    declared = _module_stats(script.network.module)
    return replace(declared, nodes=kinds.total(), ops=dict(sorted(kinds.items())))


def _package_stats(package: Package) -> Stats:
    """Operators that the package was compiled from; its kernels are fewer."""
    declared = _module_stats(package.network.module)
    return replace(declared, nodes=sum(package.ops.values()), ops=package.ops)


@dataclass(frozen=True)
class StageRecord:
    """What one pass did to one component.

    number: 1, 2, ... for this component. spec: the pass in canonical form. status: `done`, or `pending` on the device.
    """

    number: int
    component: str
    name: str
    spec: str
    status: str
    before: Snapshot
    after: Snapshot
    seconds: float
    peak_rss_bytes: int | None
    remarks: tuple[str, ...]

    @property
    def stage(self) -> str:
        """`03-fold`, the name users refer to it by."""
        return f"{self.number:02d}-{self.name}"

    @property
    def report_path(self) -> str:
        """Where the report lies in the bundle."""
        return f"reports/{self.component}/{self.stage}.json"

    def report(self) -> dict[str, Any]:
        """The file at `report_path`: everything but what differs from run to run (seconds, memory)."""
        return {
            "component": self.component,
            "pass": self.spec,
            "stage": self.stage,
            "form": str(self.after.form),
            "before": self.before.stats.to_json(),
            "after": self.after.stats.to_json(),
            "graph": self.after.graph.to_json() if self.after.graph else None,
            "parts": [part.to_json() for part in self.after.parts],
            "remarks": list(self.remarks),
        }

    def manifest_entry(self) -> dict[str, Any]:
        """The manifest's line for this stage."""
        return {
            "component": self.component,
            "pass": self.spec,
            "status": self.status,
            "report": self.report_path,
            "nodes_before": self.before.stats.nodes,
            "nodes_after": self.after.stats.nodes,
        }

    def to_json(self) -> dict[str, Any]:
        """The line of `ldmc build --json`."""
        before, after = self.before.stats, self.after.stats
        return {
            "component": self.component,
            "pass": self.spec,
            "stage": self.stage,
            "status": self.status,
            "seconds": self.seconds,
            "peak_rss_bytes": self.peak_rss_bytes,
            "nodes_before": before.nodes,
            "nodes_after": after.nodes,
            "ops_before": dict(before.ops),
            "ops_after": dict(after.ops),
            "bytes_before": before.bytes,
            "bytes_after": after.bytes,
            "params_before": before.params,
            "params_after": after.params,
            "macs_before": before.macs,
            "macs_after": after.macs,
            "parts": [part.to_json() for part in self.after.parts],
            "remarks": list(self.remarks),
        }
