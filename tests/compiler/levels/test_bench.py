"""`ldmc bench`: every level for real on a small model; turns, limits and failures with processes that only pretend."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ldmc.compiler.levels import bench as bench_module
from ldmc.compiler.levels import contestant as contestant_module
from ldmc.compiler.levels.bench import bench
from ldmc.compiler.levels.contestant import BenchRequest
from ldmc.compiler.levels.level import gpu_of, levels_of
from ldmc.compiler.levels.process import LevelFailed, LevelStopped
from ldmc.errors import StopSignal
from ldmc.runtime.result import KIND
from ldmc.targets import nvidia
from tests.conftest import build_bundle
from tests.patience import HANG_SECONDS

ALL = ["eager", "eager-fp16", "jit", "jit-fp16", "onnxruntime", "tiny.cpu.ldmc"]
COLUMNS = (
    "prepare_seconds", "load_seconds", "first_seconds", "denoise", "decode", "total", "peak_rss_bytes",
    "peak_pss_bytes",
    "private_bytes_after_load", "peak_gpu_bytes", "power_watts", "power_net_watts", "energy_joules",
    "energy_net_joules", "speedup", "speedup_low", "speedup_high", "spread", "psnr_db", "picture_png",
)


def here() -> dict[str, str]:
    """An environment in which a process finds this ldmc."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}


@pytest.fixture(scope="module")
def folder(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny bundle and what `ldmc bench` wrote beside it."""
    folder = tmp_path_factory.mktemp("bench")
    shutil.copytree(tiny_bundle, folder / "tiny.cpu.ldmc")
    command = [sys.executable, "-m", "ldmc", "bench", "tiny.cpu.ldmc", "--baseline", "all", "--steps", "3", "--runs",
               "4", "--warmup", "2", "--batch", "2", "--csv", "paper.csv", "--markdown", "table.md"]
    done = subprocess.run(command, cwd=folder, env=here(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder / "out.txt").write_text(done.stdout)
    return folder


@pytest.fixture
def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "tiny.cpu.bench.json").read_text())


def picture(level: dict[str, Any]) -> Any:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(level["picture_png"]))))


def test_every_level_is_measured_and_every_column_filled_or_explained(result: dict[str, Any]) -> None:
    assert result["kind"] == KIND
    assert result["command"].startswith("ldmc bench tiny.cpu.ldmc --baseline all")
    assert [level["name"] for level in result["levels"]] == ALL
    for level in result["levels"]:
        assert (level["status"], level["why"]) == ("measured", None)
        for column in COLUMNS:
            assert (level[column] is None) == bool(level["absent"].get(column)), (level["name"], column)
        assert len(level["run_seconds"]) == 4 and len(level["warmup_seconds"]) == 2
        totals = [run[2] for run in level["run_seconds"]]
        assert level["total"]["p50_seconds"] == pytest.approx(np.percentile(totals, 50))
        assert level["total"]["p90_seconds"] == pytest.approx(np.percentile(totals, 90))
        assert level["first_seconds"] == level["warmup_seconds"][0]


def test_all_draw_the_same_picture_and_psnr_is_what_the_pictures_say(result: dict[str, Any]) -> None:
    first = picture(result["levels"][0]).astype(float)
    assert first.std() > 5
    for level in result["levels"][1:]:
        error = ((picture(level) - first) ** 2).mean()
        if level["identical"]:
            assert error == 0
            continue
        assert level["psnr_db"] == pytest.approx(10 * np.log10(255**2 / error))
        if "fp16" in level["name"]:
            # How much half precision costs depends on whether the processor sums in it. The picture of other noise is
            # 1.3 times the first one's deviation away; this is less than half of it.
            assert error < (0.5 * first.std()) ** 2
        else:  # no pixel rounds further than to the next of its 256 values
            assert np.abs(picture(level) - first).max() <= 1


def test_speedup_is_over_the_first_level(result: dict[str, Any]) -> None:
    eager = result["levels"][0]["total"]["p50_seconds"]
    assert result["levels"][0]["speedup"] == 1
    for level in result["levels"]:
        assert level["speedup"] == pytest.approx(eager / level["total"]["p50_seconds"])


def test_memory_is_of_each_levels_own_process(result: dict[str, Any]) -> None:
    """A bundle's process has no PyTorch in it, and none has what this process imported."""
    peaks = {level["name"]: level["peak_rss_bytes"] for level in result["levels"]}
    assert peaks["tiny.cpu.ldmc"] < 0.6 * peaks["eager"]


def test_what_people_read(folder: Path) -> None:
    out = (folder / "out.txt").read_text()
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    for name in ALL:
        assert name.removesuffix(".ldmc") in out
    assert "GPU MiB: no graphics card is used" in out


def test_the_papers_columns(folder: Path, result: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO((folder / "paper.csv").read_text())))
    assert list(rows[0])[:6] == [
        "Optimization", "Latency (s)", "Peak Memory (MiB)", "Power (W)", "Energy (J)", "Speedup"]
    for row, level in zip(rows, result["levels"], strict=True):
        assert float(row["Latency (s)"]) == pytest.approx(level["total"]["p50_seconds"], rel=1e-4)
        assert (row["Power (W)"] == "") == ("Power (W)" in row["Notes"])


