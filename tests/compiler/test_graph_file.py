"""Damaged ONNX files are refused by their first fault; whole ones are read, whatever operators they have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from benchmarks.mutations.graphs import seed_graphs
from ldmc.compiler.graph import load_summary
from ldmc.errors import UsageError

Damage = Callable[[onnx.ModelProto], object]


def convolution() -> onnx.ModelProto:
    return seed_graphs()[0]


def save(model: onnx.ModelProto, folder: Path) -> Path:
    file = folder / "m.onnx"
    file.write_bytes(model.SerializeToString())
    return file


@pytest.mark.parametrize("index", range(4))
def test_whole_graphs_are_read(index: int, tmp_path: Path) -> None:
    model = seed_graphs()[index]
    onnx.checker.check_model(model)
    assert load_summary(save(model, tmp_path)).nodes


def node(**changes: object) -> Damage:
    def damage(model: onnx.ModelProto) -> None:
        for key, value in changes.items():
            field = getattr(model.graph.node[2], key)
            if isinstance(value, list):
                del field[:]
                field.extend(value)
            else:
                setattr(model.graph.node[2], key, value)

    return damage


def tensor(**changes: object) -> Damage:
    def damage(model: onnx.ModelProto) -> None:
        for key, value in changes.items():
            if isinstance(value, list):
                model.graph.initializer[0].dims[:] = value
            else:
                setattr(model.graph.initializer[0], key, value)

    return damage


def attribute(kind: int, **fields: object) -> Damage:
    def damage(model: onnx.ModelProto) -> None:
        del model.graph.node[2].attribute[:]
        model.graph.node[2].attribute.add(name="axis", type=kind, **fields)

    return damage


def split(model: onnx.ModelProto) -> None:
    """Over more outputs than it says: onnx's shape inference, which is C++, ends the process."""
    model.graph.node.append(helper.make_node("Split", ["y"], ["s0", "s1"], axis=0, num_outputs=1))


def functions(*calls: list[str]) -> Damage:
    """F0, F1, ... each calling those named, in a row."""

    def damage(model: onnx.ModelProto) -> None:
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
        for index, names in enumerate(calls):
            wires = ["x", *(f"v{k}" for k in range(1, len(names))), "z"]
            nodes = [helper.make_node(n, [a], [b], domain="own") for n, a, b in zip(names, wires, wires[1:])]
            model.functions.append(helper.make_function("own", f"F{index}", ["x"], ["z"], nodes, opsets))
        model.opset_import.add(domain="own", version=1)
        model.graph.node.append(helper.make_node("F0", ["y"], ["called"], domain="own"))

    return damage


def nested(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "leaf", [], [])
    for level in range(32):
        body = helper.make_graph([helper.make_node("If", ["w"], [f"o{level}"], then_branch=body)], "body", [], [])
    model.graph.node.extend(helper.make_node("If", ["w"], ["o"], then_branch=body) for _ in range(1))


