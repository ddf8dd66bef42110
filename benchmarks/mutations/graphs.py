"""Damage to ONNX graphs: cycles, missing values, absurd sizes, attributes of wrong kinds, functions without an end."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.mutations.documents import damaged_bytes
from benchmarks.mutations.values import TEXTS

_DIMS = (0, -1, 1, 7, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
_DTYPES = (0, 1, 7, 8, 10, 14, 16, 17, 22, 23, 26, 99, -1, 2**31 - 1)
_INTEGERS = (0, 1, -1, 2, 5, 2**31, 2**62, -(2**63), 2**63 - 1)
_OPS = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Reshape", "Flatten", "Squeeze", "Identity", "Constant", "Shape",
    "Split", "If", "Loop", "Scan", "Cast", "Range", "Concat", "Slice", "Gather", "Expand", "Tile", "ConstantOfShape",
    "Resize", "Einsum", "Pad", "Where", "QuantizeLinear", "SequenceConstruct", "Optional", "NoSuchOperator", "",
)  # fmt: skip
_DEEP = 30


def seed_graphs() -> list[onnx.ModelProto]:
    """Small whole graphs: a convolution, computed shapes, branches, a function."""
    return [_convolution(), _shapes(), _branches(), _function()]


def damaged_graph(rng: random.Random, model: onnx.ModelProto) -> bytes:
    """`model`, serialised, with one to three faults in it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice(_DAMAGES)(rng, copy)
    content = copy.SerializeToString()
    return damaged_bytes(rng, content) if rng.random() < 0.15 else content


def _text(rng: random.Random) -> str:
    return rng.choice(TEXTS).encode("utf-8", "replace").decode()


def _values(model: onnx.ModelProto) -> list[str]:
    return [name for node in model.graph.node for name in (*node.input, *node.output)] or [""]


def _node(rng: random.Random, model: onnx.ModelProto) -> onnx.NodeProto:
    return rng.choice(model.graph.node) if model.graph.node else model.graph.node.add()


def _wires(rng: random.Random, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    side = node.input if rng.random() < 0.6 else node.output
    kind = rng.randrange(5)
    if kind == 0:
        del side[:]
    elif kind == 1:
        side.append(rng.choice(_values(model)))
    elif kind == 2 and side:
        side[rng.randrange(len(side))] = rng.choice((*_values(model), "", "missing", _text(rng)))
    elif kind == 3 and node.output:
        node.input.append(node.output[0])
    elif side:
        side.pop()


def _order(rng: random.Random, model: onnx.ModelProto) -> None:
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    kind = rng.randrange(4)
    if kind == 0:
        rng.shuffle(nodes)
    elif kind == 1 and nodes:
        nodes.append(rng.choice(nodes))
    elif kind == 2 and nodes:
        nodes.pop(rng.randrange(len(nodes)))
    else:
        nodes = []
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _operator(rng: random.Random, model: onnx.ModelProto) -> None:
    node = _node(rng, model)
    kind = rng.randrange(4)
    if kind == 0:
        node.op_type = rng.choice(_OPS)
    elif kind == 1:
        node.op_type = _text(rng)
    elif kind == 2:
        node.domain = rng.choice(("ai.onnx", "com.microsoft", "own", _text(rng)))
    else:
        node.name = _text(rng)


def _attribute(rng: random.Random, model: onnx.ModelProto) -> None:
    nodes = [node for node in model.graph.node if node.attribute] or [_node(rng, model)]
    node = rng.choice(nodes)
    attribute = rng.choice(node.attribute) if node.attribute else node.attribute.add(name="axis")
    kind = rng.randrange(8)
    if kind == 0:
        attribute.type = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14))
    elif kind == 1:
        attribute.i, attribute.type = rng.choice(_INTEGERS), onnx.AttributeProto.INT
    elif kind == 2:
        attribute.ints[:], attribute.type = [rng.choice(_INTEGERS) for _ in range(4)], onnx.AttributeProto.INTS
    elif kind == 3:
        attribute.s, attribute.type = _text(rng).encode(), onnx.AttributeProto.STRING
    elif kind == 4:
        attribute.ref_attr_name = _text(rng)
    elif kind == 5:
        attribute.name = rng.choice(("value", "value_int", "value_ints", "to", "axis", "kernel_shape", _text(rng)))
    elif kind == 6:
        node.attribute.append(attribute)
    else:
        attribute.CopyFrom(onnx.AttributeProto(name=attribute.name))


