"""Ctrl-C and SIGTERM at seeded moments of real commands: the exit code, and nothing is left."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.interrupt import Outcome, moments, stop
from tests.patience import HANG_SECONDS

BUILD_STEPS = ("- unet: onnx", "- unet: fold", "- unet: write weights", "- finish bundle")


def check(outcome: Outcome) -> None:
    """As promised, but for the time it took: other work on the machine is not ours."""
    assert outcome.wrong(limit=HANG_SECONDS) == "", outcome.said
    assert "Exception ignored" not in outcome.said and "Traceback" not in outcome.said


@pytest.mark.parametrize("seed", range(3))
def test_a_build_that_is_stopped_leaves_nothing(seed: int, tiny_model: Path, tmp_path: Path) -> None:
    draw = random.Random(seed)
    number, step = draw.choice([signal.SIGINT, signal.SIGTERM]), draw.choice(BUILD_STEPS)
    command = ["build", "--target", "cpu", "--model", str(tiny_model), "-o", "deep/er/x.ldmc", "--json"]
    outcome = stop(command, number, draw.uniform(0, 0.2), tmp_path / "work", after=step)
    check(outcome)
    assert outcome.finished or '"interrupted"' in outcome.said


def test_a_plan_leaves_no_folder_of_its_processes(tiny_model: Path, tmp_path: Path) -> None:
    command = ["plan", "--target", "cpu", "--model", str(tiny_model)]
    check(stop(command, signal.SIGTERM, 0.3, tmp_path / "work", after="- lower without weights"))


def test_a_bench_leaves_no_half_of_an_optimised_graph(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "tiny.cpu.ldmc")
    for folder in bundle.glob("*/optimized-*"):
        shutil.rmtree(folder)
    before = {path for path in bundle.rglob("*") if "optimized-" not in path.name}
    command = ["bench", str(bundle), "--baseline", "none", "--steps", "1", "--no-report", "-o", "result.json"]
    check(stop(command, signal.SIGINT, 0.1, tmp_path / "work", after="prepare"))
    assert not list(bundle.rglob("*.part-*")) and before <= set(bundle.rglob("*"))


def test_the_moments_are_seeded_and_spread() -> None:
    found = moments(10, 3, 100.0)
    assert found == moments(10, 3, 100.0) != moments(10, 4, 100.0)
    assert [int(moment // 10) for _, moment in found] == list(range(10))
    assert [number for number, _ in found[:3]] == [signal.SIGINT, signal.SIGTERM, signal.SIGINT]


def test_the_benchmark_says_what_is_wrong() -> None:
    right = Outcome(signal.SIGINT, 1.0, 130, 0.1, (), "error: interrupted")
    assert right.wrong(2.0) == ""
    slow = Outcome(signal.SIGTERM, 1.0, 1, 3.0, ("tmp/x",), 'File "ldmc/cli.py"')
    assert slow.wrong(2.0) == "exit 1; 3.00 s; left tmp/x"
    done = subprocess.run([sys.executable, "-m", "benchmarks.interrupt", "--help"], capture_output=True, text=True,
                          cwd=Path(__file__).parents[1])
    assert done.returncode == 0 and "--count" in done.stdout
