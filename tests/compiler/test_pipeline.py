"""Form checking: every pipeline that cannot run is refused before any work, with a caret."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from ldmc.compiler import pipeline as pipeline_module
from ldmc.compiler import spec
from ldmc.compiler.pipeline import RUNNABLE, checked_pipeline
from ldmc.compiler.spec import format_pipeline
from ldmc.errors import SpecError
from ldmc.ir import Component, Form
from ldmc.passes import TABLE, pass_class
from ldmc.passes.base import Context, Pass
from ldmc.targets.reader import load_target, target_names


@pytest.mark.parametrize(
    "text",
    [
        "onnx",
        "onnx,fold",
        "fp16,onnx",
        "fp16,onnx,fold",
        "onnx{opset=19},fold{max_growth=2}",
        "torchscript",
        "fp16,aoti{freeze=false}",
        "fp16,torchscript,onnx{opset=13},fold",
    ],
)
def test_what_fits_is_given_back_in_order(text: str) -> None:
    names = [step.name for step in checked_pipeline(text, load_target("cpu"))]
    assert names == [part.partition("{")[0] for part in text.split(",")]


# text -> (offset of the caret, part of the message, part of the fix)
REFUSED: dict[str, tuple[int, str, str]] = {
    "fold,onnx": (0, "pass 'fold' takes onnx form and would be given torch", "put onnx before it"),
    "fold": (0, "pass 'fold' takes onnx form and would be given torch", "put onnx before it"),
    "onnx,fp16": (
        5,
        "pass 'fp16' takes torch form and would be given onnx",
        "put it before the pass that gives onnx",
    ),
    "onnx,fold,fp16": (10, "pass 'fp16' takes torch form and would be given onnx", "put it before"),
    "fp16": (
        4,
        "the pipeline ends in torch form, target 'cpu' runs onnx",
        "end with a pass that gives onnx or onnx-parts or torchscript or aoti: onnx",
    ),
    "fp16,onnx,fold,fold": (15, "pass 'fold' is given twice", ""),
    "onnx,onnx{opset=19}": (5, "pass 'onnx' is given twice", ""),
    "fp16,onnx{opset=20},fold": (5, "pass 'onnx': target 'cpu' reads opset 19 at most, not 20", ""),
    "onnx,torchscript": (5, "pass 'torchscript' takes torch form and would be given onnx", "put it before"),
    "torchscript,fold": (
        12,
        "pass 'fold' takes onnx form and would be given torchscript",
        "put onnx before it",
    ),
    "fp16,fp16,onnx": (5, "pass 'fp16' is given twice", ""),
    "fp16, fold": (6, "pass 'fold' takes onnx form and would be given torch", "put onnx before it"),
}


@pytest.mark.parametrize(("text", "expected"), REFUSED.items(), ids=REFUSED)
def test_what_does_not_fit_points_at_the_pass(text: str, expected: tuple[int, str, str]) -> None:
    caret, message, fix = expected
    with pytest.raises(SpecError) as caught:
        checked_pipeline(text, load_target("cpu"))
    assert message in caught.value.message.split("\n")[0]
    assert caught.value.message.split("\n")[1:] == [f"    {text}", f"    {' ' * caret}^"]
    assert fix in caught.value.fix
    assert caught.value.exit_code == 2


def test_every_order_of_the_passes_either_fits_or_is_refused() -> None:
    """Whatever is accepted chains form by form from TORCH to what the engine runs."""
    target = load_target("cpu")
    accepted = []
    for length in range(1, 6):
        for names in itertools.permutations(TABLE, length):
            try:
                steps = checked_pipeline(",".join(names), target)
            except SpecError:
                continue
            accepted.append(",".join(names))
            form = Form.TORCH
            for step in steps:
                assert form in step.requires
                form = step.gives(form)
            assert form in RUNNABLE[target.engine]
    assert {"onnx", "onnx,fold", "fp16,onnx", "fp16,onnx,fold"} <= set(accepted)


@pytest.mark.parametrize("name", target_names())
def test_the_pipelines_of_every_target_fit_it_and_are_canonical(name: str) -> None:
    target = load_target(name)
    for text in target.pipelines.values():
        assert format_pipeline(checked_pipeline(text, target)) == text


@pytest.mark.parametrize("name", TABLE)
def test_every_pass_says_what_it_is(name: str) -> None:
    cls = pass_class(name)
    assert cls.name == name
    assert cls.summary
    assert cls.requires
    assert cls.produces is None or isinstance(cls.produces, Form)
    assert str(cls()) == name


@dataclass(frozen=True)
class Unlower(Pass):
    """A pass that leaves ONNX again, so that a pipeline can end in the wrong form after going through the right one."""

    name: ClassVar[str] = "unlower"
    summary: ClassVar[str] = "back to torch"
    requires: ClassVar[tuple[Form, ...]] = (Form.ONNX,)
    produces: ClassVar[Form] = Form.TORCH

    def run(self, component: Component, context: Context) -> Component:
        return replace(component, form=Form.TORCH)


def test_a_new_pass_is_checked_by_its_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(name: str) -> type[Pass]:
        return Unlower if name == "unlower" else pass_class(name)

    for module in (spec, pipeline_module):
        monkeypatch.setattr(module, "TABLE", {**TABLE, "unlower": ""})
        monkeypatch.setattr(module, "pass_class", lookup)
    target = load_target("cpu")
    with pytest.raises(SpecError, match="ends in torch form"):
        checked_pipeline("onnx,unlower", target)
    with pytest.raises(SpecError, match="takes onnx form and would be given torch"):
        checked_pipeline("onnx,unlower,fold", target)