def _initializer(rng: random.Random, model: onnx.ModelProto) -> None:
    tensors = model.graph.initializer
    tensor = rng.choice(tensors) if tensors else tensors.add(name=rng.choice(_values(model)))
    _tensor(rng, tensor)
    if rng.random() < 0.2:
        tensors.append(tensor)


def _constant(rng: random.Random, model: onnx.ModelProto) -> None:
    found = [a.t for node in model.graph.node for a in node.attribute if a.HasField("t")]
    if found:
        _tensor(rng, rng.choice(found))


def _tensor(rng: random.Random, tensor: onnx.TensorProto) -> None:
    kind = rng.randrange(7)
    if kind == 0:
        tensor.dims[:] = [rng.choice(_DIMS) for _ in range(rng.randrange(5))]
    elif kind == 1:
        tensor.data_type = rng.choice(_DTYPES)
    elif kind == 2:
        tensor.raw_data = rng.randbytes(rng.randrange(9))
    elif kind == 3:
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        for key in rng.sample(("location", "offset", "length", "checksum", "odd"), rng.randrange(1, 5)):
            value = rng.choice(("/etc/passwd", "../../x", "-1", "x", str(2**62), _text(rng)))
            tensor.external_data.add(key=key, value=value)
    elif kind == 4:
        tensor.name = _text(rng)
    elif kind == 5:
        tensor.dims.extend([1] * 2000)
    else:
        tensor.ClearField(rng.choice(("raw_data", "dims", "name", "data_type", "int64_data")))


def _types(rng: random.Random, model: onnx.ModelProto) -> None:
    graph = model.graph
    values = [*graph.input, *graph.output, *graph.value_info]
    value = rng.choice(values) if values else graph.output.add(name="y")
    kind = rng.randrange(7)
    if kind == 0:
        value.type.tensor_type.elem_type = rng.choice(_DTYPES)
    elif kind == 1:
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        for _ in range(rng.randrange(6)):
            shape.dim.add(dim_value=rng.choice(_DIMS))
    elif kind == 2:
        value.type.tensor_type.shape.dim.add(dim_param=_text(rng))
    elif kind == 3:
        value.type.sequence_type.elem_type.tensor_type.elem_type = rng.choice(_DTYPES)
    elif kind == 4:
        value.ClearField("type")
    elif kind == 5:
        value.name = rng.choice((*_values(model), _text(rng)))
    else:
        side = rng.choice((graph.input, graph.output))
        if rng.random() < 0.5:
            del side[:]
        else:
            side.append(value)


def _versions(rng: random.Random, model: onnx.ModelProto) -> None:
    kind = rng.randrange(5)
    if kind == 0:
        del model.opset_import[:]
    elif kind == 1:
        model.opset_import.add(domain=rng.choice(("", "ai.onnx", _text(rng))), version=rng.choice(_INTEGERS))
    elif kind == 2 and model.opset_import:
        model.opset_import[0].version = rng.choice(_INTEGERS)
    elif kind == 3:
        model.ir_version = rng.choice(_INTEGERS)
    else:
        model.graph.name = _text(rng)


