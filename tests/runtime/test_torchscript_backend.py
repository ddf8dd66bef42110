"""Bundles in TorchScript: drawn through torch alone, and what is said where torch is missing or the file is broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import weakref
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from ldmc import runtime
from ldmc.runtime.backends import OpenOptions, open_component, torchscript
from ldmc.runtime.checks.opening import Vouched
from ldmc.runtime.errors import BundleProblem
from ldmc.runtime.manifest import read_manifest
from tests.conftest import build_bundle
from tests.runtime import overlap
from tests.runtime.old_python import old_python
from tests.runtime.tiny_bundle import read_manifest_json, refresh_files

DRAW = """
import json, os, sys
sys.path = [os.getcwd()] + [p for p in sys.path if p and "site-packages" in p or "lib/python" in p]
import runtime
with runtime.load(".") as pipeline:
    image = pipeline.generate(seed=3, steps=3)
print(json.dumps({"modules": sorted({name.split(".")[0] for name in sys.modules}), "image": image.tolist()}))
"""
COMPILE_PARTS = {"ldmc", "diffusers", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "onnxsim", "safetensors"}


@pytest.fixture(scope="module")
def bundle(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in TorchScript; read-only by agreement."""
    return build_bundle(tiny_model, tmp_path_factory.mktemp("scripts") / "tiny.cpu.ldmc", "torchscript")


@pytest.fixture
def own(bundle: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(bundle, tmp_path / "tiny.cpu.ldmc"))


def _run(bundle: Path, *arguments: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [python, *arguments], cwd=bundle, env=environment, capture_output=True, text=True, check=False
    )


def _unet(bundle: Path, threads: int | None = None):
    manifest = read_manifest(bundle)
    options = OpenOptions(threads=threads, vouched=Vouched(manifest, trust=True))
    return open_component(manifest, manifest.components["unet"], options, [])


def test_it_draws_through_torch_alone_what_onnx_runtime_draws(bundle: Path, tiny_bundle: Path) -> None:
    done = _run(bundle, "-c", DRAW)
    assert done.returncode == 0, done.stderr
    drawn = json.loads(done.stdout)
    assert "torch" in drawn["modules"]
    assert not COMPILE_PARTS & set(drawn["modules"])
    with runtime.load(str(tiny_bundle), cache=False) as pipeline:
        other = pipeline.generate(seed=3, steps=3)
    difference = np.abs(np.asarray(drawn["image"], np.int64) - other)
    assert difference.max() <= 1


def test_an_old_torch_on_an_old_python_draws_it(bundle: Path, tmp_path: Path) -> None:
    """As on a Jetson Nano, whose last PyTorch is 1.10 on Python 3.6."""
    python = old_python("numpy", "torch")
    done = _run(bundle, "-m", "runtime", "--steps", "2", "-o", str(tmp_path / "old.png"), python=python)
    assert done.returncode == 0, done.stderr
    assert "16 x 16" in done.stdout


def test_the_bundle_asks_for_torch_and_not_for_the_targets_engine(bundle: Path, tiny_bundle: Path) -> None:
    assert read_manifest_json(bundle)["requirements"]["packages"] == {"numpy": ">=1.13", "torch": ">=1.10"}
    assert "torch" not in read_manifest_json(tiny_bundle)["requirements"]["packages"]


def test_fused_attention_asks_for_torch_2(tiny_model: Path, tmp_path: Path) -> None:
    fused = build_bundle(tiny_model, tmp_path / "fused.ldmc", "torchscript{fused=true}")
    assert read_manifest_json(fused)["requirements"]["packages"]["torch"] == ">=2.0"


def test_the_commands_take_it(bundle: Path, ldmc, tmp_path: Path) -> None:
    verified = ldmc("verify", bundle, "--steps", 2, "--json")
    assert verified.code == 0, verified.err
    assert verified.json["components"]["unet"]["snr_db"] > 90
    assert ldmc("inspect", bundle, "--json").json["components"]["decoder"]["form"] == "torchscript"
    picture = tmp_path / "picture.png"
    assert ldmc("run", bundle, "--steps", 2, "-o", picture).code == 0
    assert picture.stat().st_size > 100
    output = tmp_path / "bench.json"
    bench = ldmc("bench", bundle, "--baseline", "none", "--steps", 1, "--runs", 1, "-o", output, "--json")
    assert bench.code == 0 and bench.json["levels"][0]["total"]["p50_seconds"] > 0


