"""A component of parts, counted as the one network it is, and its chain held together."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir
import pytest

from ldmc.compiler.diff import diff_graphs
from ldmc.compiler.graph import summarise
from ldmc.compiler.lower import check_io
from ldmc.compiler.stage import snapshot
from ldmc.errors import PassError
from ldmc.ir import Chain, Component, Engines, Form, TensorSpec

HEAD = '<ir_version: 8, opset_import: ["" : 18]> g '
ROW = TensorSpec("input_0", "float32", (1, 64))
OUT = TensorSpec("output_0", "float32", (1, 64))


def part(name: str, text: str, *shared: ir.TensorProtocol) -> Component:
    """An ONNX component of text; `shared` tensors become its initializers."""
    model = ir.from_onnx_text(HEAD + text)
    for tensor in shared:
        value = next(value for value in model.graph.inputs if value.name == tensor.name)
        model.graph.inputs.remove(value)
        value.const_value = tensor
        model.graph.initializers.add(value)
    specs = [
        tuple(TensorSpec(v.name, v.dtype.numpy().name, tuple(v.shape.numpy())) for v in values)
        for values in (model.graph.inputs, model.graph.outputs)
    ]
    return Component(name, Form.ONNX, model, *specs)


W = ir.tensor([[0.5] * 64] * 64, dtype=ir.DataType.FLOAT, name="w")
FIRST = """(float[1,64] input_0, float[64,64] w) => (float[1,64] a, float[1,64] b) {
    a = MatMul (input_0, w)
    b = Neg (a)
}"""
SECOND = (
    "(float[1,64] b, float[64,64] w) => (float[1,64] c) <float[1,64] m> { m = MatMul (b, w)\n c = Abs (m) }"
)
THIRD = "(float[1,64] a, float[1,64] c) => (float[1,64] output_0) { output_0 = Add (a, c) }"
WHOLE = """(float[1,64] input_0, float[64,64] w) => (float[1,64] output_0)
        <float[1,64] a, float[1,64] b, float[1,64] m, float[1,64] c> {
    a = MatMul (input_0, w)
    b = Neg (a)
    m = MatMul (b, w)
    c = Abs (m)
    output_0 = Add (a, c)
}"""


def chained(*finer: tuple[Component, ...], parts: tuple[Component, ...] = ()) -> Component:
    own = parts or (part("unet.0", FIRST, W), part("unet.1", SECOND, W), part("unet.2", THIRD))
    return Component("unet", Form.PARTS, Chain(own, finer), (ROW,), (OUT,))


def whole() -> Component:
    return part("unet", WHOLE, W)


def test_the_whole_is_counted_once() -> None:
    counted = snapshot(chained())
    assert counted.form is Form.PARTS
    assert (counted.stats.nodes, dict(counted.stats.ops)) == (5, {"Abs": 1, "Add": 1, "MatMul": 2, "Neg": 1})
    assert (counted.stats.params, counted.stats.bytes) == (64 * 64, 64 * 64 * 4)
    assert counted.stats.macs == 2 * 64 * 64


def test_the_worst_part_and_what_waits_meanwhile_is_the_peak() -> None:
    """unet.1 holds b, m and c, while a waits for unet.2: four rows of 256 bytes; each of the others holds three."""
    assert snapshot(chained()).stats.peak_activation_bytes == 4 * 256


def test_a_graph_that_was_only_cut_does_not_differ() -> None:
    assert diff_graphs(summarise(whole().payload), snapshot(chained()).graph).equal


def test_each_part_and_each_cut_is_reported() -> None:
    records = [record.to_json() for record in snapshot(chained()).parts]
    assert [(r["name"], r["nodes"], r["bytes"], r["macs"]) for r in records] == [
        ("unet.0", 2, 64 * 64 * 4, 64 * 64),
        ("unet.1", 2, 64 * 64 * 4, 64 * 64),
        ("unet.2", 1, 0, 0),
    ]
    assert [[value["name"] for value in r["crosses"]] for r in records] == [["a", "b"], ["a", "c"], []]
    assert [r["crossing_bytes"] for r in records] == [512, 512, 0]
    assert records[0]["crosses"][0] == {
        "name": "a", "dtype": "float32", "shape": [1, 64], "module": "", "bytes": 256,
    }  # fmt: skip


def test_engines_are_counted_as_what_they_are_made_from() -> None:
    engines = Component("unet", Form.ENGINE, Engines(chained()), (ROW,), (OUT,))
    assert snapshot(engines) == replace(snapshot(chained()), form=Form.ENGINE)


def test_unknown_shapes_leave_the_peak_unknown() -> None:
    parts = chained().payload.parts
    parts[1].payload.graph.node(0).outputs[0].shape = None
    parts[1].payload.graph.node(0).inputs[0].shape = None
    assert snapshot(chained(parts=parts)).stats.peak_activation_bytes is None


# ---- the chain holds


def test_a_whole_chain_is_accepted() -> None:
    check_io(whole(), chained(), "cutting")
    halves = (
        part("unet.1.0", "(float[1,64] b, float[64,64] w) => (float[1,64] m) { m = MatMul (b, w) }", W),
        part("unet.1.1", "(float[1,64] m) => (float[1,64] c) { c = Abs (m) }"),
    )
    check_io(whole(), chained((), halves, ()), "cutting")


def test_parts_that_are_not_as_they_say_are_refused() -> None:
    first, second, third = chained().payload.parts
    with pytest.raises(PassError, match="pass 'cutting' broke the outputs of unet.1: .* instead of "):
        check_io(whole(), chained(parts=(first, second.evolve(outputs=(OUT,)), third)), "cutting")


def test_what_nothing_gives_is_refused() -> None:
    first, second, third = chained().payload.parts
    with pytest.raises(PassError, match=r"broke the chain: before unet.1, nothing gives b float32\[1, 64\]"):
        check_io(whole(), chained(parts=(second, first, third)), "cutting")
    with pytest.raises(PassError, match=r"no part of unet gives output_0 float32\[1, 64\]"):
        check_io(whole(), chained(parts=(first, second)), "cutting")


def test_a_value_that_changes_its_type_on_the_way_is_refused() -> None:
    first, second, _ = chained().payload.parts
    third = part(
        "unet.2", THIRD.replace("float[1,64] a", "float[64,64] a").replace("Add (a, c)", "Add (c, c)")
    )
    with pytest.raises(PassError, match=r"before unet.2, nothing gives a float32\[64, 64\]"):
        check_io(whole(), chained(parts=(first, second, third)), "cutting")


def test_a_value_that_is_given_twice_is_refused() -> None:
    first, second, third = chained().payload.parts
    again = part("unet.3", "(float[1,64] b) => (float[1,64] c) { c = Neg (b) }")
    with pytest.raises(PassError, match="made unet.3 give what is there already: c"):
        check_io(whole(), chained(parts=(first, second, again, third)), "cutting")


def test_finer_parts_must_give_what_theirs_does() -> None:
    short = (part("unet.1.0", "(float[1,64] b, float[64,64] w) => (float[1,64] m) { m = MatMul (b, w) }", W),)
    with pytest.raises(PassError, match=r"the finer parts of unet.1 do not give c float32\[1, 64\]"):
        check_io(whole(), chained((), short, ()), "cutting")
