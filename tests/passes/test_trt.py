"""Engines: built for real by TensorRT for RTX, without a GPU; recorded for the Jetsons; refused before any work."""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from ldmc.compiler import emit
from ldmc.compiler.lower import Lowering
from ldmc.compiler.pipeline import checked_pipeline
from ldmc.errors import PassError, SpecError
from ldmc.ir import Chain, Component, Engines, Form, TensorSpec
from ldmc.passes.base import Context
from ldmc.passes.engines import worker
from ldmc.passes.trt import COMPUTE_CAPABILITIES, Trt
from ldmc.targets import nvidia
from ldmc.targets.builder_memory import build_peak_bytes
from ldmc.targets.reader import load_target
from ldmc.targets.target import MIB, Gpu, Target

RTX = load_target("rtx-3070")
NANO = load_target("jetson-nano")
ORIN = load_target("jetson-orin-nano")
CUDA = load_target("cuda")
DEFAULT = Trt()

rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt_rtx is not installed: pip install -e .[rtx]",
)
without_gpu = pytest.mark.skipif(
    nvidia.compute_capability() is not None, reason="this machine has an NVIDIA GPU"
)


def component_of(text: str, name: str = "unet", opset: int = 18, **weights: Any) -> Component:
    """An ONNX component of text, in the oldest file format of its opset; `weights` are initializers."""
    from tests.passes.test_parameters import model_of

    model = model_of(text, **weights)
    model.opset_imports[""], model.ir_version = opset, 8 if opset > 13 else 7
    sides = [
        tuple(TensorSpec(v.name or "", str(v.dtype.numpy()), tuple(v.shape.numpy())) for v in values)
        for values in (model.graph.inputs, model.graph.outputs)
    ]
    return Component(name, Form.ONNX, model, *sides)


def matmul(opset: int) -> Component:
    """One MatMul of 64 x 64 in half: 8 KiB of weights."""
    w = np.linspace(-1, 1, 4096, dtype=np.float16).reshape(64, 64)
    text = "(float16[1,64] x, float16[64,64] w) => (float16[1,64] y) { y = MatMul (x, w) }"
    return component_of(text, opset=opset, w=w)


@pytest.fixture
def product() -> Component:
    return matmul(18)


@pytest.fixture
def old_product() -> Component:
    """As TensorRT 8.2 reads it."""
    return matmul(13)


def built(
    component: Component, target: Target, scratch: Path, step: Trt = DEFAULT
) -> tuple[Component, list[str]]:
    """The component after the pass, and what the pass remarked."""
    remarks: list[str] = []
    return step.run(component, Context(target, remarks.append, scratch)), remarks


# ---- TensorRT for RTX, for real


@rtx
def test_an_engine_is_built_without_a_gpu(product: Component, tmp_path: Path) -> None:
    after, remarks = built(product, RTX, tmp_path)
    engines: Engines = after.payload
    assert (after.form, engines.source) == (Form.ENGINE, product)
    [file], [report] = engines.files, engines.reports
    assert file.read_bytes()[:4] == b"vtrt"
    assert file.stat().st_size == report["engine_bytes"]
    assert (report["module"], report["compute_capability"]) == ("tensorrt_rtx", "8.6")
    assert 1 <= report["engine_layers"] <= report["layers"] <= 3
    assert 8192 <= report["weights_bytes"] <= 2 * 8192  # rounded up by TensorRT
    assert report["activation_bytes"] >= 0 and report["peak_rss_bytes"] > 50 * MIB
    checked, told = remarks
    assert checked == "1 nodes checked against the general rules"
    assert told.startswith("unet: ") and "tensorrt_rtx 1." in told
    assert [path.name for path in tmp_path.iterdir()] == [file.name]  # graph and request are gone


