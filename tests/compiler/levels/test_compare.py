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
    assert "sampler steps differ (Galaxy S22, CPU (paper): 20, board: 10)" in remarks[0]
    assert remarks[1] == "the models differ: ldm-celebahq-256, digits-ldm"


@pytest.mark.parametrize(
    "content, words",
    [
        ("{", "cannot be read as JSON"),
        ("[]", "it is [], expected an object"),
        ("{}", "is of kind None, expected 'ldmc-bench'"),
        ('{"kind": "ldmc-bench", "schema_version": 2}', "has schema_version 2; this ldmc reads up to 1"),
        ('{"kind": "ldmc-bench", "schema_version": 1}', "levels is null, expected a list with at least one level"),
    ],
)
def test_what_is_no_result_is_told(ldmc: Any, tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    done = ldmc("compare", file)
    assert done.code == 2 and words in done.err


def test_names_that_are_not_there(ldmc: Any, tmp_path: Path) -> None:
    assert "did you mean paper:jetson-nano?" in ldmc("compare", "paper:jetson").err
    assert "there is no file nothing.json" in ldmc("compare", "nothing.json").err
    done = ldmc("compare", "paper:android", "--level", "aoti")
    assert done.code == 2 and "no result has a level 'aoti'" in done.err
    assert "levels is []" in ldmc("compare", measured(tmp_path, levels=[])).err


def test_results_of_one_device_are_told_apart_by_their_files(ldmc: Any, tmp_path: Path) -> None:
    """Before and after on one machine: what is compared most."""
    before = measured(tmp_path)
    before = before.rename(tmp_path / "before.json")
    after = measured(tmp_path, interrupted="after 2 of 5 runs").rename(tmp_path / "after.json")
    done = ldmc("compare", before, after, "--json")
    devices = [row["device"] for row in done.json["rows"]]
    assert devices == [f"board: {before}", f"board: {after}"]
    assert done.json["reference"]["device"] == devices[0]
    assert done.json["remarks"] == [f"board: {after}: interrupted after 2 of 5 runs"]


def edited(tmp_path: Path, path: str, value: str) -> Path:
    """A result with one value replaced by other JSON text; `-` takes the key out."""
    file = measured(tmp_path)
    data = json.loads(file.read_text())
    *above, last = path.split(".")
    place = data["levels"][0] if above[:1] == ["level"] else data
    for key in above[1:] if above[:1] == ["level"] else above:
        place = place[key]
    place[last] = "@"
    if value == "-":
        del place[last]
    file.write_text(json.dumps(data).replace('"@"', value))
    return file


@pytest.mark.parametrize(
    "path, value, words",
    [
        ("level.total", "-", "levels[0].total is null, expected the times of a level that was measured"),
        ("level.absent", "-", "levels[0].absent is null"),
        ("level.absent.power_watts", "[]", "levels[0].absent is"),
        ("level.total.p50_seconds", "1" + "0" * 400, "has 401 digits"),
        ("level.total.p50_seconds", "-1", "levels[0].total.p50_seconds is -1, expected a number from 0"),
        ("level.total.p90_seconds", '"x"', 'levels[0].total.p90_seconds is "x", expected a number from 0'),
        ("level.run_seconds", "[1, 2]", "levels[0].run_seconds is [1, 2], expected a list of rows of numbers"),
        ("level.speedup", "NaN", "NaN is not a JSON number"),
        ("level.energy_joules", "Infinity", "Infinity is not a JSON number"),
        ("model.name", "[]", "model.name is [], expected a string, a number or null"),
        ("settings.steps", "[]", "settings.steps is []"),
        ("machine.memory_bytes", '"x"', 'machine.memory_bytes is "x", expected a number or null'),
        ("interrupted", "1", "interrupted is 1, expected a string or null"),
    ],
)
@pytest.mark.parametrize("command", ["compare", "report"])
def test_an_edited_result_is_told(
    ldmc: Any, tmp_path: Path, path: str, value: str, words: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = ldmc(command, edited(tmp_path, path, value))
    assert done.code == 2 and words in done.err, done.err


def test_brackets_without_end_are_told(ldmc: Any, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("[" * 100000)
    assert "cannot be read as JSON" in ldmc("compare", file).err
