"""Folding: the same as onnxsim makes with the weights inside, without them, and never larger than allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxsim
import pytest

from ldmc.errors import PassError
from ldmc.ir import Component, Form, TensorSpec
from ldmc.passes.base import Context
from ldmc.passes.fold import Fold, constant_bytes
from tests.passes.modules import block, copied, counts, lowered, noise, run, target
from tests.passes.test_parameters import model_of

Exported = Callable[[int], Component]
LATENT_AND_T = (noise(1, 3, 8, 8), np.array([37]))


def folded(component: Component, max_growth: float = 1.05) -> tuple[ir.Model, list[str]]:
    """The graph after fold, and what the pass remarked."""
    remarks: list[str] = []
    after = Fold(max_growth=max_growth).run(component, Context(target(), remarks.append))
    return after.payload, remarks


def of_text(text: str, **weights: Any) -> Component:
    """A component of ONNX text whose inputs named in `weights` are lazy constants; None: must not be read."""
    model = model_of(text, **weights)
    return Component(
        "unet",
        Form.ONNX,
        model,
        tuple(
            TensorSpec(v.name or "", str(v.dtype.numpy()), tuple(v.shape.numpy())) for v in model.graph.inputs
        ),
        tuple(
            TensorSpec(v.name or "", str(v.dtype.numpy()), tuple(v.shape.numpy()))
            for v in model.graph.outputs
        ),
    )


def wire(model: ir.Model) -> bytes:
    return ir.to_proto(model).SerializeToString()


# ---- on a network


@pytest.fixture(scope="module")
def block_folded(exported: Exported) -> Component:
    component = exported(18)
    model, remarks = folded(component)
    assert remarks == ["groups of projections merged into one: 1"]
    return component.evolve(payload=model)


def test_shape_arithmetic_goes_and_projections_merge(exported: Exported, block_folded: Component) -> None:
    before, after = counts(exported(18).payload), counts(block_folded.payload)
    assert {"Shape", "Gather", "Constant", "CastLike", "Identity", "Expand", "Range"} <= before.keys()
    assert not {"Shape", "Gather", "Constant", "CastLike", "Identity", "Expand", "Range"} & after.keys()
    assert after["MatMul"] == before["MatMul"] - 2
    assert after["Split"] == 1
    assert sum(after.values()) < sum(before.values()) / 2


def test_the_same_is_computed_bit_for_bit(exported: Exported, block_folded: Component) -> None:
    [before] = run(exported(18).payload, *LATENT_AND_T)
    np.testing.assert_array_equal(run(block_folded.payload, *LATENT_AND_T)[0], before)


def test_the_same_is_computed_in_fp16() -> None:
    """Not bit for bit: ONNX Runtime computes in fp32 here, and skips a rounding where it can."""
    component = lowered(block(), "fp16{keep=[norm,softmax,timestep]},onnx")
    latent = LATENT_AND_T[0].astype("float16")
    [before] = run(copied(component).payload, latent, LATENT_AND_T[1])
    model, _ = folded(component)
    np.testing.assert_allclose(run(model, latent, LATENT_AND_T[1])[0], before, atol=5e-4)


def test_as_few_nodes_as_onnxsim_leaves_with_the_weights_inside(
    exported: Exported, block_folded: Component
) -> None:
    inside, _ = onnxsim.simplify(ir.to_proto(exported(18).payload))
    theirs, ours = counts(ir.from_proto(inside)), counts(block_folded.payload)
    assert sum(ours.values()) <= sum(theirs.values())
    assert ours["MatMul"] + ours.get("Gemm", 0) <= theirs["MatMul"] + theirs.get("Gemm", 0)
    assert all(n <= theirs.get(op, 0) for op, n in ours.items() if op != "MatMul")
    [expected], [actual] = run(inside, *LATENT_AND_T), run(block_folded.payload, *LATENT_AND_T)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_folding_again_changes_nothing(block_folded: Component) -> None:
    model, remarks = folded(block_folded.evolve(payload=block_folded.payload.clone()))
    assert not remarks
    once, twice = ir.to_proto(block_folded.payload), ir.to_proto(model)
    assert list(twice.graph.node) == list(once.graph.node)
    for field in ("initializer", "value_info", "input", "output"):
        first, second = (
            sorted(getattr(proto.graph, field), key=lambda value: value.name) for proto in (once, twice)
        )
        assert first == second, field


def test_the_same_graph_gives_the_same_bytes(exported: Exported, block_folded: Component) -> None:
    assert wire(folded(exported(18))[0]) == wire(block_folded.payload)


def test_inputs_outputs_and_weight_names_stay(exported: Exported, block_folded: Component) -> None:
    graph = block_folded.payload.graph
    assert [value.name for value in graph.inputs] == ["input_0", "input_1"]
    assert [value.name for value in graph.outputs] == ["output_0"]
    assert {"conv_in.weight", "resnet.conv1.bias", "conv_out.bias"} <= set(graph.initializers)
    names = [node.name for node in graph]
    assert all(names) and len(set(names)) == len(names)


def test_constants_do_not_grow(exported: Exported, block_folded: Component) -> None:
    assert constant_bytes(block_folded.payload) <= constant_bytes(exported(18).payload) + 512


def test_weights_stay_lazy(exported: Exported, block_folded: Component) -> None:
    """All that comes from the checkpoint; what the exporter computed itself is a few numbers."""
    values = block_folded.payload.graph.initializers.values()
    plain = [v.const_value.nbytes for v in values if not isinstance(v.const_value, ir.LazyTensor)]
    assert max(plain) <= 64
    lazy = [v.const_value.nbytes for v in exported(18).payload.graph.initializers.values()]
    assert sum(v.const_value.nbytes for v in values) - sum(plain) == sum(lazy)


def test_no_record_of_onnxsim_is_left(block_folded: Component) -> None:
    assert not block_folded.payload.metadata_props


# ---- growth

MIB = 2**20


def text_of(op: str, constant: str, side: int) -> str:
    """A row that `op` repeats `side` times."""
    return f"""(float[{side},1024] x, float[1,1024] w) => (float[{side},1024] y) {{
        how = Constant <value_ints = [{constant}]> ()
        big = {op} (w, how)
        y = Add (x, big)
    }}"""


@pytest.mark.parametrize(("op", "constant"), [("Expand", "512,1024"), ("Tile", "512,1")])
def test_a_weight_that_would_bloat_is_left_in_the_graph(op: str, constant: str) -> None:
    """2 MiB from 4 KiB."""
    text = text_of(op, constant, 512)
    model, _ = folded(of_text(text, w=None))
    assert counts(model) == {op: 1, "Add": 1}
    assert constant_bytes(model) < 8192
    w, x = noise(1, 1024), noise(512, 1024, seed=1)
    model, _ = folded(of_text(text, w=w))
    np.testing.assert_array_equal(run(model, x)[0], x + w)


@pytest.mark.parametrize(("op", "constant"), [("Expand", "512,1024"), ("Tile", "512,1")])
def test_a_constant_that_would_bloat_is_left_in_the_graph(op: str, constant: str) -> None:
    text = text_of(op, constant, 512).replace(", float[1,1024] w)", ")")
    text = text.replace("big =", "w = ConstantOfShape <value = float[1] {2.5}> (one)\n big =")
    text = text.replace("how =", "one = Constant <value_ints = [1,1024]> ()\n how =")
    model, _ = folded(of_text(text))
    assert constant_bytes(model) < 8192
    assert counts(model)["Add"] == 1 and len(counts(model)) >= 2
    x = noise(512, 1024, seed=1)
    np.testing.assert_array_equal(run(model, x)[0], x + np.float32(2.5))


def test_growth_that_is_allowed_is_folded() -> None:
    text = text_of("Expand", "512,1024", 512)
    model, _ = folded(of_text(text, w=None), max_growth=600.0)
    assert counts(model) == {"Add": 1}
    assert constant_bytes(model) == 2 * MIB


def test_less_than_a_mebibyte_is_always_allowed() -> None:
    model, _ = folded(of_text(text_of("Expand", "128,1024", 128), w=None))
    assert counts(model) == {"Add": 1}


MANY = """(float[192,1024] x) => (float[192,1024] y) {
    sides = Constant <value_ints = [192,1024]> ()
    a = ConstantOfShape <value = float[1] {3.0}> (sides)
    b = ConstantOfShape <value = float[1] {2.0}> (sides)
    xa = Mul (x, a)
    y = Add (xa, b)
}"""


def test_growth_that_cannot_be_helped_is_an_error_that_says_what_would_allow_it() -> None:
    """Each constant alone is within the mebibyte, both together are not; onnxsim knows only the first limit."""
    with pytest.raises(
        PassError, match=r"unet: folding grew the constants by 1.5 MiB, max_growth=1.05 allows 1.0"
    ) as caught:
        folded(of_text(MANY))
    _, _, needed = caught.value.fix.rpartition("max_growth=")
    model, _ = folded(of_text(MANY), max_growth=float(needed.rstrip("}")))
    assert constant_bytes(model) <= 1.5 * MIB + 64


@pytest.mark.parametrize("max_growth", [0.99, 0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_factor_from_one_is_refused(max_growth: float) -> None:
    with pytest.raises(ValueError, match="it is a factor from 1"):
        Fold(max_growth=max_growth)


# ---- small graphs


def test_a_graph_with_nothing_to_fold_is_not_changed() -> None:
    text = "(float[2,3] x, float[3,4] w) => (float[2,4] y) { n = Neg (x)\n y = MatMul (n, w) }"
    model, remarks = folded(of_text(text, w=None))
    assert not remarks
    assert [(node.op_type, [v.name for v in node.inputs]) for node in model.graph] == [
        ("Neg", ["x"]),
        ("MatMul", [next(iter(model.graph.node(0).outputs)).name, "w"]),
    ]
    assert isinstance(model.graph.initializers["w"].const_value, ir.LazyTensor)


def test_a_weight_that_nothing_needs_is_dropped() -> None:
    text = "(float[2,3] x, float[3,4] w) => (float[2,3] y) { dead = MatMul (x, w)\n y = Neg (x) }"
    model, _ = folded(of_text(text, w=None))
    assert not model.graph.initializers
    assert counts(model) == {"Neg": 1}


def test_a_graph_that_is_no_valid_onnx_fails() -> None:
    text = "(float[2,3] x, float[3,4] w) => (float[2,4] y) { y = MatMul <what = 3> (x, w, w, w) }"
    component = of_text(text, w=None)
    with pytest.raises(PassError, match="pass 'fold' failed on unet: "):
        lowered(component, "fold")


def test_inputs_of_the_component_are_not_taken_for_weights() -> None:
    """Weights stand in as inputs while onnxsim runs; the component's own inputs stay."""
    body = "t = Transpose (w)\n u = Transpose (v)\n y = MatMul (t, u)"
    text = f"(float[3,4] w, float[4,3] v) => (float[4,4] y) {{ {body} }}"
    v = noise(4, 3)
    model, _ = folded(of_text(text, v=v))
    assert [value.name for value in model.graph.inputs] == ["w"]
    w = noise(3, 4, seed=1)
    np.testing.assert_allclose(run(model, w)[0], w.T @ v.T, rtol=1e-6)
