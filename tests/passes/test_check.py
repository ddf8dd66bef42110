"""The static verifier: each trap by the smallest graph that falls into it, and the nearest one that does not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir
import pytest

from ldmc.errors import PassError
from ldmc.ir import Chain, Component, Form
from ldmc.passes.base import Context
from ldmc.passes.check import Check, Finding, findings, repairs
from ldmc.passes.rules import RULES
from ldmc.targets.reader import load_target
from ldmc.targets.target import Target
from tests.passes.graphs import component_of_model, lazily, text_model
from tests.passes.modules import copied, counts, lowered

NANO = load_target("jetson-nano")
# TensorRT 8.2 without the choice of a form of GroupNorm, which is a rule of its own.
ANY_FORM = replace(NANO, groupnorm="instance")
OPSET, FOLD, PRIMITIVE = "opset{to=13}", "fold", "groupnorm{form=primitive}"


@dataclass(frozen=True)
class Trap:
    """One rule: `bad` has a finding of it, `good` has none at all.

    node: where; "" for the graph. holds_until: the oldest table in which the rule no longer holds, "" for none.
    half: constants of these names are in fp16, which the text format has not.
    """

    rule: str
    bad: str
    good: str
    node: str = "mod.y"
    repair: str = ""
    opset: int = 13
    good_opset: int = 13
    holds_until: str = ""
    half: tuple[str, ...] = ()
    target: Target = ANY_FORM


def resize(attributes: str, scales: str = "float[4] s = {1,1,2,2}", inputs: str = "x, , s") -> str:
    return f"(float[1,1,2,2] x) => (float[1,1,4,4] y) <{scales}> {{ y = Resize <{attributes}> ({inputs}) }}"


def instance(
    shape: str, extra: str = "", constants: str = "<float[3] w = {1,2,3}, float[3] v = {1,2,3}>"
) -> str:
    return f"(float[{shape}] x{extra}) => (float[{shape}] y) {constants} {{ y = InstanceNormalization (x, w, v) }}"


UNARY = "({0}[2,3] x) => ({0}[2,3] y) {{ y = {1} (x) }}"
ASYMMETRIC = 'mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"'

TRAPS = {
    "opset": Trap(
        "opset",
        UNARY.format("float", "Relu"),
        UNARY.format("float", "Relu"),
        "",
        OPSET,
        opset=17,
        holds_until="8.6",
    ),
    "file format": Trap(
        "ir-version",
        UNARY.format("float", "Relu"),
        UNARY.format("float", "Relu"),
        "",
        OPSET,
        opset=15,  # the text helper writes the opset's own format
        holds_until="8.5",
    ),
    "a shape that is not static": Trap(
        "static-inputs",
        "(float[n,3] x) => (float[n,3] y) { y = Relu (x) }",
        UNARY.format("float", "Relu"),
        "",
    ),
    "a constant beyond INT32": Trap(
        "int64-range",
        "(int64[1] x) => (int64[1] y) <int64[1] c = {3000000000}> { y = Add (x, c) }",
        """(float[4] x) => (float[3] y) <int64[1] a = {1}, int64[1] b = {9223372036854775807}> {
            y = Slice (x, a, b) }""",
        "c",
        holds_until="10.3",
    ),
    "a Constant beyond INT32": Trap(
        "int64-range",
        "(int64[1] x) => (int64[1] y) { c = Constant <value = int64[1] {-3000000000}> ()  y = Add (x, c) }",
        "(int64[1] x) => (int64[1] y) { c = Constant <value = int64[1] {2147483647}> ()  y = Add (x, c) }",
        "mod.c",
        holds_until="10.3",
    ),
    "a double": Trap(
        "double", "(double[2,3] x) => (double[2,3] y) { y = Relu (x) }", UNARY.format("float", "Relu"), "x"
    ),
    "a cast to double": Trap(
        "double",
        "(float[2] x) => (float[2] y) { d = Cast <to = 11> (x)  y = Cast <to = 1> (d) }",
        "(float[2] x) => (float[2] y) { d = Cast <to = 10> (x)  y = Cast <to = 1> (d) }",
        "mod.d",
    ),
    "nine axes": Trap(
        "rank",
        "(float[1,1,1,1,1,1,1,1,2] x) => (float[1,1,1,1,1,1,1,1,2] y) { y = Relu (x) }",
        "(float[1,1,1,1,1,1,1,2] x) => (float[1,1,1,1,1,1,1,2] y) { y = Relu (x) }",
    ),
    "an operator that ONNX has not": Trap(
        "unknown-operator", UNARY.format("float", "Swizzle"), UNARY.format("float", "Relu")
    ),
    "an operator that the parser has not": Trap(
        "unsupported-operator",
        "(float[3,3] x) => (float[3,3] y) { y = Trilu (x) }",
        UNARY.format("float", "Relu"),
        opset=14,
        holds_until="8.5",
    ),
    "an operator that can be written with others": Trap(
        "unsupported-operator",
        "(float[2,3] x) => (float[2,3] y) { y = HardSwish (x) }",
        UNARY.format("float", "HardSigmoid"),
        repair=OPSET,
        opset=14,
        holds_until="8.5",
    ),
    "GroupNormalization": Trap(
        "unsupported-operator",
        """(float[1,4,2] x, float[2] w) => (float[1,4,2] y) {
            y = GroupNormalization <num_groups = 2> (x, w, w) }""",
        UNARY.format("float", "Relu"),
        repair=PRIMITIVE,
        opset=18,
        holds_until="8.6",
    ),
    "a product of integers": Trap(
        "type",
        "(int32[2,3] x, int32[3,2] z) => (int32[2,2] y) { y = MatMul (x, z) }",
        "(float[2,3] x, float[3,2] z) => (float[2,2] y) { y = MatMul (x, z) }",
    ),
    "a sine of integers": Trap(
        "type", "(int32[2,3] x) => (int32[2,3] y) { y = Sqrt (x) }", UNARY.format("float", "Sqrt")
    ),
    "a choice between what is neither float, int32 nor bool": Trap(
        "type",
        "(bool[2] c, int8[2] x, int8[2] z) => (int8[2] y) { y = Where (c, x, z) }",
        "(bool[2] c, int64[2] x, int64[2] z) => (int64[2] y) { y = Where (c, x, z) }",
    ),
    "a choice between two types": Trap(
        "mixed-types",
        "(bool[2] c, float[2] x, float16[2] z) => (float[2] y) { y = Where (c, x, z) }",
        "(bool[2] c, float16[2] x, float16[2] z) => (float16[2] y) { y = Where (c, x, z) }",
    ),
    "a constant in fp32 in an fp16 graph": Trap(
        "mixed-types",
        "(float16[2] x) => (float16[2] y) <float c = {2}> { y = Mul (x, c) }",
        "(float[2] x) => (float[2] y) <float c = {2}> { y = Mul (x, c) }",
    ),
    "a plugin for each norm": Trap(
        "groupnorm-form",
        instance("1,3,4"),
        UNARY.format("float", "Relu"),
        repair=PRIMITIVE,
        target=NANO,
    ),
    "a norm of six axes": Trap(
        "instancenorm-rank",
        instance("1,3,1,1,1,2"),
        instance("1,3,1,1,2"),
        repair=PRIMITIVE,
        holds_until="8.6",
    ),
    "a norm with computed scale": Trap(
        "constant-input",
        instance("1,3,4", ", float[3] w", "<float[3] v = {1,2,3}>"),
        instance("1,3,4"),
        repair=FOLD,
        holds_until="8.6",
    ),
    "a norm with scale in fp16": Trap(
        "instancenorm-fp16",
        instance("1,3,4"),
        instance("1,3,4"),
        repair=PRIMITIVE,
        half=("w", "v"),
        holds_until="8.5",
    ),
    "cubic": Trap("resize-mode", resize('mode = "cubic"'), resize('mode = "linear"')),
    "coordinates of a crop": Trap(
        "resize-coordinates",
        resize('coordinate_transformation_mode = "tf_crop_and_resize"'),
        resize('coordinate_transformation_mode = "pytorch_half_pixel"'),
    ),
    "TensorFlow's coordinates rounded otherwise": Trap(
        "resize-coordinates",
        resize('coordinate_transformation_mode = "tf_half_pixel_for_nn", nearest_mode = "floor"'),
        resize('coordinate_transformation_mode = "half_pixel", nearest_mode = "floor"'),
        opset=11,
    ),
    "scales that are computed": Trap(
        "resize-scales",
        f"(float[1,1,2,2] x, float[4] s) => (float[1,1,4,4] y) {{ y = Resize <{ASYMMETRIC}> (x, , s) }}",
        resize(ASYMMETRIC),
        repair=FOLD,
        holds_until="10.3",
    ),
    "neither scales nor sizes": Trap(
        "resize-scales",
        resize(ASYMMETRIC, "float[1] r = {1}", "x"),
        resize(ASYMMETRIC, "int64[4] z = {1,1,4,4}", "x, , , z"),
        holds_until="10.3",
    ),
    "scales of some axes": Trap(
        "resize-scales",
        resize("axes = [2,3]", "float[2] s = {2,2}"),
        resize(ASYMMETRIC),
        repair=OPSET,
        opset=18,
        holds_until="10.3",
    ),
    "allowzero left out": Trap(
        "reshape-allowzero",
        "(float[2,3] x) => (float[6] y) <int64[1] s = {6}> { y = Reshape (x, s) }",
        "(float[2,3] x) => (float[6] y) <int64[1] s = {6}> { y = Reshape (x, s) }",
        repair=OPSET,
        opset=14,
        holds_until="8.5",
    ),
    "numbers in value_int": Trap(
        "constant-ints",
        "(int64[1] x) => (int64[1] y) { c = Constant <value_int = 3> ()  y = Add (x, c) }",
        "(int64[1] x) => (int64[1] y) { c = Constant <value = int64 {3}> ()  y = Add (x, c) }",
        "mod.c",
        FOLD,
        holds_until="10.3",
    ),
    "numbers in value_ints": Trap(
        "constant-ints",
        "(int64[2] x) => (int64[2] y) { c = Constant <value_ints = [3,4]> ()  y = Add (x, c) }",
        "(int64[2] x) => (int64[2] y) { c = Constant <value = int64[2] {3,4}> ()  y = Add (x, c) }",
        "mod.c",
        FOLD,
        holds_until="10.3",
    ),
    "a cast to uint8": Trap(
        "cast-type",
        "(float[2] x) => (uint8[2] y) { y = Cast <to = 2> (x) }",
        "(float[2] x) => (int32[2] y) { y = Cast <to = 6> (x) }",
        holds_until="8.5",
    ),
    "Gemm of three axes": Trap(
        "gemm-rank",
        "(float[1,2,3] x, float[3,2] z) => (float[1,2,2] y) { y = Gemm (x, z) }",
        "(float[2,3] x, float[3,2] z) => (float[2,2] y) { y = Gemm (x, z) }",
    ),
    "a Softmax that flattens": Trap(
        "softmax-axis",
        "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax <axis = 1> (x) }",
        "(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax <axis = 1> (x) }",
        opset=12,
        holds_until="8.5",
    ),
    "computed sizes of a Split": Trap(
        "constant-input",
        "(float[4] x, int64[2] s) => (float[2] y, float[2] z) { y, z = Split (x, s) }",
        "(float[4] x) => (float[2] y, float[2] z) <int64[2] s = {2,2}> { y, z = Split (x, s) }",
        repair=FOLD,
    ),
    "computed axes of a Slice": Trap(
        "constant-input",
        "(float[4] x, int64[1] a) => (float[2] y) <int64[1] s = {0}, int64[1] e = {2}> { y = Slice (x, s, e, a) }",
        "(float[4] x, int64[1] s) => (float[2] y) <int64[1] a = {0}, int64[1] e = {2}> { y = Slice (x, s, e, a) }",
        repair=FOLD,
        holds_until="10.3",
    ),
    "computed axes of an Unsqueeze": Trap(
        "constant-input",
        "(float[4] x, int64[1] a) => (float[1,4] y) { y = Unsqueeze (x, a) }",
        "(float[4] x) => (float[1,4] y) { a = Constant <value = int64[1] {0}> ()  y = Unsqueeze (x, a) }",
        repair=FOLD,
    ),
    "computed axes of a Squeeze": Trap(
        "constant-input",
        "(float[1,4] x, int64[1] a) => (float[4] y) { y = Squeeze (x, a) }",
        "(float[1,4] x) => (float[4] y) { y = Squeeze (x) }",
        repair=FOLD,
    ),
    "computed axes of a sum": Trap(
        "constant-input",
        "(float[2,4] x, int64[1] a) => (float[2,1] y) { y = ReduceSum (x, a) }",
        "(float[2,4] x) => (float[2,1] y) <int64[1] a = {1}> { y = ReduceSum (x, a) }",
        repair=FOLD,
    ),
    "a computed K": Trap(
        "constant-input",
        "(float[4] x, int64[1] k) => (float[2] y, int64[2] i) { y, i = TopK (x, k) }",
        "(float[4] x) => (float[2] y, int64[2] i) <int64[1] k = {2}> { y, i = TopK (x, k) }",
        repair=FOLD,
        holds_until="8.6",
    ),
    "a computed bias of a convolution": Trap(
        "constant-input",
        "(float[1,1,3,3] x, float[1] b) => (float[1,1,3,3] y) <float[1,1,1,1] w = {2}> { y = Conv (x, w, b) }",
        "(float[1,1,3,3] x) => (float[1,1,3,3] y) <float[1,1,1,1] w = {2}, float[1] b = {1}> { y = Conv (x, w, b) }",
        repair=FOLD,
        holds_until="8.5",
    ),
    "an ellipsis": Trap(
        "einsum",
        '(float[2,3] x, float[3,4] z) => (float[2,4] y) { y = Einsum <equation = "...i,ij->...j"> (x, z) }',
        '(float[2,3] x, float[3,4] z) => (float[2,4] y) { y = Einsum <equation = "ai, ij -> aj"> (x, z) }',
        holds_until="10.3",
    ),
    "a diagonal": Trap(
        "einsum",
        '(float[3,3] x) => (float[3] y) { y = Einsum <equation = "ii->i"> (x) }',
        '(float[3,3] x) => (float[3] y) { y = Einsum <equation = "ij->i"> (x) }',
        holds_until="10.3",
    ),
    "a side that is broadcast": Trap(
        "einsum",
        '(float[2,1] x, float[3,4] z) => (float[2,4] y) { y = Einsum <equation = "ai,ij->aj"> (x, z) }',
        '(float[2,3] x, float[3,4] z) => (float[2,4] y) { y = Einsum <equation = "ai,ij->aj"> (x, z) }',
        holds_until="10.3",
    ),
    "padding that wraps": Trap(
        "pad-mode",
        '(float[2] x) => (float[4] y) <int64[2] p = {1,1}> { y = Pad <mode = "wrap"> (x, p) }',
        '(float[2] x) => (float[4] y) <int64[2] p = {1,1}> { y = Pad <mode = "reflect"> (x, p) }',
        holds_until="8.5",
    ),
    "a factor of Gemm in fp16": Trap(
        "fp16-scalar",
        "(float16[2,3] x, float16[3,2] z) => (float16[2,2] y) { y = Gemm <alpha = 0.5> (x, z) }",
        "(float16[2,3] x, float16[3,2] z) => (float16[2,2] y) { y = Gemm <alpha = 1.0> (x, z) }",
        holds_until="8.5",
    ),
    "a bound of Clip in fp16": Trap(
        "fp16-scalar",
        "(float16[2] x) => (float16[2] y) <float c = {0}> { y = Clip (x, c) }",
        "(float16[2] x) => (float16[2] y) { y = Clip (x) }",
        half=("c",),
        holds_until="8.5",
    ),
    "a filling of Pad in fp16": Trap(
        "fp16-scalar",
        "(float16[2] x) => (float16[4] y) <int64[2] p = {1,1}, float c = {1}> { y = Pad (x, p, c) }",
        "(float16[2] x) => (float16[4] y) <int64[2] p = {1,1}> { y = Pad (x, p) }",
        half=("c",),
        holds_until="8.5",
    ),
}


def model_of(text: str, opset: int, half: tuple[str, ...] = ()) -> ir.Model:
    """The graph, in the format that its opset came with; it need not be valid."""
    import onnx

    proto = onnx.parser.parse_model(f'<ir_version: 7, opset_import: ["" : {opset}]> g {text}')
    try:
        proto = onnx.shape_inference.infer_shapes(proto)
    except onnx.shape_inference.InferenceError:
        pass
    model = ir.from_proto(proto)
    model.ir_version = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    model.ir_version = max(model.ir_version, 7)
    for node in model.graph:
        node.name = f"mod.{node.outputs[0].name}/{node.op_type}"
    for name in half:
        value = model.graph.initializers[name]
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy().astype("float16"))
        value.type = ir.TensorType(ir.DataType.FLOAT16)
    return model


def found_in(case: str, version: str = "") -> list[Finding]:
    """The findings of a trap's rule, for another TensorRT where `version` says so."""
    trap = TRAPS[case]
    board = trap.target
    if version:
        board = replace(board, operators=version, opset={"8.5": 16, "8.6": 18, "10.3": 20}[version])
    return [f for f in findings(model_of(trap.bad, trap.opset, trap.half), board) if f.rule == trap.rule]


