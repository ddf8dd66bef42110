"""Lowering to an older operator set: what each operator becomes, what stays, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from ldmc.errors import PassError
from ldmc.ir import Component
from ldmc.passes.base import Context
from ldmc.passes.opset import Opset
from ldmc.targets.reader import load_target
from tests.passes.graphs import component_of_model, lazily, said, snr_db, text_model
from tests.passes.modules import counts, noise, run, target

NANO = load_target("jetson-nano")


def opset(model: ir.Model, to: int = 13) -> tuple[ir.Model, str]:
    """The graph after the pass, and its remark."""
    remarks: list[str] = []
    after = Opset(to=to).run(component_of_model(model), Context(NANO, remarks.append))
    [remark] = remarks
    return after.payload, remark


def refused(model: ir.Model, to: int = 13) -> str:
    with pytest.raises(PassError) as caught:
        opset(model, to)
    return caught.value.message


# ---- signatures: source opset, before, after; equal bit for bit

SIGNATURES = {
    "axes are an attribute": (
        18,
        "(float[2,3,4] x) => (float[2,1,1] y) <int64[2] a = {1,-1}> { y = ReduceMean <keepdims = 1> (x, a) }",
        "(float[2,3,4] x) => (float[2,1,1] y) { y = ReduceMean <axes = [1,-1], keepdims = 1> (x) }",
    ),
    "no axes are all axes": (
        18,
        "(float[2,3] x) => (float[1,1] y) { y = ReduceMax <noop_with_empty_axes = 0> (x) }",
        "(float[2,3] x) => (float[1,1] y) { y = ReduceMax (x) }",
    ),
    "no axes are no reduction": (
        18,
        "(float[2,3] x) => (float[2,3] y) { y = ReduceProd <noop_with_empty_axes = 1> (x) }",
        "(float[2,3] x) => (float[2,3] y) { y = Identity (x) }",
    ),
    "ReduceSum had axes as an input before": (
        18,
        "(float[2,3] x) => (float[2,1] y) <int64[1] a = {1}> { y = ReduceSum (x, a) }",
        "(float[2,3] x) => (float[2,1] y) <int64[1] a = {1}> { y = ReduceSum (x, a) }",
    ),
    "sizes of uneven parts": (
        18,
        "(float[7,2] x) => (float[3,2] y, float[3,2] z, float[1,2] w) { y, z, w = Split <num_outputs = 3> (x) }",
        """(float[7,2] x) => (float[3,2] y, float[3,2] z, float[1,2] w) <int64[3] s = {3,3,1}> {
            y, z, w = Split (x, s) }""",
    ),
    "sizes that are given": (
        18,
        "(float[2,4] x) => (float[2,1] y, float[2,3] z) <int64[2] s = {1,3}> { y, z = Split <axis = 1> (x, s) }",
        "(float[2,4] x) => (float[2,1] y, float[2,3] z) <int64[2] s = {1,3}> { y, z = Split <axis = 1> (x, s) }",
    ),
    "Resize without what came later": (
        19,
        """(float[1,1,2,2] x) => (float[1,1,4,4] y) <float[4] s = {1,1,2,2}> {
            y = Resize <mode = "nearest", nearest_mode = "floor", coordinate_transformation_mode = "asymmetric",
                        antialias = 0, keep_aspect_ratio_policy = "stretch"> (x, , s) }""",
        """(float[1,1,2,2] x) => (float[1,1,4,4] y) <float[4] s = {1,1,2,2}> {
            y = Resize <mode = "nearest", nearest_mode = "floor", coordinate_transformation_mode = "asymmetric">
                (x, , s) }""",
    ),
    "Resize of some axes by scales": (
        18,
        """(float[1,1,2,3] x) => (float[1,1,4,9] y) <float[2] s = {3,2}> {
            y = Resize <mode = "linear", axes = [3,-2]> (x, , s) }""",
        """(float[1,1,2,3] x) => (float[1,1,4,9] y) <float[4] s = {1,1,2,3}> {
            y = Resize <mode = "linear"> (x, , s) }""",
    ),
    "Resize of some axes by sizes": (
        18,
        """(float[1,2,2,3] x) => (float[1,2,4,6] y) <int64[2] s = {4,6}> {
            y = Resize <mode = "nearest", axes = [2,3]> (x, , , s) }""",
        """(float[1,2,2,3] x) => (float[1,2,4,6] y) <int64[4] s = {1,2,4,6}> {
            y = Resize <mode = "nearest"> (x, , , s) }""",
    ),
    "Pad of some axes": (
        18,
        """(float[2,3] x) => (float[2,6] y) <int64[2] p = {1,2}, float c = {7}, int64[1] a = {-1}> {
            y = Pad <mode = "constant"> (x, p, c, a) }""",
        """(float[2,3] x) => (float[2,6] y) <int64[4] p = {0,1,0,2}, float c = {7}> {
            y = Pad <mode = "constant"> (x, p, c) }""",
    ),
    "Pad of all axes": (
        19,
        """(float[2,3] x) => (float[2,6] y) <int64[4] p = {0,1,0,2}> { y = Pad <mode = "edge"> (x, p) }""",
        """(float[2,3] x) => (float[2,6] y) <int64[4] p = {0,1,0,2}> { y = Pad <mode = "edge"> (x, p) }""",
    ),
    "allowzero that says nothing": (
        18,
        "(float[2,3] x) => (float[3,2] y) <int64[2] s = {3,-1}> { y = Reshape <allowzero = 1> (x, s) }",
        "(float[2,3] x) => (float[3,2] y) <int64[2] s = {3,-1}> { y = Reshape (x, s) }",
    ),
    "a zero that copies": (
        18,
        "(float[2,3] x) => (float[2,3] y) <int64[2] s = {0,-1}> { y = Reshape <allowzero = 0> (x, s) }",
        "(float[2,3] x) => (float[2,3] y) <int64[2] s = {0,-1}> { y = Reshape (x, s) }",
    ),
    "CastLike of a known type": (
        18,
        "(float[2] x, int64[1] l) => (int64[2] y) { y = CastLike (x, l) }",
        "(float[2] x, int64[1] l) => (int64[2] y) { y = Cast <to = 7> (x) }",
    ),
    "Cast without saturate": (
        19,
        "(float[2] x) => (float16[2] y) { y = Cast <to = 10, saturate = 1> (x) }",
        "(float[2] x) => (float16[2] y) { y = Cast <to = 10> (x) }",
    ),
    "Shape from the start": (
        18,
        "(float[2,3] x) => (int64[2] y) { y = Shape <start = 0> (x) }",
        "(float[2,3] x) => (int64[2] y) { y = Shape (x) }",
    ),
    "types that were there": (
        23,
        "(float[2,3] x) => (float[3,2] y) { t = Identity (x)  y = Transpose <perm = [1,0]> (t) }",
        "(float[2,3] x) => (float[3,2] y) { t = Identity (x)  y = Transpose <perm = [1,0]> (t) }",
    ),
}


@pytest.mark.parametrize("case", SIGNATURES)
def test_a_signature_is_the_older_one(case: str) -> None:
    source, before, after = SIGNATURES[case]
    model = text_model(before, source)
    arrays = [
        noise(*value.shape.numpy(), seed=k).astype(value.dtype.numpy())
        for k, value in enumerate(model.graph.inputs)
    ]
    wanted = run(model, *arrays)
    lowered, _ = opset(model)
    assert said(lowered) == said(text_model(after, 13))
    assert (lowered.opset_imports, lowered.ir_version) == ({"": 13}, 7)
    onnx.checker.check_model(ir.to_proto(lowered), full_check=True)
    for found, expected in zip(run(lowered, *arrays), wanted, strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


# ---- operators that the older opset does not have

FUNCTIONS = {
    "Gelu": (20, "y = Gelu (x)", {"Div": 1, "Erf": 1, "Add": 1, "Mul": 2}),
    "Gelu by tanh": (20, 'y = Gelu <approximate = "tanh"> (x)', {"Mul": 6, "Add": 2, "Tanh": 1}),
    "Mish": (18, "y = Mish (x)", {"Softplus": 1, "Tanh": 1, "Mul": 1}),
    "HardSwish": (18, "y = HardSwish (x)", {"HardSigmoid": 1, "Mul": 1}),
    "LayerNormalization": (
        18,
        "y = LayerNormalization <epsilon = 0.01> (x, s, b)",
        {"ReduceMean": 2, "Sub": 1, "Mul": 2, "Add": 2, "Sqrt": 1, "Div": 1},
    ),
    "LayerNormalization of two axes without bias": (
        18,
        "y = LayerNormalization <axis = 2> (x, s)",
        {"ReduceMean": 2, "Sub": 1, "Mul": 2, "Add": 1, "Sqrt": 1, "Div": 1},
    ),
    "RMSNormalization": (
        23,
        "y = RMSNormalization (x, s)",
        {"ReduceMean": 1, "Mul": 2, "Add": 1, "Sqrt": 1, "Div": 1},
    ),
    "GroupNormalization by channel": (
        21,
        "y = GroupNormalization <num_groups = 2> (x, c, d)",
        {"Reshape": 2, "ReduceMean": 2, "Sub": 1, "Mul": 2, "Add": 2, "Sqrt": 1, "Div": 1},
    ),
    "GroupNormalization by group": (
        18,
        "y = GroupNormalization <num_groups = 2> (x, g, h)",
        {"Reshape": 2, "ReduceMean": 2, "Sub": 1, "Mul": 2, "Add": 2, "Sqrt": 1, "Div": 1},
    ),
}
CONSTANTS = """<float[5] s = {1.5,2,-1,0.5,3}, float[5] b = {1,2,3,4,5}, float[4] c = {1,2,3,4},
    float[4] d = {1,0,2,-1}, float[2] g = {2,3}, float[2] h = {1,-1}>"""


def function_model(case: str) -> ir.Model:
    source, node, _ = FUNCTIONS[case]
    return text_model(f"(float[1,4,3,5] x) => (float[1,4,3,5] y) {CONSTANTS} {{ {node} }}", source)


def halved(model: ir.Model) -> ir.Model:
    """The same in fp16: the text format has no such constants."""
    for value in model.graph.initializers.values():
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy().astype("float16"))
        value.type = ir.TensorType(ir.DataType.FLOAT16)
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.type = ir.TensorType(ir.DataType.FLOAT16)
    return model


@pytest.mark.parametrize("case", FUNCTIONS)
def test_an_operator_is_written_with_older_ones(case: str) -> None:
    x = noise(1, 4, 3, 5)
    [wanted] = run(function_model(case), x)
    lowered, remark = opset(function_model(case))
    assert counts(lowered) == FUNCTIONS[case][2]
    assert all(node.name.startswith("mod.y/") for node in lowered.graph)
    assert len({node.name for node in lowered.graph}) == len(list(lowered.graph))
    assert snr_db(wanted, run(lowered, x)[0]) > 120
    assert remark.endswith("1")


@pytest.mark.parametrize("case", ["LayerNormalization", "GroupNormalization by channel", "RMSNormalization"])
def test_statistics_of_fp16_are_in_fp32(case: str) -> None:
    """A square of 300 is more than fp16 holds."""
    x = (300 + 40 * noise(1, 4, 3, 5)).astype("float16")
    lowered, _ = opset(halved(function_model(case)))
    assert counts(lowered)["Cast"] == 2
    [found] = run(lowered, x)
    assert found.dtype == np.float16 and np.isfinite(found).all()
    [wanted] = run(function_model(case), x.astype("float32"))
    assert snr_db(wanted, found) > 50


def test_a_newer_opset_keeps_what_it_has() -> None:
    lowered, _ = opset(function_model("LayerNormalization"), to=17)
    assert counts(lowered) == {"LayerNormalization": 1}
    assert (lowered.opset_imports, lowered.ir_version) == ({"": 17}, 8)


# ---- refusals

REFUSED = {
    "an operator nobody wrote down": (
        18,
        "(float[3,3] x) => (float[3,3] y) { y = Trilu (x) }",
        "node mod.y/Trilu (Trilu) cannot be written in opset 13: there is none there (this one is of opset 14)",
    ),
    "a type that came later": (
        21,
        "(bfloat16[2] x) => (bfloat16[2] y) { y = LeakyRelu (x) }",
        "its input X cannot be bfloat16 there",
    ),
    "a type of a reduction that came later": (
        20,
        "(bool[2] x) => (bool[1] y) { y = ReduceMax (x) }",
        "cannot be bool there",
    ),
    "no axes of what does more than reduce": (
        18,
        "(float[2,3] x) => (float[2,3] y) { y = ReduceL2 <noop_with_empty_axes = 1> (x) }",
        "it has noop_with_empty_axes=1 and no axes",
    ),
    "axes that are computed": (
        18,
        "(float[2] x, int64[1] a) => (float[1] y) { y = ReduceMean (x, a) }",
        "its axes are computed",
    ),
    "antialias": (
        18,
        """(float[1,1,4,4] x) => (float[1,1,2,2] y) <float[4] s = {1,1,0.5,0.5}> {
            y = Resize <mode = "linear", antialias = 1> (x, , s) }""",
        "it has antialias=1",
    ),
    "an aspect ratio that is kept": (
        18,
        """(float[1,1,4,4] x) => (float[1,1,2,2] y) <int64[4] s = {1,1,2,3}> {
            y = Resize <mode = "linear", keep_aspect_ratio_policy = "not_larger"> (x, , , s) }""",
        "it has keep_aspect_ratio_policy=not_larger",
    ),
    "symmetric coordinates": (
        19,
        """(float[1,1,4,4] x) => (float[1,1,2,2] y) <float[4] s = {1,1,0.5,0.5}> {
            y = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel_symmetric"> (x, , s) }""",
        "coordinate_transformation_mode=half_pixel_symmetric",
    ),
    "padding that wraps": (
        19,
        """(float[2,3] x) => (float[2,4] y) <int64[4] p = {0,1,0,0}> { y = Pad <mode = "wrap"> (x, p) }""",
        "it has mode=wrap",
    ),
    "a zero that is meant": (
        18,
        "(float[0,3] x) => (float[3,0] y) <int64[2] s = {3,0}> { y = Reshape <allowzero = 1> (x, s) }",
        "it has allowzero=1",
    ),
    "the means of a LayerNormalization": (
        18,
        "(float[2,3] x, float[3] s) => (float[2,3] y, float[2,1] m) { y, m = LayerNormalization (x, s) }",
        "its mean or inverse deviation is used",
    ),
    "an attribute that came later": (
        18,
        "(float[2,3] x) => (int64[1] y) { y = Shape <start = 1> (x) }",
        "its start=1 is not known there",
    ),
    "a default that changed": (
        18,
        "(float[1,1,4,4] x, float[1,4] r, int64[1] b) => (float[1,1,1,1] y) { y = RoiAlign (x, r, b) }",
        "attribute coordinate_transformation_mode came with opset 16",
    ),
    "a subgraph": (
        18,
        """(bool c, float[2] x) => (float[2] y) {
            y = If (c) <then_branch = a () => (float[2] t) { t = Relu (x) },
                        else_branch = b () => (float[2] e) { e = Neg (x) }> }""",
        "it has a subgraph",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str) -> None:
    source, text, words = REFUSED[case]
    message = refused(text_model(text, source))
    assert words in message
    assert message.startswith("unet: node mod.y/") and "cannot be written in opset 13" in message


