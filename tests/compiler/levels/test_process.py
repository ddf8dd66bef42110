"""The process of a level from outside: answers, failures, limits, death."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ldmc.compiler.levels.process import LevelFailed, LevelProcess, LevelStopped, duration


@pytest.fixture
def options(tiny_bundle: Path, tmp_path: Path) -> dict[str, Any]:
    return {"level": "tiny", "bundle": str(tiny_bundle), "source": {}, "batch": 1, "threads": 1, "device": "cpu",
            "folder": str(tmp_path / "graphs")}


DRAW = {"seed": 0, "steps": 3, "batch": 1, "picture": None}


def test_a_bundle_opens_and_draws(options: dict[str, Any], tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    before = time.monotonic()
    with LevelProcess(tmp_path / "log") as process:
        assert process.ask("open", options)["load_seconds"] > 0
        answer = process.ask("draw", DRAW, on_step=lambda done, of: steps.append((done, of)))
        memory = process.ask("memory", {})
    timing = answer["timing"]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert before < timing["start_monotonic_seconds"] < timing["end_monotonic_seconds"] < time.monotonic()
    assert memory["peak_rss_bytes"] > 2**20


def test_a_failure_is_an_answer_and_the_process_goes_on(options: dict[str, Any], tmp_path: Path) -> None:
    with LevelProcess(tmp_path / "log") as process:
        with pytest.raises(LevelFailed, match="none does not exist"):
            process.ask("open", {**options, "bundle": str(tmp_path / "none")})
        process.ask("open", options)


def test_a_killed_process_is_told_from_a_crash(options: dict[str, Any], tmp_path: Path) -> None:
    for number, words in ((signal.SIGKILL, "out of memory"), (signal.SIGABRT, "ended with code -6")):
        process = LevelProcess(tmp_path / "log")
        process.ask("open", options)
        os.kill(process._child.pid, number)
        with pytest.raises(LevelFailed, match=words):
            process.ask("draw", DRAW)
        process.close()


def test_a_projection_over_the_limit_stops_it(options: dict[str, Any], tmp_path: Path) -> None:
    """After the first steps, not after all: no machine draws a thousand in the time that is allowed here."""
    process = LevelProcess(tmp_path / "log")
    process.ask("open", options)
    steps = []
    said = r"(one UNet call takes \S+ s, 1000 of them .*|no UNet call ended .*): the limit is 0.001 s \(--limit\)"
    with pytest.raises(LevelStopped, match=said):
        process.ask("draw", {**DRAW, "steps": 1000}, 0.001, lambda done, _of: steps.append(done))
    assert len(steps) < 1000
    assert process._child.poll() is not None


@pytest.mark.parametrize("seconds, said", [(4.21, "4.21 s"), (402, "7 min"), (8040, "2.2 h")])
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