@pytest.mark.parametrize("case", TRAPS)
def test_a_trap_is_found(case: str) -> None:
    trap = TRAPS[case]
    [finding] = found_in(case)
    where = finding.node.partition("/")[0]
    assert (where, finding.repair) == (trap.node, trap.repair)
    assert finding.module == (trap.node if "/" in finding.node else "")
    assert finding.source and finding.sentence


@pytest.mark.parametrize("case", TRAPS)
def test_what_is_next_to_a_trap_passes(case: str) -> None:
    trap = TRAPS[case]
    assert findings(model_of(trap.good, trap.good_opset), trap.target) == []


@pytest.mark.parametrize("case", [case for case in TRAPS if TRAPS[case].holds_until])
def test_a_newer_parser_has_no_such_trap(case: str) -> None:
    assert found_in(case, TRAPS[case].holds_until) == []


AFTER = {"8.6": "8.5", "10.3": "8.6"}


@pytest.mark.parametrize(
    "case", [c for c in TRAPS if TRAPS[c].holds_until in AFTER and TRAPS[c].rule != "opset"]
)
def test_the_parser_before_that_still_has_it(case: str) -> None:
    assert found_in(case, AFTER[TRAPS[case].holds_until])


def test_every_rule_has_a_trap() -> None:
    assert {rule.id for rule in RULES} == {trap.rule for trap in TRAPS.values()} | {"external-data"}


