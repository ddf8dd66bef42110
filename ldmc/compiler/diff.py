"""What differs between two graphs: the operator table, the totals, and the nodes added, removed and changed.

    a                       b
    c = Conv(x, w)          c = Conv(x, w)              op   a  b  change
    d = Div(c, two)         y = Mul(c, half)            Div  1  0      -1
    y = Mul(d, four)                                    Mul  1  1       0
    removed: d.  changed: y (input 0: d -> c, ...)

A node is known by its first output's name, which passes keep for what they do not touch. Node names and the
order of nodes are no difference in themselves (order shows in the peak of live activations). Weights are
compared by name, dtype and shape: their values are never read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ldmc.compiler.summary import GraphSummary, Initializer, NodeSummary, TensorType
from ldmc.ir import Stats, TensorSpec


class OpCount(NamedTuple):
    """How often an operator stands in each graph."""

    op: str
    a: int
    b: int


class Total(NamedTuple):
    """One of the totals. unit: `count`, `bytes` or `macs`. None: not known, for want of shapes."""

    name: str
    unit: str
    a: int | None
    b: int | None


class Change(NamedTuple):
    """One thing that is otherwise in b, as text; "" where it is only in the other graph."""

    what: str
    a: str
    b: str


class NodeChange(NamedTuple):
    """A node of both graphs, by its first output's name, and all that differs in it."""

    output: str
    op: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class GraphDiff:
    """What differs between graphs a and b; everything is sorted or in running order.

    stats_a, stats_b: the whole counts. ops: all operators of both, by name.
    added, removed: nodes only in b, only in a.
    changed: nodes of both that differ in op, attributes, inputs, outputs or output types.
    io: graph inputs and outputs that differ, in position, name, dtype or shape.
    versions: operator sets and IR version.
    weights: initializers that differ in dtype or shape or are only in one.
    """

    stats_a: Stats
    stats_b: Stats
    ops: tuple[OpCount, ...]
    added: tuple[NodeSummary, ...] = ()
    removed: tuple[NodeSummary, ...] = ()
    changed: tuple[NodeChange, ...] = ()
    io: tuple[Change, ...] = ()
    versions: tuple[Change, ...] = ()
    weights: tuple[Change, ...] = ()

    @property
    def totals(self) -> tuple[Total, ...]:
        """Nodes, parameters, bytes, MACs and peak of live activations, in this order."""
        a, b = self.stats_a, self.stats_b
        return (
            Total("nodes", "count", a.nodes, b.nodes),
            Total("params", "count", a.params, b.params),
            Total("bytes", "bytes", a.bytes, b.bytes),
            Total("macs", "macs", a.macs, b.macs),
            Total("peak_activation_bytes", "bytes", a.peak_activation_bytes, b.peak_activation_bytes),
        )

    @property
    def equal(self) -> bool:
        """True only where nothing at all differs."""
        differences = (self.added, self.removed, self.changed, self.io, self.versions, self.weights)
        return self.stats_a == self.stats_b and not any(differences)


def diff_graphs(a: GraphSummary, b: GraphSummary) -> GraphDiff:
    """Compare two graphs; weights by name, dtype and shape only."""
    nodes_a, nodes_b = _by_key(a), _by_key(b)
    ops = sorted({*a.stats.ops, *b.stats.ops})
    return GraphDiff(
        stats_a=a.stats,
        stats_b=b.stats,
        ops=tuple(OpCount(op, a.stats.ops.get(op, 0), b.stats.ops.get(op, 0)) for op in ops),
        added=tuple(node for key, node in nodes_b.items() if key not in nodes_a),
        removed=tuple(node for key, node in nodes_a.items() if key not in nodes_b),
        changed=tuple(_changed_nodes(nodes_a, nodes_b)),
        io=(*_io_changes("input", a.inputs, b.inputs), *_io_changes("output", a.outputs, b.outputs)),
        versions=tuple(_changes(_versions(a), _versions(b))),
        weights=tuple(_changes(_weights(a.initializers), _weights(b.initializers))),
    )


def _by_key(graph: GraphSummary) -> dict[str, NodeSummary]:
    return {node.key: node for node in graph.nodes}


def _changed_nodes(
    nodes_a: Mapping[str, NodeSummary], nodes_b: Mapping[str, NodeSummary]
) -> Iterator[NodeChange]:
    for key, node in nodes_b.items():
        before = nodes_a.get(key)
        if before is None:
            continue
        changes = (*_changes(_facts(before), _facts(node)), *_type_changes(before, node))
        if changes:
            yield NodeChange(key, node.op, changes)


def _facts(node: NodeSummary) -> dict[str, str]:
    """What a node is compared by besides its types, as label -> text."""
    facts = {"op": node.op}
    facts |= {f"input {index}": name for index, name in enumerate(node.inputs)}
    facts |= {f"output {index}": name for index, name in enumerate(node.outputs)}
    return facts | {f"attribute {name}": text for name, text in sorted(node.attributes.items())}


def _type_changes(a: NodeSummary, b: NodeSummary) -> Iterator[Change]:
    """Types that contradict each other; what one graph does not know of a type is no difference."""
    for index, (before, after) in enumerate(zip(a.types, b.types)):
        if not before.agrees(after):
            yield Change(f"type {index}", str(before), str(after))


def _versions(graph: GraphSummary) -> dict[str, str]:
    facts = {f"opset {domain or 'ai.onnx'}": str(version) for domain, version in sorted(graph.opsets.items())}
    return facts if graph.ir_version is None else facts | {"IR version": str(graph.ir_version)}


def _weights(initializers: Mapping[str, Initializer]) -> dict[str, str]:
    return {name: str(weight.type) for name, weight in sorted(initializers.items())}


def _io_changes(kind: str, a: tuple[TensorSpec, ...], b: tuple[TensorSpec, ...]) -> Iterator[Change]:
    """Differences by position: the order of inputs and outputs is part of the interface."""
    yield from _changes(_positions(kind, a), _positions(kind, b))


def _positions(kind: str, specs: tuple[TensorSpec, ...]) -> dict[str, str]:
    return {f"{kind} {index}": f"{spec.name} {TensorType.of(spec)}" for index, spec in enumerate(specs)}


def _changes(a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[Change]:
    """What has another text in b, then what is only in one of the two, in a's order, then b's."""
    for what in (*a, *(what for what in b if what not in a)):
        if a.get(what, "") != b.get(what, ""):
            yield Change(what, a.get(what, ""), b.get(what, ""))
