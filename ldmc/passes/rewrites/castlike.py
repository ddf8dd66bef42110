"""CastLike of a known type is a Cast, or nothing.

    CastLike(one, x: float16)    ->    Cast{to=float16}(one)
    CastLike(x: float, y: float) ->    x

PyTorch's exporter writes CastLike wherever a constant must follow a tensor's type; onnxsim folds
Casts of constants and leaves CastLikes alone.
"""

from __future__ import annotations

import onnx_ir as ir


def lower(model: ir.Model) -> int:
    """Rewrite all CastLikes whose wanted type is known; how many."""
    graph, count = model.graph, 0
    for node in list(graph):
        if node.op_type != "CastLike" or node.domain != "":
            continue
        source, like = node.inputs
        output = node.outputs[0]
        if source is None or like is None or like.dtype is None:
            continue
        if source.dtype == like.dtype and output not in graph.outputs:
            ir.convenience.replace_all_uses_with(output, source)
            graph.remove(node, safe=True)
        else:
            cast = ir.node("Cast", [source], {"to": int(like.dtype)}, name=node.name)
            cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(like.dtype), output.shape
            ir.convenience.replace_nodes_and_values(graph, node, [node], [cast], [output], [cast.outputs[0]])
        count += 1
    return count
