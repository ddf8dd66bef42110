"""How many multiply-accumulates one run of a graph takes, from shapes alone.

Counted: Conv, ConvTranspose, MatMul, Gemm; a bias is not a multiplication. Everything else counts 0: in a
diffusion UNet it is under a hundredth of the work. A node inside a loop's body counts once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ldmc.compiler.summary import GraphSummary, NodeSummary, TensorType

Shape = tuple[int, ...]
NOT_KNOWN = TensorType(None, None)


def _conv(node: NodeSummary, data: Shape, weight: Shape, output: Shape) -> int:
    """weight is [Cout, Cin/group, k...]: every output element sums Cin/group * k products."""
    return math.prod(output) * math.prod(weight[1:])


def _conv_transpose(node: NodeSummary, data: Shape, weight: Shape, output: Shape) -> int:
    """weight is [Cin, Cout/group, k...]: every input element is spread over Cout/group * k products."""
    return math.prod(data) * math.prod(weight[1:])


def _matmul(node: NodeSummary, left: Shape, right: Shape, output: Shape) -> int:
    return math.prod(output) * left[-1]


def _gemm(node: NodeSummary, left: Shape, right: Shape, output: Shape) -> int:
    return math.prod(output) * left[0 if node.attributes.get("transA", "0") == "1" else 1]


COUNTERS: Mapping[str, Callable[[NodeSummary, Shape, Shape, Shape], int]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "Gemm": _gemm,
}


def node_macs(node: NodeSummary, types: Mapping[str, TensorType]) -> int | None:
    """Multiply-accumulates of one node; 0 for operators not counted, None where a needed shape is not known.

    types: value name -> type, as `GraphSummary.types()` gives it.
    """
    counter = COUNTERS.get(node.op)
    if counter is None:
        return 0
    names = (*node.inputs[:2], *node.outputs[:1])
    shapes = [types.get(name, NOT_KNOWN).static_shape for name in names]
    first, second, output = (*shapes, None, None, None)[:3]
    if not first or not second or output is None:
        return None
    return counter(node, first, second, output)


def graph_macs(graph: GraphSummary) -> int | None:
    """Multiply-accumulates of one run; None where any counted node's shapes are not known."""
    types = graph.types()
    total = 0
    for node in graph.nodes:
        macs = node_macs(node, types)
        if macs is None:
            return None
        total += macs
    return total