def test_markdown_has_a_row_a_level(folder: Path) -> None:
    lines = (folder / "table.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + len(ALL)
    assert len({line.count("|") for line in rows}) == 1


def test_seed_and_batch_are_the_runtimes(folder: Path, result: dict[str, Any]) -> None:
    from ldmc import runtime

    with runtime.load(str(folder / "tiny.cpu.ldmc")) as pipeline:
        images = pipeline.generate(seed=0, steps=3, batch=2)
    assert np.array_equal(picture(result["levels"][-1]), images[0])


# Turns, limits, failures


class Pretender:
    """Stands in for a level's process: says what it was asked, in order, and how long it pretends to take."""

    asked: list[tuple[str, str]] = []
    fails: dict[tuple[str, str], str] = {}
    stops: dict[tuple[str, str], str] = {}
    interrupts: tuple[str, str] | None = None
    pid = os.getpid()

    def __init__(self, log: Path) -> None:
        self._name = log.parent.name

    def __enter__(self) -> Pretender:
        return self

    def __exit__(self, *_: object) -> None:
        self.asked.append((self._name, "gone"))

    def kill(self) -> None:
        self.asked.append((self._name, "killed"))

    def ask(self, question: str, arguments: dict[str, Any], *_how: Any) -> dict[str, Any]:
        self.asked.append((self._name, question))
        drawn = self.asked.count((self._name, "draw"))
        key = (self._name, f"{question} {drawn}")
        if key == self.interrupts:
            raise StopSignal
        if key in self.fails:
            raise LevelFailed(self.fails[key])
        if key in self.stops:
            raise LevelStopped(self.stops[key])
        if question == "draw" and arguments["picture"]:
            np.save(arguments["picture"], np.zeros((4, 4, 3), np.uint8))
        timing = {"denoise_seconds": 1.0 * drawn, "decode_seconds": 0.5, "total_seconds": 1.0 * drawn + 0.5,
                  "start_monotonic_seconds": 0.0, "end_monotonic_seconds": 1.0}
        return {"timing": timing, "prepare_seconds": 0.1, "load_seconds": 0.2, "remarks": []}


class Silence:
    def stage(self, _title: str, _total: int | None) -> Any:
        import contextlib

        return contextlib.nullcontext(lambda _: None)

    def note(self, _message: str) -> None: ...

    def warn(self, _message: str) -> None: ...

    def component_done(self, *_: object) -> None: ...


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> type[Pretender]:
    monkeypatch.setattr(contestant_module, "LevelProcess", Pretender)
    monkeypatch.setattr(bench_module, "choose", lambda _power: (None, "there is no power meter here"))
    Pretender.asked, Pretender.fails, Pretender.stops, Pretender.interrupts = [], {}, {}, None
    return Pretender


def request(bundle: Path, baselines: list[str], **options: Any) -> BenchRequest:
    levels = levels_of([bundle], baselines)
    manifest = levels[-1].manifest
    assert manifest is not None
    return BenchRequest(tuple(levels), manifest, **options)


def test_levels_draw_in_turn(pretend: type[Pretender], tiny_bundle: Path) -> None:
    found = bench(request(tiny_bundle, ["eager", "jit"], runs=3, warmup=2), Silence())
    draws = [name for name, question in pretend.asked if question == "draw"]
    names = ["eager", "jit", tiny_bundle.name]
    assert draws == [name for name in names for _ in range(2)] + names * 3
    # the two warm-ups took 1.5 and 2.5 s, the runs 3.5, 4.5 and 5.5
    assert [level["total"]["p50_seconds"] for level in found["levels"]] == [4.5] * 3
    assert found["levels"][0]["warmup_seconds"] == [1.5, 2.5]
    assert found["levels"][0]["absent"]["power_watts"] == "there is no power meter here"


def test_what_was_measured_before_an_interruption_is_the_result(
    pretend: type[Pretender], tiny_bundle: Path
) -> None:
    pretend.interrupts = ("jit", "draw 3")
    found = bench(request(tiny_bundle, ["eager", "jit"], runs=3, warmup=1), Silence())
    eager, jit, bundle = found["levels"]
    assert found["interrupted"] == "after 1 of 3 runs"
    assert [level["total"]["n"] for level in (eager, jit, bundle)] == [2, 1, 1]
    assert all(level["status"] == "measured" for level in found["levels"])
    assert not any(question == "memory" for _, question in pretend.asked)


def test_a_level_interrupted_before_its_turn_says_so(pretend: type[Pretender], tiny_bundle: Path) -> None:
    pretend.interrupts = ("jit", "draw 2")
    found = bench(request(tiny_bundle, ["eager", "jit"], runs=3, warmup=1), Silence())
    assert [level["status"] for level in found["levels"]] == ["measured", "stopped", "stopped"]
    assert found["levels"][1]["why"] == "interrupted before its first measured drawing"
    assert found["interrupted"] == "after 0 of 3 runs"


def test_nothing_is_left_of_what_is_interrupted_before_anything_was_measured(
    pretend: type[Pretender], tiny_bundle: Path
) -> None:
    pretend.interrupts = ("eager", "draw 2")
    with pytest.raises(StopSignal):
        bench(request(tiny_bundle, ["eager", "jit"], runs=3, warmup=1), Silence())


def test_one_that_fails_leaves_the_others(pretend: type[Pretender], tiny_bundle: Path) -> None:
    pretend.fails = {("jit", "open 0"): "it cannot be traced", ("eager", "draw 2"): "the system killed its process"}
    found = bench(request(tiny_bundle, ["eager", "jit"], runs=2, warmup=1), Silence())
    eager, jit, bundle = found["levels"]
    assert (eager["status"], eager["why"]) == ("failed", "the system killed its process")
    assert (jit["status"], jit["why"]) == ("failed", "it cannot be traced")
    assert jit["total"] is None and set(jit["absent"].values()) == {"it cannot be traced"}
    assert bundle["status"] == "measured" and bundle["speedup"] == 1
    assert bundle["absent"]["psnr_db"] == "it is the baseline"


def test_a_bundle_that_fails_is_exit_1_and_the_others_are_kept(
    pretend: type[Pretender], ldmc: Any, tiny_bundle: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(tiny_bundle, tmp_path / "other.ldmc")
    pretend.fails = {("other.ldmc", "prepare 0"): "no engine"}
    output = tmp_path / "result.json"
    done = ldmc("bench", other, tiny_bundle, "--baseline", "none", "--runs", 1, "-o", output, "--no-report", "--json")
    assert done.code == 1
    found = done.json
    assert found.pop("error")["message"] == "a bundle could not be measured: other.ldmc: no engine"
    assert json.loads(output.read_text()) == found
    assert [level["status"] for level in found["levels"]] == ["failed", "measured"]


SAYING_WHEN = """
import sys
from ldmc.cli import main
from ldmc.compiler.levels.contestant import Contestant

draw = Contestant.draw

def draw_and_say(self, advance):
    draw(self, advance)
    print("drawn", file=sys.stderr, flush=True)

Contestant.draw = draw_and_say
main(sys.argv[1:])
"""


def test_ctrl_c_keeps_what_was_measured(tiny_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    child = subprocess.Popen(
        [sys.executable, "-c", SAYING_WHEN, "bench", tiny_bundle, "--baseline", "none", "--steps", "1", "--runs",
         "100000", "-o", output, "--json"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=here(),
        # as from a terminal: in the background of a script, SIGINT would be ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert child.stderr is not None
    for _ in range(3):  # the first warms up
        while "drawn" not in child.stderr.readline():
            assert child.poll() is None
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=HANG_SECONDS)
    assert child.returncode == 130, err
    found = json.loads(out)
    runs = found["levels"][0]["total"]["n"]
    assert found["interrupted"] == f"after {runs} of 100000 runs" and 2 <= runs < 100000
    assert f"interrupted after {runs} of 100000 runs; what was measured before is kept in {output}" in err
    del found["error"]
    assert json.loads(output.read_text()) == found
    assert found["levels"][0]["peak_rss_bytes"] > 2**20
    assert output.with_suffix(".html").is_file()


def test_where_all_fail_it_says_why_of_each(pretend: type[Pretender], tiny_bundle: Path) -> None:
    from ldmc.errors import LdmcError

    pretend.fails = {("eager", "open 0"): "no weights", (tiny_bundle.name, "prepare 0"): "no engine"}
    with pytest.raises(LdmcError, match="eager: no weights; tiny.cpu.ldmc: no engine"):
        bench(request(tiny_bundle, ["eager"]), Silence())


def test_what_takes_too_long_says_so_in_its_row(pretend: type[Pretender], tiny_bundle: Path) -> None:
    why = "one UNet call takes 402 s, 20 of them 2.2 h: the limit is 10 min (--limit)"
    pretend.stops = {("eager-fp16", "draw 1"): why}
    found = bench(request(tiny_bundle, ["eager", "eager-fp16"], runs=2), Silence())
    eager, half, bundle = found["levels"]
    assert (half["status"], half["why"]) == ("stopped", why)
    assert half["total"] is None and half["absent"]["total"] == why
    assert ("eager-fp16", "killed") in pretend.asked
    assert (eager["status"], bundle["status"]) == ("measured", "measured")


def test_an_original_that_is_gone_is_said(
    ldmc: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # no other copy of the model is known
    model = shutil.copytree(tiny_model, tmp_path / "model")
    bundle = build_bundle(model, tmp_path / "tiny.cpu.ldmc", "onnx,fold")
    shutil.rmtree(model)
    output = tmp_path / "result.json"
    answer = ldmc("bench", bundle, "--steps", 1, "--runs", 1, "-o", output, "--json").json
    assert json.loads(output.read_text()) == answer
    eager, own = answer["levels"]
    assert eager["status"] == "failed" and "is no longer in" in eager["why"]
    assert own["status"] == "measured"
    found = ldmc("bench", bundle, "--steps", 1, "--runs", 1, "--model", tiny_model, "--json").json
    assert found["levels"][0]["status"] == "measured"


@pytest.mark.parametrize(
    "options, words",
    [
        (("--baseline", "eagre"), "did you mean 'eager'?"),
        (("--baseline", "eager,eager"), "names 'eager' 2 times"),
        (("--runs", 0), "--runs is 0, expected an integer from 1"),
        (("--limit", 0), "--limit is 0 s"),
        (("--threads", 0), "threads is 0, expected"),
        (("--threads", 9999), "threads is 9999; this machine has"),
        (("--seed", -1), "--seed is -1, expected an integer from 0"),
        (("--steps", 5000), "steps is 5000; the model was trained with"),
        (("--model", "nope"), "unknown model 'nope'"),
        (("-o", "r.html"), "r.html would be written twice"),
        (("-o", "r.json", "--csv", "./r.json"), "r.json would be written twice"),
        (("--device", "cuda"), "--device is cuda, and no such GPU answers"),
        (("--device", "tpu"), "--device is 'tpu'"),
        (("-o", "/nowhere/result.json"), "/nowhere/result.json cannot be written"),
    ],
)
def test_wrong_use_is_told_before_anything_runs(
    ldmc: Any, tiny_bundle: Path, options: tuple[object, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvidia, "probe", lambda: {"version": "", "devices": [], "error": ""})
    done = ldmc("bench", tiny_bundle, *options)
    assert done.code == 2
    assert words in done.err


def test_bundles_of_two_models_are_not_compared(ldmc: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_bundle, tmp_path / "other.ldmc")
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["source"]["weights"]["files"][0]["sha256"] = "0" * 64
    (other / "manifest.json").write_text(json.dumps(manifest))
    done = ldmc("bench", tiny_bundle, other)
    assert done.code == 2 and "pictures cannot be compared" in done.err
    same = ldmc("bench", tiny_bundle, tiny_bundle)
    assert same.code == 2 and "two bundles are called tiny.cpu.ldmc" in same.err


def test_a_card_is_called_by_the_drivers_name(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [{"name": "NVIDIA A", "compute_capability": "8.6"}, {"name": "NVIDIA B", "compute_capability": "9.0"}]
    monkeypatch.setattr(nvidia, "probe", lambda: {"version": "12.6", "devices": cards, "error": ""})
    assert [gpu_of(device) for device in ("cpu", "cuda", "cuda:1")] == [None, "NVIDIA A", "NVIDIA B"]
