"""A component cut into parts, counted and looked at as the one network it is.

unet.0: 470 nodes     unet.1: 168 nodes     unet.2: 481 nodes
the whole: 1119 nodes; weights that several parts read, once; memory of the worst part, and what waits meanwhile
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ldmc.compiler.graph import measure, summarise
from ldmc.compiler.summary import GraphSummary, Initializer
from ldmc.ir import Component
from ldmc.passes.cutting.crossing import Crossing, crossing_bytes, crossings


@dataclass(frozen=True)
class PartRecord:
    """One part as reports keep it. crosses: what is handed over the cut behind it."""

    name: str
    nodes: int
    bytes: int
    macs: int | None
    crosses: tuple[Crossing, ...]

    def to_json(self) -> dict[str, Any]:
        """As written into reports and `--json` output."""
        return {
            "name": self.name,
            "nodes": self.nodes,
            "bytes": self.bytes,
            "macs": self.macs,
            "crossing_bytes": crossing_bytes(self.crosses),
            "crosses": [value.to_json() for value in self.crosses],
        }


def summarise_parts(component: Component) -> tuple[GraphSummary, tuple[PartRecord, ...]]:
    """The whole of a PARTS component as one graph, and each part on its own.

    A node that several parts compute, a view or a cast of what crosses, is in the graph once for each.
    """
    parts: tuple[Component, ...] = component.payload.parts
    graphs = [summarise(part.payload) for part in parts]
    weights: dict[str, Initializer] = {}
    for graph in graphs:
        weights.update(graph.initializers)
    whole = GraphSummary(
        inputs=component.inputs,
        outputs=component.outputs,
        nodes=tuple(node for graph in graphs for node in graph.nodes),
        initializers=weights,
        opsets=graphs[0].opsets,
        ir_version=graphs[0].ir_version,
    )
    stats = replace(measure(whole), peak_activation_bytes=_peak(parts, graphs))
    cuts = [*crossings(parts), ()]
    records = tuple(
        PartRecord(part.name, graph.stats.nodes, graph.stats.bytes, graph.stats.macs, cut)
        for part, graph, cut in zip(parts, graphs, cuts, strict=True)
    )
    return replace(whole, stats=stats), records


def _peak(parts: Sequence[Component], graphs: Sequence[GraphSummary]) -> int | None:
    """Most bytes alive while any part runs: its own, and what passes it by on the way to a later one."""
    cuts = crossings(parts)
    peaks = []
    for number, (part, graph) in enumerate(zip(parts, graphs, strict=True)):
        own = graph.stats.peak_activation_bytes
        if own is None:
            return None
        touched = {spec.name for spec in (*part.inputs, *part.outputs)}
        waiting = cuts[number - 1] if number else ()
        kept = [v for v in waiting if v.spec.name not in touched and v in (*cuts, ())[number]]
        peaks.append(own + crossing_bytes(kept))
    return max(peaks)
