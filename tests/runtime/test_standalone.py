"""The runtime inside a bundle: alone, without ldmc and torch, in Python 3.6, and as a command."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ldmc.runtime
from tests.runtime.old_python import old_python
from tests.runtime.tiny_bundle import cut_unet, make_bundle, read_manifest_json, write_manifest

RUNTIME = Path(ldmc.runtime.__file__).parent
SOURCES = sorted(RUNTIME.rglob("*.py"))
FORBIDDEN = ("torch", "ldmc", "diffusers", "onnx")
DRAW = """
import json, os, sys
sys.path = [os.getcwd()] + [p for p in sys.path if p and "site-packages" in p or "lib/python" in p]
import runtime
before = sorted({name.split(".")[0] for name in sys.modules})
with runtime.load(".") as pipeline:
    image = pipeline.generate(seed=3, steps=4, batch=2, eta=1.0)
after = sorted({name.split(".")[0] for name in sys.modules})
print(json.dumps({"before": before, "after": after, "sum": int(image.sum()), "remarks": pipeline.remarks}))
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A bundle that carries its runtime."""
    return make_bundle(tmp_path_factory.mktemp("alone") / "tiny.cpu.ldmc", runtime=True)


def _run(bundle, *arguments, python=sys.executable):
    """Runs Python inside the bundle with nothing of this checkout on its path."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run([python, *arguments], cwd=str(bundle), env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(RUNTIME).as_posix())
def test_the_source_is_python_3_6(source):
    text = source.read_text()
    tree = ast.parse(text, feature_version=(3, 6))
    assert "from __future__" not in text
    assert text.count("\n") < 300
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module.split(".")[0] not in FORBIDDEN + ("dataclasses",)
        if isinstance(node, ast.Import):
            found = {alias.name.split(".")[0] for alias in node.names} & set(FORBIDDEN + ("dataclasses",))
            assert not found or (found == {"torch"} and source.stem == "pytorch")


