"""What is inserted and what still waits: every order of passes that is accepted lowers, or is refused in one sentence.

The graph is a few nodes with weights that nobody reads, so that all orders can be lowered for a board that has to
repair and to cut it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx_ir as ir
import pytest

from ldmc.compiler.fit import Fitting
from ldmc.compiler.lower import Lowering
from ldmc.compiler.pipeline import checked_pipeline, first_misfit, recorded_pipeline, to_one_graph
from ldmc.compiler.spec import format_pipeline, parse_pass
from ldmc.errors import BundleError, PassError, SpecError
from ldmc.ir import Component, Form
from ldmc.passes import TABLE
from ldmc.passes.check import findings
from ldmc.targets.builder_memory import build_peak_bytes
from ldmc.targets.reader import load_target
from ldmc.targets.target import MIB, Target
from tests.passes.graphs import component_of_model, text_model
from tests.passes.modules import copied

# As an exporter writes it, with a norm and with numbers that TensorRT 8.2 reads wrongly.
GRAPH = """(float[1,16,1024] input_0, float[1024,1024] w0, float[1024,1024] w1, float[1024,1024] w2)
=> (float[1,16,1024] output_0) {
    grouped = Constant<value_ints = [1, 4, 4096]>()
    whole = Constant<value_ints = [1, 16, 1024]>()
    scale = Constant<value_floats = [1.0, 1.0, 1.0, 1.0]>()
    bias = Constant<value_floats = [0.0, 0.0, 0.0, 0.0]>()
    first = MatMul(input_0, w0)
    groups = Reshape(first, grouped)
    normed = InstanceNormalization(groups, scale, bias)
    tokens = Reshape(normed, whole)
    second = MatMul(tokens, w1)
    active = Sigmoid(second)
    output_0 = MatMul(active, w2)
}"""
WEIGHTS = ("w0", "w1", "w2")
SAMPLED = 6  # of the accepted orders; all of them take half a minute
ON_GRAPHS = ("fold", "groupnorm", "opset", "check", "partition{parts=2}", "trt", "embed")


def unread() -> ir.TensorProtocol:
    raise AssertionError("a weight was read")


@pytest.fixture(scope="module")
def exported() -> Component:
    """`GRAPH` in ONNX form; lower copies of it."""
    model = text_model(GRAPH, 18)
    for value in [value for value in model.graph.inputs if value.name in WEIGHTS]:
        model.graph.inputs.remove(value)
        assert value.shape is not None
        value.const_value = ir.LazyTensor(unread, dtype=ir.DataType.FLOAT, shape=value.shape, name=value.name)
        model.graph.initializers.add(value)
    return component_of_model(model)


@pytest.fixture(scope="module")
def board(exported: Component, tmp_path_factory: pytest.TempPathFactory) -> Target:
    """A Jetson Nano that can build two thirds of the graph, and not all of it."""
    weights = sum(value.const_value.nbytes for value in exported.payload.graph.initializers.values())
    budget_mib = build_peak_bytes(weights * 5 // 6, 0, load_target("jetson-nano")) // MIB
    file = tmp_path_factory.mktemp("targets") / "board.toml"
    file.write_text(
        f'extends = "jetson-nano"\nname = "board"\n[memory]\ntotal_mib = {budget_mib + 500}\nsystem_mib = 500\n'
    )
    return load_target(str(file))


Fit = Callable[[str], Fitting]


@pytest.fixture
def fit(exported: Component, board: Target, tmp_path: Path) -> Fit:
    """Lower the graph for the board as a build does, without the export: `fit("check,fold,trt")`."""
    numbers = itertools.count()

    def lower(spec: str) -> Fitting:
        [_, *waiting] = checked_pipeline(f"onnx,{spec}", board)
        scratch = tmp_path / str(next(numbers))
        scratch.mkdir()
        fitting = Fitting(Lowering(copied(exported), board, scratch), waiting, lambda low, step: low.run(step))
        fitting.lower_to_target(strict=False)
        fitting.lower_whole()
        fitting.partition_to_fit()
        fitting.lower_to_engine()
        while fitting.waiting:
            fitting.advance()
        return fitting

    return lower


def orders(board: Target) -> Iterator[str]:
    """Every list of passes on graphs that is accepted behind `onnx`."""
    for length in range(1, len(ON_GRAPHS) + 1):
        for specs in itertools.permutations(ON_GRAPHS, length):
            spec = ",".join(specs)
            try:
                checked_pipeline(f"onnx,{spec}", board)
            except SpecError:
                continue
            yield spec


def test_every_accepted_order_lowers_or_is_refused_by_the_names_of_its_passes(fit: Fit, board: Target) -> None:
    ends: Counter[str] = Counter()
    for spec in list(orders(board))[::SAMPLED]:
        try:
            fitting = fit(spec)
        except PassError as error:
            assert error.__cause__ is None, f"{spec}: {error.message}"  # not an exception of somebody else's
            ends[_refusal(spec, error)] += 1
            continue
        done = format_pipeline(fitting.lowering.done)
        assert format_pipeline(checked_pipeline(f"onnx,{done}", board)) == f"onnx,{done}", spec
        assert set(fitting.lowering.done) >= set(checked_pipeline(f"onnx,{spec}", board)[1:]), spec
        assert ("partition" in done) == ("partition" in spec or "trt" in spec), (spec, done)
        if "trt" in spec or "check" in spec:
            _hold_to_parser(fitting.lowering.component, board)
        ends["lowered"] += 1
    assert set(ends) == {"lowered", "embed"}, ends


def _refusal(spec: str, error: PassError) -> str:
    """What a refusal is about: the one pass that takes no parts, by its name and the cut's."""
    if "embed" in spec and "'embed' cannot take what 'partition' gives" in error.message:
        assert error.fix == "leave embed out"
        return "embed"
    return f"{spec}: {error.message}"


