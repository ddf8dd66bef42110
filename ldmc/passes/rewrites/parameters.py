"""Operators that work on constants alone become constants, computed when they are written.

    Transpose(to_q.weight) -> MatMul     ->    MatMul(to_q.weight')
    Unsqueeze(norm.weight) -> Mul        ->    Mul(norm.weight')

What would make the constants grow (Expand, Tile) is left in the graph.
"""

from __future__ import annotations

import onnx_ir as ir

from ldmc.passes.lazy import derived

_IMPURE = frozenset(("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"))


def fold(model: ir.Model, allowance_bytes: int) -> int:
    """Fold every node over constants whose result is at most `allowance_bytes` larger than its inputs; how many."""
    graph, count = model.graph, 0
    opset = model.opset_imports[""]
    for node in list(graph):
        if not _foldable(node, graph, allowance_bytes):
            continue
        inputs = [value.const_value for value in node.inputs if value is not None and value.const_value is not None]
        output = node.outputs[0]
        constant = ir.Value(name=output.name, type=output.type, shape=output.shape)
        constant.const_value = derived(node, inputs, opset)
        ir.convenience.replace_all_uses_with(output, constant)
        graph.remove(node, safe=True)
        graph.initializers.add(constant)
        count += 1
    _drop_unused(graph)
    return count


def _foldable(node: ir.Node, graph: ir.Graph, allowance_bytes: int) -> bool:
    if node.domain != "" or node.op_type in _IMPURE or len(node.outputs) != 1 or not node.inputs:
        return False
    output = node.outputs[0]
    if output in graph.outputs or output.dtype is None or output.shape is None or not output.shape.is_static():
        return False
    if any(value is not None and value.const_value is None for value in node.inputs):
        return False
    size = int(output.shape.numpy().__len__() and _elements(output.shape)) * output.dtype.itemsize
    taken = sum(value.const_value.nbytes for value in node.inputs if value is not None and value.const_value)
    return size - taken <= allowance_bytes


def _elements(shape: ir.Shape) -> int:
    count = 1
    for side in shape.numpy():
        count *= side
    return count


def _drop_unused(graph: ir.Graph) -> None:
    for name, value in list(graph.initializers.items()):
        if not value.uses():
            graph.initializers.pop(name)
