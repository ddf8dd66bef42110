"""Making the parts: each a graph of its own over the same tensors, reading and giving values by their names."""

from __future__ import annotations

import onnx_ir as ir

from ldmc.ir import Component, Form, TensorSpec
from ldmc.passes.cutting.line import Line


def split(component: Component, line: Line, places: list[int]) -> tuple[Component, ...]:
    """The parts of `component`, an ONNX component of which `line` is made, cut at `places`; the component is kept.

    Its inputs and outputs keep their names, and so does every value that crosses. A constant that several parts read
    is in each of them, the same tensor. What a part computes and nobody reads is left out.
    """
    if not places:
        return (component,)
    outputs = list(component.payload.graph.outputs)
    bounds = [0, *places, len(line.nodes)]
    parts: list[Component] = []
    wanted: list[ir.Value] = []  # what the parts after this one read
    for number in reversed(range(len(places) + 1)):
        start = bounds[number]
        own = [value for value in outputs if start <= line.defined[value] < bounds[number + 1]]
        gives = [value for value in wanted if value not in own]
        before = line.cover(_read_before(line, [*gives, *own], start))
        made = [value for value in gives if value not in before]
        parts.append(_part(f"{component.name}.{number}", component.payload, before, [*made, *own]))
        wanted = before
    return tuple(reversed(parts))


def _read_before(line: Line, outputs: list[ir.Value], start: int) -> set[ir.Value]:
    """What must be there at place `start` so that `outputs` can be made after it."""
    found: set[ir.Value] = set()
    pending = list(outputs)
    seen: set[ir.Value] = set()
    while pending:
        value = pending.pop()
        if value in seen or value in line.inputs or value in line.constants:
            continue
        seen.add(value)
        if line.defined[value] < start:
            found.add(value)
            continue
        pending.extend(read for read in line.nodes[line.defined[value]].inputs if read is not None)
    return found


def _part(name: str, model: ir.Model, reads: list[ir.Value], gives: list[ir.Value]) -> Component:
    """The nodes between `reads` (and the model's inputs) and `gives`, as a component."""
    inputs = [*model.graph.inputs, *reads]
    graph = ir.convenience.extract(model.graph, inputs, gives)
    for value in list(graph.inputs):
        if not value.uses():
            graph.inputs.remove(value)
    _order_initializers(graph, model.graph)
    part = ir.Model(
        graph,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        functions=list(model.functions.values()),
        metadata_props=dict(model.metadata_props),
    )
    return Component(name, Form.ONNX, part, tuple(map(_spec, graph.inputs)), tuple(map(_spec, graph.outputs)))


def _order_initializers(graph: ir.Graph, like: ir.Graph) -> None:
    """The order of the whole graph: the extractor keeps none, and the same input must give the same bytes."""
    weights = dict(graph.initializers)
    graph.initializers.clear()
    for name in like.initializers:
        if name in weights:
            graph.initializers.add(weights[name])


def _spec(value: ir.Value) -> TensorSpec:
    assert value.name is not None and value.dtype is not None and value.shape is not None
    return TensorSpec(value.name, value.dtype.numpy().name, tuple(int(d) for d in value.shape.numpy()))


def weight_bytes(part: Component) -> int:
    """Bytes of the constants of an ONNX component, each tensor once."""
    weights = (value.const_value for value in part.payload.graph.initializers.values())
    return sum({id(tensor): tensor.nbytes for tensor in weights if tensor is not None}.values())