def _hold_to_parser(component: Component, board: Target) -> None:
    source = component.payload.source if component.form is Form.ENGINE else component
    parts = source.payload.parts if source.form is Form.PARTS else (source,)
    assert all(findings(part.payload, board) == [] for part in parts)


# By hand: what each pass takes and gives, as one letter for each form. ONNX -> o, PARTS -> p.
HAND = {
    "fp16": {"t": "t"},
    "torchscript": {"t": "s"},
    "aoti": {"t": "a"},
    "onnx": {"t": "o", "s": "o"},
    "fold": {"o": "o"},
    "groupnorm": {"o": "o"},
    "opset": {"o": "o"},
    "check": {"o": "o", "p": "p"},
    "partition": {"o": "p"},
    "trt": {"o": "e", "p": "e"},
    "embed": {"e": "e"},
}
REPAIRS_AND_CUT = ("fold", "groupnorm{form=primitive}", "opset{to=13}", "partition{parts=2}")


def by_hand(names: list[str]) -> str:
    """The form after `names`; empty where they do not fit. For a board, which has no AOTInductor."""
    form = "t"
    for place, name in enumerate(names):
        form = HAND[name].get(form, "")
        if not form or form == "a" or name in names[:place] or (name == "embed" and "partition" in names[:place]):
            return ""
    return form


def all_pipelines(names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every order of passes whose forms fit, in which a board could run the last."""
    for name in sorted(HAND):
        form = by_hand([*names, name])
        if form:
            if form in "opse":
                yield (*names, name)
            yield from all_pipelines((*names, name))


def test_the_check_of_insertions_agrees_with_one_by_hand_for_every_pipeline_and_place(board: Target) -> None:
    assert set(HAND) == set(TABLE)
    fits: Counter[bool] = Counter()
    for names in all_pipelines():
        spec = ",".join("partition{parts=2}" if name == "partition" else name for name in names)
        steps = checked_pipeline(spec, board)
        form = Form.TORCH
        for place, step in enumerate([*steps, None]):
            for inserted in REPAIRS_AND_CUT if form in (Form.ONNX, Form.PARTS) else ():
                done, waiting = steps[:place], steps[place:]
                misfit = first_misfit([parse_pass(inserted), *waiting], board, form, done)
                wanted = by_hand([s.name for s in (*done, parse_pass(inserted), *waiting)])
                assert (misfit is None) == (wanted != ""), (spec, place, inserted, misfit)
                fits[misfit is None] += 1
            form = step.gives(form) if step is not None else form
    assert fits[True] > 1000 and fits[False] > 1000, fits


@pytest.mark.parametrize(
    ("spec", "done"),
    [
        ("check,fold,trt", "fold,groupnorm{form=primitive},opset,check,partition{parts=2},trt"),
        ("fold,check,opset,trt", "fold,groupnorm{form=primitive},opset,check,partition{parts=2},trt"),
        ("check,fold{max_growth=2.0},trt", "fold{max_growth=2.0},groupnorm{form=primitive},opset,check,"
         "partition{parts=2},trt"),
        ("check,partition{parts=3},check,trt", ""),
        ("fold", "fold,groupnorm{form=primitive},opset"),
    ],
)  # fmt: skip
def test_a_repair_asked_for_later_comes_forward_and_a_cut_goes_behind_what_takes_the_whole_graph(
    spec: str, done: str, fit: Fit
) -> None:
    if not done:
        with pytest.raises(SpecError, match="given twice"):
            fit(spec)
        return
    fitting = fit(spec)
    assert format_pipeline(fitting.lowering.done) == done
    asked = {name.partition("{")[0] for name in spec.split(",")}
    assert asked.isdisjoint(insertion.spec.partition("{")[0] for insertion in fitting.insertions)
    moved = [remark for remark in fitting.remarks if remark.startswith("unet: moved ")]
    assert len(fitting.remarks) == len(fitting.insertions) + len(moved)
    assert bool(moved) == (spec.startswith(("check", "fold,check")))


def test_an_option_that_keeps_a_repair_out_is_named(fit: Fit) -> None:
    with pytest.raises(PassError, match=r"groupnorm\{form=instance\} was asked for where it needs") as caught:
        fit("fold,groupnorm{form=instance},trt")
    assert caught.value.fix == "add groupnorm{form=primitive} where the graph is whole"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fold,onnx", "pass 'fold' takes onnx form and would be given torch"),
        ("fp16,onnx,fold,fold", "pass 'fold' is given twice"),
        ("fp16,onxx", "unknown pass 'onxx'"),
        ("", "the pipeline is empty"),
    ],
)
def test_a_recorded_pipeline_is_held_to_its_forms(text: str, words: str) -> None:
    with pytest.raises(BundleError, match="the manifest records the pipeline") as caught:
        recorded_pipeline(text, None)
    assert words in caught.value.message and "\n" not in caught.value.message


def test_a_recorded_pipeline_without_a_graph_has_none_to_look_into() -> None:
    cut = recorded_pipeline("fp16,onnx,fold,partition{parts=2},trt", None)
    assert format_pipeline(to_one_graph(cut)) == "fp16,onnx,fold"
    with pytest.raises(BundleError, match="fp16,torchscript gives no ONNX graph"):
        to_one_graph(recorded_pipeline("fp16,torchscript", None))
