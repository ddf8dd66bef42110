"""From an ONNX graph to its `GraphSummary`: what is counted, reported and compared, without reading a weight.

    Conv(x, w) -> NodeSummary("conv_0", "Conv", ("x", "w"), ("y",), {"group": "1"}, (float16[1,4,8,8],))

Weights may be lazy and larger than memory: only their dtype, shape and size are asked for.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import onnx
import onnx.inliner
import onnx_ir as ir

from ldmc.compiler.graph_file import read_onnx
from ldmc.compiler.liveness import peak_activation
from ldmc.compiler.macs import graph_macs
from ldmc.compiler.shapes import INLINE_BYTES, infer_types, is_small
from ldmc.compiler.summary import UNKNOWN_DIM, GraphSummary, Initializer, NodeSummary, TensorType
from ldmc.errors import UsageError
from ldmc.ir import Stats, TensorSpec

__all__ = ["GraphSummary", "Initializer", "NodeSummary", "TensorType", "load_summary", "measure", "summarise"]

SHOWN_ELEMENTS = 8
SHOWN_CHARACTERS = 72
INDEX_DTYPES = frozenset({"int64", "bool", "string"})  # shapes, axes and masks: stored, but no parameters
CONSTANT_DTYPES = {"value_float": "float32", "value_int": "int64", "value_string": "string"}
DATA_FIELDS = (
    "raw_data",
    "float_data",
    "int32_data",
    "int64_data",
    "double_data",
    "uint64_data",
    "string_data",
)


def summarise(model: ir.Model) -> GraphSummary:
    """The summary of `model`, with its statistics.

    Shapes that the graph does not state are inferred; the model is not changed. Nodes of subgraphs are
    included, under names that start with their node's. A call of a function that the model brings along stays
    one node `domain::Name` and leaves the MACs unknown. An initializer that is also an input is a weight.
    """
    reader = _Reader({} if states_all_shapes(model.graph) else infer_types(model))
    nodes = tuple(reader.nodes(model.graph, ""))
    graph = GraphSummary(
        inputs=tuple(reader.spec(value) for value in model.graph.inputs if value.name not in reader.weights),
        outputs=tuple(reader.spec(value) for value in model.graph.outputs),
        nodes=nodes,
        initializers=reader.weights,
        opsets=dict(sorted(("" if d == "ai.onnx" else d, v) for d, v in model.opset_imports.items())),
        ir_version=model.ir_version,
    )
    functions = {_op(domain, name) for domain, name, _ in model.functions}
    stats = measure(graph)
    if functions & set(stats.ops):
        stats = replace(stats, macs=None)
    return replace(graph, stats=stats)


def measure(graph: GraphSummary) -> Stats:
    """Count `graph`. Weights are its initializers and what its Constant nodes hold.

    Parameters are elements of weights proper: int64, bool and string tensors are shapes, axes and masks.
    """
    weights = [*graph.initializers.values()]
    weights += [_constant(node.types[0]) for node in graph.nodes if node.op == "Constant" and node.types]
    peak = peak_activation(graph)
    return Stats(
        nodes=len(graph.nodes),
        ops=dict(sorted(Counter(node.op for node in graph.nodes).items())),
        params=sum(math.prod(weight.shape) for weight in weights if weight.dtype not in INDEX_DTYPES),
        bytes=sum(weight.bytes for weight in weights),
        macs=graph_macs(graph),
        peak_activation_bytes=peak.bytes if peak else None,
    )


def load_summary(path: str | Path) -> GraphSummary:
    """The summary of an ONNX file; shapes that the file does not give are inferred, without its weights.

    Raises UsageError where the file cannot be read or is not an ONNX model.
    """
    proto = read_onnx(path)
    _set_weights_aside(proto.graph)
    try:
        if proto.functions:
            proto = onnx.inliner.inline_local_functions(proto)
        model = ir.from_proto(proto)
    except Exception as error:  # noqa: BLE001  neither library says what it raises
        first: BaseException = error
        while first.__cause__ is not None:  # onnx_ir says where it was above what it was
            first = first.__cause__
        reason = str(first).strip().partition("\n")[0] or type(first).__name__
        raise UsageError(f"{path}: is an ONNX model that cannot be read: {reason}", fix="see onnx.checker") from error
    return summarise(model)


def _set_weights_aside(graph: onnx.GraphProto) -> None:
    """Drop the values of all but the smallest initializers: nothing here needs more than shapes and axes."""
    for tensor in graph.initializer:
        if tensor.ByteSize() <= INLINE_BYTES or tensor.data_location == onnx.TensorProto.EXTERNAL:
            continue
        for name in DATA_FIELDS:
            tensor.ClearField(name)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="set-aside")


class _Reader:
    """Walks a graph and its subgraphs; collects weights, and keeps value names apart between subgraphs."""

    def __init__(self, inferred: Mapping[str, TensorType]) -> None:
        self._inferred = inferred
        self.weights: dict[str, Initializer] = {}
        self._names: dict[ir.Value, str] = {}

    def nodes(self, graph: ir.Graph, scope: str) -> Iterator[NodeSummary]:
        """The nodes in running order, those of a subgraph before the node that runs it."""
        for value in graph.inputs:
            self._names[value] = scope + (value.name or "")
        for name, value in graph.initializers.items():
            self._names[value] = scope + name
            self.weights[scope + name] = _initializer(value)
        for index, node in enumerate(graph):
            name = scope + (node.name or f"{node.op_type}_{index}")
            for value in node.outputs:
                self._names[value] = scope + value.name if value.name else ""
            for attribute in node.attributes.values():
                for number, subgraph in enumerate(_subgraphs(attribute)):
                    yield from self.nodes(subgraph, f"{name}/{attribute.name}{number or ''}/")
            yield self._node(name, node)

    def spec(self, value: ir.Value) -> TensorSpec:
        """An input or output of the main graph."""
        kind = self._type(value)
        shape = tuple(UNKNOWN_DIM if dim is None else dim for dim in kind.shape or ())
        return TensorSpec(value.name or "", kind.dtype or "?", shape)

    def _type(self, value: ir.Value) -> TensorType:
        """As the graph states it, or as inferred where it does not and the value is not of a subgraph."""
        stated = _type(value)
        if stated.size_bytes is not None or self._names.get(value, value.name) != value.name:
            return stated
        return self._inferred.get(value.name or "", stated)

    def _node(self, name: str, node: ir.Node) -> NodeSummary:
        return NodeSummary(
            name=name,
            op=_op(node.domain, node.op_type),
            inputs=tuple(
                "" if value is None else self._names.get(value, value.name or "") for value in node.inputs
            ),
            outputs=tuple(self._names[value] for value in node.outputs),
            attributes={key: _text(attribute) for key, attribute in sorted(node.attributes.items())},
            types=_constant_types(node) or tuple(self._type(value) for value in node.outputs),
        )


def states_all_shapes(graph: ir.Graph) -> bool:
    """Whether nothing has to be inferred to know every shape."""
    values = [*graph.outputs, *(value for node in graph for value in node.outputs if value.name)]
    return all(_type(value).static_shape is not None for value in values)


def _op(domain: str, op_type: str) -> str:
    return op_type if domain in ("", "ai.onnx") else f"{domain}::{op_type}"


def _dtype(dtype: ir.DataType | None) -> str | None:
    """numpy's (or ml_dtypes') name of an ONNX element type."""
    if dtype is None or dtype == ir.DataType.UNDEFINED:
        return None
    return "string" if dtype == ir.DataType.STRING else str(dtype.numpy().name)


def _dims(shape: ir.Shape | None) -> tuple[int | None, ...] | None:
    return None if shape is None else tuple(dim if isinstance(dim, int) else None for dim in shape)


def _type(value: ir.Value) -> TensorType:
    """A value's type; nothing is known of sequences and optionals, whose size the graph does not say."""
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        return TensorType(None, None)
    return TensorType(_dtype(value.dtype), _dims(value.shape))


