"""A graph without its weights, for tools that would read them.

    initializer to_q.weight (lazy)    ->    input to_q.weight    ->    initializer to_q.weight (the same lazy tensor)

onnx's shape inference and checker, and onnxsim, work on protobufs: a lazy tensor would be read to make one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ldmc.errors import PassError

if TYPE_CHECKING:
    import onnx_ir as ir


def set_aside(graph: ir.Graph) -> dict[str, ir.TensorProtocol]:
    """Turn lazy initializers into inputs; what they were, by name."""
    import onnx_ir as ir

    weights: dict[str, ir.TensorProtocol] = {}
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if not isinstance(tensor, ir.LazyTensor):
            continue
        weights[name] = tensor
        graph.initializers.pop(name)
        value.const_value = None
        value.type, value.shape = ir.TensorType(tensor.dtype), tensor.shape
        graph.inputs.append(value)
    return weights


def put_back(graph: ir.Graph, weights: dict[str, ir.TensorProtocol]) -> None:
    """Turn stand-in inputs into lazy initializers again; those no longer used are dropped."""
    for value in list(graph.inputs):
        if value.name not in weights:
            continue
        graph.inputs.remove(value)
        if value.uses():
            value.const_value = weights[value.name]
            graph.initializers.add(value)


def checked(model: ir.Model, name: str, *, deprecated: bool = False) -> ir.Model:
    """`model` with types and shapes inferred by its opset's schemas, and every node held to them.

    `model` is not to be used after. deprecated: it holds an operator that its opset has but has given up
    (GroupNormalization of 18 to 20), which onnx's checker refuses; then types and shapes alone are held.

    Raises:
        PassError: a node is not what its schema says; `name` is the component's.
    """
    import onnx
    import onnx_ir as ir

    _drop_unused(model.graph)
    weights = set_aside(model.graph)
    try:
        proto = onnx.shape_inference.infer_shapes(ir.to_proto(model), check_type=True, strict_mode=True)
        if not deprecated:
            onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise PassError(
            f"{name}: the rewritten graph is not valid ONNX of opset {model.opset_imports['']}: {first.strip()}",
            fix="report it with the model's configuration",
        ) from error
    result = ir.from_proto(proto)
    put_back(result.graph, weights)
    return result


def _drop_unused(graph: ir.Graph) -> None:
    """Constants that no node reads any more."""
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_input() and not value.is_graph_output():
            graph.initializers.pop(name)