def test_nothing_newer_than_python_3_6_is_used():
    pytest.importorskip("vermin")
    command = [sys.executable, "-c", "import sys, vermin; sys.exit(vermin.main())", "-t=3.6-", "--no-tips"]
    done = subprocess.run(command + ["--violations", str(RUNTIME)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "Minimum required versions: 3." in done.stdout


def test_at_import_only_numpy_and_the_standard_library():
    nested = [node for source in SOURCES for node in ast.parse(source.read_text()).body
              if isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0)]
    names = {(node.module if isinstance(node, ast.ImportFrom) else alias.name).split(".")[0]
             for node in nested for alias in node.names}
    assert names - set(sys.stdlib_module_names) == {"numpy"}


def test_a_bundle_draws_alone(alone):
    done = _run(alone, "-c", DRAW)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not set(FORBIDDEN) & set(found["after"])
    assert "onnxruntime" not in found["before"] and "onnxruntime" in found["after"]
    with ldmc.runtime.load(alone) as pipeline:
        assert int(pipeline.generate(seed=3, steps=4, batch=2, eta=1.0).sum()) == found["sum"]


def test_a_bundle_draws_in_python_3_6(alone):
    python = old_python()
    done = _run(alone, "-c", DRAW, python=python)
    assert done.returncode == 0, done.stderr
    expected = json.loads(_run(alone, "-c", DRAW).stdout)["sum"]
    found = json.loads(done.stdout)
    assert not set(FORBIDDEN) & set(found["after"])
    assert abs(found["sum"] - expected) <= 32  # two engines round differently
    done = _run(alone, "-m", "runtime", "bench", "--idle", "0", "--runs", "1", "--steps", "2", python=python)
    assert done.returncode == 0, done.stderr


def test_a_bundle_of_parts_loaded_one_component_at_a_time_draws_in_python_3_6(alone, tmp_path):
    lean = cut_unet(make_bundle(tmp_path / "lean.ldmc", runtime=True), ["hidden", "gate"])
    write_manifest(lean, dict(read_manifest_json(lean), load="one-at-a-time"))
    done = _run(lean, "-c", DRAW, python=old_python())
    assert done.returncode == 0, done.stderr
    assert abs(json.loads(done.stdout)["sum"] - json.loads(_run(alone, "-c", DRAW).stdout)["sum"]) <= 32


def test_the_command_writes_a_picture(alone, tmp_path):
    target = tmp_path / "out.png"
    done = _run(alone, "-m", "runtime", "--steps", "2", "--seed", "4", "-o", str(target), "--verify", "--threads", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("wrote %s: 32 x 32, seed 4, 2 steps, " % target)
    assert len(done.stdout.splitlines()) == 1
    assert target.read_bytes().startswith(b"\x89PNG")


def test_the_command_draws_a_batch_as_a_grid(alone, tmp_path):
    done = _run(alone, "-m", "runtime", "--steps", "1", "--batch", "4", "-o", str(tmp_path / "grid.png"))
    assert "grid.png: 64 x 64" in done.stdout


def test_the_command_times(alone):
    arguments = ("-m", "runtime", "bench", "--idle", "0", "--runs", "2", "--warmup", "0", "--steps", "2")
    done = _run(alone, *arguments)
    assert done.returncode == 0, done.stderr
    words = [line.split()[0] for line in done.stdout.splitlines()]
    assert words[1:7] == ["prepare", "load", "first", "denoise", "decode", "total"]
    found = json.loads(_run(alone, *(arguments + ("--json",))).stdout)
    assert found["settings"]["runs"] == 2 and found["levels"][0]["total"]["p50_seconds"] > 0
    assert not (alone / "out.png").exists()


@pytest.mark.parametrize("arguments, code, words", [
    (("--steps", "0"), 2, "error: steps is 0; the model was trained with 1000 timesteps\nfix:   use 1 to 1000 steps"),
    (("--steps", "x"), 2, "invalid int value"),
    (("--eta", "2"), 2, "error: eta is 2.0"),
    (("--bundle", "gone"), 1, "gone does not exist\nfix:   give the path of a folder"),
    (("--steps", "1", "-o", "gone/out.png"), 1, "error: cannot write the picture gone/out.png"),
])
def test_the_command_says_what_is_wrong(alone, arguments, code, words):
    done = _run(alone, "-m", "runtime", *arguments)
    assert done.returncode == code
    assert words in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_command_finds_an_altered_file(tmp_path):
    bundle = make_bundle(tmp_path / "b", runtime=True)
    path = bundle / "decoder" / "model.onnx.data"
    path.write_bytes(bytes(path.stat().st_size))
    done = _run(bundle, "-m", "runtime", "--verify", "--steps", "1")
    assert done.returncode == 5
    assert "decoder/model.onnx.data has SHA-256" in done.stderr
    assert not (bundle / "out.png").exists()


def test_the_command_warns_that_placeholders_draw_noise(tmp_path):
    bundle = make_bundle(tmp_path / "b", runtime=True, weights="placeholder")
    done = _run(bundle, "-m", "runtime", "--steps", "1", "-o", "out.png")
    assert done.returncode == 0
    assert done.stderr == "warning: the weights are random placeholders: every picture is noise\n"
    assert (bundle / "out.png").exists()


def test_the_command_can_leave_the_bundle_as_it_is(tmp_path):
    bundle = make_bundle(tmp_path / "b", runtime=True)
    done = _run(bundle, "-B", "-m", "runtime", "--no-cache", "--steps", "1", "-o", str(tmp_path / "out.png"))
    assert done.returncode == 0
    assert sorted(path.name for path in (bundle / "unet").iterdir()) == ["model.onnx", "model.onnx.data"]


def test_the_command_stops_at_ctrl_c(alone, monkeypatch, capsys):
    from ldmc.runtime import __main__ as command

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "load", interrupted)
    assert command.main(["--bundle", str(alone)]) == 130
    assert capsys.readouterr().err == "interrupted\n"