def test_weights_are_where_the_parser_looks(tmp_path: Path) -> None:
    model = text_model("(float[2] x) => (float[2] y) <float[2] w = {1,2}> { y = Mul (x, w) }", 13)
    model.ir_version = 7

    def at(location: str) -> list[str]:
        shape = ir.Shape([2])
        tensor = ir.ExternalTensor(
            location, 0, 8, ir.DataType.FLOAT, shape=shape, name="w", base_dir=tmp_path
        )
        model.graph.initializers["w"].const_value = tensor
        return [finding.rule for finding in findings(model, NANO)]

    assert at("model.onnx.data") == []
    assert at("../other/model.onnx.data") == at("/tmp/model.onnx.data") == ["external-data"]


def test_what_ldmc_writes_has_only_the_keys_that_the_parser_knows(tiny_bundle: Path) -> None:
    import onnx

    proto = onnx.load(tiny_bundle / "unet" / "model.onnx", load_external_data=False)
    keys = {entry.key for tensor in proto.graph.initializer for entry in tensor.external_data}
    assert keys <= {"location", "offset", "length", "checksum"} and "location" in keys


# ---- other targets


@pytest.mark.parametrize("name", ["cpu", "rtx-3070"])
def test_a_target_without_a_table_is_held_to_the_general_rules(name: str) -> None:
    target = load_target(name)
    assert findings(model_of(TRAPS["cubic"].bad, 13), target) == []
    assert [f.rule for f in findings(model_of(TRAPS["an operator that ONNX has not"].bad, 13), target)] == [
        "unknown-operator"
    ]
    newer = model_of(TRAPS["opset"].bad, 21)
    assert [(f.rule, f.repair) for f in findings(newer, target)] == [("opset", "")]