def test_modes_that_were_renamed_are_refused() -> None:
    text = '(float[1,1,4,4] x, float[1,2,2,2] g) => (float[1,1,2,2] y) { y = GridSample <mode = "linear"> (x, g) }'
    assert "means something else since opset 20" in refused(text_model(text, 20), to=16)


def test_other_domains_and_newer_opsets_are_refused() -> None:
    model = text_model("(float[2] x) => (float[2] y) { y = Relu (x) }", 18)
    model.graph.node(0).domain = "com.example"
    assert "com.example" in refused(model)
    model = text_model("(float[2] x) => (float[2] y) { y = Relu (x) }", 24)
    assert "of opset 24, lowering is known from opset 23 down" in refused(model)


@pytest.mark.parametrize("to", [12, 18])
def test_options(to: int) -> None:
    with pytest.raises(ValueError, match="13 to 17"):
        Opset(to=to)


def test_a_target_that_reads_less_objects() -> None:
    assert Opset(to=17).objection(NANO) == "target 'jetson-nano' reads opset 13 at most, not 17"
    assert Opset(to=13).objection(NANO) == Opset(to=17).objection(target()) == ""


# ---- graphs as they come from the exporter


def test_lowering_again_changes_nothing() -> None:
    once, _ = opset(text_model(SIGNATURES["axes are an attribute"][1], 18))
    before = ir.to_proto(once).SerializeToString()
    twice, remark = opset(once)
    assert ir.to_proto(twice).SerializeToString() == before
    assert remark == "opset 13 to 13, IR 7; rewritten: nothing"


