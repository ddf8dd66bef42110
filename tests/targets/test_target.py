"""Targets are data: every file reads, and a wrong one names the key, the value and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from ldmc.errors import UsageError
from ldmc.passes.fp16 import KINDS
from ldmc.targets.reader import load_target, target_names
from ldmc.targets.target import ISLANDS

CPU = (resources.files("ldmc.targets") / "cpu.toml").read_text(encoding="utf-8")
OPSET = next(line for line in CPU.splitlines() if line.startswith("opset"))


def board(folder: Path, text: str) -> str:
    file = folder / "board.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def replaced(old: str, new: str) -> str:
    assert old in CPU
    return CPU.replace(old, new)


@pytest.mark.parametrize("name", target_names())
def test_every_target_that_comes_with_ldmc_reads(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.summary
    assert {"unet", "decoder"} <= target.pipelines.keys()
    assert set(target.fp32_islands) <= set(KINDS)
    assert "python" in target.requirements
    assert set(target.to_json()) >= {
        "name", "summary", "arch", "engine", "opset", "precisions", "fp32_islands", "requirements",
        "pipelines",
    }  # fmt: skip


def test_islands_are_the_kinds_that_the_pass_knows() -> None:
    assert ISLANDS == KINDS


def test_a_file_of_ones_own_is_a_target(tmp_path: Path) -> None:
    file = board(tmp_path, replaced('name = "cpu"', 'name = "my-board"'))
    target = load_target(file)
    assert target.name == "my-board"
    assert target.pipelines == load_target("cpu").pipelines


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("cpuu", "did you mean 'cpu'? targets are"),
        ("CPU", "targets are"),
        ("toaster", "or the path of a .toml file"),
        ("", "targets are"),
        ("../cpu", "targets are"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(name: str, fix: str) -> None:
    with pytest.raises(UsageError, match="unknown target") as caught:
        load_target(name)
    assert fix in caught.value.fix
    assert "cpu" in caught.value.fix


WRONG: dict[str, tuple[Callable[[], str], tuple[str, ...], str]] = {
    "not TOML": (lambda: CPU + "]", ("is not TOML", "line"), "mend the file"),
    "unknown key": (lambda: 'colour = "red"\n' + CPU, ("unknown key 'colour'",), "keys are name, summary"),
    "nearly a key": (lambda: "opsett = 18\n" + CPU, ("unknown key 'opsett'",), "keys are"),
    "missing key": (lambda: replaced(OPSET + "\n", ""), ("key 'opset' is missing",), "add it; it is"),
    "text for a number": (
        lambda: replaced(OPSET, 'opset = "18"'),
        ("opset = '18' is not",),
        "mend the value",
    ),
    "truth for a number": (
        lambda: replaced(OPSET, "opset = true"),
        ("opset = True is not",),
        "mend the value",
    ),
    "one for a list": (
        lambda: replaced('["float32", "float16"]', '"float32"'),
        ("precisions = 'float32' is not",),
        "mend the value",
    ),
    "unknown engine": (
        lambda: replaced('"onnxruntime-cpu"', '"onnxruntme"'),
        ("engine holds 'onnxruntme'",),
        "allowed are onnxruntime-cpu",
    ),
    "unknown precision": (
        lambda: replaced('"float16"]', '"half"]'),
        ("precisions holds 'half'",),
        "allowed are float32, float16",
    ),
    "a precision that is no text": (
        lambda: replaced('"float16"]', "16]"),
        ("precisions holds 16",),
        "allowed are",
    ),
    "unknown island": (
        lambda: replaced('"quantiser", "timestep"]', '"quantizer"]'),
        ("fp32_islands holds 'quantizer'",),
        "allowed are norm",
    ),
    "no pipeline of a component": (
        lambda: replaced('decoder = "onnx,fold"', ""),
        ("pipelines", "'decoder' is missing"),
        "add it",
    ),
    "unknown component": (
        lambda: CPU + 'encoder = "onnx"\n',
        ("pipelines holds 'encoder'",),
        "allowed are unet, decoder",
    ),
    "a pipeline that is no text": (
        lambda: replaced('decoder = "onnx,fold"', "decoder = 3"),
        (
            "pipelines",
            "decoder = 3 is not",
        ),
        "mend the value",
    ),
    "no python": (
        lambda: replaced('python = ">=3.6"', ""),
        ("requirements", "'python' is missing"),
        "add it",
    ),
    "a requirement that is no text": (
        lambda: replaced('numpy = ">=1.13"', "numpy = 1.13"),
        ("requirements", "numpy = 1.13 is not"),
        "mend the value",
    ),
}


@pytest.mark.parametrize(("text", "message", "fix"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_names_key_value_and_what_is_allowed(
    text: Callable[[], str], message: tuple[str, ...], fix: str, tmp_path: Path
) -> None:
    file = board(tmp_path, text())
    with pytest.raises(UsageError) as caught:
        load_target(file)
    assert caught.value.exit_code == 2
    assert file in caught.value.message
    for part in message:
        assert part in caught.value.message
    assert fix in caught.value.fix


def test_a_missing_file_says_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"there is no target file nowhere/board\.toml") as caught:
        load_target("nowhere/board.toml")
    assert "cpu" in caught.value.fix


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "board.toml").write_bytes(b"\xff\xfe name")
    with pytest.raises(UsageError, match="is not TOML"):
        load_target(str(tmp_path / "board.toml"))


def test_a_pipeline_of_a_target_file_is_checked_like_one_that_was_typed(tmp_path: Path) -> None:
    from ldmc.compiler.pipeline import checked_pipeline
    from ldmc.errors import SpecError

    target = load_target(board(tmp_path, replaced('decoder = "onnx,fold"', 'decoder = "fold,onnx"')))
    with pytest.raises(SpecError, match="takes onnx form"):
        checked_pipeline(target.pipelines["decoder"], target)
