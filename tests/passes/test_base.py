"""Passes as data: options as fields, canonical text, and the table they are found in."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import pytest

from ldmc.compiler.spec import parse_pass
from ldmc.errors import UsageError
from ldmc.ir import Component, Form
from ldmc.passes import TABLE, pass_class
from ldmc.passes.base import Context, Pass
from ldmc.passes.fold import Fold
from ldmc.passes.fp16 import Fp16
from ldmc.passes.onnx import Onnx
from tests.passes.modules import target


@dataclass(frozen=True)
class Everything(Pass):
    """Every kind of option there is."""

    flag: bool = False
    count: int = 1
    ratio: float = 0.5
    names: tuple[str, ...] = ()
    inner: Pass | None = None

    name: ClassVar[str] = "everything"
    summary: ClassVar[str] = "for tests"
    requires: ClassVar[tuple[Form, ...]] = (Form.ONNX,)
    produces: ClassVar[Form] = Form.ONNX

    def run(self, component: Component, context: Context) -> Component:
        return component


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Everything(), "everything"),
        (Everything(flag=True), "everything{flag=true}"),
        (Everything(count=2, ratio=1.25), "everything{count=2,ratio=1.25}"),
        (Everything(names=("a", "b/c.d")), "everything{names=[a,b/c.d]}"),
        (Everything(names=("a",)), "everything{names=[a]}"),
        (Everything(inner=Onnx(opset=20)), "everything{inner=onnx{opset=20}}"),
        (Everything(inner=Fold()), "everything{inner=fold}"),
    ],
)
def test_text_leaves_out_defaults(step: Pass, text: str) -> None:
    assert str(step) == text


@pytest.mark.parametrize(
    "step",
    [
        Fp16(),
        Fp16(keep=("norm",)),
        Fp16(keep=("softmax", "unet/up_blocks.3.resnets.1")),
        Onnx(opset=21),
        Fold(max_growth=2.5),
    ],
)
def test_text_parses_to_the_same_pass(step: Pass) -> None:
    assert parse_pass(str(step)) == step


def test_options_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Onnx().opset = 19  # type: ignore[misc]


def test_a_context_without_a_driver_drops_remarks() -> None:
    context = Context(target())
    context.remark("nobody hears this")
    assert context == Context(target())


@pytest.mark.parametrize("name", TABLE)
def test_every_pass_of_the_table_is_complete(name: str) -> None:
    cls = pass_class(name)
    assert cls.name == name
    assert cls.summary and cls.summary[0].islower() and not cls.summary.endswith(".")
    assert cls.__doc__ and cls.requires and cls.runs_on in ("host", "device")
    assert all(option.default is not dataclasses.MISSING for option in dataclasses.fields(cls))
    assert str(cls()) == name


def test_an_unknown_pass_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown pass 'fpl6'") as caught:
        pass_class("fpl6")
    assert caught.value.fix.startswith("did you mean 'fp16'? passes are ")
