"""Whole models made readable for TensorRT 8.2: the trained digits, with their numbers, and the full preset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldmc.compiler.frontend import ModelRequest, open_model, read_program
from ldmc.ir import Component
from ldmc.passes.check import findings, repairs
from ldmc.targets.reader import load_target, target_names
from tests.passes.graphs import snr_db
from tests.passes.modules import copied, counts, lowered, run

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits-ldm"
NANO = load_target("jetson-nano")
REPAIRS = ["groupnorm{form=primitive}", "opset{to=13}"]
# Tensors of integers or booleans that are computed while the graph runs: INT32 to TensorRT 8.2.
COMPUTED_INTEGERS = {"unet": {"Unsqueeze"}, "decoder": {"ArgMax", "Concat"}}


def components(request: ModelRequest) -> dict[str, Component]:
    return {c.name: c for c in read_program(open_model(request, _quiet), request).components}


def _quiet(_: str) -> None:
    """Placeholders are what is asked for."""


@pytest.fixture(scope="module")
def digits() -> Callable[[str, str], Component]:
    """A component of digits-ldm after `onnx,fold`, or after `fp16,onnx,fold`."""
    opened = components(ModelRequest(str(DIGITS)))

    @cache
    def fold(name: str, spec: str) -> Component:
        return lowered(opened[name], spec)

    return lambda name, spec: copied(fold(name, spec))


def arrays(component: Component) -> Iterator[Any]:
    random = np.random.RandomState(0)
    for spec in component.inputs:
        noise = random.standard_normal(spec.shape).astype(spec.dtype)
        yield np.full(spec.shape, 37) if spec.dtype == "int64" else noise


@pytest.mark.parametrize("name", ["unet", "decoder"])
def test_digits_become_acceptable(digits: Callable[[str, str], Component], name: str) -> None:
    before = digits(name, "fp16,onnx,fold")
    assert repairs(findings(before.payload, NANO)) == REPAIRS
    accepted(lowered(before, ",".join(REPAIRS) + ",check", NANO))


@pytest.mark.parametrize("name", ["unet", "decoder"])
@pytest.mark.parametrize("spec", ["onnx,fold", "fp16,onnx,fold"])
def test_a_lower_opset_gives_the_same_bits(
    digits: Callable[[str, str], Component], name: str, spec: str
) -> None:
    before = digits(name, spec)
    [wanted] = run(before.payload, *arrays(before))
    for to in (13, 17):
        after = lowered(digits(name, spec), f"opset{{to={to}}}")
        np.testing.assert_array_equal(run(after.payload, *arrays(before))[0], wanted)


@pytest.mark.parametrize("name", ["unet", "decoder"])
@pytest.mark.parametrize("form", ["primitive", "group"])
def test_another_form_of_groupnorm_gives_the_same_numbers(
    digits: Callable[[str, str], Component], name: str, form: str
) -> None:
    before = digits(name, "onnx,fold")
    [wanted] = run(before.payload, *arrays(before))
    after = lowered(digits(name, "onnx,fold"), f"groupnorm{{form={form}}}")
    assert snr_db(wanted, run(after.payload, *arrays(before))[0]) > 100


@pytest.mark.full
@pytest.mark.parametrize("name", ["unet", "decoder"])
def test_the_full_model_becomes_acceptable(name: str) -> None:
    opened = components(ModelRequest(None, random_seed=0))
    before = lowered(opened[name], "fp16,onnx,fold")
    for board in set(target_names()) - {"jetson-nano"}:
        assert findings(before.payload, load_target(board)) == []
    norms = counts(before.payload)["InstanceNormalization"]
    found = findings(before.payload, NANO)
    assert norms == {"unet": 61, "decoder": 24}[name]
    assert (len(found), repairs(found)) == (norms + 2, REPAIRS)
    accepted(lowered(before, ",".join(REPAIRS) + ",check", NANO))


def accepted(component: Component) -> None:
    """Of opset 13 and IR 7, nothing found, and no integers computed but those that are known."""
    model = component.payload
    assert (model.opset_imports, model.ir_version) == ({"": 13}, 7)
    assert findings(model, NANO) == []
    integers = {
        node.op_type
        for node in model.graph
        for value in node.outputs
        if value.dtype is not None and not value.dtype.is_floating_point()
    }
    assert integers <= COMPUTED_INTEGERS[component.name]
