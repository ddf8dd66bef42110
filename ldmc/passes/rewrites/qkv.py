"""Projections of one tensor by several weights become one.

    q = x Wq + bq                     q, k, v = Split(x [Wq Wk Wv] + [bq bk bv])
    k = x Wk + bk          ->
    v = x Wv + bv

One large MatMul keeps more of the machine busy than three small ones, and reads x once. The merged
weight is joined when it is written. This is the step from MatMul 96 to 64 in the reference
project's Figure 3.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import onnx_ir as ir

from ldmc.passes.lazy import concatenated


@dataclass(frozen=True)
class _Projection:
    """x W, or x W + b: `output` is what the rest of the graph reads."""

    matmul: ir.Node
    weight: ir.Value
    add: ir.Node | None
    bias: ir.Value | None
    output: ir.Value


def merge(model: ir.Model, *, biases: bool = True) -> int:
    """Merge every group of two or more projections of one tensor; how many groups.

    biases: merge their biases, too; else each is added after the Split.
    """
    graph = model.graph
    groups: dict[tuple[ir.Value, str, bool, ir.DataType], list[_Projection]] = defaultdict(list)
    for node in graph:
        projection = _projection(node, graph, biases=biases)
        if projection is not None:
            source = node.inputs[0]
            assert source is not None and projection.weight.dtype is not None
            key = (source, _owner(node), projection.add is not None, projection.weight.dtype)
            groups[key].append(projection)
    merged = [group for group in groups.values() if len(group) > 1]
    for group in merged:
        _merge_group(graph, group, model.opset_imports[""])
    return len(merged)


def _owner(node: ir.Node) -> str:
    """The module around the one a node comes from: `a.attn` for `a.attn.to_q/MatMul`.

    Only projections of one module merge: all cross-attentions of a UNet read the same text, and joining them
    would hold the keys and values of all at once.
    """
    return (node.name or "").partition("/")[0].rpartition(".")[0]


def _projection(node: ir.Node, graph: ir.Graph, *, biases: bool) -> _Projection | None:
    """`node` as a projection by a constant matrix, if it is one; with its bias where `biases` are wanted."""
    if node.op_type != "MatMul" or node.domain != "":
        return None
    source, weight = node.inputs
    if source is None or source.const_value is not None or not _is_weight(weight, graph, rank=2):
        return None
    assert weight is not None
    product = node.outputs[0]
    users = [use.node for use in product.uses()]
    if biases and len(users) == 1 and users[0].op_type == "Add" and product not in graph.outputs:
        bias = next((value for value in users[0].inputs if value is not product), None)
        output = users[0].outputs[0]
        if _is_bias(bias, weight, graph) and output not in graph.outputs:
            return _Projection(node, weight, users[0], bias, output)
    return None if product in graph.outputs else _Projection(node, weight, None, None, product)


def _is_weight(value: ir.Value | None, graph: ir.Graph, *, rank: int) -> bool:
    if value is None or value.const_value is None or value.name not in graph.initializers:
        return False
    return len(value.const_value.shape) == rank


def _is_bias(value: ir.Value | None, weight: ir.Value, graph: ir.Graph) -> bool:
    """One number for each column of `weight`: a bias that is broadcast cannot be joined to others."""
    if value is None or not _is_weight(value, graph, rank=1):
        return False
    assert value.const_value is not None and weight.const_value is not None
    return value.const_value.shape[0] == weight.const_value.shape[1]


def _merge_group(graph: ir.Graph, group: list[_Projection], opset: int) -> None:
    first = group[0]
    stem = _common_stem([p.matmul.name or p.output.name or "" for p in group])
    weight = _join(graph, [p.weight for p in group], axis=1, name=f"{stem}.weight")
    matmul = ir.node("MatMul", [first.matmul.inputs[0], weight], name=f"{stem}/MatMul")
    nodes, last = [matmul], matmul
    if first.add is not None:
        bias = _join(graph, [p.bias for p in group if p.bias is not None], axis=0, name=f"{stem}.bias")
        last = ir.node("Add", [matmul.outputs[0], bias], name=f"{stem}/Add")
        nodes.append(last)
    widths = [p.weight.const_value.shape.numpy()[1] for p in group if p.weight.const_value]
    split = _split(graph, last.outputs[0], widths, f"{stem}/Split", opset)
    nodes.append(split)
    _type_outputs(first, nodes, sum(widths))
    graph.insert_before(first.matmul, nodes)
    for projection, output in zip(group, split.outputs, strict=True):
        old = projection.output
        output.type, output.shape, output.name = old.type, old.shape, old.name
        ir.convenience.replace_all_uses_with(old, output)
        for dead in filter(None, (projection.add, projection.matmul)):
            graph.remove(dead, safe=True)
    for projection in group:
        for value in filter(None, (projection.weight, projection.bias)):
            if not value.uses() and value.name is not None:
                graph.initializers.pop(value.name, None)


def _split(graph: ir.Graph, value: ir.Value, widths: list[int], name: str, opset: int) -> ir.Node:
    """Split of the last axis of `value`; its sizes are an attribute before opset 13, an input since."""
    if opset < 13:
        return ir.node("Split", [value], {"axis": -1, "split": widths}, num_outputs=len(widths), name=name)
    sizes = ir.Value(name=f"{name}.sizes", const_value=ir.tensor(widths, dtype=ir.DataType.INT64))
    sizes.shape, sizes.type = ir.Shape([len(widths)]), ir.TensorType(ir.DataType.INT64)
    graph.initializers.add(sizes)
    return ir.node("Split", [value, sizes], {"axis": -1}, num_outputs=len(widths), name=name)


def _join(graph: ir.Graph, values: list[ir.Value], *, axis: int, name: str) -> ir.Value:
    tensors = [value.const_value for value in values if value.const_value is not None]
    tensor = concatenated(tensors, axis, name)
    joined = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.initializers.add(joined)
    return joined


def _type_outputs(first: _Projection, nodes: list[ir.Node], width: int) -> None:
    """Shapes of the merged MatMul and Add: the single projection's, with the joined width."""
    old = first.output
    for node in nodes[:-1]:
        value = node.outputs[0]
        value.name, value.type = node.name, old.type
        if old.shape is not None:
            value.shape = ir.Shape([*old.shape[:-1], width])


def _common_stem(names: list[str]) -> str:
    """`a.b.to_q/MatMul`, `a.b.to_k/MatMul` -> `a.b.to_q+to_k`."""
    paths = [name.partition("/")[0].rpartition(".") for name in names]
    leaves = "+".join(leaf for _, _, leaf in paths)
    return f"{paths[0][0]}.{leaves}" if paths[0][0] else leaves