def test_half_precision_is_verified_too(tiny_model: Path, tmp_path: Path, ldmc) -> None:
    half = build_bundle(tiny_model, tmp_path / "half.ldmc", "fp16,torchscript")
    report = ldmc("verify", half, "--steps", 2, "--json")
    assert report.code == 0, report.err
    assert 35 < report.json["components"]["unet"]["snr_db"] < 90


def test_threads_are_for_one_call(bundle: Path) -> None:
    seen = []
    before = torch.get_num_threads()
    unet = _unet(bundle, threads=before + 1)
    script = unet._script
    unet._script = lambda *inputs: [seen.append(torch.get_num_threads()), script(*inputs)][1]
    unet.run([np.zeros((1, 3, 8, 8), "float32"), np.array([5])])
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_pictures_drawn_at_the_same_time_are_those_drawn_in_turn(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runtime.load(str(bundle), threads=1) as pipeline:
        expected = overlap.drawn_in_turn(pipeline)
        monkeypatch.setattr(torchscript, "run_on_cpu", overlap.made_to_overlap(torchscript.run_on_cpu))
        for one, other in zip(expected, overlap.drawn_in_threads(pipeline), strict=True):
            np.testing.assert_array_equal(one, other)


def test_threads_with_a_pipeline_each_leave_the_number_of_threads_as_it_was(bundle: Path) -> None:
    """A thread that first asks PyTorch while another has lowered the number would keep the lower one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    meet, is_lowered = overlap.made_to_overlap(lambda: None), threading.Event()
    first, second = (_unet(bundle, threads=1) for _ in range(2))
    for unet in (first, second):
        script = unet._script
        unet._script = lambda *inputs, script=script: [is_lowered.set(), meet(), script(*inputs)][-1]

    def run(unet: torchscript.TorchScriptPart) -> int:
        if unet is second:
            is_lowered.wait()
        unet.run([np.zeros((1, 3, 8, 8), "float32"), np.array([5])])
        return torch.get_num_threads()

    try:
        found = overlap.in_threads(lambda: run(first), lambda: run(second))
        assert [*found, torch.get_num_threads()] == [2, 2, 2]
    finally:
        torch.set_num_threads(before)


def test_an_input_that_cannot_be_written_to_is_taken_without_a_warning(
    bundle: Path, recwarn: pytest.WarningsRecorder
) -> None:
    fixed = np.broadcast_to(np.float32(0.5), (1, 3, 8, 8))
    output = _unet(bundle).run([fixed, np.array([5])])
    assert output[0].shape == (1, 3, 8, 8)
    assert not [warning for warning in recwarn if "not writable" in str(warning.message)]


def test_what_torch_refuses_is_said_in_one_line(bundle: Path) -> None:
    with pytest.raises(BundleProblem, match=r"PyTorch failed to run component unet: \S") as caught:
        _unet(bundle).run([np.zeros((1, 4, 8, 8), "float32"), np.array([5])])
    assert "\n" not in caught.value.message


def test_a_broken_script_is_named(own: Path) -> None:
    file = own / "unet" / "model.ts"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    refresh_files(own)
    with pytest.raises(BundleProblem, match=r"PyTorch \S+ cannot load \S+model.ts: ") as caught:
        runtime.load(str(own), trust=True)
    assert caught.value.fix == "pip install 'torch>=1.10'"


def test_without_torch_it_says_what_to_install(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BundleProblem, match="needs PyTorch, which cannot be imported") as caught:
        _unet(bundle)
    assert caught.value.fix == "pip install 'torch>=1.10'"


def test_a_closed_part_gives_its_script_back_at_once(bundle: Path, no_collection: None) -> None:
    unet = _unet(bundle)
    script = weakref.ref(unet._script)
    unet.close()
    assert script() is None
