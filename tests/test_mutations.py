"""Damaged input by seed, a share of `benchmarks/mutate.py`: errors of ours, soon, in little memory, nothing obeyed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import mutate
from benchmarks.mutations import trial as trials
from benchmarks.mutations.kinds import KINDS, Bench
from benchmarks.mutations.samples import samples
from benchmarks.mutations.trial import trial

SEED = "ci"
COUNTS = {
    "manifest": 80, "records": 25, "checkpoint": 25, "weights": 20, "target": 60, "result": 30, "check": 20, "onnx": 40,
}  # fmt: skip
HANGS_SECONDS = 600  # far beyond what a kind takes on any machine: a hang fails instead of stopping everything


@pytest.fixture(scope="module")
def bench(tiny_model: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Copies of the tiny model and its bundle to damage."""
    return Bench(tmp_path_factory.mktemp("mutations"), tiny_model, tiny_bundle, samples(), is_quick=True)


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    def give_up(*_: object) -> None:
        raise AssertionError(f"a trial hangs: {HANGS_SECONDS} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(HANGS_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_300_are_tried_of_all_kinds() -> None:
    assert sum(COUNTS.values()) == 300 and COUNTS.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", COUNTS)
def test_damaged_input_ends_in_an_error_of_ours(kind: str, bench: Bench) -> None:
    found = [problem for index in range(COUNTS[kind]) for problem in trial(kind, f"{SEED}-{index}", bench)[0]]
    assert found == []


def test_what_a_command_does_wrong_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(command: list[str]) -> int:
        print("\x1b[31mred")
        bench.report.write_text("<script>alert(7)</script>")
        raise KeyError(command[0])

    monkeypatch.setattr(trials, "_call", wrong)
    monkeypatch.setattr(trials, "MOST_WAITED_SECONDS", -1.0)
    problems, good = trial("result", "any", bench)
    assert good == 0 and {problem.sort for problem in problems} == {"foreign", "raw", "page", "slow"}


def test_the_same_seed_damages_alike(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    monkeypatch.setattr(trials, "_call", lambda command: seen.append(Path(command[1]).read_bytes()) or 0)
    trial("target", "3", bench)
    first, seen = list(seen), seen
    seen.clear()
    trial("target", "3", bench)
    assert seen == first and first


def test_a_problem_is_exit_1_and_a_worker_that_dies_is_one(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["mutate.py", "--only", "target 0-0", "--whole", str(tmp_path / "missing")])
    assert mutate.main() == 1
    shown = capfd.readouterr().out
    assert "1 trials, 1 problems" in shown and "died" in shown
