"""`partition`: where it cuts, what crosses, and that the parts run to the same output, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from ldmc.compiler.lower import check_io
from ldmc.errors import PassError, SpecError
from ldmc.ir import Chain, Component, Form, TensorSpec
from ldmc.passes.base import Context
from ldmc.passes.cutting.choose import candidates
from ldmc.passes.cutting.crossing import crossing_bytes, crossings
from ldmc.passes.cutting.line import Line
from ldmc.passes.cutting.split import split, weight_bytes
from ldmc.passes.partition import Partition
from ldmc.targets.builder_memory import build_peak_bytes
from ldmc.targets.reader import load_target
from ldmc.targets.target import MIB, Memory, Target
from tests.passes.modules import copied, noise, run, run_exactly

NANO = load_target("jetson-nano")
HEAD = '<ir_version: 8, opset_import: ["" : 18]> g '


def cut(component: Component, on: Target = NANO, **options: Any) -> tuple[Chain, list[str]]:
    """The parts of `component`, held to what every pass must keep, and what was remarked."""
    remarks: list[str] = []
    after = Partition(**options).run(component, Context(on, remarks.append))
    assert after.form is Form.PARTS
    check_io(component, after, "partition")
    return after.payload, remarks


def component_of(text: str) -> Component:
    """A graph in ONNX text as a component; its inputs named w* become weights [64, 64] of noise."""
    model = ir.from_onnx_text(HEAD + text)
    for index, value in enumerate([value for value in model.graph.inputs if value.name.startswith("w")]):
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(noise(64, 64, seed=index) / 8, name=value.name)
        model.graph.initializers.add(value)
    model = ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model)))
    graph = model.graph
    return Component(
        "unet", Form.ONNX, model, tuple(map(spec, graph.inputs)), tuple(map(spec, graph.outputs))
    )


def spec(value: ir.Value) -> TensorSpec:
    return TensorSpec(value.name, value.dtype.numpy().name, tuple(value.shape.numpy()))


def run_chain(parts: Sequence[Component], how: Callable[..., list[Any]], **inputs: Any) -> Any:
    values = dict(inputs)
    for part in parts:
        given = how(part.payload, *(values[s.name] for s in part.inputs))
        values.update(zip((s.name for s in part.outputs), given, strict=True))
    return values["output_0"]


def finest(chain: Chain) -> list[Component]:
    """Every part by its finer ones, where it has them."""
    return [part for own, finer in zip(chain.parts, chain.finer, strict=True) for part in finer or (own,)]


# ---- equivalence


def arrays_for(component: Component) -> dict[str, Any]:
    return {
        s.name: noise(*s.shape, dtype=s.dtype)
        if s.dtype.startswith("float")
        else np.full(s.shape, 500, s.dtype)
        for s in component.inputs
    }


@pytest.mark.parametrize("stage", [0, 1], ids=["exported", "folded"])
@pytest.mark.parametrize("name", ["unet", "decoder"])
def test_the_chain_gives_the_same_bits(tiny_fp32: dict[str, list[Component]], name: str, stage: int) -> None:
    """ONNX Runtime with optimisation off; as the exporter left the graph, shapes computed as it runs, and folded."""
    whole = copied(tiny_fp32[name][stage])
    arrays = arrays_for(whole)
    expected = run(whole.payload, *arrays.values())[0]
    assert np.isfinite(expected).all() and expected.std() > 0
    for parts in (2, 3, 5):
        chain, _ = cut(whole, parts=parts)
        assert len(chain.parts) == parts
        np.testing.assert_array_equal(run_chain(chain.parts, run, **arrays), expected)
    np.testing.assert_array_equal(run_chain(finest(chain), run, **arrays), expected)


def test_half_precision_gives_the_same_bits(halved: Component) -> None:
    """By onnx's own evaluator: ONNX Runtime computes half precision in single on a CPU, and rounds at cuts only."""
    arrays = arrays_for(halved)
    expected = run_exactly(halved.payload, *arrays.values())[0]
    assert expected.dtype == np.float16
    chain, _ = cut(halved, parts=3)
    np.testing.assert_array_equal(run_chain(chain.parts, run_exactly, **arrays), expected)


def test_the_component_itself_is_kept(halved: Component) -> None:
    before = ir.to_proto(copied(halved).payload).SerializeToString()
    cut(halved, parts=3)
    assert ir.to_proto(halved.payload).SerializeToString() == before


