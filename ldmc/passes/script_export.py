"""The TorchScript exporter of PyTorch, for `onnx` on a component in TORCHSCRIPT form: the reference project's path.

    net.mid_block.attentions.0.to_q.weight: an input of the exporter's graph    ->    a lazy initializer, by its key
    Transpose(to_q.weight) -> MatMul, Constant -> Concat -> Reshape             ->    MatMul, Reshape

A frozen script has lost the names of its modules, and holds the weights as constants. So the exporter is given
what the script was traced from, hollow, and told to leave parameters out; then the folding of constants that it
does by default is done here, lazily where weights are involved.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection
from typing import Any

import onnx
import onnx_ir as ir
import torch
from onnx.shape_inference import infer_shapes
from torch.onnx.errors import SymbolicValueError, UnsupportedOperatorError
from torch.overrides import TorchFunctionMode

from ldmc.errors import PassError
from ldmc.ir import Component, Network
from ldmc.passes.half import computing
from ldmc.passes.lazy import derived, parameter
from ldmc.passes.modules import hollow

_REPEATED = re.compile(r"_\d+$")  # the exporter numbers the calls of one module


def export(component: Component, opset: int) -> ir.Model:
    """The graph of a TORCHSCRIPT component; weights are lazy.

    Raises:
        PassError: the exporter cannot write an operator at this opset.
    """
    network: Network = component.payload.network
    try:
        bare = _bare_graph(component, opset)
    except (UnsupportedOperatorError, SymbolicValueError) as error:
        raise PassError(
            f"{component.name}: {str(error).splitlines()[0]}",
            fix="ask for a newer opset, or leave fused=true out of torchscript",
        ) from error
    model = ir.from_proto(infer_shapes(bare))
    _bind_weights(model.graph, network, component)
    _fold_constants(model)
    return model


def module_paths(graph: ir.Graph, network: Network) -> dict[ir.Node, str]:
    """Where each node comes from: `/net/down_blocks.0/resnets.0/conv1/Conv` -> `down_blocks.0.resnets.0.conv1`."""
    known = {name.removeprefix("net").removeprefix(".") for name, _ in network.module.named_modules()}
    return {node: _module_path((node.name or "").strip("/").split("/")[:-1], known) for node in graph}


def _module_path(scopes: list[str], known: Collection[str]) -> str:
    """The innermost of `scopes` that is a module."""
    found = ""
    for scope in scopes:
        steps = [f"{found}.{name}" if found else name for name in (scope, _REPEATED.sub("", scope))]
        found = next((path for path in steps if path in known), found)
    return found


def _bare_graph(component: Component, opset: int) -> onnx.ModelProto:
    """What the exporter writes, its parameters inputs after the component's own."""
    module = hollow(component.payload.network, component.name)
    forward = module.forward

    def run(*inputs: torch.Tensor) -> Any:
        # The exporter has just switched this on; a failing export would print the whole graph on stdout.
        torch._C._jit_set_onnx_log_enabled(False)
        with computing(module), _SizedPieces():
            return forward(*inputs)

    # Only while it runs: the exporter's own passes do not go with a context that looks into operators.
    module.forward = run
    examples = tuple(torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in component.inputs)
    buffer = io.BytesIO()
    with torch.no_grad():
        torch.onnx.export(
            module,
            examples,
            buffer,  # type: ignore[arg-type]  # this exporter writes to a stream, too
            dynamo=False,
            export_params=False,
            keep_initializers_as_inputs=True,  # else those of equal values, as all are here, become one
            do_constant_folding=False,
            opset_version=opset,
            input_names=[spec.name for spec in component.inputs],
            output_names=[spec.name for spec in component.outputs],
        )
    return onnx.load_model_from_string(buffer.getvalue())


class _SizedPieces(TorchFunctionMode):
    """`chunk` is `split` by sides that are known: the exporter writes it as slices that are computed as the graph runs,
    from three pieces on as a sequence, and before opset 11 not at all."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if function not in (torch.chunk, torch.Tensor.chunk):
            return function(*args, **named)
        given = dict(zip(("input", "chunks", "dim"), args), **named)
        side = int(given["input"].shape[given.get("dim", 0)])
        return given["input"].split(-(-side // given["chunks"]), given.get("dim", 0))


def _bind_weights(graph: ir.Graph, network: Network, component: Component) -> None:
    """Turn the exporter's parameter inputs into lazy tensors of the checkpoint, named by their keys."""
    for value in graph.inputs[len(component.inputs) :]:
        graph.inputs.remove(value)
        if not value.uses():
            continue
        assert value.name is not None and value.dtype is not None and value.shape is not None
        value.name = value.name.removeprefix("net.")
        value.const_value = parameter(network.weights, value.name, component.name, value.dtype, value.shape)
        graph.initializers.add(value)


def _fold_constants(model: ir.Model) -> None:
    """Fold every operator on constants alone, as the exporter does by default: Constant nodes to a Constant node."""
    graph, opset = model.graph, model.opset_imports[""]
    for node in list(graph):
        inputs = [ir.convenience.get_const_tensor(value) for value in node.inputs if value is not None]
        constants = [tensor for tensor in inputs if tensor is not None]
        output = node.outputs[0]
        known = output.dtype is not None and output.shape is not None and output.shape.is_static()
        if not inputs or len(constants) < len(inputs) or output in graph.outputs or not known:
            continue
        tensor = derived(node, constants, opset)
        if any(isinstance(constant, ir.LazyTensor) for constant in constants):
            folded = ir.Value(name=output.name, type=output.type, shape=output.shape, const_value=tensor)
            graph.initializers.add(folded)
        else:
            folded = _constant(graph, node, tensor)
        ir.convenience.replace_all_uses_with(output, folded)
        graph.remove(node, safe=True)
    for node in [node for node in graph if node.op_type == "Constant" and not node.outputs[0].uses()]:
        graph.remove(node)
    for name in [name for name, value in graph.initializers.items() if not value.uses()]:
        graph.initializers.pop(name)


def _constant(graph: ir.Graph, node: ir.Node, tensor: ir.TensorProtocol) -> ir.Value:
    """The output of a new Constant node in the place of `node`, which computes `tensor`."""
    array = tensor.numpy()
    constant = ir.node("Constant", [], {"value": ir.tensor(array)}, name=node.name)
    value = constant.outputs[0]
    value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(array.shape)
    graph.insert_before(node, [constant])
    return value
