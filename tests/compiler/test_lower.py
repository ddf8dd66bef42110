"""Running passes in order, and holding each to the inputs and outputs it was given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir
import pytest

from ldmc.compiler.lower import Lowering, check_io
from ldmc.errors import PassError, UsageError
from ldmc.ir import Component, Form, TensorSpec
from ldmc.passes.base import Context, Pass
from tests.passes.modules import target

TEXT = """<ir_version: 8, opset_import: ["" : 18]>
g (float16[1,3,8,8] input_0, int64[1] input_1) => (float16[1,3,8,8] output_0) {
    t = Cast <to = 10> (input_1)
    output_0 = Mul (input_0, t)
}"""
INPUTS = (TensorSpec("input_0", "float16", (1, 3, 8, 8)), TensorSpec("input_1", "int64", (1,)))
OUTPUTS = (TensorSpec("output_0", "float16", (1, 3, 8, 8)),)


def lower(scratch: Path, *steps: Pass) -> Lowering:
    """The component after `steps`."""
    lowering = Lowering(component(), target(), scratch)
    for step in steps:
        lowering.run(step)
    return lowering


def component(text: str = TEXT) -> Component:
    return Component("unet", Form.ONNX, ir.from_onnx_text(text), INPUTS, OUTPUTS)


@dataclass(frozen=True)
class Doing(Pass):
    """A pass that does whatever it is given."""

    work: Callable[[Component, Context], Component] = lambda component, _: component

    name: ClassVar[str] = "doing"
    summary: ClassVar[str] = "for tests"
    requires: ClassVar[tuple[Form, ...]] = (Form.ONNX,)
    produces: ClassVar[Form] = Form.ONNX

    def run(self, component: Component, context: Context) -> Component:
        return self.work(component, context)

    def __str__(self) -> str:
        return self.name


def negated(given: Component, context: Context) -> Component:
    context.remark("negated")
    return given.evolve(
        payload=ir.from_onnx_text(
            TEXT.replace("output_0 = Mul (input_0, t)", "n = Neg (t)\n output_0 = Mul (input_0, n)")
        )
    )


def test_each_stage_is_recorded(tmp_path: Path) -> None:
    done = lower(tmp_path, Doing(), Doing(negated))
    one, two = done.records
    assert (one.stage, two.stage) == ("01-doing", "02-doing")
    assert (one.report_path, two.report_path) == ("reports/unet/01-doing.json", "reports/unet/02-doing.json")
    assert (one.component, one.name, one.status, one.remarks) == ("unet", "doing", "done", ())
    assert two.remarks == ("negated",)
    assert one.before.stats == one.after.stats == two.before.stats
    assert dict(two.after.stats.ops) == {"Cast": 1, "Mul": 1, "Neg": 1}
    assert two.seconds >= 0 and (two.peak_rss_bytes is None or two.peak_rss_bytes > 0)
    assert done.component.payload.graph.num_nodes() == 3


def test_every_stage_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = []

    def note(given: Component, context: Context) -> Component:
        assert context.scratch is not None and list(context.scratch.iterdir()) == []
        folders.append(context.scratch)
        return given

    lower(tmp_path, Doing(note), Doing(note))
    assert len(set(folders)) == 2 and {folder.parent for folder in folders} == {tmp_path}


def test_an_unexpected_error_is_told_with_the_pass_and_component(tmp_path: Path) -> None:
    def fail(*_: object) -> Component:
        raise RuntimeError("shape [3] is not [4]\nand a long traceback")

    with pytest.raises(
        PassError, match="pass 'doing' failed on unet: shape \\[3\\] is not \\[4\\]$"
    ) as caught:
        lower(tmp_path, Doing(fail))
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "--debug" in caught.value.fix


def test_an_error_without_words_is_told_by_its_name(tmp_path: Path) -> None:
    def fail(*_: object) -> Component:
        raise ZeroDivisionError

    with pytest.raises(PassError, match="failed on unet: ZeroDivisionError"):
        lower(tmp_path, Doing(fail))


@pytest.mark.parametrize("error", [UsageError("no such module", fix="f"), KeyboardInterrupt(), MemoryError()])
def test_known_errors_and_interrupts_pass_through(error: BaseException, tmp_path: Path) -> None:
    def fail(*_: object) -> Component:
        raise error

    with pytest.raises(type(error)) as caught:
        lower(tmp_path, Doing(fail))
    assert caught.value is error


def test_an_unchanged_component_is_accepted() -> None:
    check_io(component(), component(), "doing")


def test_another_dtype_declared_by_both_sides_is_accepted() -> None:
    """fp16 changes dtypes on purpose; what it declares must be what the graph has."""
    wide = component(TEXT.replace("float16", "float"))
    wide = wide.evolve(
        inputs=(TensorSpec("input_0", "float32", (1, 3, 8, 8)), INPUTS[1]),
        outputs=(TensorSpec("output_0", "float32", (1, 3, 8, 8)),),
    )
    check_io(wide, component(), "fp16")


BROKEN_GRAPHS = {
    "an input is renamed": (TEXT.replace("input_0", "latent"), "input"),
    "an output is renamed": (TEXT.replace("output_0", "noise"), "output"),
    "inputs are reordered": (
        TEXT.replace(
            "(float16[1,3,8,8] input_0, int64[1] input_1)", "(int64[1] input_1, float16[1,3,8,8] input_0)"
        ),
        "input",
    ),
    "an input is retyped": (TEXT.replace("int64[1]", "int32[1]"), "input"),
    "an output is retyped": (TEXT.replace("=> (float16", "=> (float"), "output"),
    "an output is reshaped": (TEXT.replace("=> (float16[1,3,8,8]", "=> (float16[1,3,64]"), "output"),
    "an input became dynamic": (
        TEXT.replace("(float16[1,3,8,8] input_0", "(float16[N,3,8,8] input_0"),
        "input",
    ),
    "an input is gone": (
        TEXT.replace(", int64[1] input_1", "").replace("t = Cast <to = 10> (input_1)", "t = Neg (input_0)"),
        "input",
    ),
    "an input is new": (TEXT.replace("int64[1] input_1)", "int64[1] input_1, float16[1] w)"), "input"),
    "an output is new": (TEXT.replace("output_0)", "output_0, float16[1] t)", 1), "output"),
    "an output has no type": (TEXT.replace("=> (float16[1,3,8,8] output_0)", "=> (output_0)"), "output"),
}


@pytest.mark.parametrize("case", BROKEN_GRAPHS)
def test_a_graph_that_departs_from_its_component_is_refused(case: str, tmp_path: Path) -> None:
    text, side = BROKEN_GRAPHS[case]
    broken = component(text)
    with pytest.raises(PassError, match=f"pass 'doing' broke the {side}s of unet: .* instead of "):
        check_io(component(), broken, "doing")
    with pytest.raises(PassError):
        lower(tmp_path, Doing(lambda *_: broken))


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": (INPUTS[1], INPUTS[0])},
        {"inputs": (TensorSpec("latent", "float16", (1, 3, 8, 8)), INPUTS[1])},
        {"outputs": (TensorSpec("noise", "float16", (1, 3, 8, 8)),)},
        {"outputs": ()},
    ],
)
def test_a_component_whose_names_changed_is_refused(changes: dict[str, tuple[TensorSpec, ...]]) -> None:
    with pytest.raises(PassError, match="pass 'doing' changed the inputs and outputs of unet from"):
        check_io(component(), component().evolve(**changes), "doing")
