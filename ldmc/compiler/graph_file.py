"""Reading an ONNX file that may be damaged, or made to do damage: what is no graph is refused by its first fault.

    y = Add(x, y)            node 'add' reads 'y', which nothing before it gives
    w: float32[-1,3]         initializer 'w' has dimension -1
    F(x) = F(F(x))           function own::F calls itself

What is let through has values that are given once and before they are read, tensors of known dtypes, sizes that can
be, attributes of the kinds they say, and functions that end. Whether an operator exists is not looked at: a graph of
another opset, or with operators of one's own, can be compared all the same. No weight is read, and no file beside it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from ldmc.errors import UsageError
from ldmc.runtime.files import read_regular

MOST_BYTES = 2**31 - 1  # protobuf's own limit
MOST_NODES = 1_000_000  # functions expanded
MOST_DEPTH = 32  # of subgraphs within subgraphs, and of functions that call functions
MOST_RANK = 64  # numpy's
MOST_ELEMENTS = 2**48  # of a tensor: beyond what any machine holds
MOST_OPSET = 1000
_FIX = "give an ONNX file or a bundle"
_Graph = onnx.GraphProto
_BITS = {2: 8, 3: 8, 9: 8, 17: 8, 18: 8, 19: 8, 20: 8, 24: 8, 4: 16, 5: 16, 10: 16, 16: 16, 1: 32, 6: 32, 12: 32, 7: 64,
         11: 64, 13: 64, 14: 64, 15: 128, 21: 4, 22: 4, 23: 4, 25: 2, 26: 2}  # fmt: skip
_VALUE_FIELDS = {1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 11: "sparse_tensor", 13: "tp", 6: "floats", 7: "ints",
                 8: "strings", 9: "tensors", 10: "graphs", 12: "sparse_tensors", 14: "type_protos"}  # fmt: skip
_CONSTANTS = {"value": "t", "sparse_value": "sparse_tensor", "value_float": "f", "value_floats": "floats",
              "value_int": "i", "value_ints": "ints", "value_string": "s", "value_strings": "strings"}  # fmt: skip
_NEED_INPUT = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Shape"})


class _Fault(Exception):
    """What is wrong with the graph; a phrase."""


def read_onnx(path: str | Path) -> onnx.ModelProto:
    """The model in an ONNX file, without weights that lie beside it.

    Raises:
        UsageError: it cannot be read, is no ONNX model, or its graph is damaged.
    """
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(read_regular(path, MOST_BYTES))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", fix=_FIX) from error
    except (DecodeError, ValueError) as error:
        raise not_onnx(path) from error
    if not proto.ir_version or not proto.graph.output:
        raise not_onnx(path)
    try:
        _check_model(proto)
    except _Fault as fault:
        raise UsageError(f"{path}: is a damaged ONNX model: {fault}", fix=_FIX) from fault
    return proto


def not_onnx(path: str | Path) -> UsageError:
    """The error of a file that is something else."""
    return UsageError(f"{path}: is not an ONNX model", fix=_FIX)


def _check_model(proto: onnx.ModelProto) -> None:
    domains = Counter("" if opset.domain == "ai.onnx" else opset.domain for opset in proto.opset_import)
    for opset in proto.opset_import:
        _check_names(opset.domain)
        if not 1 <= opset.version <= MOST_OPSET:
            raise _Fault(f"opset {opset.version} of domain {opset.domain or 'ai.onnx'!r}")
        if domains["" if opset.domain == "ai.onnx" else opset.domain] > 1:
            raise _Fault(f"domain {opset.domain or 'ai.onnx'!r} has two opsets")
    if not 1 <= proto.ir_version <= MOST_OPSET:
        raise _Fault(f"IR version {proto.ir_version}")
    _check_functions(proto)
    _check_graph(proto.graph, (), 0)


def _check_graph(graph: _Graph, outer: tuple[set[str], ...], depth: int) -> None:
    """Values, nodes and subgraphs. outer: names that each of the graphs around this one has given so far."""
    if depth > MOST_DEPTH:
        raise _Fault(f"subgraphs lie within each other {depth} deep, at most {MOST_DEPTH} can be read")
    for value in (*graph.input, *graph.output, *graph.value_info):
        _check_value(value)
    given = Counter(value.name for value in graph.input)
    for tensor in graph.initializer:
        _check_tensor(tensor, f"initializer {tensor.name!r}")
    weights = Counter(tensor.name for tensor in graph.initializer)
    weights.update(sparse.values.name for sparse in graph.sparse_initializer)
    for names, what in ((given, "input"), (weights, "initializer")):
        for name, count in names.items():
            if count > 1 or not name:
                raise _Fault(f"{count} {what}s are called {name!r}")
    known = {*given, *weights}
    _check_nodes(graph.node, known, outer, depth)
    for value in graph.output:
        if not _is_known(value.name, (known, *outer)):
            raise _Fault(f"output {value.name!r} is given by no node")
    for name, count in Counter(value.name for value in graph.output).items():
        if count > 1:
            raise _Fault(f"{count} outputs are called {name!r}")


def _is_known(name: str, scopes: Iterable[set[str]]) -> bool:
    return any(name in scope for scope in scopes)


def _check_nodes(nodes: Iterable[onnx.NodeProto], known: set[str], outer: tuple[set[str], ...], depth: int) -> None:
    """Nodes in running order. known: the values of this graph, which grow. outer: those of the graphs around it."""
    scopes = (known, *outer)
    for node in nodes:
        where = f"node {node.name or (node.output[0] if node.output else '')!r}"
        _check_names(node.name, node.op_type, node.domain, *node.input, *node.output)
        if not node.op_type:
            raise _Fault(f"{where} has no operator")
        for name in node.input:
            if name and not _is_known(name, scopes):
                raise _Fault(f"{where} reads {name!r}, which nothing before it gives")
        if node.op_type in _NEED_INPUT and not (node.input and node.input[0] and node.output and node.output[0]):
            raise _Fault(f"{where} is a {node.op_type} without an input or an output")
        _check_attributes(node, where)
        _check_split(node, where)
        for graph in subgraphs(node):
            _check_graph(graph, scopes, depth + 1)
        for name in filter(None, node.output):
            if name in known:
                raise _Fault(f"{where} gives {name!r}, which is given before")
            known.add(name)


def _check_names(*names: str | bytes) -> None:
    """protobuf gives as bytes what it cannot give as text."""
    for name in names:
        if isinstance(name, bytes):
            raise _Fault(f"the name {name[:40]!r} is no UTF-8")


def subgraphs(node: onnx.NodeProto) -> Iterator[_Graph]:
    """The branches and bodies of one node."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _check_attributes(node: onnx.NodeProto, where: str) -> None:
    names = Counter(attribute.name for attribute in node.attribute)
    for attribute in node.attribute:
        place = f"attribute {attribute.name!r} of {where}"
        _check_names(attribute.name, attribute.ref_attr_name)
        if names[attribute.name] > 1 or not attribute.name:
            raise _Fault(f"{place} stands {names[attribute.name]} times or has no name")
        if attribute.ref_attr_name:  # in a function: whoever calls it gives the value
            if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
                raise _Fault(f"{place} is a graph that whoever calls the function gives, which cannot be read")
            continue
        field = _VALUE_FIELDS.get(attribute.type)
        if field is None or _other_fields(attribute, field):
            raise _Fault(f"{place} is not of the type it says, {attribute.type}")
        for tensor in (*attribute.tensors, *([attribute.t] if field == "t" else ())):
            _check_tensor(tensor, place)
        if node.op_type == "Constant" and attribute.name in _CONSTANTS and field != _CONSTANTS[attribute.name]:
            raise _Fault(f"{place} is of type {attribute.type}, which is no {attribute.name}")
    if node.op_type == "Constant" and not node.domain:
        if len(node.attribute) != 1 or node.attribute[0].name not in _CONSTANTS or len(node.output) != 1:
            raise _Fault(f"{where} is a Constant without a value")


