"""The spec grammar: what parses, what prints, and where the caret points at what does not."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

import pytest

from ldmc.compiler import spec
from ldmc.compiler.spec import format_pipeline, parse_pass, parse_pipeline
from ldmc.errors import SpecError
from ldmc.ir import Component, Form
from ldmc.passes import TABLE
from ldmc.passes.base import Context, Pass
from ldmc.passes.fold import Fold
from ldmc.passes.fp16 import KINDS, Fp16
from ldmc.passes.onnx import Onnx

# name -> (text, offset of the caret, part of the message, part of the fix)
FAILURES: dict[str, tuple[str, int, str, str]] = {
    "empty": ("", 0, "the pipeline is empty", "onnx,fold"),
    "only space": ("   ", 0, "the pipeline is empty", "onnx,fold"),
    "unknown pass": ("onxx", 0, "unknown pass 'onxx'", "did you mean 'onnx'? passes are fp16, "),
    "unknown second pass": ("onnx,flod", 5, "unknown pass 'flod'", "did you mean 'fold'?"),
    "nothing like it": ("onnx,zzz", 5, "unknown pass 'zzz'", "passes are fp16, "),
    "starts with a comma": (",onnx", 0, "expected a pass name, found ','", ""),
    "ends with a comma": ("onnx,", 5, "expected a pass name, found the end", ""),
    "two commas": ("onnx,,fold", 5, "expected a pass name, found ','", ""),
    "no comma": ("onnx fold", 5, "expected ',', found 'f'", ""),
    "starts with a digit": ("16fp", 0, "expected a pass name, found '1'", ""),
    "starts with a brace": ("{opset=18}", 0, "expected a pass name, found '{'", ""),
    "stray closing brace": ("onnx}", 4, "expected ',', found '}'", ""),
    "brace never closed": ("onnx{", 5, "expected an option name, found the end", ""),
    "brace not closed after a value": ("onnx{opset=18", 13, "expected ',' or '}', found the end", ""),
    "brace closed by a bracket": ("onnx{opset=18]", 13, "expected ',' or '}', found ']'", ""),
    "no option name": ("onnx{=18}", 5, "expected an option name, found '='", ""),
    "no equals sign": ("onnx{opset}", 10, "expected '=' after 'opset'", ""),
    "no value": ("onnx{opset=}", 11, "expected a value, found '}'", ""),
    "no value at the end": ("onnx{opset=", 11, "expected a value, found the end", ""),
    "trailing comma in braces": ("onnx{opset=18,}", 14, "expected an option name, found '}'", ""),
    "unknown option": (
        "onnx{opst=18}",
        5,
        "pass 'onnx' has no option 'opst'",
        "did you mean 'opset'? options are opset",
    ),
    "unlike any option": ("onnx{colour=1}", 5, "pass 'onnx' has no option 'colour'", "options are opset"),
    "option twice": ("onnx{opset=18,opset=19}", 14, "option 'opset' is given twice", ""),
    "not a whole number": ("onnx{opset=new}", 11, "expected a whole number, not 'new'", ""),
    "fraction for a whole number": ("onnx{opset=18.5}", 11, "expected a whole number, not '18.5'", ""),
    "not a number": ("fold{max_growth=lots}", 16, "expected a number, not 'lots'", ""),
    "list for one value": ("onnx{opset=[18]}", 11, "expected one value, not a list", ""),
    "pass for a number": ("onnx{opset=fold{}}", 11, "expected int, not a pass", ""),
    "value out of range": ("onnx{opset=3}", 0, "opset=3: the exporters write opset 9 to 23", ""),
    "value out of range, later": ("fp16,onnx{opset=99}", 5, "opset=99", ""),
    "factor under one": ("onnx,fold{max_growth=0.5}", 5, "max_growth=0.5", ""),
    "unknown kind": ("fp16{keep=[norms]}", 0, "keep=norms: expected none, one of norm, softmax", ""),
    "list not closed": ("fp16{keep=[norm", 15, "expected ',' or ']', found the end", ""),
    "list with an empty place": ("fp16{keep=[norm,]}", 16, "expected a value, found ']'", ""),
    "character of no token": ("fp16{keep=[norm;]}", 15, "expected ',' or ']', found ';'", ""),
    "unknown nested pass": ("fp16{keep=fodl{}}", 10, "unknown pass 'fodl'", "did you mean 'fold'?"),
}


@pytest.mark.parametrize(("text", "caret", "message", "fix"), FAILURES.values(), ids=FAILURES)
def test_what_does_not_parse_points_at_its_character(text: str, caret: int, message: str, fix: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_pipeline(text)
    error = caught.value
    said, shown, pointer = error.message.split("\n")
    assert message in said
    assert shown == f"    {text}"
    assert pointer == f"    {' ' * caret}^"
    assert (error.position, error.exit_code) == (caret, 2)
    assert fix in error.fix


GOOD: dict[str, list[Pass]] = {
    "onnx": [Onnx()],
    "onnx,fold": [Onnx(), Fold()],
    "  onnx , fold  ": [Onnx(), Fold()],
    "onnx{}": [Onnx()],
    "onnx{opset=19}": [Onnx(opset=19)],
    "onnx { opset = 19 } , fold": [Onnx(opset=19), Fold()],
    "fold{max_growth=2}": [Fold(max_growth=2.0)],
    "fold{max_growth=1.5e+1}": [Fold(max_growth=15.0)],
    "fp16{keep=norm}": [Fp16(keep=("norm",))],
    "fp16{keep=[]}": [Fp16()],
    "fp16{keep=[norm,quantiser]}": [Fp16(keep=("norm", "quantiser"))],
    "fp16{keep=[unet/up_blocks.3.resnets.1]}": [Fp16(keep=("unet/up_blocks.3.resnets.1",))],
}


@pytest.mark.parametrize(("text", "passes"), GOOD.items(), ids=GOOD)
def test_what_parses(text: str, passes: list[Pass]) -> None:
    assert [placed.pass_ for placed in parse_pipeline(text)] == passes


def test_options_with_their_default_are_not_printed() -> None:
    assert format_pipeline([Fp16(), Onnx(opset=18), Fold(max_growth=2.0)]) == "fp16,onnx,fold{max_growth=2.0}"


def test_passes_know_where_they_were_written() -> None:
    assert [placed.position for placed in parse_pipeline(" fp16, onnx{opset=19},fold")] == [1, 7, 22]


def test_one_pass_is_one_pass() -> None:
    with pytest.raises(SpecError, match="expected one pass") as caught:
        parse_pass("onnx,fold")
    assert caught.value.position == 5


def test_random_passes_round_trip() -> None:
    generator = random.Random(0)
    for _ in range(300):
        passes = [_random_pass(generator) for _ in range(generator.randint(1, 4))]
        assert [placed.pass_ for placed in parse_pipeline(format_pipeline(passes))] == passes
        assert [parse_pass(str(one)) for one in passes] == passes


def test_space_between_tokens_changes_nothing() -> None:
    generator = random.Random(1)
    for _ in range(100):
        passes = [_random_pass(generator) for _ in range(3)]
        text = format_pipeline(passes)
        loose = "".join(f" {c} " if c in "{}[],=" and generator.random() < 0.5 else c for c in text)
        assert [placed.pass_ for placed in parse_pipeline(loose)] == passes


def _random_pass(generator: random.Random) -> Pass:
    paths = ("unet/mid_block.resnets.0", "decoder/net-1", "unet/conv_in")
    keep = tuple(generator.sample([*KINDS, *paths], generator.randint(0, 4)))
    return generator.choice(
        [
            Fp16(keep=keep),
            Onnx(opset=generator.randint(18, 23)),
            Fold(max_growth=1 + generator.expovariate(1)),
        ]
    )


@dataclass(frozen=True)
class Wrap(Pass):
    """A pass with an option of every type, other passes among them."""

    inner: Pass | None = None
    several: tuple[Pass, ...] = ()
    loud: bool = False
    label: str = "x"
    factors: tuple[float, ...] = ()

    name: ClassVar[str] = "wrap"
    summary: ClassVar[str] = ""
    requires: ClassVar[tuple[Form, ...]] = (Form.ONNX,)
    produces: ClassVar[Form] = Form.ONNX

    def run(self, component: Component, context: Context) -> Component:
        return component


@pytest.fixture
def wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `wrap` a pass that can be typed."""
    classes = {"wrap": Wrap, "onnx": Onnx, "fold": Fold, "fp16": Fp16}
    monkeypatch.setattr(spec, "TABLE", {**TABLE, "wrap": ""})
    monkeypatch.setattr(spec, "pass_class", classes.__getitem__)