def test_other_domains_are_plugins_to_tensorrt_alone() -> None:
    model = model_of(TRAPS["opset"].good, 13)
    model.graph.node(0).domain = "com.microsoft"
    assert findings(model, load_target("cpu")) == []
    assert "unknown-operator" in [finding.rule for finding in findings(model, NANO)]


# ---- the pass


def check(component: Component, target: Target = NANO) -> str:
    """The remark of the pass."""
    remarks: list[str] = []
    assert Check().run(component, Context(target, remarks.append)) is component
    [remark] = remarks
    return remark


def test_a_graph_that_passes_is_left_alone() -> None:
    model = model_of(TRAPS["opset"].good, 13)
    before = ir.to_proto(model).SerializeToString()
    assert check(component_of_model(model)) == "1 nodes checked against TensorRT 8.2's table"
    assert ir.to_proto(model).SerializeToString() == before
    assert (
        check(component_of_model(model), load_target("rtx-3070"))
        == "1 nodes checked against the general rules"
    )


def many_norms(count: int) -> ir.Model:
    names = ["x", *(f"v{k}" for k in range(count))]
    body = " ".join(
        f"{b} = InstanceNormalization ({a}, w, w)" for a, b in zip(names, names[1:], strict=False)
    )
    text = f"(float[1,3,4] x) => (float[1,3,4] {names[-1]}) <float[3] w = {{1,2,3}}> {{ {body} }}"
    return model_of(text, 18)