def _check_split(node: onnx.NodeProto, where: str) -> None:
    """onnx's shape inference writes as many sizes as `num_outputs` says past the end of those that there are."""
    if node.op_type != "Split" or node.domain not in ("", "ai.onnx"):
        return
    for attribute in node.attribute:
        stated = attribute.name == "num_outputs" and not attribute.ref_attr_name  # else whoever calls gives it
        if stated and attribute.i != len(node.output):
            raise _Fault(f"{where} has num_outputs {attribute.i} and {len(node.output)} outputs")


def _other_fields(attribute: onnx.AttributeProto, own: str) -> bool:
    """Whether a value of another kind than `own` is there, or `own`, unless it is a list, is not."""
    present = {field.name for field, _ in attribute.ListFields()} & set(_VALUE_FIELDS.values())
    return bool(present - {own}) or (own in ("f", "i", "s", "t", "g", "sparse_tensor", "tp") and own not in present)


def _check_tensor(tensor: onnx.TensorProto, where: str) -> None:
    _check_names(tensor.name)
    bits = _BITS.get(tensor.data_type)
    if bits is None and tensor.data_type != onnx.TensorProto.STRING:
        raise _Fault(f"{where} is of data type {tensor.data_type}")
    elements = _elements(tensor.dims, where)
    if tensor.data_location == onnx.TensorProto.EXTERNAL or bits is None:
        return
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != (elements * bits + 7) // 8:
            raise _Fault(f"{where} has {len(tensor.raw_data)} bytes for {elements} elements of {bits} bits")
        return
    fields = [tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data]
    stored = max(map(len, fields))
    each = 2 if tensor.data_type in (onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128) else 1
    if bits >= 8 and stored != elements * each:
        raise _Fault(f"{where} has {stored} values for {elements} elements")