def test_the_same_input_gives_the_same_parts(halved: Component) -> None:
    first, again = (cut(copied(halved), parts=3)[0] for _ in range(2))
    for one, other in zip([*first.parts, *finest(first)], [*again.parts, *finest(again)], strict=True):
        assert ir.to_proto(one.payload).SerializeToString() == ir.to_proto(other.payload).SerializeToString()


# ---- names and tensors


def test_names_inputs_and_outputs(tiny_fp32: dict[str, list[Component]]) -> None:
    whole = tiny_fp32["unet"][1]
    chain, remarks = cut(whole, parts=3)
    assert [part.name for part in chain.parts] == ["unet.0", "unet.1", "unet.2"]
    assert [part.name for part in finest(chain)] == [
        f"unet.{k}.{half}" for k in range(3) for half in range(2)
    ]
    assert {s.name for s in chain.parts[0].inputs} == {"input_0", "input_1"}
    assert [s.name for s in chain.parts[-1].outputs] == ["output_0"]
    first, second = crossings(chain.parts)
    values = {value.name for node in whole.payload.graph for value in node.outputs}
    assert {value.spec.name for value in (*first, *second)} <= values
    assert remarks[0].startswith("3 parts: unet.0 ")
    assert len(remarks) == 3
    assert remarks[1].startswith(f"after unet.0: {len(first)} values, ")
    # The skips of both levels go over the bottleneck, by their own names.
    assert {"conv_in/Conv", "down_blocks.0.resnets.0/Add_2"} <= {value.spec.name for value in first}


def test_weights_are_the_same_tensors_in_all_parts(tiny_stages: dict[str, list[Component]]) -> None:
    """Identity is how each is written once; none is read (they raise if they are)."""
    whole = tiny_stages["unet"][2]
    chain, _ = cut(whole, parts=3)
    original = {id(value.const_value) for value in whole.payload.graph.initializers.values()}
    for part in (*chain.parts, *finest(chain)):
        assert {id(value.const_value) for value in part.payload.graph.initializers.values()} <= original
    used = {id(v.const_value) for part in chain.parts for v in part.payload.graph.initializers.values()}
    assert used == original


def test_weights_are_even_and_the_heaviest_is_near_the_least(tiny_stages: dict[str, list[Component]]) -> None:
    whole = tiny_stages["unet"][2]
    total = weight_bytes(whole)
    for parts in (2, 3):
        weights = [weight_bytes(part) for part in cut(whole, parts=parts)[0].parts]
        assert max(weights) < 1.2 * total / parts
        assert sum(weights) >= total


# ---- what crosses: (name, graph, what crosses the one cut of two parts)

CAST = """(float[1,64] input_0, float[64,64] w0, float[64,64] w1) => (float[1,64] output_0) {
    a = MatMul (input_0, w0)
    h = Cast <to = 10> (a)
    f = Cast <to = 1> (h)
    b = MatMul (f, w1)
    g = Cast <to = 1> (h)
    output_0 = Add (b, g)
}"""
VIEW = """(float[1,64] input_0, float[64,64] w0, float[64,64] w1) => (float[8,8] output_0) <int64[2] s = {8,8}> {
    a = MatMul (input_0, w0)
    v = Reshape (a, s)
    n = Neg (v)
    b = MatMul (a, w1)
    r = Reshape (b, s)
    t = Add (v, r)
    output_0 = Add (n, t)
}"""
INTEGERS = """(float[1,64] input_0, float[64,64] w0, float[64,64] w1) => (float[1,64] output_0) <int64[2] s = {1,64}> {
    a = MatMul (input_0, w0)
    i = ArgMax <axis = 1> (a)
    j = Neg (i)
    t = Gather (w1, j)
    output_0 = Reshape (t, s)
}"""
INPUT = """(float[1,64] input_0, float[64,64] w0, float[64,64] w1) => (float[1,64] output_0) {
    i = Identity (input_0)
    a = MatMul (i, w0)
    b = MatMul (a, w1)
    output_0 = Add (b, i)
}"""