def test_the_error_lists_five_counts_all_and_says_what_repairs_them() -> None:
    with pytest.raises(PassError) as caught:
        check(component_of_model(many_norms(6)))
    lines = caught.value.message.splitlines()
    assert lines[0] == "unet: 8 findings against the target's parser:"
    assert lines[1].startswith("    the graph is of opset 18, TensorRT 8.2 reads 13 at most [opset: ")
    assert lines[3].startswith(
        "    mod.v0/InstanceNormalization: InstanceNormalization becomes a plugin in TensorRT 8.2"
    )
    assert lines[6:] == ["    and 3 more"]
    assert caught.value.fix == f"put {PRIMITIVE},{OPSET} before it"


def test_the_error_says_what_nothing_repairs() -> None:
    with pytest.raises(PassError) as caught:
        check(component_of_model(model_of(TRAPS["cubic"].bad, 13)))
    assert caught.value.fix == "change the model, or choose another target"
    with pytest.raises(PassError) as caught:
        check(component_of_model(model_of(TRAPS["cubic"].bad, 17)))
    assert caught.value.fix == f"put {OPSET} before it; that leaves 1 that no pass repairs"


def test_parts_are_checked_each_with_its_finer_ones() -> None:
    good = component_of_model(model_of(TRAPS["opset"].good, 13))
    bad = component_of_model(model_of(TRAPS["cubic"].bad, 13))
    chain = good.evolve(form=Form.PARTS, payload=Chain((good, good), ((good, good), ())))
    assert check(chain) == "4 nodes checked against TensorRT 8.2's table"
    with pytest.raises(PassError, match="1 finding against"):
        check(good.evolve(form=Form.PARTS, payload=Chain((good, good), ((good, bad), ()))))


