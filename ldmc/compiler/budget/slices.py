"""A graph cut into parts, as far as memory goes: what `partition` would give, told from the summary alone.

    nodes 0..470 | 471..760 | 761..1118      cut so that the heaviest part weighs least

`partition` cuts where little crosses, so that its parts weigh a little more; a remedy is checked with the pass itself
when it is built.
"""

from __future__ import annotations

from collections.abc import Sequence

from ldmc.compiler.summary import GraphSummary, NodeSummary, TensorType
from ldmc.ir import TensorSpec


def cut(graph: GraphSummary, parts: int) -> tuple[GraphSummary, ...]:
    """`graph` in at most `parts` runs of nodes; a weight that several read is in each of them."""
    own_bytes = _first_read_bytes(graph)
    low, high = max(own_bytes, default=0), sum(own_bytes)
    while low < high:
        middle = (low + high) // 2
        if len(_bounds(own_bytes, middle)) > parts:
            low = middle + 1
        else:
            high = middle
    bounds = _bounds(own_bytes, low)
    types = graph.types()
    return tuple(
        _part(graph, types, start, stop) for start, stop in zip(bounds, [*bounds[1:], len(graph.nodes)])
    )


def _first_read_bytes(graph: GraphSummary) -> list[int]:
    """Bytes of weights that each node is the first to read."""
    seen: set[str] = set()
    found = []
    for node in graph.nodes:
        fresh = {name for name in node.inputs if name in graph.initializers} - seen
        seen |= fresh
        found.append(sum(graph.initializers[name].bytes for name in fresh))
    return found


def _bounds(own_bytes: Sequence[int], most: int) -> list[int]:
    """Where runs of at most `most` bytes start."""
    starts, total = [0], 0
    for number, size in enumerate(own_bytes):
        if total + size > most and total:
            starts.append(number)
            total = 0
        total += size
    return starts


def _part(graph: GraphSummary, types: dict[str, TensorType], start: int, stop: int) -> GraphSummary:
    nodes = graph.nodes[start:stop]
    made = {name for node in nodes for name in node.outputs if name}
    read = _names_read(nodes)
    later = _names_read(graph.nodes[stop:]) | {spec.name for spec in graph.outputs}
    weights = {name: weight for name, weight in graph.initializers.items() if name in read}
    inputs = [name for name in types if name in read and name not in made and name not in weights]
    outputs = [name for name in types if name in made and name in later]
    return GraphSummary(
        inputs=tuple(_spec(name, types[name]) for name in inputs),
        outputs=tuple(_spec(name, types[name]) for name in outputs),
        nodes=nodes,
        initializers=weights,
        opsets=graph.opsets,
        ir_version=graph.ir_version,
    )


def _names_read(nodes: Sequence[NodeSummary]) -> set[str]:
    return {name for node in nodes for name in node.inputs if name}


def _spec(name: str, kind: TensorType) -> TensorSpec:
    return TensorSpec(name, kind.dtype or "?", kind.static_shape or ())
