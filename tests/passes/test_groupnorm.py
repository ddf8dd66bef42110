"""GroupNorm in every form from every form: recognised, written, named, and the same in numbers."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from ldmc.errors import PassError
from ldmc.ir import Component
from ldmc.passes.base import Context
from ldmc.passes.groupnorm import GroupNorm
from ldmc.targets.reader import load_target
from tests.passes.graphs import component_of_model, lazily, said, snr_db, text_model
from tests.passes.modules import copied, counts, noise, run, run_exactly, target

# [1, 4, 2, 3] in two groups, as the exporter writes it after `fold`.
CONSTANTS = """int64[3] s = {0,2,-1}, float[2] one = {1,1}, float[2] zero = {0,0}, int64[4] r = {1,4,2,3},
    float[4,1,1] w = {1,2,3,4}, float[4,1,1] v = {0,1,-1,2}"""
EXPORTED = f"""(float[1,4,2,3] x) => (float[1,4,2,3] y) <{CONSTANTS}> {{
    a = Reshape (x, s)
    b = InstanceNormalization <epsilon = 0.001> (a, one, zero)
    c = Reshape (b, r)
    d = Mul (c, w)
    y = Add (d, v)
}}"""
PRIMITIVE = f"""(float[1,4,2,3] x) => (float[1,4,2,3] y) <{CONSTANTS}, float e = {{0.001}}, int64[1] k = {{2}}> {{
    a = Reshape (x, s)
    m = ReduceMean <AXES keepdims = 1> (a INPUT)
    n = Sub (a, m)
    o = Mul (n, n)
    p = ReduceMean <AXES keepdims = 1> (o INPUT)
    q = Add (p, e)
    r1 = Sqrt (q)
    b = Div (n, r1)
    c = Reshape (b, r)
    d = Mul (c, w)
    y = Add (d, v)
}}"""
X = noise(1, 4, 2, 3)


def rewritten(model: ir.Model, form: str, on: str = "cpu") -> tuple[ir.Model, str]:
    """The graph after the pass, and its remark."""
    remarks: list[str] = []
    after = GroupNorm(form=form).run(component_of_model(model), Context(load_target(on), remarks.append))
    [remark] = remarks
    return after.payload, remark


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
def test_primitive_has_axes_where_its_opset_has_them(opset: int) -> None:
    axes = ("", ", k") if opset >= 18 else ("axes = [2],", "")
    after = PRIMITIVE.replace("AXES", axes[0]).replace("INPUT", axes[1])
    model, remark = rewritten(text_model(EXPORTED, opset), "primitive")
    assert said(model) == said(text_model(after, opset))
    assert remark == "1 norms written as primitive, 0 kept as they were"
    assert snr_db(run(text_model(EXPORTED, opset), X)[0], run(model, X)[0]) > 120
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_what_is_new_is_named_after_its_module() -> None:
    model = text_model(EXPORTED, 13)
    model.graph.node(1).name = "down.0.norm1/InstanceNormalization"
    model.graph.node(3).name = "down.0.norm1/Mul"
    new = [node.name for node in rewritten(model, "primitive")[0].graph][1:8]
    kinds = ("ReduceMean", "Sub", "Mul_2", "ReduceMean_2", "Add", "Sqrt", "Div")
    assert new == [f"down.0.norm1/{kind}" for kind in kinds]


def test_group_from_21_on_is_one_operator() -> None:
    model, _ = rewritten(text_model(EXPORTED, 21), "group")
    assert said(model) == said(
        text_model(
            """(float[1,4,2,3] x) => (float[1,4,2,3] y) <float[4] w = {1,2,3,4}, float[4] v = {0,1,-1,2}> {
                y = GroupNormalization <epsilon = 0.001, num_groups = 2> (x, w, v) }""",
            21,
        )
    )
    assert snr_db(run(text_model(EXPORTED, 21), X)[0], run(model, X)[0]) > 120


def test_group_of_18_scales_by_group() -> None:
    model, _ = rewritten(text_model(EXPORTED, 18), "group")
    assert counts(model) == {"GroupNormalization": 1, "Mul": 1, "Add": 1}
    assert said(model)[0][2] == ["x", ("float32", (2,), [1.0, 1.0]), ("float32", (2,), [0.0, 0.0])]
    assert snr_db(run(text_model(EXPORTED, 18), X)[0], run(model, X)[0]) > 120


@pytest.mark.parametrize("opset", [18, 21])
@pytest.mark.parametrize("form", ["instance", "primitive"])
def test_from_group(opset: int, form: str) -> None:
    scale = (
        "float[2] w = {2,3}, float[2] v = {1,-1}"
        if opset == 18
        else "float[4] w = {1,2,3,4}, float[4] v = {0,1,-1,2}"
    )
    text = f"""(float[1,4,2,3] x) => (float[1,4,2,3] y) <{scale}> {{
        y = GroupNormalization <epsilon = 0.001, num_groups = 2> (x, w, v) }}"""
    model, remark = rewritten(text_model(text, opset), form)
    assert remark.startswith(f"1 norms written as {form}")
    assert "GroupNormalization" not in counts(model)
    assert counts(model).get("InstanceNormalization", 0) == (form == "instance")
    assert snr_db(run(text_model(text, opset), X)[0], run(model, X)[0]) > 120
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_there_and_back_is_what_the_exporter_wrote() -> None:
    group, _ = rewritten(text_model(EXPORTED, 21), "group")
    back, _ = rewritten(group, "instance")
    assert counts(back) == counts(text_model(EXPORTED, 21))
    np.testing.assert_array_equal(run(back, X)[0], run(text_model(EXPORTED, 21), X)[0])


PLAIN = """(float[2,3,4,5] x) => (float[2,3,4,5] y) <float[3] w = {1,2,3}, float[3] v = {0,1,-1}> {
    y = InstanceNormalization (x, w, v) }"""


@pytest.mark.parametrize("opset", [13, 18])
def test_a_plain_instance_norm(opset: int) -> None:
    x = noise(2, 3, 4, 5)
    model, _ = rewritten(text_model(PLAIN, opset), "primitive")
    assert counts(model) == {"ReduceMean": 2, "Sub": 1, "Mul": 2, "Add": 2, "Sqrt": 1, "Div": 1}
    assert snr_db(run(text_model(PLAIN, opset), x)[0], run(model, x)[0]) > 120


def test_scale_and_bias_that_are_computed() -> None:
    text = """(float[2,3,4] x, float[3] w, float[3] v) => (float[2,3,4] y) { y = InstanceNormalization (x, w, v) }"""
    arrays = noise(2, 3, 4), noise(3, seed=1), noise(3, seed=2)
    model, _ = rewritten(text_model(text, 13), "primitive")
    assert counts(model)["Unsqueeze"] == 2
    assert snr_db(run(text_model(text, 13), *arrays)[0], run(model, *arrays)[0]) > 120


def halved(text: str, opset: int) -> ir.Model:
    """The graph in fp16."""
    model = text_model(text, opset)
    values = [*model.graph.inputs, *model.graph.outputs]
    for value in model.graph.initializers.values():
        if value.dtype is ir.DataType.FLOAT:
            assert value.const_value is not None
            value.const_value = ir.tensor(value.const_value.numpy().astype("float16"))
            values.append(value)
    for value in (*values, *(v for node in model.graph for v in node.outputs)):
        value.type = ir.TensorType(ir.DataType.FLOAT16)
    return model


def test_statistics_of_fp16_are_in_fp32() -> None:
    """Squares of 300 are beyond fp16."""
    x = (300 + 40 * X).astype("float16")
    model, _ = rewritten(halved(EXPORTED, 13), "primitive")
    casts = [node.attributes["to"].as_int() for node in model.graph if node.op_type == "Cast"]
    assert casts == [int(ir.DataType.FLOAT), int(ir.DataType.FLOAT16)]
    [found] = run_exactly(model, x)
    assert found.dtype == np.float16
    assert snr_db(run(text_model(EXPORTED, 13), x.astype("float32"))[0], found) > 50


def test_an_island_keeps_its_casts() -> None:
    """fp32 between casts, as the pass fp16 leaves it: no other casts come in."""
    text = EXPORTED.replace("float[1,4,2,3] x", "float16[1,4,2,3] h").replace(
        "a = R", "x = Cast <to = 1> (h)\n a = R"
    )
    model, _ = rewritten(text_model(text, 13), "primitive")
    assert counts(model)["Cast"] == 1


# ---- nothing to do, or nothing that can be done


@pytest.mark.parametrize(
    "form, text, opset",
    [
        ("instance", EXPORTED, 18),
        ("primitive", PRIMITIVE.replace("AXES", "axes = [2],").replace("INPUT", ""), 13),
        ("group", PLAIN, 21),
        ("instance", "(float[2] x) => (float[2] y) { y = Relu (x) }", 18),
    ],
)
def test_left_alone(form: str, text: str, opset: int) -> None:
    model = text_model(text, opset)
    before = ir.to_proto(model).SerializeToString()
    after, remark = rewritten(model, form)
    assert ir.to_proto(after).SerializeToString() == before
    assert remark.startswith("0 norms written")


NOT_ONE = {
    "groups that are not of the channels": EXPORTED.replace("r = {1,4,2,3}", "r = {1,3,2,4}")
    .replace("float[1,4,2,3] y", "float[1,3,2,4] y")
    .replace("float[4,1,1] w = {1,2,3,4}, float[4,1,1] v = {0,1,-1,2}", "float w = {2}, float v = {1}"),
    "something else reads it": EXPORTED.replace(
        "=> (float[1,4,2,3] y)", "=> (float[1,4,2,3] y, float[1,2,12] b)"
    ),
    "a scale by column": EXPORTED.replace("float[4,1,1] w = {1,2,3,4}", "float[3] w = {1,2,3}"),
    "no bias": EXPORTED.replace("y = Add (d, v)", "y = Neg (d)"),
    "a scale of its own": EXPORTED.replace("one = {1,1}", "one = {1,2}"),
}


@pytest.mark.parametrize("case", NOT_ONE)
def test_not_folded_into_group(case: str) -> None:
    model = text_model(NOT_ONE[case], 21)
    assert rewritten(model, "group")[1] == "0 norms written as group, 1 kept as they were"
    assert counts(model)["InstanceNormalization"] == 1


def test_group_needs_an_opset_that_has_it() -> None:
    with pytest.raises(PassError, match="came with opset 18, the graph is of opset 17"):
        rewritten(text_model(EXPORTED, 17), "group")


def test_a_rank_that_is_not_known_is_refused() -> None:
    model = text_model(PLAIN, 13)
    model.graph.inputs[0].shape = None
    context = Context(target())
    component = component_of_model(text_model(PLAIN, 13)).evolve(payload=model)
    with pytest.raises(PassError, match=r"mod.y/InstanceNormalization normalises None .*put|a static shape"):
        GroupNorm(form="primitive").run(component, context)


def test_options() -> None:
    with pytest.raises(ValueError, match="form=layer: expected target, instance, primitive, group"):
        GroupNorm(form="layer")


# ---- on networks, with their weights unread


@pytest.mark.parametrize("name", ["unet", "decoder"])
def test_the_target_chooses(tiny_stages: dict[str, list[Component]], name: str) -> None:
    """Weights of these graphs raise when they are read."""
    folded = tiny_stages[name][-1]
    norms = counts(folded.payload)["InstanceNormalization"]
    remarks: list[str] = []
    nano = GroupNorm().run(copied(folded), Context(load_target("jetson-nano"), remarks.append)).payload
    assert remarks == [f"{norms} norms written as primitive, 0 kept as they were"]
    assert "InstanceNormalization" not in counts(nano) and counts(nano)["ReduceMean"] == 2 * norms
    assert counts(nano)["Cast"] == counts(folded.payload)["Cast"]
    orin = GroupNorm().run(copied(folded), Context(load_target("jetson-orin-nano"), remarks.append)).payload
    assert counts(orin) == counts(folded.payload)


def test_lazy_scale_and_bias_are_not_read() -> None:
    model, _ = rewritten(lazily(text_model(PLAIN, 13), "w", "v"), "primitive")
    lazy = [v for v in model.graph.initializers.values() if isinstance(v.const_value, ir.LazyTensor)]
    assert sorted(list(value.shape.numpy()) for value in lazy) == [[3, 1, 1], [3, 1, 1]]
    model, _ = rewritten(lazily(text_model(EXPORTED, 21), "w", "v"), "group")
    assert counts(model) == {"GroupNormalization": 1}