@pytest.mark.parametrize(
    ("text", "place", "crosses"),
    [
        (CAST, 2, ["h"]),
        (CAST, 4, ["h", "b"]),  # not g, which is made of h again
        (VIEW, 3, ["a", "n"]),  # v is made again of a
        (VIEW, 5, ["v", "n", "r"]),  # a is not read any more, and v is no larger
        (INPUT, 2, ["a"]),  # i is made again of the input
    ],
)
def test_a_value_crosses_once_in_its_smallest_form(text: str, place: int, crosses: list[str]) -> None:
    whole = component_of(text)
    line = Line(whole.payload, "unet")
    assert [value.name for value in line.cover(line.live(place))] == crosses
    parts = split(whole, line, [place])
    (values,) = crossings(parts)
    assert [value.spec.name for value in values] == crosses
    array = noise(1, 64)
    np.testing.assert_array_equal(run_chain(parts, run, input_0=array), run(whole.payload, array)[0])


def test_an_output_that_is_read_again_is_given_once() -> None:
    whole = component_of("""(float[1,64] input_0, float[64,64] w0, float[64,64] w1)
            => (float[1,64] output_0, float[1,64] output_1) {
        output_0 = MatMul (input_0, w0)
        c = Identity (output_0)
        b = MatMul (c, w1)
        output_1 = Add (b, output_0)
    }""")
    chain, _ = cut(whole, parts=2)
    assert [[s.name for s in part.outputs] for part in chain.parts] == [["output_0"], ["output_1"]]
    assert [s.name for s in chain.parts[1].inputs] == ["output_0"]


def test_a_weight_of_two_parts_is_in_both() -> None:
    whole = component_of("""(float[64,64] input_0, float[64,64] w0, float[64,64] w1) => (float[64,64] output_0) {
        a = MatMul (input_0, w0)
        b = MatMul (a, w1)
        output_0 = MatMul (b, w0)
    }""")
    chain, _ = cut(whole, parts=3)
    shared = [part.payload.graph.initializers["w0"].const_value for part in (chain.parts[0], chain.parts[2])]
    assert shared[0] is shared[1]
    found = candidates(Line(whole.payload, "unet"))
    assert found.weights[0, -1] == 2 * 64 * 64 * 4  # counted once in a part that has it twice


def test_integers_do_not_cross() -> None:
    """TensorRT 8 makes 32-bit integers of 64-bit ones: the cut moves to where none is alive."""
    whole = component_of(INTEGERS)
    chain, _ = cut(whole, parts=2)
    assert [value.spec.name for value in crossings(chain.parts)[0]] == ["a"]


def test_bytes_and_module_of_what_crosses(halved: Component) -> None:
    chain, _ = cut(halved, parts=2)
    (values,) = crossings(chain.parts)
    value = next(value for value in values if value.spec.name == "conv_in/Conv")
    assert value.to_json() == {
        "name": "conv_in/Conv", "dtype": "float16", "shape": [1, 32, 8, 8], "module": "conv_in", "bytes": 32 * 64 * 2,
    }  # fmt: skip
    assert crossing_bytes(values) == sum(v.bytes for v in values)


# ---- how many parts


def test_one_part_is_the_component_as_it_is(halved: Component) -> None:
    chain, remarks = cut(halved, parts=1)
    assert chain.parts == (halved,)
    assert chain.parts[0].payload is halved.payload
    assert [part.name for part in chain.finer[0]] == ["unet.0", "unet.1"]
    assert remarks[0].startswith("1 part: unet ")