def test_weights_are_not_read() -> None:
    text = """(float[2,3] x) => (float[1,4] y) <float[3,4] w, int64[1] a = {0}> {
        m = ReduceMean (x, a)  y = MatMul (m, w) }"""
    model = text_model(text.replace("float[3,4] w", "float[3,4] w = {" + ",".join("0" * 12) + "}"), 18)
    lowered, _ = opset(lazily(model, "w"))
    assert isinstance(lowered.graph.initializers["w"].const_value, ir.LazyTensor)
    assert [value.name for value in lowered.graph.inputs] == ["x"]


@pytest.mark.parametrize("source", [18, 19, 20, 21, 22])
@pytest.mark.parametrize("to", [13, 15, 17])
def test_every_layer_of_a_network_from_every_opset(
    exported: Callable[[int], Component], source: int, to: int
) -> None:
    arrays = (noise(1, 3, 8, 8), np.array([37]))
    from ldmc.passes.fold import Fold

    component = Fold().run(exported(source), Context(NANO))
    [wanted] = run(component.payload, *arrays)
    lowered = Opset(to=to).run(component, Context(NANO)).payload
    assert lowered.opset_imports == {"": to}
    [found] = run(lowered, *arrays)
    if source < 21:
        np.testing.assert_array_equal(found, wanted)
    assert snr_db(wanted, found) > 120  # from 21 on the exporter writes GroupNormalization


def test_notes_that_older_formats_cannot_hold_go() -> None:
    model = text_model(SIGNATURES["axes are an attribute"][1], 18)
    model.graph.node(0).metadata_props["a"] = model.graph.inputs[0].metadata_props["b"] = "note"
    proto = ir.to_proto(opset(model)[0])
    assert not any(node.metadata_props for node in proto.graph.node)
    assert not any(value.metadata_props for value in proto.graph.input)


def test_what_does_not_become_valid_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from ldmc.passes.rewrites import lowerings

    def broken(node: ir.Node, editor: Any) -> None:
        node.attributes.clear()
        node.resize_inputs(1)

    monkeypatch.setitem(lowerings.SIGNATURES, "Reshape", broken)
    with pytest.raises(PassError, match="not valid ONNX of opset 13"):
        opset(text_model(SIGNATURES["a zero that copies"][1], 18))
