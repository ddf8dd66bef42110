"""The command line as an interface: JSON shapes, streams, exit codes, help."""

from __future__ import annotations

import itertools
import hashlib
import json
import math
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ldmc as package
from ldmc.cli import cli
from ldmc.compiler.verify import ComponentResult, VerifyReport
from ldmc.passes import TABLE
from ldmc.targets.reader import target_names
from tests.conftest import Outcome
from tests.patience import HANG_SECONDS

Run = Callable[..., Outcome]
COMMANDS = sorted(cli.commands)
STAGE_KEYS = {
    "component", "pass", "status", "seconds", "peak_rss_bytes", "nodes_before", "nodes_after",
    "ops_before", "ops_after", "bytes_before", "bytes_after",
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny bundle, beside which a run may save its optimised graph."""
    return Path(shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("cli") / "tiny.cpu.ldmc"))


def png_size(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


# build


def test_build_json(ldmc: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One build with everything on: default name, canonical stages, intermediates, verification."""
    monkeypatch.chdir(tmp_path)
    done = ldmc(
        "build", "--target", "cpu", "--model", tiny_model, "--passes", "onnx , fold", "--keep-intermediates",
        "--verify", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    answer = done.json
    assert {"bundle", "target", "seconds", "peak_rss_bytes", "stages"} <= answer.keys()
    assert (answer["bundle"], answer["target"]) == ("tiny-ldm.cpu.ldmc", "cpu")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny-ldm.cpu.ldmc", "tiny-ldm.cpu.report.html"]
    assert answer["report"] == "tiny-ldm.cpu.report.html"
    assert answer["seconds"] > 0
    stages = answer["stages"]
    assert [(s["component"], s["pass"], s["status"]) for s in stages] == [
        ("unet", "onnx", "done"),
        ("unet", "fold", "done"),
        ("decoder", "onnx", "done"),
        ("decoder", "fold", "done"),
    ]
    for stage in stages:
        assert stage.keys() >= STAGE_KEYS
        assert stage["nodes_before"] == sum(stage["ops_before"].values())
        assert stage["nodes_after"] == sum(stage["ops_after"].values())
        assert stage["bytes_after"] > 0
        assert stage["peak_rss_bytes"] is None or stage["peak_rss_bytes"] <= answer["peak_rss_bytes"]
    assert stages[1]["nodes_before"] == stages[0]["nodes_after"] > stages[1]["nodes_after"]
    assert answer["verify"]["ok"] is True
    check_verify(answer["verify"])

    made = tmp_path / "tiny-ldm.cpu.ldmc"
    manifest = json.loads((made / "manifest.json").read_text())
    for component, stage in itertools.product(("unet", "decoder"), ("01-onnx", "02-fold")):
        assert (made / "reports" / component / f"{stage}.json").is_file()
        assert (made / "intermediate" / component / stage / "model.onnx").is_file()
    assert json.loads((made / "reports" / "memory.json").read_text()) == answer["plan"]
    assert {entry["role"] for entry in manifest["files"]} == {
        "graph",
        "weights",
        "report",
        "runtime",
        "intermediate",
    }
    assert manifest["pipeline"] == {"unet": "onnx,fold", "decoder": "onnx,fold"}
    for part in ("unet", "decoder", "peak MiB", "against PyTorch"):
        assert part in done.err


@pytest.mark.parametrize(
    ("flags", "seed"), [((), None), (("--random-weights",), 0), (("--random-weights", 7), 7)]
)
def test_random_weights_takes_a_seed_or_none(
    ldmc: Run, flags: tuple[Any, ...], seed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ldmc.compiler import driver
    from ldmc.compiler.request import BuildRequest
    from ldmc.errors import ModelError

    def build(request: BuildRequest, *_: object) -> None:
        raise ModelError(f"seed {request.model.random_seed}, passes {request.passes}")

    monkeypatch.setattr(driver, "build", build)
    done = ldmc("build", *flags, "--target", "cpu", "--passes", "onnx")
    assert done.err == f"error: seed {seed}, passes onnx\n"
    assert ldmc("build", "--target", "cpu", "--passes", "onnx", *flags).err == done.err


def test_the_default_models_missing_weights_are_a_panel_nobody_misses(
    ldmc: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way to a bundle without hub; the tiny configuration stands in for the preset's."""
    from ldmc.compiler import frontend, hub
    from ldmc.compiler.checkpoint import read_checkpoint
    from ldmc.errors import ModelError

    def unreachable(model: str, *, with_weights: bool) -> Path:
        raise ModelError(f"{model!r} is not in the local cache and the hub cannot be reached")

    monkeypatch.setattr(hub, "fetch", unreachable)
    monkeypatch.setattr(frontend, "read_checkpoint", lambda _: read_checkpoint(tiny_model))
    monkeypatch.chdir(tmp_path)
    done = ldmc("build", "--target", "cpu", "--passes", "onnx", "--json")
    assert done.code == 0, done.err
    assert done.json["bundle"] == "ldm-celebahq-256.cpu.ldmc"
    assert "warning" in done.err
    assert "PLACEHOLDER WEIGHTS" in done.err
    assert done.err.index("PLACEHOLDER") < done.err.index("unet: onnx")
    bundle = tmp_path / "ldm-celebahq-256.cpu.ldmc"
    weights = json.loads((bundle / "manifest.json").read_text())["source"]["weights"]
    assert weights == {"kind": "placeholder", "seed": 0, "files": []}
    assert "placeholder, seed 0" in ldmc("inspect", bundle).out
    drawn = ldmc("run", bundle, "--steps", 1, "-o", tmp_path / "x.png", "--json")
    assert drawn.code == 0
    assert any("noise" in warning for warning in drawn.json["warnings"])
    assert "warning:" in drawn.err
    assert "noise" in drawn.err


# run


def test_run_json(ldmc: Run, bundle: Path, tmp_path: Path) -> None:
    done = ldmc("run", bundle, "--steps", 2, "--seed", 5, "-o", tmp_path / "a.png", "--json")
    assert done.code == 0, done.err
    assert done.json["files"] == [str(tmp_path / "a.png")]
    assert {"denoise_seconds", "decode_seconds", "total_seconds", "warnings"} <= done.json.keys()
    assert png_size(tmp_path / "a.png") == (16, 16)
    again = ldmc("run", bundle, "--steps", 2, "--seed", 5, "-o", tmp_path / "b.png")
    assert again.code == 0
    assert "16x16" in again.out
    assert again.err == ""
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_run_a_batch(ldmc: Run, bundle: Path, tmp_path: Path) -> None:
    done = ldmc("run", bundle, "--steps", 1, "--batch", 3, "-o", tmp_path / "a.png", "--json")
    names = ["a-000.png", "a-001.png", "a-002.png"]
    assert done.json["files"] == [str(tmp_path / name) for name in names]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    single = ldmc("run", bundle, "--steps", 1, "--seed", 2, "-o", tmp_path / "one.png")
    assert single.code == 0
    grid = ldmc("run", bundle, "--steps", 1, "--batch", 4, "--grid", "-o", tmp_path / "grid.png", "--json")
    assert grid.json["files"] == [str(tmp_path / "grid.png")]
    assert min(png_size(tmp_path / "grid.png")) >= 32


# bench


def test_bench_json(ldmc: Run, bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "here.json"
    done = ldmc("bench", bundle, "--baseline", "none", "--steps", 1, "--runs", 3, "-o", output, "--json")
    assert done.code == 0, done.err
    answer = done.json
    assert answer == json.loads(output.read_text())
    (level,) = answer["levels"]
    assert level["load_seconds"] > 0 and level["first_seconds"] > 0 and level["prepare_seconds"] > 0
    for phase in ("denoise", "decode", "total"):
        row = level[phase]
        assert 0 < row["p50_seconds"] <= row["p90_seconds"] <= row["p99_seconds"]
    assert "p90" in done.err
    assert (tmp_path / "here.html").read_text().startswith("<!DOCTYPE html>")


# verify


def check_verify(answer: dict[str, Any]) -> None:
    assert {"ok", "components", "image_psnr_db"} <= answer.keys()
    for name in ("unet", "decoder"):
        assert answer["components"][name].keys() == {"snr_db", "max_abs_error"}
        assert answer["components"][name]["snr_db"] > 60
    assert answer["image_psnr_db"] > 60


def test_verify_json(ldmc: Run, bundle: Path) -> None:
    done = ldmc("verify", bundle, "--steps", 2, "--json")
    assert done.code == 0, done.err
    assert done.json["ok"] is True
    check_verify(done.json)
    assert "SNR dB" in done.err


def test_verify_hashes_only(ldmc: Run, bundle: Path) -> None:
    done = ldmc("verify", bundle, "--hashes-only", "--json")
    text = (bundle / "manifest.json").read_bytes()
    sha256 = hashlib.sha256(text).hexdigest()
    expected = {"bundle": bundle.name, "ok": True, "files": len(json.loads(text)["files"]), "manifest_sha256": sha256}
    assert (done.code, done.json) == (0, expected)
    assert f"manifest sha256:{sha256}" in done.err


def test_a_failed_verification_is_exit_5_with_its_figures(
    ldmc: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal on one side, infinitely wrong on the other: still JSON, and one object."""
    from ldmc.compiler import verify

    report = VerifyReport(
        {"unet": ComponentResult(math.inf, 0.0, 60.0), "decoder": ComponentResult(-math.inf, math.nan, 60.0)},
        12.5,
        60.0,
    )
    monkeypatch.setattr(verify, "verify_bundle", lambda *_, **__: report)
    done = ldmc("verify", bundle, "--json")
    assert done.code == 5

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    answer = json.loads(done.out, parse_constant=refuse)
    assert answer["ok"] is False
    assert answer["components"]["unet"]["snr_db"] == 999
    assert answer["components"]["decoder"] == {"snr_db": -999, "max_abs_error": None}
    assert answer["error"]["code"] == "verification"
    assert (
        "decoder: SNR -inf dB, needed 60 dB; image: PSNR 12.5 dB, needed 60 dB" in answer["error"]["message"]
    )
    assert "ldmc diff" in answer["error"]["fix"]


def test_a_build_that_fails_its_verification_leaves_nothing(
    ldmc: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ldmc.compiler import driver, verify
    from ldmc.ir import Program

    seen: list[Path] = []

    def fail(bundle: Path, **_: object) -> VerifyReport:
        assert (bundle / "manifest.json").is_file()  # whole, but not yet in its place
        seen.append(bundle)
        return VerifyReport({"unet": ComponentResult(3.0, 1.0, 60.0)}, None, 60.0)

    monkeypatch.setattr(driver, "read_program", lambda *_: Program("tiny", ()))
    monkeypatch.setattr(verify, "verify_bundle", fail)
    output = tmp_path / "x.ldmc"
    done = ldmc("build", "--target", "cpu", "--model", tiny_model, "--verify", "-o", output, "--json")
    assert done.code == 5
    assert (done.json["error"]["code"], done.json["ok"]) == ("verification", False)
    assert seen != [output]
    assert list(tmp_path.iterdir()) == []


# inspect, diff, passes, targets


def test_inspect_json_is_the_manifest(ldmc: Run, bundle: Path) -> None:
    done = ldmc("inspect", bundle, "--json")
    assert done.code == 0
    assert done.json == json.loads((bundle / "manifest.json").read_text())
    assert "tiny-ldm" in done.err
    shown = ldmc("inspect", bundle).out
    for part in ("tiny-ldm", "cpu", "onnx,fold", "input_0", "float32[1, 3, 8, 8]", "int64[1]", "decoder"):
        assert part in shown


def test_diff_json(ldmc: Run, bundle: Path) -> None:
    done = ldmc("diff", f"{bundle}:unet:onnx", f"{bundle}:unet:fold", "--json")
    assert (done.code, done.err) == (0, "")
    assert {"a", "b", "equal", "components"} <= done.json.keys()
    assert done.json["equal"] is False
    assert set(done.json["components"]) == {"unet"}
    assert ldmc("diff", f"{bundle}:onnx", f"{bundle}:fold", "--format", "json").json["equal"] is False


@pytest.mark.parametrize(
    ("a", "b", "flags", "code"),
    [
        (":onnx", ":fold", (), 0),
        (":onnx", ":fold", ("--exit-code",), 1),
        (":fold", ":fold", ("--exit-code",), 0),
        ("", "", ("--exit-code",), 0),
        (":unet", "/unet/model.onnx", ("--exit-code",), 0),
    ],
)
@pytest.mark.parametrize("form", ["table", "json", "markdown"])
def test_diff_exit_codes(ldmc: Run, bundle: Path, a: str, b: str, flags: Any, code: int, form: str) -> None:
    done = ldmc("diff", f"{bundle}{a}", f"{bundle}{b}", "--format", form, *flags)
    assert done.code == code, done.err
    assert done.out


def test_passes_json(ldmc: Run) -> None:
    done = ldmc("passes", "--json")
    assert [entry["name"] for entry in done.json["passes"]] == list(TABLE)
    for entry in done.json["passes"]:
        assert entry.keys() >= {"name", "summary", "requires", "produces", "runs_on", "tools", "options"}
        for option in entry["options"]:
            assert option.keys() == {"name", "type", "default"}
    shown = ldmc("passes").out
    for name in TABLE:
        assert name in shown


def test_targets_json(ldmc: Run) -> None:
    done = ldmc("targets", "--json")
    assert [entry["name"] for entry in done.json["targets"]] == target_names()
    one = ldmc("targets", "cpu", "--json").json["targets"]
    assert [entry["name"] for entry in one] == ["cpu"]
    assert one[0].keys() >= {
        "name",
        "summary",
        "arch",
        "engine",
        "opset",
        "precisions",
        "requirements",
        "pipelines",
    }
    assert "onnxruntime-cpu" in ldmc("targets", "cpu").out


def test_targets_json_of_one_has_what_is_computed(ldmc: Run) -> None:
    nano, cpu = (ldmc("targets", name, "--json").json["targets"][0] for name in ("jetson-nano", "cpu"))
    assert nano["memory"]["models_mib"] == 2656
    assert nano["operator_table"].keys() == {"source", "opset_min", "opset_max", "supported", "listed"}
    assert nano["operator_table"]["opset_max"] == nano["opset"] == 13
    assert cpu["memory"] is cpu["operator_table"] is None


@pytest.mark.parametrize("command", [("targets",), ("doctor", "--target"), ("build", "--target")])
def test_a_board_of_ones_own_is_a_target_everywhere(
    ldmc: Run, command: tuple[str, ...], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("board.toml").write_text('extends = "android"\nload = "together"\n')
    more = ("--model", tiny_model, "--passes", "onnx") if command[0] == "build" else ()
    done = ldmc(*command, "./board.toml", *more, "--json")
    assert done.code == 0, done.err
    if command[0] == "build":
        assert (done.json["bundle"], done.json["target"]) == ("tiny-ldm.board.ldmc", "board")
        assert ldmc("verify", done.json["bundle"], "--steps", 1, "--json").json["ok"] is True
        assert "for board" in ldmc("inspect", done.json["bundle"]).out
    else:
        assert [target["name"] for target in done.json["targets"]] == ["board"]
    Path("board.toml").write_text('extends = "android"\nload = "apart"\n')
    done = ldmc(*command, "./board.toml", *more, "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "usage")
    assert done.json["error"]["message"] == './board.toml: load = "apart" is not allowed'
    assert done.json["error"]["fix"] == "it must be one of together, one-at-a-time"


def test_doctor_json(ldmc: Run) -> None:
    done = ldmc("doctor", "--json")
    assert done.code == 0, done.err
    assert done.json.keys() == {"tools", "targets"}
    for tool in done.json["tools"]:
        assert tool.keys() == {"name", "found", "version", "detail", "fix"}
        assert tool["found"] or tool["fix"]
    assert [target["name"] for target in done.json["targets"]] == target_names()
    for target in done.json["targets"]:
        assert target.keys() == {"name", "can", "pending", "missing", "fix"}
        assert (target["can"] == "whole") == (target["fix"] == "")
    assert "rtx-3070" in done.err
    one = ldmc("doctor", "--target", "cpu")
    assert one.code == 0
    assert "whole" in one.out
    assert "rtx-3070" not in one.out


# Errors.


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "message", "fix"),
    [
        (("bild",), 2, "usage", "No such command 'bild'", "ldmc --help"),
        (("build",), 2, "usage", "Missing option '--target'", "ldmc build --help"),
        (("build", "--target", "cpu", "--colour"), 2, "usage", "No such option", "ldmc build --help"),
        (("run",), 2, "usage", "Missing argument 'BUNDLE'", "ldmc run --help"),
        (("run", "x", "--steps", "many"), 2, "usage", "'many' is not a valid integer", "ldmc run --help"),
        (("diff", "a", "b", "--format", "xml"), 2, "usage", "'xml' is not one of", "ldmc diff --help"),
        (("build", "--target", "cpx"), 2, "usage", "unknown target 'cpx'", "did you mean 'cpu'?"),
        (
            ("build", "--target", "cpu", "--passes", "onxx"),
            2,
            "spec",
            "unknown pass 'onxx'",
            "did you mean 'onnx'?",
        ),
        (("inspect", "no-such.ldmc"), 1, "bundle", "no-such.ldmc does not exist", "ldmc build"),
    ],
)
def test_errors_are_text_on_stderr_and_with_json_an_object_on_stdout(
    ldmc: Run, arguments: tuple[str, ...], code: int, kind: str, message: str, fix: str
) -> None:
    done = ldmc(*arguments)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ")
    assert message in done.err
    assert "\nfix:   " in done.err
    assert fix in done.err
    with_json = ldmc(*arguments, "--json")
    assert with_json.json.keys() == {"error"}
    error = with_json.json["error"]
    assert (with_json.code, error["code"]) == (code, kind)
    assert error.keys() == {"code", "message", "fix"}
    assert message in error["message"]
    assert fix in error["fix"]
    assert with_json.err == done.err


def test_debug_shows_the_traceback(ldmc: Run) -> None:
    assert "Traceback" in ldmc("--debug", "inspect", "no-such.ldmc").err
    assert "Traceback" not in ldmc("inspect", "no-such.ldmc").err


def test_a_bug_is_not_hidden(ldmc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from ldmc.targets import reader

    def broken() -> list[str]:
        raise ZeroDivisionError

    monkeypatch.setattr(reader, "target_names", broken)
    with pytest.raises(ZeroDivisionError):
        ldmc("targets")


def test_interrupted_is_exit_130(ldmc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from ldmc.targets import reader

    def interrupted() -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(reader, "target_names", interrupted)
    done = ldmc("targets", "--json")
    assert done.code == 130
    assert done.json["error"]["code"] == "interrupted"


# Help, version, start-up.


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_json(ldmc: Run, command: str) -> None:
    done = ldmc(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert "--json" in done.out
    assert "Example:\n" in done.out
    examples = re.findall(r"^ {4}(ldmc .*)$", done.out, re.MULTILINE)
    assert examples
    for example in examples:
        words = example.split()
        assert words[1] == command
        options = {flag for parameter in cli.commands[command].params for flag in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options
    for parameter in cli.commands[command].params:
        assert parameter.human_readable_name.upper() in done.out or any(
            flag in done.out for flag in parameter.opts
        )


def test_help_lists_every_command(ldmc: Run) -> None:
    done = ldmc("--help")
    assert done.code == 0
    for command in COMMANDS:
        assert f"  {command} " in done.out
    assert COMMANDS == [
        "bench", "build", "compare", "diff", "doctor", "inspect", "passes", "plan", "report", "run", "targets", "verify"
    ]  # fmt: skip


def test_alone_it_shows_its_help(ldmc: Run) -> None:
    assert ldmc() == ldmc("--help") == ldmc("-h")


def test_version(ldmc: Run) -> None:
    assert package.__version__ in ldmc("--version").out


HEAVY = (
    "torch",
    "onnx",
    "numpy",
    "diffusers",
    "onnxruntime",
    "onnx_ir",
    "huggingface_hub",
    "rich",
    "safetensors",
)
LIST_MODULES = """
import sys
from ldmc.cli import main
try:
    main(sys.argv[1:])
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (("--help",), ()),
        (("build", "--help"), ()),
        (("--version",), ()),
        (("targets",), ("rich",)),
        (("passes",), ("rich",)),
        (("build", "--target", "cpu", "--passes", "fold"), ("rich", "numpy", "onnx", "onnx_ir")),
        (("inspect", "no-such.ldmc"), ("rich", "numpy")),
    ],
)
def test_what_needs_no_network_imports_no_torch(arguments: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIST_MODULES, *arguments], capture_output=True, text=True, timeout=HANG_SECONDS
    )
    imported = set(done.stderr.splitlines()[-1].split())
    assert "click" in imported
    assert not imported & set(HEAVY) - set(allowed)


def cpu_seconds(*arguments: str) -> float:
    """Of the processor, the least of a few: other work on the machine is not ours."""
    found = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def test_help_answers_at_once() -> None:
    """In a small multiple of what Python and click take by themselves, on any machine."""
    assert cpu_seconds("-m", "ldmc", "--help") < 3 * cpu_seconds("-c", "import click")


def test_random_weights_that_nobody_asked_for_have_the_last_word(
    tiny_model: Path, tmp_path: Path, ldmc: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warning is far above by then. --json has a key for it."""
    from ldmc.compiler import frontend
    from ldmc.compiler.checkpoint import read_checkpoint
    from ldmc.errors import ModelError

    def open_preset(name: str, *, with_weights: bool) -> frontend.Opened:
        if with_weights:
            raise ModelError("the hub cannot be reached")
        return frontend.Opened(name, "preset", read_checkpoint(tiny_model), None)

    monkeypatch.setattr(frontend, "_open_preset", open_preset)
    asked = ("build", "--target", "cpu", "--passes", "onnx", "-o", tmp_path / "x.ldmc", "--json")
    done = ldmc(*asked)
    assert done.code == 0, done.err
    assert done.json["weights"] == {"kind": "placeholder", "seed": 0, "asked": False}
    assert done.err.splitlines()[-1].startswith("RANDOM WEIGHTS: ")
    done = ldmc(*asked, "--model", "ldm-celebahq-256", "--force")
    assert done.code == 1
    assert "the hub cannot be reached" in done.json["error"]["message"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bench", "/home/me/my x.ldmc", "--model=/home/me/y", "-v"], "ldmc bench 'my x.ldmc' --model=y -v"),
        (["bench", "./x.ldmc", "-o", "/tmp/r.json", "/"], "ldmc bench ./x.ldmc -o r.json /"),
    ],
)
def test_a_result_has_the_command_without_where_things_lie(words: list[str], said: str) -> None:
    import click

    from ldmc.commands.common import typed

    with click.Context(click.Command("bench"), obj=words):
        assert typed() == said
