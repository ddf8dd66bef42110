"""The most bytes of activations alive at once when a graph runs node by node, from shapes alone.

    node     writes      live while it runs
    conv     c 8 MiB     x, c
    sigmoid  s 8 MiB     x, c, s          <- peak: x + 16 MiB
    mul      y 8 MiB     x, c, s, y  ...

The model, which is what an engine with a perfect allocator and no in-place operators would need:
- nodes run in the order in which they stand; outputs are allocated before a node runs, inputs freed after;
- a tensor is freed after its last use; an output nobody reads is freed at once;
- graph inputs are the caller's and stay for the whole run; graph outputs stay from their node to the end;
- initializers and Constants are weights, not activations: 0 bytes here;
- Reshape, Flatten, Squeeze, Unsqueeze and Identity are views: no new bytes, and what they view stays alive;
- what a loop carries from one turn to the next is not counted, and its body counts as if run once;
- workspaces (im2col, GEMM packing), arena slack and alignment are not in it: they belong to the engine.
"""

from __future__ import annotations

from typing import NamedTuple

from ldmc.compiler.summary import VIEW_OPS, GraphSummary


class Peak(NamedTuple):
    """bytes: live activations at the worst moment. node: name of the node running then; "" before any."""

    bytes: int
    node: str


def buffers(graph: GraphSummary) -> dict[str, str]:
    """Value name -> name of the value whose memory it is: itself, or what it views. Weights are left out."""
    owner = {spec.name: spec.name for spec in graph.inputs}
    for node in graph.nodes:
        if node.op == "Constant":
            continue
        if node.op not in VIEW_OPS:
            owner.update((name, name) for name in node.outputs if name)
        elif node.inputs[0] in owner:
            owner[node.outputs[0]] = owner[node.inputs[0]]
    return owner


def last_uses(graph: GraphSummary, owner: dict[str, str]) -> dict[str, int]:
    """Buffer -> index of the last node that reads or writes it; `len(nodes)` where it outlives the run."""
    last: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        last.update((owner[name], index) for name in (*node.inputs, *node.outputs) if name in owner)
    kept = (*graph.inputs, *graph.outputs)
    return last | {owner[spec.name]: len(graph.nodes) for spec in kept if spec.name in owner}


def live_bytes(graph: GraphSummary) -> list[int] | None:
    """Bytes of live activations while each node runs, in node order, after one entry for the inputs alone.

    None where the size of an activation is not known.
    """
    owner = buffers(graph)
    last = last_uses(graph, owner)
    types = graph.types()
    sizes = {name: types[name].size_bytes if name in types else None for name in set(owner.values())}
    live = 0
    for spec in graph.inputs:
        size = sizes[spec.name]
        if size is None:
            return None
        live += size
    timeline = [live]
    dying: dict[int, int] = {}
    for index, node in enumerate(graph.nodes):
        for name in node.outputs:
            if owner.get(name) != name:
                continue
            size = sizes[name]
            if size is None:
                return None
            live += size
            dying[last[name]] = dying.get(last[name], 0) + size
        timeline.append(live)
        live -= dying.pop(index, 0)
    return timeline


def peak_activation(graph: GraphSummary) -> Peak | None:
    """The worst moment of one run; the earliest where several are equal. None where a size is not known."""
    timeline = live_bytes(graph)
    if timeline is None:
        return None
    worst = max(timeline)
    index = timeline.index(worst)
    return Peak(worst, graph.nodes[index - 1].name if index else "")
