"""A speedup whose runs spread widely, or overlap with the baseline's, says so beside it, wherever it is shown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from ldmc.compiler.levels.columns import DRAWING, markdown, notes, paper_csv
from ldmc.compiler.levels.compare import compare
from ldmc.compiler.levels.doubt import doubt
from ldmc.compiler.levels.result import BASELINE, compare_rows
from ldmc.report.inputs import Given
from ldmc.report.levels import result_view
from ldmc.runtime.level import level_record
from ldmc.runtime.measure import FEW_RUNS, spread
from ldmc.terminal.bench import print_bench

STEADY, OTHER, WIDE = [10.0, 10.1, 10.2, 10.3, 30.0], [9.9, 10.0, 10.15, 10.2, 10.4], [4.0, 4.2, 5.0, 6.0, 6.5]
FAST = [2.0, 2.01, 2.02, 2.03, 2.04]


def level(name: str, seconds: list[float]) -> dict[str, Any]:
    """One level as it was measured, each drawing of so many seconds."""
    timings = [
        {"denoise_seconds": s - 1, "decode_seconds": 1.0, "total_seconds": s, "open_seconds": 0.0,
         "start_monotonic_seconds": 0.0, "end_monotonic_seconds": s} for s in seconds
    ]  # fmt: skip
    return {
        "name": name, "title": name, "kind": "bundle", "bundle": None, "target": None, "engine": "onnxruntime",
        "pipeline": None, "status": "measured", "why": None, **level_record(timings), "prepare_seconds": None,
        "load_seconds": 1.0, "speedup": None, "speedup_low": None, "speedup_high": None, "psnr_db": None,
        "picture_png": None, "identical": False,
    }  # fmt: skip


def result(tmp_path: Path, *levels: dict[str, Any]) -> dict[str, Any]:
    """A result of these levels, compared."""
    np.save(tmp_path / "picture.npy", np.zeros((4, 4, 3), np.uint8))
    for each in levels:
        each["absent"].update(speedup="", speedup_low="", speedup_high="", psnr_db="", picture_png="")
    compare_rows(list(levels), {each["name"]: tmp_path / "picture.npy" for each in levels})
    return {
        "kind": "ldmc-bench", "schema_version": 1, "device": "a machine", "interrupted": None, "levels": list(levels),
        "settings": {"runs": 5, "steps": 2, "batch": 1}, "power": {"meter": None, "absent": "none"},
        "model": {"name": "m"}, "machine": {}, "packages": {}, "command": "", "measured_at": "",
    }  # fmt: skip


@pytest.fixture
def measured(tmp_path: Path) -> dict[str, Any]:
    return result(tmp_path, level("base", STEADY), level("other", OTHER), level("wide", WIDE), level("fast", FAST))


def test_the_spread_is_the_interquartile_range_over_the_median() -> None:
    for seconds in (STEADY, OTHER, WIDE):
        low, middle, high = np.percentile(seconds, [25, 50, 75])
        assert spread(seconds) == pytest.approx((high - low) / middle)
    assert spread(STEADY) < 0.02  # one run that was held up says little of the others
    assert spread([1.0, 2.0]) is None


def test_a_speedup_has_an_interval(measured: dict[str, Any]) -> None:
    base, other, wide, fast = measured["levels"]
    assert [base[key] for key in ("speedup", "speedup_low", "speedup_high")] == [1, None, None]
    assert base["absent"]["speedup_low"] == base["absent"]["speedup_high"] == BASELINE
    assert other["speedup_low"] == pytest.approx(10.1 / 10.2) and other["speedup_high"] == pytest.approx(10.3 / 10.0)
    assert wide["speedup_low"] == pytest.approx(10.1 / 6.0) and wide["speedup_high"] == pytest.approx(10.3 / 4.2)
    figures = ("speedup", "speedup_low", "speedup_high", "spread")
    for each in measured["levels"]:
        assert [key for key in figures if each[key] is None] == [key for key in figures if key in each["absent"]]


def test_what_is_doubtful_and_why(measured: dict[str, Any]) -> None:
    base, other, wide, fast = map(doubt, measured["levels"])
    assert base == fast == ""
    assert other == (
        "the middle half of its runs overlaps the baseline's (speedup 0.99 to 1.03), so that neither is shown to be "
        "faster"
    )
    assert wide == "its runs spread by 36% (interquartile range over median), more than 10%"


def test_of_few_runs_nothing_is_said(tmp_path: Path) -> None:
    found = result(tmp_path, level("base", STEADY), level("two", [1.0, 2.0]))
    two = found["levels"][1]
    assert two["spread"] is two["speedup_low"] is two["speedup_high"] is None
    assert two["absent"]["spread"] == two["absent"]["speedup_low"] == two["absent"]["speedup_high"] == FEW_RUNS
    assert doubt(two) == "" and doubt({"speedup": 1.0}) == ""  # nor of a result of an older ldmc


def test_it_is_said_wherever_a_speedup_is_shown(measured: dict[str, Any]) -> None:
    shown = io.StringIO()
    print_bench(measured, Console(file=shown, width=80))
    table, _, below = shown.getvalue().partition("└")
    rows = {line.split("│")[1].strip(): line for line in table.splitlines() if line.startswith("│")}
    assert [("~" in rows[name]) for name in ("base", "other", "wide", "fast")] == [False, True, True, False]
    assert "~ other: the middle half of its runs overlaps" in below
    assert "~ wide: its runs spread by 36%" in below
    assert "| 2.04~ |" in markdown(measured) and "| 36% |" in markdown(measured)
    assert "2.04," in paper_csv(measured) and "~ wide: its runs spread by 36%" in paper_csv(measured)
    assert any(remark.startswith("a machine, wide: its runs spread") for remark in compare({"r": measured}).remarks)


def test_the_page_says_it(measured: dict[str, Any]) -> None:
    view = result_view(Given("r.json", measured), 0)
    assert [line.split(":")[0] for line in view.doubts] == ["~ other", "~ wide"]
    cells = {cell.text for row in view.table.rows for cell in row}
    assert {"1.00×", "1.00× ~", "2.04× ~", "5.05×", "36%"} <= cells


def test_a_table_without_doubts_says_nothing(tmp_path: Path) -> None:
    steady = result(tmp_path, level("base", STEADY), level("fast", FAST))
    assert not any("~" in note for note in notes(steady["levels"], DRAWING))
