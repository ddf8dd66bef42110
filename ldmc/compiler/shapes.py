"""The shapes a graph does not state, inferred without reading a weight and without changing the graph.

    val_47 = Shape(conv)              [1, 224, 64, 64]       computed, because conv's shape is known
    val_38 = Concat(0, val_36, -1)    [0, 32, -1]            computed from constants
    val_39 = Reshape(conv, val_38)    float16[1,?,?]  ->  float16[1,32,28672]

onnx infers types; where a graph computes its shapes as it runs, as exporters write it, those few numbers are
computed here and inference goes on with them. It works on a copy whose weights are placeholders.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.reference
import onnx.shape_inference
import onnx_ir as ir

from ldmc.compiler.summary import TensorType

INLINE_BYTES = 4096  # a constant up to this size may be looked at: shapes, axes, scalars
INTEGERS = frozenset({onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL})
ARITHMETIC = frozenset(
    {"Add", "Cast", "Div", "Equal", "Max", "Min", "Mul", "Neg", "Range", "ReduceProd", "Sub", "Where"}
)
REARRANGING = frozenset({"Concat", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Unsqueeze"})
SHAPE_OPS = ARITHMETIC | REARRANGING
MOST_RANK = 64
MOST_ELEMENTS = 2**16  # of a value that is computed here
MAX_ROUNDS = 4  # a shape may depend on a shape; exporters nest them once or twice


def infer_types(model: ir.Model) -> dict[str, TensorType]:
    """Value name -> type, for the values of the main graph that shape inference can tell anything about.

    An inconsistent graph is not refused: what can be inferred of it is given.
    """
    proto = ir.to_proto(_without_weights(model))
    for _ in range(MAX_ROUNDS):
        try:
            proto = onnx.shape_inference.infer_shapes(proto, data_prop=_stays_small(proto.graph))
        except Exception:  # noqa: BLE001  besides its InferenceError, whatever its C++ throws at a wrong attribute
            break
        if not _compute_shapes(proto.graph):
            break
    return dict(_types(proto.graph))


def _stays_small(graph: onnx.GraphProto) -> bool:
    """Whether the values that onnx carries along with shapes stay few: it joins what Concat joins, however long."""
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer if _is_number(tensor)}
    for node in graph.node:
        if node.op_type in ("Shape", "Constant"):
            size = MOST_RANK
        elif node.input and all(name in sizes for name in filter(None, node.input)):
            given = [sizes[name] for name in node.input if name]
            size = sum(given) if node.op_type == "Concat" else max(given, default=0)
        else:
            continue  # no number that is known without running the graph
        if size > MOST_ELEMENTS:
            return False
        sizes.update(dict.fromkeys(node.output, size))
    return True


def is_small(tensor: ir.TensorProtocol) -> bool:
    """True where looking at the values reads no file and computes nothing, and there are few."""
    return isinstance(tensor, (ir.Tensor, ir.TensorProtoTensor)) and tensor.nbytes <= INLINE_BYTES


def _without_weights(model: ir.Model) -> ir.Model:
    """A copy in which every tensor that is not small is a placeholder for a file that is never opened."""
    copy = model.clone()
    for graph in copy.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None and not is_small(value.const_value):
                value.const_value = _placeholder(value.const_value)
    for node in copy.graph.all_nodes():
        node.metadata_props.clear()
        tensor = node.attributes.get("value")
        if tensor is None or tensor.is_ref() or tensor.type != ir.AttributeType.TENSOR:
            continue
        if not is_small(tensor.as_tensor()):
            node.attributes["value"] = ir.AttrTensor("value", _placeholder(tensor.as_tensor()))
    return copy


def _placeholder(tensor: ir.TensorProtocol) -> ir.ExternalTensor:
    name = tensor.name or "unnamed"
    shape = ir.Shape([int(dim) for dim in tensor.shape])  # type: ignore[arg-type]
    return ir.ExternalTensor("set-aside", None, None, tensor.dtype, shape=shape, name=name)


def _types(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorType]]:
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if (
            not value.type.HasField("tensor_type")
            or not kind.elem_type
            or kind.elem_type == onnx.TensorProto.STRING
        ):
            continue
        dims = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        yield value.name, TensorType(dtype, dims if kind.HasField("shape") else None)
    for tensor in graph.initializer:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name
        yield tensor.name, TensorType(dtype, tuple(tensor.dims))


def _compute_shapes(graph: onnx.GraphProto) -> bool:
    """Replace the integer arithmetic on known shapes by its results; False where there was none."""
    types = dict(_types(graph))
    arithmetic = _Arithmetic({tensor.name: tensor for tensor in graph.initializer if _is_number(tensor)}, types)
    rest: list[onnx.NodeProto] = []
    before = len(graph.node)
    try:
        for node in graph.node:
            value = _stated(node, types)
            if value is not None:
                arithmetic.state(onnx.numpy_helper.from_array(value, node.output[0]))
            elif node.op_type not in SHAPE_OPS or node.domain or not arithmetic.take(node):
                rest.append(node)
        graph.initializer.extend(arithmetic.results())
    except _NotComputedError:  # shapes then stay unknown
        return False
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in rest]
    del graph.node[:]
    graph.node.extend(kept)
    return len(kept) < before


class _NotComputedError(Exception):
    """Some of the arithmetic cannot be done."""


class _Arithmetic:
    """Nodes on small integer constants, evaluated many at a time.

    known: constants by name. types: of values, as far as inference tells them. What would be large is not taken: a few
    bytes of Range or of values doubled over and over ask for all of the memory.
    """

    def __init__(self, known: dict[str, onnx.TensorProto], types: Mapping[str, TensorType]) -> None:
        self._known, self._types = known, types
        self._sizes = {name: math.prod(tensor.dims) for name, tensor in known.items()}  # elements, at most
        self._waiting: list[onnx.NodeProto] = []
        self._found: list[onnx.TensorProto] = []

    def state(self, tensor: onnx.TensorProto) -> None:
        """A value that is known without computing."""
        self._known[tensor.name] = tensor
        self._sizes[tensor.name] = math.prod(tensor.dims)
        self._found.append(tensor)

    def take(self, node: onnx.NodeProto) -> bool:
        """Whether the outputs of `node` are among the results."""
        names = [name for name in node.input if name]
        if not all(name in self._sizes for name in names):
            return False
        if node.op_type == "Range":
            self._evaluate()  # how long it is, its inputs' values say
            most = _range_length([self._known[name] for name in names])
        else:
            sizes = [self._sizes[name] for name in names]
            most = max(math.prod(sizes), sum(sizes))
        for name in node.output:
            shape = self._types[name].static_shape if name in self._types else None
            self._sizes[name] = most if shape is None else math.prod(shape)
        if any(self._sizes[name] > MOST_ELEMENTS for name in node.output):
            for name in node.output:
                del self._sizes[name]
            return False
        self._waiting.append(node)
        return True

    def results(self) -> list[onnx.TensorProto]:
        """Every value that was stated or computed."""
        self._evaluate()
        return self._found

    def _evaluate(self) -> None:
        found = _evaluate(self._known, self._waiting)
        self._waiting = []
        for tensor in found:
            self.state(tensor)


def _range_length(bounds: list[onnx.TensorProto]) -> int:
    """Elements of a Range over three scalars."""
    values = [onnx.numpy_helper.to_array(bound).reshape(-1).tolist() for bound in bounds]
    if len(values) != 3 or any(len(value) != 1 for value in values) or not values[2][0]:
        raise _NotComputedError
    (start,), (limit,), (delta,) = values
    return int(max(0, -((start - limit) // delta)))


def _is_number(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type in INTEGERS and tensor.data_location != onnx.TensorProto.EXTERNAL


def _stated(node: onnx.NodeProto, types: Mapping[str, TensorType]) -> np.ndarray | None:
    """The value of an integer Constant or of a Shape whose input's shape is known; None for anything else."""
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Constant" and node.output[0] in types:
        if "value" in attributes:
            tensor = attributes["value"].t
            return onnx.numpy_helper.to_array(tensor) if _is_number(tensor) else None
        number = attributes.get("value_int") or attributes.get("value_ints")
        return None if number is None else np.array(onnx.helper.get_attribute_value(number), np.int64)
    if node.op_type != "Shape" or node.input[0] not in types:
        return None
    shape = types[node.input[0]].static_shape
    start = attributes["start"].i if "start" in attributes else 0
    end = attributes["end"].i if "end" in attributes else None
    return None if shape is None else np.array(shape[start:end], np.int64)


def _evaluate(known: Mapping[str, onnx.TensorProto], nodes: list[onnx.NodeProto]) -> list[onnx.TensorProto]:
    """The outputs of `nodes`, whose inputs are all small constants, through onnx's reference evaluator."""
    names = [name for node in nodes for name in node.output if name]
    needed = dict.fromkeys(name for node in nodes for name in node.input if name in known)
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in names]
    small = onnx.helper.make_graph(nodes, "shapes", [], outputs, [known[name] for name in needed])
    opset = [onnx.helper.make_opsetid("", onnx.defs.onnx_opset_version())]
    model = onnx.helper.make_model(small, opset_imports=opset)
    try:
        values = onnx.reference.ReferenceEvaluator(model).run(None, {})
    except Exception as error:  # noqa: BLE001  the evaluator names no error types
        raise _NotComputedError from error
    return [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in zip(names, values)]