FAULTS: dict[str, tuple[Damage, str]] = {
    "a value of later": (node(input=["c", "y"]), "node 'mul' reads 'y', which nothing before it gives"),
    "a value of nowhere": (node(input=["c", "gone"]), "reads 'gone', which nothing before it gives"),
    "a cycle": (node(input=["m"]), "reads 'm', which nothing before it gives"),
    "a value given twice": (node(output=["c"]), "gives 'c', which is given before"),
    "no operator": (node(op_type=""), "has no operator"),
    "a view of nothing": (node(op_type="Reshape", input=[]), "is a Reshape without an input or an output"),
    "a Constant of nothing": (node(op_type="Constant", input=[]), "is a Constant without a value"),
    "an attribute of two kinds": (attribute(AttributeProto.INT, i=1, f=1.0), "is not of the type it says, 2"),
    "an attribute of no kind": (attribute(AttributeProto.UNDEFINED), "is not of the type it says, 0"),
    "a graph that a caller gives": (
        attribute(AttributeProto.GRAPH, ref_attr_name="body"), "a graph that whoever calls the function gives",
    ),
    "more outputs than it says": (split, "node 's0' has num_outputs 1 and 2 outputs"),
    "an attribute without its value": (attribute(AttributeProto.TENSOR, i=1), "is not of the type it says, 4"),
    "an output of nowhere": (lambda m: m.graph.output.add(name="q"), "output 'q' is given by no node"),
    "a negative size": (tensor(dims=[-4, 4, 3, 3]), "initializer 'w' has dimension -4"),
    "an absurd size": (tensor(dims=[2**40, 2**40]), "initializer 'w' has 2 dimensions and 1.21e+24 elements"),
    "too many sizes": (tensor(dims=[1] * 70), "has 70 dimensions"),
    "another size than its bytes": (tensor(dims=[4, 4, 3, 5]), "has 576 bytes for 240 elements of 32 bits"),
    "an unknown data type": (tensor(data_type=99), "initializer 'w' is of data type 99"),
    "an initializer twice": (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "2 initializers are called"),
    "an input of no type": (lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 77), "of data type 77"),
    "an opset below one": (lambda m: setattr(m.opset_import[0], "version", -1), "opset -1 of domain 'ai.onnx'"),
    "an absurd opset": (lambda m: setattr(m.opset_import[0], "version", 2**40), "opset 1099511627776"),
    "two opsets": (lambda m: m.opset_import.add(domain="ai.onnx", version=9), "domain 'ai.onnx' has two opsets"),
    "an IR of no version": (lambda m: setattr(m, "ir_version", -3), "IR version -3"),
    "a function that calls itself": (functions(["F0"]), "function own::F0 calls itself"),
    "functions that call each other": (functions(["F1"], ["F0"]), "function own::F0 calls itself"),
    "functions that grow": (
        functions(*([f"F{k + 1}"] * 10 for k in range(8)), ["Relu"]), "written out have over 1,000,000 nodes",
    ),
    "functions without end": (functions(*([f"F{k + 1}"] for k in range(60)), ["Relu"]), "call each other 33 deep"),
    "branches without end": (nested, "subgraphs lie within each other 33 deep"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(name: str, tmp_path: Path) -> None:
    damage, said = FAULTS[name]
    model = convolution()
    damage(model)
    file = save(model, tmp_path)
    with pytest.raises(UsageError) as refused:
        load_summary(file)
    assert said in refused.value.message and str(file) in refused.value.message and refused.value.fix


def test_a_split_whose_number_a_caller_gives_or_of_ones_own_is_read(tmp_path: Path) -> None:
    model = convolution()
    by_caller = helper.make_node("Split", ["x"], ["z", "rest"], axis=0)
    by_caller.attribute.add(name="num_outputs", type=AttributeProto.INT, ref_attr_name="count")
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("own", "Cut", ["x"], ["z"], [by_caller], opsets, ["count"]))
    model.graph.node.append(helper.make_node("Split", ["y"], ["s0", "s1"], domain="own", num_outputs=1))
    model.opset_import.add(domain="own", version=1)
    assert load_summary(save(model, tmp_path)).nodes


def test_a_name_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    content = convolution().SerializeToString().replace(b"sigmoid", b"sig\xff\xfeid")
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(UsageError, match="is no UTF-8"):
        load_summary(tmp_path / "m.onnx")


def test_external_data_anywhere_is_not_opened(tmp_path: Path) -> None:
    model = convolution()
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "/etc/passwd"), ("offset", "4"), ("length", str(2**62))):
        weight.external_data.add(key=key, value=value)
    assert load_summary(save(model, tmp_path)).stats.params == 656


@pytest.mark.parametrize("end", [10, 2**40])
def test_what_a_graph_computes_of_shapes_takes_no_memory(end: int, tmp_path: Path) -> None:
    """Range(0, 2**40) would be 8 TiB; Concat of itself over and over as much."""
    scalars = [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in (("a", 0), ("b", end), ("d", 1))]
    nodes = [helper.make_node("Range", ["a", "b", "d"], ["r0"])]
    nodes += [helper.make_node("Concat", [f"r{k}", f"r{k}"], [f"r{k + 1}"], axis=0) for k in range(40)]
    nodes += [helper.make_node("Range", ["a", "b", "d"], ["z"])]
    outputs = [helper.make_tensor_value_info("z", TensorProto.INT64, ["n"])]
    graph = helper.make_graph(nodes, "g", [], outputs, scalars)
    file = save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path)
    assert load_summary(file).outputs[0].shape in ((end,), (-1,))  # what versions of onnx infer differs