def _elements(dims: Iterable[int], where: str) -> int:
    sizes = list(dims)
    for size in sizes:
        if size < 0:
            raise _Fault(f"{where} has dimension {size}")
    if len(sizes) > MOST_RANK or math.prod(sizes) > MOST_ELEMENTS:
        raise _Fault(f"{where} has {len(sizes)} dimensions and {math.prod(sizes):.3g} elements")
    return math.prod(sizes)


def _check_value(value: onnx.ValueInfoProto) -> None:
    where = f"value {value.name!r}"
    _check_names(value.name)
    if not value.name:
        raise _Fault("a value has a type and no name")
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return
    if kind.elem_type and kind.elem_type not in _BITS and kind.elem_type != onnx.TensorProto.STRING:
        raise _Fault(f"{where} is of data type {kind.elem_type}")
    _elements([dim.dim_value for dim in kind.shape.dim if dim.HasField("dim_value")], where)


def _check_functions(proto: onnx.ModelProto) -> None:
    """Functions end, and do not grow without bound where they are written out."""
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    if len(functions) != len(proto.functions):
        raise _Fault("two functions have one name")
    sizes: dict[tuple[str, str, str], int] = {}

    def size(nodes: Iterable[onnx.NodeProto], calls: tuple[tuple[str, str, str], ...]) -> int:
        total = 0
        for node in _all_nodes(nodes, 0):
            key = (node.domain, node.op_type, node.overload)
            if key in calls:
                raise _Fault(f"function {node.domain}::{node.op_type} calls itself")
            if len(calls) > MOST_DEPTH:
                raise _Fault(f"functions call each other {len(calls)} deep, at most {MOST_DEPTH} can be read")
            if key in functions and key not in sizes:
                sizes[key] = size(functions[key].node, (*calls, key))
            total += sizes.get(key, 1)
        if total > MOST_NODES:
            raise _Fault(f"its functions written out have over {MOST_NODES:,} nodes")
        return total

    size(proto.graph.node, ())
    for key, function in functions.items():
        size(function.node, (key,))
        known = {*function.input}
        if len(known) != len(function.input):
            raise _Fault(f"two inputs of function {key[0]}::{key[1]} have one name")
        _check_nodes(function.node, known, (), 0)
        if missing := [name for name in function.output if name not in known]:
            raise _Fault(f"output {missing[0]!r} of function {key[0]}::{key[1]} is given by no node")


def _all_nodes(nodes: Iterable[onnx.NodeProto], depth: int) -> Iterator[onnx.NodeProto]:
    if depth > MOST_DEPTH:
        raise _Fault(f"subgraphs lie within each other {depth} deep, at most {MOST_DEPTH} can be read")
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from _all_nodes(graph.node, depth + 1)
