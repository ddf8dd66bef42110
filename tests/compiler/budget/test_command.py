"""`ldmc plan`: what it prints, and what it says to bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome

Run = Callable[..., Outcome]
MIB = 2**20
BOARD = 'extends = "jetson-nano"\nname = "board"\n[memory]\ntotal_mib = {total}\nsystem_mib = 500\n'


def test_a_table_at_80_columns_with_verdict_and_basis(ldmc: Run, tiny_model: Path) -> None:
    done = ldmc("plan", "--target", "jetson-nano", "--passes", "fp16,onnx,trt", "--model", tiny_model)
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    for expected in (
        "budget 3457 MiB",
        "fp16, onnx, fold, groupnorm{form=primitive}",
        "inserted opset",
        "build, on the device",
        "fits: ",
        "documented multiple",
        "one ONNX, inline weights, trtexec",
        "as planned above",
    ):
        assert expected in done.out


def test_json_has_what_is_documented_and_nothing_else_on_stdout(ldmc: Run, tiny_model: Path) -> None:
    answer = ldmc("plan", "--target", "jetson-nano", "--model", tiny_model, "--json").json
    assert answer["fits"] is True and answer["budget_bytes"] == 3457 * MIB
    assert answer["pipeline"].keys() == {"unet", "decoder"} == answer["components"].keys()
    assert len(answer["reference"]) == 4 and answer["reference_basis"]
    for phase in ("build_host", "build_device", "run"):
        assert answer["basis"][phase]["source"]


def test_what_does_not_fit_is_told_with_remedies(ldmc: Run, tiny_model: Path, tmp_path: Path) -> None:
    board = tmp_path / "board.toml"
    board.write_text(BOARD.format(total=1310))
    done = ldmc(
        "plan",
        "--target",
        board,
        "--passes",
        "onnx,fold,groupnorm{form=primitive},opset,trt",
        "--model",
        tiny_model,
    )
    assert done.code == 0, done.err
    assert "over by" in done.out and "libraries" in done.out


def test_a_target_without_a_budget_has_figures_all_the_same(ldmc: Run, tiny_model: Path) -> None:
    done = ldmc("plan", "--target", "cpu", "--model", tiny_model)
    assert done.code == 0, done.err
    assert "memory not known" in done.out and "no budget to hold it against" in done.out


def test_a_chart_is_drawn(ldmc: Run, tiny_model: Path, tmp_path: Path) -> None:
    chart = tmp_path / "memory.svg"
    assert ldmc("plan", "--target", "android", "--model", tiny_model, "--chart", chart).code == 0
    assert "alive at" in chart.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "code", "message", "fix"),
    [
        (["--target", "jetson-nan"], 2, "unknown target 'jetson-nan'", "did you mean 'jetson-nano'"),
        (["--target", "no.toml"], 2, "there is no target file no.toml", "targets that come with ldmc"),
        (["--target", "cpu", "--passes", "onnx,fole"], 2, "unknown pass 'fole'", "did you mean 'fold'"),
        (["--target", "cpu", "--passes", "fold"], 2, "would be given torch", "onnx"),
        (["--target", "cpu", "--model", "no-such-model"], 2, "unknown model 'no-such-model'", "presets are"),
        (["--target", "cpu", "--chart", "memory.pdf"], 2, "drawn as .svg or .png", "memory.svg"),
        (["--target", "cpu", "--chart", "missing/m.svg"], 2, "missing/m.svg cannot be written", "another file"),
        ([], 2, "--target", "ldmc plan --help"),
    ],
)
def test_bad_input_is_told(
    ldmc: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    message: str,
    fix: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = ldmc("plan", *arguments)
    assert done.code == code
    assert message in done.err and fix in done.err
    assert not list(tmp_path.iterdir())
