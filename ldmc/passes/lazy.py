"""Weights inside an ONNX graph that are not in memory: read, cast and computed only when written.

    parameter(source, "conv_in.weight", FLOAT16)     read one tensor, cast it
    derived(Transpose, [that])                       compute it from other constants

Evaluating one lazy tensor needs the memory of that tensor and its inputs, whatever the model's size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ldmc.errors import PassError
from ldmc.ir import WeightSource

if TYPE_CHECKING:
    import onnx


def parameter(
    source: WeightSource, key: str, component: str, dtype: ir.DataType, shape: ir.ShapeProtocol
) -> ir.LazyTensor:
    """Parameter `key` of `source`, cast to `dtype`; `component` is for messages.

    Raises (when evaluated):
        PassError: a finite weight is outside the range of `dtype`.
    """

    sides = list(shape.numpy())

    def read() -> ir.TensorProtocol:
        return ir.tensor(values(source, key, component, dtype, sides), name=key)

    return ir.LazyTensor(read, dtype=dtype, shape=ir.Shape(sides), name=key)


def values(source: WeightSource, key: str, component: str, dtype: ir.DataType, sides: Sequence[int]) -> Any:
    """Parameter `key` as one numpy array of `dtype` and shape `sides`, read and cast in chunks.

    Raises:
        PassError: a finite weight is outside the range of `dtype`.
    """
    import torch  # casts to half ten times as fast as numpy does

    whole = np.empty(math.prod(sides), dtype=dtype.numpy())
    start = 0
    for chunk in source.chunks(key):
        part = whole[start : start + chunk.size]
        torch.from_numpy(part).copy_(torch.from_numpy(chunk))
        largest = max(chunk.max(), -chunk.min())
        with np.errstate(over="ignore"):
            if np.isfinite(largest) and np.isinf(part.dtype.type(largest)):
                raise _out_of_range(component, key, dtype, float(largest))
        start += chunk.size
    if start != whole.size:
        raise PassError(f"{component}: {key} has {whole.size} elements, its weights gave {start}")
    return whole.reshape(sides)


def _out_of_range(component: str, key: str, dtype: ir.DataType, value: float) -> PassError:
    module = f"{component}/{key.rpartition('.')[0]}"
    return PassError(
        f"{component}: {key} holds {value:g}, more than {dtype.name.lower()} can represent",
        fix=f"keep its module in fp32: fp16{{keep=[norm,quantiser,timestep,{module}]}}",
    )


def derived(node: ir.Node, inputs: Sequence[ir.TensorProtocol], opset: int) -> ir.LazyTensor:
    """The first output of `node` over constant `inputs`, computed by onnx's reference evaluator.

    Shape and dtype are those that shape inference found for the node's output.

    Raises (when evaluated):
        PassError: finite inputs give a value outside the range of the dtype.
    """
    output = node.outputs[0]
    assert output.dtype is not None and output.shape is not None
    dtype, shape = output.dtype, output.shape
    # The node is taken out of the graph after this, so what evaluation needs is copied now.
    proto = _single_node_model(node, inputs, opset)

    def compute() -> ir.TensorProtocol:
        from onnx.reference import ReferenceEvaluator

        names = [value.name for value in proto.graph.input]
        feeds: dict[str, Any] = dict(zip(names, (tensor.numpy() for tensor in inputs), strict=True))
        with np.errstate(over="ignore", invalid="ignore"):
            outputs: Any = ReferenceEvaluator(proto).run(None, feeds)
            result = np.ascontiguousarray(outputs[0], dtype=dtype.numpy())
        if not _is_finite(result) and all(map(_is_finite, feeds.values())):
            raise PassError(
                f"{output.name}, computed from weights, leaves the range of {dtype.name.lower()}",
                fix="keep its module in fp32 with fp16{keep=[...]}, or build without fp16",
            )
        return ir.tensor(result, name=output.name)

    return ir.LazyTensor(compute, dtype=dtype, shape=shape, name=output.name)


def _is_finite(array: Any) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def concatenated(tensors: Sequence[ir.TensorProtocol], axis: int, name: str) -> ir.LazyTensor:
    """`tensors` joined along `axis`."""
    shape = list(tensors[0].shape.numpy())
    shape[axis] = sum(tensor.shape.numpy()[axis] for tensor in tensors)

    def compute() -> ir.TensorProtocol:
        return ir.tensor(np.concatenate([tensor.numpy() for tensor in tensors], axis=axis), name=name)

    return ir.LazyTensor(compute, dtype=tensors[0].dtype, shape=ir.Shape(shape), name=name)


def reshaped(tensor: ir.TensorProtocol, sides: Sequence[int], name: str) -> ir.LazyTensor:
    """`tensor` with other sides, of which one may be -1."""
    known = -math.prod(sides)
    whole = math.prod(tensor.shape.numpy())
    shape = ir.Shape([whole // known if side == -1 else side for side in sides])

    def compute() -> ir.TensorProtocol:
        return ir.tensor(tensor.numpy().reshape(shape.numpy()), name=name)

    return ir.LazyTensor(compute, dtype=tensor.dtype, shape=shape, name=name)


def _single_node_model(node: ir.Node, inputs: Sequence[ir.TensorProtocol], opset: int) -> onnx.ModelProto:
    from onnx import helper

    infos = [
        helper.make_tensor_value_info(f"i{k}", int(tensor.dtype), list(tensor.shape.numpy()))
        for k, tensor in enumerate(inputs)
    ]
    names = iter(info.name for info in infos)
    proto = ir.to_proto(node)
    del proto.input[:]
    proto.input.extend(next(names) if value is not None else "" for value in node.inputs)
    output = helper.make_empty_tensor_value_info(proto.output[0])
    graph = helper.make_graph([proto], "derived", infos, [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
