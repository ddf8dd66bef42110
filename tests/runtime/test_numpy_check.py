"""A device whose numpy is missing, broken or too old: one sentence from every command, and from an import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ldmc.runtime.numpy_check import NEEDED, numpy_problem
from tests.runtime.old_python import old_python
from tests.runtime.tiny_bundle import make_bundle

COMMANDS = (
    [], ["--help"], ["--steps", "2"], ["bench"], ["bench", "--help"], ["finish"], ["finish", "--help"],
    ["finish", "--dry-run"],
)  # fmt: skip
# As numpy says it where its compiled part does not fit the Python; shortened.
ADVICE = """

IMPORTANT: PLEASE READ THIS FOR ADVICE ON HOW TO SOLVE THIS ISSUE!

Importing the numpy C-extensions failed.

Original error was: No module named 'numpy.core._multiarray_umath'
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that carries its runtime."""
    return make_bundle(tmp_path_factory.mktemp("alone") / "tiny.cpu.ldmc", runtime=True)


@pytest.fixture(params=["this Python", "Python 3.6"])
def python(request: pytest.FixtureRequest) -> str:
    """Both Pythons, or a skip of the older."""
    return sys.executable if request.param == "this Python" else old_python()


def run(bundle: Path, python: str, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Without installed packages (-S); `path` stands for them."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    command = [python, "-S", "-B", *arguments]
    return subprocess.run(command, cwd=bundle, env=environment, capture_output=True, text=True, check=False)


def fix_of(python: str) -> str:
    """How to get numpy for that Python."""
    return f"{python} -m pip install 'numpy>=1.13'; on a Jetson: sudo apt install python3-numpy"


def test_every_command_says_what_to_install(alone: Path, python: str) -> None:
    expected = "error: the runtime needs numpy, which cannot be imported: No module named 'numpy'\n"
    for arguments in COMMANDS:
        done = run(alone, python, "-m", "runtime", *arguments)
        assert (done.returncode, done.stdout) == (1, ""), arguments
        assert done.stderr == f"{expected}fix:   {fix_of(python)}\n", arguments
    done = run(alone, python, "-m", "runtime", "finish", "--dry-run", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {
        "ok": False, "exit_code": 1, "error": expected[len("error: ") : -1], "fix": fix_of(python),
    }  # fmt: skip


def test_an_import_says_what_to_install(alone: Path, python: str) -> None:
    done = run(alone, python, "-c", "from runtime import load")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: the runtime needs numpy, which cannot be imported: No module named 'numpy' "
        f"({fix_of(python)})"
    )
    assert done.stderr.count("Traceback") == 1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (f"raise ImportError({ADVICE!r})", "which cannot be imported: No module named 'numpy.core._multiarray_umath'"),
        ("raise AttributeError('no attribute bool')", "which cannot be imported: no attribute bool"),
        ("raise OSError()", "which cannot be imported: OSError"),
        ("a syntax error", "which cannot be imported: invalid syntax"),
        ("", "which cannot be imported: module 'numpy' has no attribute 'version'"),
        ("class version: version = '1.11.0'\ndef zeros(size): pass", "numpy >=1.13, and this is 1.11.0"),
    ],
)
def test_a_numpy_that_will_not_do(alone: Path, tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text(source)
    done = run(alone, sys.executable, "-m", "runtime", "--help", path=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    sentence, fix = done.stderr.splitlines()
    assert sentence.startswith("error: the runtime needs numpy") and words in sentence
    assert fix == f"fix:   {fix_of(sys.executable)}"


def test_this_numpy_will_do_and_bundles_ask_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from ldmc.targets.reader import load_target, target_names

    assert numpy_problem() is None
    assert {load_target(name).requirements["numpy"] for name in target_names()} == {NEEDED}
    monkeypatch.setattr(np.version, "version", "1.12.1")
    problem = numpy_problem()
    assert problem is not None and problem.message == "the runtime needs numpy >=1.13, and this is 1.12.1"


@pytest.mark.parametrize("command", [[], ["bench", "--idle", "0"]], ids=["draw", "bench"])
def test_an_engine_that_is_broken_is_one_sentence_too(alone: Path, tmp_path: Path, command: list[str]) -> None:
    """As ONNX Runtime and numpy of two ages: not an ImportError."""
    (tmp_path / "onnxruntime.py").write_text("raise AttributeError('_ARRAY_API not found\\nadvice')")
    path = f"{tmp_path}{os.pathsep}{Path(np.__file__).parents[1]}"
    done = run(alone, sys.executable, "-m", "runtime", *command, path=Path(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: {alone} needs ONNX Runtime, which cannot be imported: _ARRAY_API not found\n"
        "fix:   pip install 'onnxruntime>=1.10'\n"
    )