def test_max_mib_takes_as_few_parts_as_it_can(tiny_fp32: dict[str, list[Component]]) -> None:
    whole = tiny_fp32["unet"][1]
    chain, _ = cut(whole, max_mib=1)
    assert all(weight_bytes(part) <= MIB for part in chain.parts)
    assert len(chain.parts) == -(-weight_bytes(whole) // MIB)


def test_finer_parts_are_for_devices_that_build(halved: Component) -> None:
    assert cut(halved, on=load_target("cpu"), parts=2)[0].finer == ()
    assert cut(halved, finer=False, parts=2)[0].finer == ()


def test_a_part_that_cannot_be_cut_has_no_finer_ones() -> None:
    chain, _ = cut(component_of(INPUT), parts=2)
    assert chain.finer == ((), ())


def small(total_mib: int, libraries_mib: int = 10) -> Target:
    """The Nano with another memory."""
    return replace(NANO, memory=Memory(total_mib, 0, True, "test", {"CUDA": libraries_mib}))


def test_fit_is_the_smallest_number_of_parts_whose_builds_fit(halved: Component) -> None:
    line = Line(halved.payload, "unet")
    whole = build_peak_bytes(weight_bytes(halved), line.activation_bytes(0, len(line.nodes)), small(0))
    assert whole == 10 * MIB + 64 * MIB + 5 * weight_bytes(halved) + line.activation_bytes(0, len(line.nodes))
    enough_mib = -(-whole // MIB)
    assert len(cut(halved, on=small(enough_mib), spare_mib=0)[0].parts) == 1
    chain, remarks = cut(halved, on=small(enough_mib - 1), spare_mib=0)
    assert len(chain.parts) == 2
    assert remarks[0].startswith("predicted peak of the largest build: ")
    assert f"of {enough_mib - 1} MiB" in remarks[0] and "upper bound" in remarks[0]
    assert len(cut(halved, on=small(enough_mib + 7), spare_mib=8)[0].parts) == 2


def test_what_never_fits_is_refused_with_its_figures(halved: Component) -> None:
    with pytest.raises(
        PassError, match=r"building its smallest part takes up to \d+ MiB, jetson-nano has 74 MiB"
    ) as caught:
        cut(halved, on=small(74), spare_mib=0)
    assert "spare_mib" in caught.value.fix


def test_more_parts_than_there_are_places() -> None:
    with pytest.raises(PassError, match="unet can be cut into 2 parts at most, not 4") as caught:
        cut(component_of(INPUT), parts=4)
    assert caught.value.fix == "partition{parts=2}"


def test_values_of_unknown_shape_are_not_cut_at() -> None:
    whole = component_of(INPUT)
    for node in whole.payload.graph:
        if node.op_type == "MatMul":
            node.outputs[0].shape = None
    with pytest.raises(PassError, match="unet can be cut into 1 part at most, not 2"):
        cut(whole, parts=2)
    with pytest.raises(PassError, match="the shape of .* is not known, so its memory cannot be predicted"):
        cut(whole)


def test_a_tensor_larger_than_max_mib(tmp_path: Path) -> None:
    whole = component_of(INPUT)
    large = ir.tensor(np.zeros((64, 8192), np.float32), name="w0")
    whole.payload.graph.initializers["w0"].const_value = large  # 2 MiB; shapes are not looked at
    with pytest.raises(
        PassError, match="a part of 2.0 MiB of weights cannot be cut further, max_mib=1"
    ) as caught:
        cut(whole, max_mib=1)
    assert caught.value.fix == "partition{max_mib=3}"


def test_a_graph_that_runs_graphs_is_refused() -> None:
    whole = component_of("""(float[1,64] input_0, bool c) => (float[1,64] output_0) {
        output_0 = If (c) <
            then_branch = t () => (float[1,64] y) { y = Neg (input_0) },
            else_branch = e () => (float[1,64] z) { z = Abs (input_0) }>
    }""")
    with pytest.raises(PassError, match="runs a graph of its own"):
        cut(whole, parts=1)


# ---- the spec


def test_options_that_exclude_each_other_are_refused() -> None:
    from ldmc.compiler.spec import parse_pass

    for text, words in [
        ("partition{parts=2,max_mib=3}", "exclude each other"),
        ("partition{parts=-1}", "cannot be negative"),
        ("partition{fit=run}", "what can be fitted is build"),
    ]:
        with pytest.raises(SpecError, match=words):
            parse_pass(text)
    assert str(parse_pass("partition{fit=build}")) == "partition"
    assert str(parse_pass("partition{max_mib=120}")) == "partition{max_mib=120}"


def test_nothing_can_be_fitted_to_a_target_without_a_budget() -> None:
    from ldmc.compiler.pipeline import checked_pipeline

    with pytest.raises(SpecError, match="target 'cpu' has no memory budget to fit; give parts or max_mib"):
        checked_pipeline("onnx,partition", load_target("cpu"))
    assert [str(step) for step in checked_pipeline("onnx,partition{parts=2}", load_target("cpu"))] == [
        "onnx", "partition{parts=2}",
    ]  # fmt: skip


# ---- fixtures


@pytest.fixture
def halved(tiny_fp16: dict[str, list[Component]]) -> Component:
    """The tiny UNet in half precision, folded, with its weights."""
    return copied(tiny_fp16["unet"][2])
