"""CastLike of a known type becomes a Cast, or nothing."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ldmc.passes.rewrites import castlike
from tests.passes.modules import counts, noise, run

HEAD = '<ir_version: 8, opset_import: ["" : 18]> g '


def lowered(text: str) -> tuple[int, ir.Model]:
    model = ir.from_onnx_text(HEAD + text)
    return castlike.lower(model), model


def test_to_another_type_it_is_a_cast() -> None:
    count, model = lowered("""(float[4] a, float16[2] like) => (float16[4] y) {
        c = CastLike (a, like)
        y = Neg (c)
    }""")
    assert count == 1
    assert counts(model) == {"Cast": 1, "Neg": 1}
    cast = model.graph.node(0)
    assert cast.attributes["to"].as_int() == ir.DataType.FLOAT16
    assert cast.outputs[0].dtype == ir.DataType.FLOAT16
    assert cast.outputs[0].name == "c"


def test_to_its_own_type_it_is_nothing() -> None:
    count, model = lowered("""(float[4] a, float[2] like) => (float[4] y, float[4] z) {
        c = CastLike (a, like)
        y = Neg (c)
        z = Add (c, a)
    }""")
    assert count == 1
    assert counts(model) == {"Neg": 1, "Add": 1}
    assert [value.name for value in model.graph.node(1).inputs] == ["a", "a"]


@pytest.mark.parametrize("kind", ["float", "float16"])
def test_a_graph_output_keeps_its_name(kind: str) -> None:
    count, model = lowered(f"(float[4] a, {kind}[2] like) => ({kind}[4] y) {{ y = CastLike (a, like) }}")
    assert count == 1
    assert counts(model) == {"Cast": 1}
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert model.graph.outputs[0].producer() is model.graph.node(0)
    array = noise(4)
    dtype = "float32" if kind == "float" else "float16"
    np.testing.assert_array_equal(run(model, array, noise(2, dtype=dtype))[0], array.astype(dtype))


def test_a_chain_of_them() -> None:
    text = """(float[4] a, float16[4] h) => (float16[4] y) {
        one = CastLike (a, h)
        two = CastLike (one, h)
        y = Mul (two, h)
    }"""
    count, model = lowered(text)
    assert count == 2
    assert counts(model) == {"Cast": 1, "Mul": 1}


def test_an_unknown_type_is_left_alone() -> None:
    count, model = lowered("""(float[4] a, float[4] b) => (float[4] y) {
        unknown = Neg (b)
        y = CastLike (a, unknown)
    }""")
    assert count == 0
    assert counts(model) == {"Neg": 1, "CastLike": 1}


def test_an_operator_of_another_domain_is_left_alone() -> None:
    model = ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["" : 18, "other" : 1]> g (float[4] a, float16[4] b) => (float16[4] y)'
        " { y = other.CastLike (a, b) }"
    )
    assert castlike.lower(model) == 0


def test_a_graph_without_any_is_not_changed() -> None:
    text = "(float[4] a) => (float16[4] y) { y = Cast <to = 10> (a) }"
    before = ir.to_proto(ir.from_onnx_text(HEAD + text))
    count, model = lowered(text)
    assert count == 0
    assert ir.to_proto(model) == before


def test_the_same_is_computed() -> None:
    text = (
        HEAD
        + """(float[8] a, float16[8] h, double[1] d) => (float16[8] y, double[8] z) {
        c = CastLike (a, h)
        y = Mul (c, h)
        e = CastLike (a, a)
        z = CastLike (e, d)
    }"""
    )
    arrays = noise(8) * 1.001, noise(8, dtype="float16"), np.zeros(1)
    expected = run(ir.from_onnx_text(text), *arrays)
    model = ir.from_onnx_text(text)
    assert castlike.lower(model) == 3
    for value, wanted in zip(run(model, *arrays), expected, strict=True):
        np.testing.assert_array_equal(value, wanted)