def _functions(rng: random.Random, model: onnx.ModelProto) -> None:
    """Functions that call themselves, each other, or ever more of each other."""
    kind = rng.randrange(4)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    if kind == 0:
        calls = [["F0"]]
    elif kind == 1:
        calls = [["F1"], ["F0"]]
    elif kind == 2:
        calls = [[f"F{index + 1}"] * 9 for index in range(12)] + [["Relu"]]
    else:
        calls = [[f"F{index + 1}"] for index in range(rng.choice((30, 3000)))] + [["Relu"]]
    for index, names in enumerate(calls):
        chain = ["x", *(f"v{k}" for k in range(len(names) - 1)), "y"]
        nodes = [
            helper.make_node(name, [chain[k]], [chain[k + 1]], domain="own" if name.startswith("F") else "")
            for k, name in enumerate(names)
        ]
        model.functions.append(helper.make_function("own", f"F{index}", ["x"], ["y"], nodes, opsets))
    model.opset_import.add(domain="own", version=1)
    model.graph.node.append(helper.make_node("F0", [rng.choice(_values(model))], ["called"], domain="own"))


def _nested(rng: random.Random, model: onnx.ModelProto) -> None:
    """Branches within branches, up to what protobuf itself reads."""
    body = helper.make_graph([], "leaf", [], [])
    for level in range(rng.choice((3, 12, _DEEP))):
        other = helper.make_graph([], "other", [], [])
        name = _text(rng)
        node = helper.make_node("If", ["c"], [f"o{level}"], name=name, then_branch=body, else_branch=other)
        body = helper.make_graph([node], "body", [], [])
    model.graph.node.extend(body.node)


_DAMAGES: Sequence[Callable[[random.Random, onnx.ModelProto], None]] = (
    _wires, _wires, _order, _operator, _attribute, _attribute, _initializer, _constant, _types, _types, _versions,
    _functions, _nested,
)  # fmt: skip


def _float(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _model(
    nodes: list[onnx.NodeProto], outputs: list[onnx.ValueInfoProto], weights: list[onnx.TensorProto]
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "seed", [_float("x", [1, 4, 8, 8])], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _convolution() -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones((4, 4, 3, 3), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3], group=1),
        helper.make_node("Sigmoid", ["c"], ["s"], name="sigmoid"),
        helper.make_node("Mul", ["c", "s"], ["m"], name="mul"),
        helper.make_node("Flatten", ["m"], ["f"], axis=1),
        helper.make_node("Gemm", ["f", "g"], ["y"], transB=1, alpha=0.5),
    ]
    gemm = numpy_helper.from_array(np.ones((2, 256), np.float32), "g")
    return _model(nodes, [_float("y", [1, 2])], [weight, gemm])


def _shapes() -> onnx.ModelProto:
    axes = numpy_helper.from_array(np.array([0, -1], np.int64), "tail")
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], start=0),
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.array([1], np.int64))),
        helper.make_node("Constant", [], ["zero"], value_int=0),
        helper.make_node("Gather", ["shape", "one"], ["channels"], axis=0),
        helper.make_node("Concat", ["channels", "one"], ["target"], axis=0),
        helper.make_node("Mul", ["target", "one"], ["scaled"]),
        helper.make_node("Reshape", ["x", "tail"], ["flat"]),
        helper.make_node("Split", ["flat"], ["a", "b"], axis=1, num_outputs=2),
        helper.make_node("Expand", ["b", "scaled"], ["large"]),
        helper.make_node("Identity", ["large"], ["y"]),
    ]
    return _model(nodes, [_float("y", ["m", "n"])], [axes])


def _branches() -> onnx.ModelProto:
    def branch(op: str) -> onnx.GraphProto:
        return helper.make_graph([helper.make_node(op, ["x"], ["r"])], op, [], [_float("r", [1, 4, 8, 8])])

    condition = numpy_helper.from_array(np.array(True), "c")
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("Relu"), else_branch=branch("Tanh"))
    return _model([node], [_float("y", [1, 4, 8, 8])], [condition])


def _function() -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", 18)]
    body = [helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Mul", ["a", "s"], ["b"])]
    model = _model([helper.make_node("Swish", ["x"], ["y"], domain="own")], [_float("y", [1, 4, 8, 8])], [])
    model.functions.append(helper.make_function("own", "Swish", ["a"], ["b"], body, opsets))
    model.opset_import.add(domain="own", version=1)
    return model
