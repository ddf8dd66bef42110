"""Graphs small enough to count by hand. A float[256] is 1 KiB, a float[262144] 1 MiB."""

from __future__ import annotations

import onnx_ir as ir

from ldmc.compiler.graph import summarise
from ldmc.compiler.summary import GraphSummary, Initializer

KIB, MIB = 2**10, 2**20


def graph_of(body: str, inputs: str = "float[256] x", outputs: str = "float[256] y") -> GraphSummary:
    """A graph from ONNX text, nodes named after their first output."""
    text = f'<ir_version: 10, opset_import: ["" : 18]> g ({inputs}) => ({outputs}) {{ {body} }}'
    model = ir.from_onnx_text(text)
    for node in model.graph:
        node.name = node.outputs[0].name
    return summarise(model)


def weighing(*mib: int, dtype: str = "float32") -> GraphSummary:
    """A chain of `y = w * x`, one node for each weight of so many MiB; activations of 1 KiB."""
    width = 4 if dtype == "float32" else 2
    names = ["x", *(f"v{k}" for k in range(len(mib) - 1)), "y"]
    kind = "float" if dtype == "float32" else "float16"
    body = " ".join(
        f"{after} = Mul ({before}, w{k})" for k, (before, after) in enumerate(zip(names, names[1:]))
    )
    inputs = ", ".join([f"{kind}[256] x", *(f"{kind}[256] w{k}" for k in range(len(mib)))])
    graph = graph_of(body, inputs, f"{kind}[256] y")
    weights = {f"w{k}": Initializer(dtype, (size * MIB // width,), size * MIB) for k, size in enumerate(mib)}
    return GraphSummary(graph.inputs[:1], graph.outputs, graph.nodes, weights, graph.opsets, graph.ir_version)
