"""The promise of the budget: what was predicted is what is measured. The bounds stand in benchmarks/memory.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from benchmarks import memory
from ldmc.compiler.budget.graphs import lower_request
from ldmc.compiler.budget.planner import plan
from ldmc.compiler.budget.recipe import reference_recipes
from ldmc.compiler.frontend import ModelRequest
from ldmc.targets.reader import load_target

MIB = 2**20
PAPERS_PHONE_BYTES = 2379 * 10**6


def check(rows: list[memory.Row]) -> None:
    assert rows
    assert [str(row) for row in rows if abs(row.error) > row.bound] == []


@pytest.mark.parametrize("passes", ["onnx,fold", "onnx,fold,partition{parts=3}"])
def test_onnx_runtime_takes_what_was_predicted_of_digits(passes: str, tmp_path: Path) -> None:
    check(list(memory.onnxruntime_rows("digits", memory.DIGITS, passes, tmp_path)))


@pytest.mark.full
@pytest.mark.parametrize("passes", ["onnx,fold", "onnx,fold,partition{parts=3}"])
def test_onnx_runtime_takes_what_was_predicted_of_the_full_model(passes: str, tmp_path: Path) -> None:
    check(list(memory.onnxruntime_rows("full", None, passes, tmp_path)))


@pytest.mark.full
@pytest.mark.parametrize("passes", ["fp16,onnx,fold", "onnx,fold"])
def test_tensorrt_for_rtx_reports_what_was_predicted(passes: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed: pip install -e .[rtx]")
    check(list(memory.rtx_rows("full", None, passes, tmp_path)))


@pytest.mark.full
def test_eager_is_the_papers_median_on_both_of_its_gpus() -> None:
    check(list(memory.eager_rows()))


@pytest.mark.full
def test_on_a_nano_the_papers_recipe_is_over_and_ours_fits() -> None:
    nano = load_target("jetson-nano")
    lowered = lower_request(ModelRequest(), "fp16,onnx,trt", nano)
    recipes = {r.name: r for r in reference_recipes(nano, {c.name: [c.whole] for c in lowered})}
    assert recipes["fp16, whole UNet"].over_bytes > 0
    assert recipes["fp32, whole UNet"].over_bytes > recipes["fp16, whole UNet"].over_bytes
    assert recipes["fp16, whole pipeline"].over_bytes > recipes["fp16, whole UNet"].over_bytes
    ours = plan(nano, {c.name: c.parts for c in lowered})
    assert ours.spare_bytes is not None and ours.spare_bytes >= 400 * MIB


@pytest.mark.full
def test_on_a_phone_a_run_takes_a_third_less_than_the_papers() -> None:
    phone = load_target("android")
    lowered = lower_request(ModelRequest(), None, phone)
    found = plan(phone, {c.name: c.parts for c in lowered})
    assert found.fits
    assert found.run.peak_bytes <= 0.65 * PAPERS_PHONE_BYTES
