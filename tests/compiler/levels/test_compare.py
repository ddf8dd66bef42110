"""`ldmc compare`: the reference project's own relations come out, and what is no result is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

PAPERS = ("paper:rtx-3070", "paper:jetson-nano", "paper:android")


def test_the_papers_fourth_table(ldmc: Any) -> None:
    """Latency 79.68x (Nano) and 137.18x (S22), energy 2.93x and 4.76x: of unrounded figures, so within a hundredth."""
    answer = ldmc("compare", *PAPERS, "--level", "baseline", "--json").json
    assert answer["reference"] == {"device": "RTX 3070 laptop (paper)", "level": "eager"}
    assert [row["relative_latency"] for row in answer["rows"]] == pytest.approx([1, 79.68, 137.18], abs=0.011)
    assert [row["relative_energy"] for row in answer["rows"]] == pytest.approx([1, 2.93, 4.76], abs=0.005)


def test_the_papers_speedups_are_those_of_its_latencies(ldmc: Any) -> None:
    for paper in PAPERS:
        rows = [row for row in ldmc("compare", paper, "--json").json["rows"] if row["latency_seconds"]]
        for row in rows:
            assert row["speedup"] == pytest.approx(1 / row["relative_latency"], abs=0.011), row


def test_what_failed_in_the_paper_has_its_reason(ldmc: Any) -> None:
    done = ldmc("compare", "paper:jetson-nano")
    assert done.code == 0
    assert "tensorrt: building its engine was killed for lack of memory" in " ".join(done.out.split())
    assert max(map(len, done.out.splitlines())) <= 80


def measured(folder: Path, **changes: Any) -> Path:
    """A result file, as small as one can be."""
    level = {"name": "eager", "title": "PyTorch", "status": "measured", "why": None, "total": {"p50_seconds": 2.34},
             "peak_rss_bytes": 2**30, "peak_gpu_bytes": None, "power_watts": None, "energy_joules": None,
             "speedup": 1.0, "absent": {"energy_joules": "no meter", "power_watts": "no meter"}}
    result = {"kind": "ldmc-bench", "schema_version": 1, "device": "board", "machine": {}, "packages": {},
              "model": {"name": "ldm-celebahq-256"}, "settings": {"steps": 20, "batch": 1}, "power": {},
              "levels": [level], **changes}
    file = folder / "board.json"
    file.write_text(json.dumps(result))
    return file


def test_a_measured_result_beside_the_paper(ldmc: Any, tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    answer = ldmc("compare", "paper:rtx-3070", measured(tmp_path), "--markdown", table, "--json").json
    row = answer["rows"][-1]
    assert row["relative_latency"] == pytest.approx(2)
    assert row["relative_energy"] is None and row["absent"]["relative_energy"] == "no meter"
    assert answer["remarks"] == []
    assert "| board | eager | 2.34 | 2.00 | - | - | - | 1024 | 1.00 |" in table.read_text()


def test_different_work_is_remarked(ldmc: Any, tmp_path: Path) -> None:
    file = measured(tmp_path, settings={"steps": 10, "batch": 1}, model={"name": "digits-ldm"})
    remarks = ldmc("compare", "paper:android", file, "--json").json["remarks"]
    assert "DDIM steps differ (Galaxy S22, CPU (paper): 20, board: 10)" in remarks[0]
    assert remarks[1] == "the models differ: ldm-celebahq-256, digits-ldm"


@pytest.mark.parametrize(
    "content, code, words",
    [
        ("{", 1, "cannot be read as JSON"),
        ("[]", 1, "is no result of `ldmc bench`"),
        ('{"kind": "ldmc-bench", "schema_version": 2}', 1, "is of schema 2, this ldmc reads 1"),
        ('{"kind": "ldmc-bench", "schema_version": 1}', 1, "lacks device"),
    ],
)
def test_what_is_no_result_is_told(ldmc: Any, tmp_path: Path, content: str, code: int, words: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    done = ldmc("compare", file)
    assert done.code == code and words in done.err


def test_names_that_are_not_there(ldmc: Any, tmp_path: Path) -> None:
    assert "did you mean paper:jetson-nano?" in ldmc("compare", "paper:jetson").err
    assert "there is no file nothing.json" in ldmc("compare", "nothing.json").err
    done = ldmc("compare", "paper:android", "--level", "aoti")
    assert done.code == 2 and "no result has a level 'aoti'" in done.err
    assert "lacks levels" in ldmc("compare", measured(tmp_path, levels=[])).err