@rtx
def test_the_same_graph_gives_the_same_engine(product: Component, tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files += built(product, RTX, tmp_path / name)[0].payload.files
    assert files[0].read_bytes() == files[1].read_bytes()


@rtx
def test_a_bundle_may_be_named_from_the_working_folder(
    product: Component, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scratch").mkdir()
    after, _ = built(product, RTX, Path("scratch"))
    assert after.payload.files[0].is_file()


@rtx
@pytest.mark.parametrize("sm", COMPUTE_CAPABILITIES)
def test_it_builds_for_every_gpu_that_is_offered(sm: int, product: Component, tmp_path: Path) -> None:
    after, _ = built(product, RTX, tmp_path, Trt(sm=sm))
    assert after.payload.reports[0]["compute_capability"] == f"{sm // 10}.{sm % 10}"
    assert after.payload.files[0].stat().st_size > 8192


@rtx
def test_polygraphy_builds_the_same_network(product: Component, tmp_path: Path) -> None:
    """Another driver of the same library: same inputs and outputs, an engine of the same size but for its profile."""
    polygraphy = pytest.importorskip("polygraphy.config")
    after, _ = built(product, RTX, tmp_path)
    file = tmp_path / "model.onnx"
    ir.save(product.payload, file)
    code = """
import sys
from polygraphy import config
config.USE_TENSORRT_RTX = True
from polygraphy.backend.trt import EngineBytesFromNetwork, NetworkFromOnnxPath
from polygraphy.backend.tensorrt_rtx import CreateConfigRTX
builder, network, parser = NetworkFromOnnxPath(sys.argv[1])()
names = [network.get_input(0).name, network.get_output(0).name]
engine = EngineBytesFromNetwork((builder, network, parser), CreateConfigRTX(compute_capabilities=[(8, 6)]))()
print(*names, engine.nbytes)
"""
    assert hasattr(polygraphy, "USE_TENSORRT_RTX"), "polygraphy is too old for TensorRT for RTX"
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    *names, size = done.stdout.split()[-3:]
    assert names == ["x", "y"]
    assert abs(int(size) - after.payload.reports[0]["engine_bytes"]) < 1024


@rtx
def test_a_graph_that_tensorrt_cannot_read_is_told_with_its_node(tmp_path: Path) -> None:
    """What `check` does not know of."""
    bad = component_of("(float16[1,8] x) => (float16[1,8] y) { y = Unheard (x) }")
    bad.payload.graph.node(0).name = "mid_block/Unheard"
    with pytest.raises(
        PassError, match=r"unet: TensorRT for RTX 1\.[\d.]+ cannot read .* at mid_block/Unheard"
    ):
        worker.build(bad, tmp_path, {"module": "tensorrt_rtx", "sm": "86"})


@rtx
@without_gpu
def test_the_library_refuses_an_engine_without_weights(product: Component, tmp_path: Path) -> None:
    """Why `weightless` is refused: asked of the library itself, so that a version that can do it shows here."""
    with pytest.raises(PassError, match="cannot build model.onnx: .*CUDA"):
        worker.build(product, tmp_path, {"module": "tensorrt_rtx", "sm": "86", "weightless": True})


@pytest.fixture(scope="module")
def engine_bundle(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The tiny model in fp16 as engines, through the command line; and its `--json`."""
    bundle = tmp_path_factory.mktemp("engines") / "tiny.ldmc"
    spec = "fp16,onnx,fold,trt,embed"
    command = [
        "build",
        "--target",
        "rtx-3070",
        "--passes",
        spec,
        "--model",
        str(tiny_model),
        "-o",
        str(bundle),
        "--json",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "ldmc", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return bundle, json.loads(done.stdout)


@rtx
def test_a_whole_model_becomes_engines(
    engine_bundle: tuple[Path, dict[str, Any]], ldmc: Callable[..., Any]
) -> None:
    """Both networks, quantiser and attention included."""
    bundle, result = engine_bundle
    manifest = json.loads((bundle / "manifest.json").read_text())
    for name in ("unet", "decoder"):
        component = manifest["components"][name]
        [part], [engine] = component["parts"], component["engine"]
        assert (component["form"], part["form"], part["file"]) == ("engine", "engine", f"{name}/model.engine")
        assert "source" not in part and not list((bundle / name).glob("*.onnx*"))
        assert engine["layers"] > 100 and engine["activation_bytes"] > 0
        assert engine["weights_bytes"] == pytest.approx(component["stats"]["bytes"], rel=0.1)
        assert not {"seconds", "peak_rss_bytes"} & set(engine)
    status = {(stage["component"], stage["pass"]): stage["status"] for stage in result["stages"]}
    assert (status["unet", "trt"], status["decoder", "embed"]) == ("done", "pending")
    found = ldmc("verify", bundle, "--hashes-only")
    assert found.code == 0, found.err
    shown = " ".join(ldmc("inspect", bundle).out.split())
    assert "engine unet: " in shown and "compute capability 8.6" in shown


@rtx
def test_what_is_built_here_is_embedded_there(engine_bundle: tuple[Path, dict[str, Any]]) -> None:
    finish = json.loads((engine_bundle[0] / "manifest.json").read_text())["finish"]
    assert [(step["part"], step["status"]) for step in finish["steps"]] == [
        ("unet", "done"),
        ("decoder", "done"),
    ]
    assert all(step["embed"] for step in finish["steps"])
    assert finish["device"]["compute_capability"] == "8.6"


@rtx
@without_gpu
def test_engines_that_do_not_run_here_say_so(
    engine_bundle: tuple[Path, dict[str, Any]], tmp_path: Path, ldmc: Callable[..., Any]
) -> None:
    done = ldmc("verify", engine_bundle[0])
    assert done.code == 1
    assert (
        "files have the size and SHA-256 of the manifest, but outputs cannot be compared here: " in done.err
    )
    done = ldmc("run", engine_bundle[0], "-o", tmp_path / "x.png")
    assert done.code == 1 and len(done.err.strip().splitlines()) == 2
    assert "run on an NVIDIA GPU of compute capability 8.6, and none answers here: " in done.err
    assert "pip install tensorrt_rtx" in done.err


# ---- builds that end badly


def ending_with(code: int, said: bytes = b"") -> Callable[..., Any]:
    """`subprocess.run` of a worker that writes nothing and ends like this."""
    return lambda command, **_: subprocess.CompletedProcess(command, code, b"", said)


@pytest.mark.parametrize(
    ("code", "said", "message"),
    [
        (-signal.SIGKILL, b"", "unet: the engine build was ended by SIGKILL"),
        (-signal.SIGSEGV, b"", "unet: the engine build was ended by SIGSEGV"),
        (1, b"first\nlast line\n", "unet: the engine build ended with exit code 1: last line"),
        (3, b"", "unet: the engine build ended with exit code 3: no output"),
    ],
)
def test_a_worker_that_dies_is_told_in_one_sentence(
    code: int, said: bytes, message: str, product: Component, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.subprocess, "run", ending_with(code, said))
    with pytest.raises(PassError) as caught:
        built(product, RTX, tmp_path)
    assert caught.value.message == message
    assert ("out of memory" in caught.value.fix) == (code == -signal.SIGKILL)


def test_a_disk_that_is_too_small_is_found_before_the_build(
    product: Component, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(
        PassError, match="unet: its graph and its engine need about 0 MiB of disk, 0 MiB are free"
    ):
        built(product, RTX, tmp_path)


# ---- the recipe for a device


def test_a_jetson_nanos_engine_is_left_to_it(old_product: Component, tmp_path: Path) -> None:
    after, remarks = built(old_product, NANO, tmp_path)
    assert after.payload == Engines(old_product, recipe=after.payload.recipe)
    assert remarks[-1] == "1 engine to build on the device: python3 -m runtime finish"
    assert list(tmp_path.iterdir()) == []
    [step] = emit.finish_steps(after, NANO)
    everything = ["cublas", "cublas_lt", "cudnn"]
    assert step["ladder"] == [
        {"workspace_bytes": 64 * MIB, "tactic_sources": everything},
        {"workspace_bytes": 16 * MIB, "tactic_sources": everything},
        {"workspace_bytes": 16 * MIB, "tactic_sources": ["cublas", "cublas_lt"]},
        {"fallback": "onnxruntime-cuda"},
    ]
    assert (step["component"], step["part"], step["status"], step["embed"]) == (
        "unet",
        "unet",
        "pending",
        False,
    )
    assert step["weights_bytes"] == 8192
    assert step["peak_bytes"] == build_peak_bytes(8192, 256, NANO)  # x and y, 128 bytes each


def test_tensorrt_10_is_not_told_about_libraries_it_does_not_use(product: Component, tmp_path: Path) -> None:
    [step] = emit.finish_steps(built(product, ORIN, tmp_path)[0], ORIN)
    assert step["ladder"] == [
        {"workspace_bytes": 64 * MIB, "tactic_sources": None},
        {"workspace_bytes": 16 * MIB, "tactic_sources": None},
        {"fallback": "onnxruntime-cuda"},
    ]


def test_a_part_that_can_be_smaller_says_how(tmp_path: Path) -> None:
    whole = component_of("(float16[1,8] x) => (float16[1,8] y) { y = Relu (x) }", "unet.0", 13)
    halves = tuple(whole.evolve(name=f"unet.0.{k}") for k in (0, 1))
    source = whole.evolve(name="unet", form=Form.PARTS, payload=Chain((whole,), (halves,)))
    [step] = emit.finish_steps(built(source, NANO, tmp_path)[0], NANO)
    kinds = [next(iter(set(rung) & {"workspace_bytes", "finer", "fallback"})) for rung in step["ladder"]]
    assert kinds == ["workspace_bytes"] * 3 + ["finer", "fallback"]
    assert [part["source"] for part in step["ladder"][3]["finer"]] == ["unet/0.0.onnx", "unet/0.1.onnx"]


def test_a_pending_stage_is_recorded_as_such(old_product: Component, tmp_path: Path) -> None:
    record = Lowering(old_product, NANO, tmp_path).run(Trt())
    assert (record.status, record.after.form) == ("pending", Form.ENGINE)


def test_a_graph_that_the_devices_parser_would_reject_is_not_recorded(
    product: Component, tmp_path: Path
) -> None:
    """The pass `check` is implied."""
    with pytest.raises(PassError, match="the graph is of opset 18, TensorRT 8.2 reads 13 at most"):
        built(product, NANO, tmp_path)


# ---- refused before any work


@pytest.mark.parametrize(
    ("target", "step", "words"),
    [
        (load_target("cpu"), Trt(), "target 'cpu' runs onnxruntime-cpu, not TensorRT"),
        (NANO, Trt(sm=86), "sm is for TensorRT for RTX, target 'jetson-nano' runs TensorRT"),
        (CUDA, Trt(weightless=True), "weightless is for TensorRT for RTX, target 'cuda' runs TensorRT"),
        (RTX, Trt(weightless=True), "cannot build an engine without weights ahead of time"),
        (replace(RTX, gpu=None), Trt(), "says no gpu.compute_capability; give one, such as trt{sm=86}"),
    ],
)
def test_what_a_target_cannot_have_is_refused(target: Target, step: Trt, words: str) -> None:
    assert words in step.objection(target)


@pytest.mark.parametrize("step", [Trt(), Trt(sm=120)])
def test_what_it_can_have_is_not(step: Trt) -> None:
    assert step.objection(RTX) == ""
    assert Trt(sm=75).objection(replace(RTX, gpu=None)) == ""
    assert {Trt().objection(target) for target in (NANO, ORIN, CUDA)} == {""}


def test_a_compute_capability_that_is_not_offered_is_refused_with_a_caret() -> None:
    with pytest.raises(SpecError, match="sm=87: TensorRT for RTX builds for 75, 80, 86, 89, 120"):
        checked_pipeline("fp16,onnx,trt{sm=87}", RTX)


def missing(*names: str) -> Callable[[str], object]:
    """`find_spec` on a machine without these packages."""
    return lambda name, *_: None if name in names else importlib.machinery.ModuleSpec(name, None)


def test_tensorrt_for_rtx_that_is_missing_is_found_before_any_work(
    tiny_model: Path, tmp_path: Path, ldmc: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", missing("tensorrt_rtx"))
    done = ldmc(
        "build", "--target", "rtx-3070", "--passes", "onnx,trt", "--model", tiny_model, "-o", tmp_path / "b"
    )
    assert done.code == 2
    assert "pip install -e .[rtx]" in done.err and "open model" not in done.out
    assert not (tmp_path / "b").exists()


def test_a_device_pass_needs_nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", missing("tensorrt", "tensorrt_rtx"))
    assert Trt().lacks(NANO) == ""


@pytest.mark.parametrize(
    ("found", "wanted", "packages", "words"),
    [
        (None, "", (), "no NVIDIA GPU answers here"),
        ("8.6", "8.7", (), "has a GPU of compute capability 8.7, this machine's is 8.6"),
        ("8.6", "", ("tensorrt",), "pip install -e .[tensorrt]"),
        ("8.6", "8.6", (), ""),
        ("8.6", "", (), ""),
    ],
)
def test_engines_built_in_place_need_gpu_and_tensorrt(
    found: str | None, wanted: str, packages: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvidia, "compute_capability", lambda: found)
    monkeypatch.setattr(importlib.util, "find_spec", missing(*packages))
    target = replace(CUDA, gpu=Gpu("its GPU", wanted)) if wanted else CUDA
    said = Trt().lacks(target)
    assert words in said and bool(said) == bool(words)