def _constant_types(node: ir.Node) -> tuple[TensorType, ...]:
    """The type of what a Constant holds, which files need not repeat at its output; () for other nodes."""
    if node.op_type != "Constant" or not node.attributes:
        return ()
    name, attribute = next(iter(node.attributes.items()))
    if attribute.is_ref() or name == "sparse_value":
        return ()
    if name == "value":
        return (_weight(attribute.as_tensor()).type,)
    dtype = next(dtype for prefix, dtype in CONSTANT_DTYPES.items() if name.startswith(prefix))
    return (TensorType(dtype, (len(attribute.value),) if name.endswith("s") else ()),)


def _constant(kind: TensorType) -> Initializer:
    return Initializer(kind.dtype or "?", kind.static_shape or (), kind.size_bytes or 0)


def _initializer(value: ir.Value) -> Initializer:
    return _constant(_type(value)) if value.const_value is None else _weight(value.const_value)


def _weight(tensor: ir.TensorProtocol) -> Initializer:
    shape = tuple(int(dim) for dim in tensor.shape)  # type: ignore[arg-type]
    return Initializer(_dtype(tensor.dtype) or "?", shape, int(tensor.nbytes))


def _subgraphs(attribute: ir.Attr) -> tuple[ir.Graph, ...]:
    if attribute.is_ref():
        return ()
    if attribute.type == ir.AttributeType.GRAPH:
        return (attribute.as_graph(),)
    return tuple(attribute.as_graphs()) if attribute.type == ir.AttributeType.GRAPHS else ()


def _text(attribute: ir.Attr) -> str:
    """An attribute as short, canonical text; a long one is cut and ends in a digest of the whole."""
    if attribute.is_ref():
        return f"@{attribute.ref_attr_name}"
    if attribute.type == ir.AttributeType.TENSOR:
        return _tensor_text(attribute.as_tensor())
    if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return "+".join(f"graph({graph.num_nodes()})" for graph in _subgraphs(attribute))
    text = _scalar_text(attribute.value)
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return f"{text[:SHOWN_CHARACTERS]}...#{_digest(text.encode())}"


def _scalar_text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_scalar_text(item) for item in value)}]"
    if isinstance(value, float):
        return f"{value:.9g}"  # nine digits tell any two float32 apart
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def _tensor_text(tensor: ir.TensorProtocol) -> str:
    """`int64[2]{1,-1}`; `float16[64]#1a2b3c4d` where longer; `float16[8,8192]` if large or lazy."""
    weight = _weight(tensor)
    if not is_small(tensor):
        return str(weight.type)
    if math.prod(weight.shape) <= SHOWN_ELEMENTS:
        return (
            f"{weight.type}{{{','.join(_scalar_text(item) for item in tensor.numpy().flatten().tolist())}}}"
        )
    return f"{weight.type}#{_digest(tensor.tobytes())}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]
