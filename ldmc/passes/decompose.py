"""Sparing the ONNX exporter a second trace: most networks have nothing left to decompose.

    aten.to.dtype(x, float16)         aten._to_copy(x, float16), or x itself
    aten.dropout(x, 0.0, False)  ->   aten.clone(x)
    aten.reshape(x, [-1, 32])         aten.view(x, [4096, 32])
    aten.chunk(x, 2, -1)              aten.split_with_sizes(x, [32, 32], -1)

`torch.onnx.export` first runs `ExportedProgram.run_decompositions`: the whole graph once more, twice, under
functionalisation and fake tensors, which is half of an export's time. Of diffusers' networks it changes the four
operators above and nothing else. So those are rewritten here in place; where an operator is left that the
exporter's table decomposes, or that writes into its input, the whole thing runs as it would have.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import torch


def spare_decomposition(program: torch.export.ExportedProgram) -> None:
    """Have `program.run_decompositions(table)` give `program` itself, rewritten, where that is all it would do."""
    import torch

    whole = program.run_decompositions

    def run_decompositions(table: dict[Any, Any] | None = None) -> torch.export.ExportedProgram:
        if table is None or not _is_core(program.graph, table):
            decomposed: torch.export.ExportedProgram = whole(table)
            return decomposed
        _rewrite(program.graph)
        return program

    program.run_decompositions = run_decompositions


def _is_core(graph: torch.fx.Graph, table: dict[Any, Any]) -> bool:
    """Whether every operator comes out of decomposing as it went in, or is one that `_rewrite` knows."""
    for node in graph.nodes:
        if node.op != "call_function" or node.target is operator.getitem or _is_rewritten(node):
            continue
        schema = getattr(node.target, "_schema", None)
        if node.target in table or schema is None or schema.is_mutable:
            return False
    return True


def _is_rewritten(node: torch.fx.Node) -> bool:
    import torch

    aten = torch.ops.aten
    if node.target is aten.to.dtype:
        return len(node.args) == 2 and not node.kwargs
    if node.target is aten.dropout.default:
        return node.args[2] is False
    if node.target is aten.chunk.default:
        return not node.kwargs and _side(node) > 0
    return node.target is aten.reshape.default


def _side(node: torch.fx.Node) -> int:
    """Of the axis that a chunk cuts."""
    value: Any = node.args[0]
    axis: Any = node.args[2] if len(node.args) > 2 else 0
    return int(value.meta["val"].shape[axis])


def _rewrite(graph: torch.fx.Graph) -> None:
    import torch

    aten = torch.ops.aten
    for node in list(graph.nodes):
        if node.target is aten.to.dtype:
            _cast(graph, node)
        elif node.target is aten.dropout.default:
            node.target, node.args = aten.clone.default, node.args[:1]
        elif node.target is aten.chunk.default:
            value, chunks, *axis = cast("tuple[Any, ...]", node.args)
            side = _side(node)
            size = -(-side // chunks)
            sizes = [min(size, side - start) for start in range(0, side, size)]
            node.target, node.args = aten.split_with_sizes.default, (value, sizes, *axis)
        elif node.target is aten.reshape.default:
            node.target, node.args = aten.view.default, (node.args[0], list(node.meta["val"].shape))


def _cast(graph: torch.fx.Graph, node: torch.fx.Node) -> None:
    """`to` gives its input back where that has the dtype already."""
    import torch

    value, dtype = node.args
    assert isinstance(value, torch.fx.Node)
    if value.meta["val"].dtype == dtype:
        node.replace_all_uses_with(value)
        graph.erase_node(node)
        return
    node.target, node.args, node.kwargs = torch.ops.aten._to_copy.default, (value,), {"dtype": dtype}
