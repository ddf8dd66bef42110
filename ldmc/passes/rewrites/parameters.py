"""Operators that work on constants alone become constants, computed when they are written.

    Transpose(to_q.weight) -> MatMul     ->    MatMul(to_q.weight')
    Unsqueeze(norm.weight) -> Mul        ->    Mul(norm.weight')

What would make the constants grow (Expand, Tile) is left in the graph.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from ldmc.passes.lazy import derived

_IMPURE = frozenset(
    ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")
)
_SUBGRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def fold(model: ir.Model, allowance_bytes: int) -> int:
    """Fold nodes over constants while all constants together grow by at most `allowance_bytes`; how many."""
    graph, count, left_bytes = model.graph, 0, allowance_bytes
    opset = model.opset_imports[""]
    for node in list(graph):
        if not _foldable(node, graph) or _growth_bytes(node) > left_bytes:
            continue
        left_bytes -= _growth_bytes(node)
        inputs = [
            value.const_value for value in node.inputs if value is not None and value.const_value is not None
        ]
        output = node.outputs[0]
        constant = ir.Value(name=output.name, type=output.type, shape=output.shape)
        constant.const_value = derived(node, inputs, opset)
        ir.convenience.replace_all_uses_with(output, constant)
        graph.remove(node, safe=True)
        graph.initializers.add(constant)
        count += 1
    _drop_unused(graph)
    return count


def _foldable(node: ir.Node, graph: ir.Graph) -> bool:
    if node.domain != "" or node.op_type in _IMPURE or len(node.outputs) != 1 or not node.inputs:
        return False
    if any(attribute.type in _SUBGRAPHS for attribute in node.attributes.values()):
        return False
    output = node.outputs[0]
    if output in graph.outputs or output.dtype is None or output.shape is None:
        return False
    inputs = [value for value in node.inputs if value is not None]
    return output.shape.is_static() and all(
        value.const_value is not None and value.is_initializer() and not value.is_graph_input()
        for value in inputs
    )


def _growth_bytes(node: ir.Node) -> int:
    """By how much the constants grow when `node` becomes one: what only it reads goes."""
    output = node.outputs[0]
    assert output.dtype is not None and output.shape is not None
    size = math.prod(output.shape.numpy()) * output.dtype.itemsize
    freed = {
        value for value in node.inputs if value is not None and all(u.node is node for u in value.uses())
    }
    return int(size) - sum(value.const_value.nbytes for value in freed if value.const_value is not None)


def _drop_unused(graph: ir.Graph) -> None:
    for name, value in list(graph.initializers.items()):
        if not value.uses():
            graph.initializers.pop(name)
