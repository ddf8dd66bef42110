"""A bundle that cannot run on this machine: every command refuses it by name before any work."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

import ldmc.runtime.backends as backends
from ldmc.compiler import verify
from ldmc.compiler.fidelity import examine
from ldmc.compiler.levels import contestant
from ldmc.runtime import cuda
from ldmc.runtime.backends import engine_gpu
from ldmc.runtime.errors import BundleProblem

Change = Callable[[dict[str, Any], dict[str, Any]], None]
AOTI = {"torch": "2.13.0", "device": "cpu", "machine": "x86_64", "capability": "AVX2"}


def in_form(form: str, **more: Any) -> Change:
    """The decoder in another form."""

    def change(_manifest: dict[str, Any], decoder: dict[str, Any]) -> None:
        decoder["form"] = form
        decoder["parts"][0].update(form=form, **more)

    return change


def engine(manifest: dict[str, Any], decoder: dict[str, Any]) -> None:
    """The decoder as an engine that is there."""
    in_form("engine", file="decoder/model.engine")(manifest, decoder)
    graph = next(entry for entry in manifest["files"] if entry["path"] == "decoder/model.onnx")
    manifest["files"].append({**graph, "path": "decoder/model.engine", "role": "engine"})


def built_ahead(manifest: dict[str, Any], decoder: dict[str, Any]) -> None:
    """The decoder as an engine of TensorRT for RTX."""
    engine(manifest, decoder)
    manifest["requirements"]["packages"]["tensorrt_rtx"] = ">=1.7"
    decoder["engine"] = [
        {"part": "decoder", "compute_capability": "8.6", "module": "tensorrt_rtx", "tensorrt": "1.7.1",
         "layers": 1, "weights_bytes": 1, "activation_bytes": 1}
    ]  # fmt: skip


CASES: dict[str, tuple[Change, str]] = {
    "an engine that is not built": (
        in_form("engine", file="decoder/model.engine"),
        "engine decoder/model.engine of {bundle} is not built yet",
    ),
    "no TensorRT": (engine, "{bundle} needs the Python module tensorrt: "),
    "no GPU for its engines": (
        built_ahead,
        "the engines of {bundle} run on an NVIDIA GPU of compute capability 8.6, and none answers here",
    ),
    "no GPU for ONNX Runtime": (
        in_form("onnx", provider="cuda"),
        "has no CUDAExecutionProvider, which part decoder of {bundle} needs",
    ),
    "code for another processor": (
        in_form("aoti", compiled={**AOTI, "machine": "riscv64"}),
        "{bundle} was compiled for a CPU of riscv64 with AVX2",
    ),
    "code of another PyTorch": (
        in_form("aoti", compiled={**AOTI, "torch": "1.2.0"}),
        "{bundle} was compiled by PyTorch 1.2.0 and runs with 1.2 only",
    ),
    "code for a GPU": (
        in_form("aoti", compiled={**AOTI, "device": "cuda", "capability": "9.0"}),
        "{bundle} was compiled for an NVIDIA GPU of compute capability 9.0",
    ),
}


@pytest.fixture(params=CASES, ids=lambda name: name.replace(" ", "-"))
def unrunnable(
    request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, str]:
    """A bundle whose decoder does not run here, and why; on whatever machine this is."""
    import torch

    change, words = CASES[request.param]
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "other.ldmc"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest, manifest["components"]["decoder"])
    if any(entry["path"] == "decoder/model.engine" for entry in manifest["files"]):
        shutil.copyfile(bundle / "decoder" / "model.onnx", bundle / "decoder" / "model.engine")
    (bundle / "manifest.json").write_text(json.dumps(manifest))

    def no_gpu() -> None:
        raise BundleProblem("there is no CUDA runtime library here")

    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", cuda)  # any module: it is there
    monkeypatch.setattr(engine_gpu, "Cuda", no_gpu)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return bundle, words.format(bundle=bundle)


@pytest.mark.parametrize("command", ["bench", "verify", "verify --by-stage", "run"])
def test_it_is_refused_before_any_work(
    command: str, unrunnable: tuple[Path, str], ldmc: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: Any, **__: Any) -> Any:
        raise AssertionError("work began")

    bundle, words = unrunnable
    for module, name in ((contestant, "LevelProcess"), (verify, "open_original"), (examine, "open_original"),
                         (backends, "open_component")):
        monkeypatch.setattr(module, name, work)
    name, *options = command.split()
    done = ldmc(name, bundle, *options, "--trust", "--json")
    assert done.code == 1
    assert words in done.json["error"]["message"]
    assert done.json["error"]["fix"]


def test_a_graph_that_stands_for_an_engine_is_verified(
    tiny_bundle: Path, tmp_path: Path, ldmc: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "other.ldmc"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    engine(manifest, manifest["components"]["decoder"])
    manifest["components"]["decoder"]["parts"][0]["source"] = "decoder/model.onnx"
    shutil.copyfile(bundle / "decoder" / "model.onnx", bundle / "decoder" / "model.engine")
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    done = ldmc("verify", bundle, "--steps", 1, "--trust")
    assert done.code == 0, done.err
    assert ldmc("bench", bundle, "--baseline", "none", "--trust").code == 1