NESTED: dict[str, Wrap] = {
    "wrap{inner=onnx}": Wrap(inner=Onnx()),
    "wrap{inner=onnx{opset=20}}": Wrap(inner=Onnx(20)),
    "wrap{inner=wrap{inner=wrap{loud=true}}}": Wrap(inner=Wrap(inner=Wrap(loud=True))),
    "wrap{several=[onnx{opset=19},fold,fp16{keep=[norm,unet/a.b]}]}": Wrap(
        several=(Onnx(19), Fold(), Fp16(("norm", "unet/a.b")))
    ),
    "wrap{loud=true,label=a:b/c*,factors=[1.5,-2.0]}": Wrap(loud=True, label="a:b/c*", factors=(1.5, -2.0)),
}


@pytest.mark.usefixtures("wrap")
@pytest.mark.parametrize(("text", "expected"), NESTED.items(), ids=NESTED)
def test_specs_nest_and_round_trip(text: str, expected: Wrap) -> None:
    assert parse_pass(text) == expected
    assert str(expected) == text


@pytest.mark.usefixtures("wrap")
@pytest.mark.parametrize(
    ("text", "caret", "message"),
    [
        ("wrap{inner=nothing}", 11, "expected a pass, not 'nothing'"),
        ("wrap{loud=yes}", 10, "expected true or false, not 'yes'"),
        ("wrap{loud=[true]}", 10, "expected one value, not a list"),
        ("wrap{label=onnx{}}", 11, "expected str, not a pass"),
        ("wrap{inner=onnx{opset=1}}", 11, "opset=1"),
        ("wrap{several=[onnx,fold{max_growth=x}]}", 35, "expected a number, not 'x'"),
        ("wrap{inner=onnx{opset=19}", 25, "expected ',' or '}', found the end"),
    ],
)
def test_errors_inside_nested_specs_point_inside(text: str, caret: int, message: str) -> None:
    with pytest.raises(SpecError, match="^[^\n]*") as caught:
        parse_pass(text)
    assert message in caught.value.message
    assert caught.value.position == caret
