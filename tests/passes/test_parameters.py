"""Operators over constants alone become constants, within an allowance."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx.shape_inference import infer_shapes
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from ldmc.passes.lazy import parameter
from ldmc.passes.rewrites import parameters
from tests.passes.modules import DictWeights, NoWeights, counts, noise, run

HEAD = '<ir_version: 8, opset_import: ["" : 18]> g '
PLENTY = 2**20


def model_of(text: str, **weights: object) -> ir.Model:
    """The graph of `text`, in which the inputs named in `weights` become lazy constants."""
    model = ir.from_onnx_text(HEAD + text)
    source = NoWeights() if all(value is None for value in weights.values()) else DictWeights(weights)
    for value in list(model.graph.inputs):
        if value.name not in weights:
            continue
        model.graph.inputs.remove(value)
        assert value.dtype is not None and value.shape is not None
        value.const_value = parameter(source, value.name, "unet", value.dtype, value.shape)
        model.graph.initializers.add(value)
    return model


TRANSPOSED = """(float[2,3] x, float[4,3] w) => (float[2,4] y) {
    t = Transpose <perm = [1,0]> (w)
    y = MatMul (x, t)
}"""


def typed(model: ir.Model) -> ir.Model:
    """As `fold` has it before this: all types known, Constant nodes lifted, weights still lazy."""
    lazy = {name: value.const_value for name, value in model.graph.initializers.items()}
    for value in list(model.graph.initializers.values()):
        model.graph.initializers.pop(value.name or "")
        value.const_value = None
        model.graph.inputs.append(value)
    model = ir.from_proto(infer_shapes(ir.to_proto(model)))
    for value in list(model.graph.inputs):
        if value.name in lazy:
            model.graph.inputs.remove(value)
            value.const_value = lazy[value.name]
            model.graph.initializers.add(value)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return model


def test_a_transposed_weight_is_a_weight() -> None:
    model = typed(model_of(TRANSPOSED, w=None))
    assert parameters.fold(model, 0) == 1
    assert counts(model) == {"MatMul": 1}
    assert list(model.graph.initializers) == ["t"]
    assert model.graph.initializers["t"].shape == ir.Shape([3, 4])


def test_the_same_is_computed_bit_for_bit() -> None:
    x, w = noise(2, 3), noise(4, 3, seed=1)
    before = run(model_of(TRANSPOSED, w=w), x)
    model = typed(model_of(TRANSPOSED, w=w))
    parameters.fold(model, 0)
    np.testing.assert_array_equal(run(model, x)[0], before[0])


CHAIN = """(float[1,6] x, float[2,3] w, float[2,3] v) => (float[1,6] y) {
    sides = Constant <value_ints = [1,6]> ()
    sum = Add (w, v)
    minus = Neg (sum)
    flat = Reshape (minus, sides)
    y = Mul (x, flat)
}"""


def test_a_chain_folds_at_once() -> None:
    model = typed(model_of(CHAIN, w=noise(2, 3), v=noise(2, 3, seed=1)))
    x = noise(1, 6, seed=2)
    [expected] = run(model_of(CHAIN, w=noise(2, 3), v=noise(2, 3, seed=1)), x)
    assert parameters.fold(model, 0) == 3
    assert counts(model) == {"Mul": 1}
    assert list(model.graph.initializers) == ["flat"]
    np.testing.assert_array_equal(run(model, x)[0], expected)


def test_a_graph_of_inputs_alone_is_not_changed() -> None:
    model = typed(model_of("(float[2,3] x) => (float[3,2] y) { y = Transpose (x) }"))
    before = ir.to_proto(model)
    assert parameters.fold(model, PLENTY) == 0
    assert ir.to_proto(model) == before


EXPANDED = """(float[8,8] x, float[1,8] w) => (float[8,8] y) {
    sides = Constant <value_ints = [8,8]> ()
    big = Expand (w, sides)
    y = Add (x, big)
}"""
TILED = """(float[8,8] x, float[1,8] w) => (float[8,8] y) {
    times = Constant <value_ints = [8,1]> ()
    big = Tile (w, times)
    y = Add (x, big)
}"""
GROWTH = 8 * 8 * 4 - 8 * 4 - 2 * 8  # the large one comes, the small one and its sides go


@pytest.mark.parametrize("text", [EXPANDED, TILED])
@pytest.mark.parametrize(("allowance", "folded"), [(0, 0), (GROWTH - 1, 0), (GROWTH, 1)])
def test_what_would_bloat_is_left(text: str, allowance: int, folded: int) -> None:
    model = typed(model_of(text, w=noise(1, 8)))
    assert parameters.fold(model, allowance) == folded
    assert (
        sum(value.const_value.nbytes for value in model.graph.initializers.values()) <= 8 * 4 + 16 + allowance
    )
    x = noise(8, 8, seed=1)
    [expected] = run(model_of(text, w=noise(1, 8)), x)
    np.testing.assert_array_equal(run(model, x)[0], expected)


def test_the_allowance_is_for_all_nodes_together() -> None:
    text = """(float[8,8] x, float[1,8] u, float[1,8] w) => (float[8,8] y) {
        sides = Constant <value_ints = [8,8]> ()
        one = Expand (u, sides)
        two = Expand (w, sides)
        sum = Add (x, one)
        y = Add (sum, two)
    }"""
    model = typed(model_of(text, u=None, w=None))
    assert parameters.fold(model, GROWTH + 16) == 1
    assert counts(model) == {"Add": 2, "Expand": 1}


def test_a_weight_that_is_read_elsewhere_counts_as_growth() -> None:
    text = """(float[2,3] x, float[2,4] z, float[4,3] w) => (float[2,4] y, float[2,3] u) {
        t = Transpose <perm = [1,0]> (w)
        y = MatMul (x, t)
        u = MatMul (z, w)
    }"""
    model = typed(model_of(text, w=None))
    assert parameters.fold(model, 47) == 0
    assert parameters.fold(model, 48) == 1
    assert sorted(model.graph.initializers) == ["t", "w"]


def test_a_graph_output_is_left() -> None:
    model = typed(model_of("(float[4,3] w) => (float[3,4] y) { y = Transpose (w) }", w=None))
    assert parameters.fold(model, PLENTY) == 0


def test_random_numbers_and_unknown_shapes_are_left() -> None:
    text = """(float[4] x, float[4] w, int64[1] k) => (float[4] y) {
        r = RandomNormalLike (w)
        n = Neg (w)
        y = Sum (x, r, n)
    }"""
    model = model_of(text, w=None)  # no shape inference: nothing is known of r and n
    assert parameters.fold(model, PLENTY) == 0
    model = typed(model)
    assert parameters.fold(model, PLENTY) == 1
    assert counts(model) == {"RandomNormalLike": 1, "Sum": 1}


def test_a_branch_over_constants_is_left() -> None:
    text = """(float[4] x, float[4] w, bool[1] c) => (float[4] y) {
        b = If (c) <then_branch = t () => (float[4] p) { p = Neg (w) },
                    else_branch = e () => (float[4] q) { q = Identity (w) }>
        y = Add (x, b)
    }"""
    model = typed(model_of(text, c=None, w=None))
    assert parameters.fold(model, PLENTY) == 0
    assert counts(model) == {"If": 1, "Add": 1}


def test_a_default_that_a_caller_may_override_is_left() -> None:
    model = ir.from_onnx_text(HEAD + TRANSPOSED)
    weight = model.graph.inputs[1]
    weight.const_value = ir.tensor(noise(4, 3), name="w")
    model.graph.initializers.add(weight)
    model.graph.node(0).outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    model.graph.node(0).outputs[0].shape = ir.Shape([3, 4])
    assert parameters.fold(model, PLENTY) == 0
    assert counts(model) == {"Transpose": 1, "MatMul": 1}