def test_weights_are_not_read() -> None:
    model = model_of("(float[2] x) => (float[2] y) <float[2] w = {1,2}> { y = Mul (x, w) }", 13)
    assert findings(lazily(model, "w"), NANO) == []


def test_repairs_are_in_the_order_of_a_pipeline() -> None:
    def finding(repair: str) -> Finding:
        return Finding("n", "", "r", "s", "", repair)

    assert repairs([finding(r) for r in (OPSET, "", FOLD, OPSET, PRIMITIVE)]) == [FOLD, PRIMITIVE, OPSET]


# ---- whole networks


@pytest.mark.parametrize("name", ["unet", "decoder"])
def test_the_repairs_named_repair_a_network(tiny_stages: dict[str, list[Component]], name: str) -> None:
    """Weights of these graphs raise when they are read."""
    folded = copied(tiny_stages[name][-1])
    found = findings(folded.payload, NANO)
    norms = counts(folded.payload)["InstanceNormalization"]
    assert {f.rule for f in found} == {"opset", "ir-version", "groupnorm-form"}
    assert len(found) == 2 + norms
    assert repairs(found) == [PRIMITIVE, OPSET]
    nano = lowered(folded, f"{PRIMITIVE},{OPSET},check", NANO)
    assert (nano.payload.opset_imports, nano.payload.ir_version) == ({"": 13}, 7)
    assert findings(nano.payload, NANO) == []


@pytest.mark.parametrize("name", ["unet", "decoder"])
@pytest.mark.parametrize("board", ["cpu", "cuda", "jetson-orin-nano", "rtx-3070"])
def test_other_targets_take_what_fold_gives(
    tiny_stages: dict[str, list[Component]], board: str, name: str
) -> None:
    assert findings(tiny_stages[name][-1].payload, load_target(board)) == []


def test_an_unfolded_graph_asks_for_fold(tiny_stages: dict[str, list[Component]]) -> None:
    exported = tiny_stages["unet"][1].payload
    assert FOLD in repairs(findings(exported, NANO))


def test_findings_do_not_change_the_graph(tiny_stages: dict[str, list[Component]]) -> None:
    component = copied(tiny_stages["decoder"][-1])
    before = [(node.name, dict(node.attributes)) for node in component.payload.graph]
    first = findings(component.payload, NANO)
    assert findings(component.payload, NANO) == first
    assert [(node.name, dict(node.attributes)) for node in component.payload.graph] == before
