"""The promises about the whole 330M model: compiled inside 1 GiB, loaded lean, graphs as in the reference project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldmc.artifacts import graphs
from ldmc.compiler.frontend import ModelRequest, open_model, read_program
from ldmc.compiler.lower import Lowering
from ldmc.ir import Chain, Component
from ldmc.passes.fold import Fold
from ldmc.passes.onnx import Onnx
from ldmc.passes.partition import Partition
from ldmc.targets.reader import load_target
from tests.memory_limit import NoCgroup, memory_limit

pytestmark = pytest.mark.full
GIB = 2**30
REPOSITORY = Path(__file__).resolve().parents[1]

# Figure 3 of the reference project, after simplification, without the Casts of its autocast export; and why ours
# differs where it does. Explained row by row in the README.
FIGURE_3 = {
    "Concat": 14,
    "Conv": 67,
    "Cos": 1,
    "Gemm": 24,
    "InstanceNormalization": 61,
    "MatMul": 64,
    "Resize": 3,
    "Sigmoid": 47,
    "Sin": 1,
    "Slice": 2,
    "Softmax": 16,
    "Split": 16,
    "Transpose": 112,
    "Unsqueeze": 23,
}


@dataclass(frozen=True)
class FullBuild:
    """The full model, compiled by the command line under a memory limit; peak_bytes includes file cache."""

    bundle: Path
    result: dict[str, Any]
    limited: bool


@pytest.fixture(scope="module")
def full_build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullBuild]:
    """Build once for all tests here: under 1 GiB where a cgroup can be made, else without a limit."""
    folder = tmp_path_factory.mktemp("full")
    arguments = "build --target cpu --passes fp16,onnx,fold --random-weights -o full.ldmc --json"
    command = [sys.executable, "-m", "ldmc", *arguments.split()]
    try:
        with memory_limit(GIB) as limit:
            done = limit.run(command, folder)
        limited = True
    except NoCgroup:
        done, limited = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False), False
    assert done.returncode == 0, f"exit {done.returncode} (a kill is -9): {done.stderr[-2000:]}"
    yield FullBuild(folder / "full.ldmc", json.loads(done.stdout), limited)


def test_compiles_inside_one_gib(full_build: FullBuild) -> None:
    if not full_build.limited:
        pytest.skip("no memory cgroup can be made here (needs root and a writable /sys/fs/cgroup)")
    assert full_build.result["peak_rss_bytes"] < GIB


def test_every_stage_reports_its_own_peak(full_build: FullBuild) -> None:
    stages = full_build.result["stages"]
    assert [stage["stage"] for stage in stages] == ["01-fp16", "02-onnx", "03-fold"] * 2
    for stage in stages:
        assert 0 < stage["peak_rss_bytes"] <= full_build.result["peak_rss_bytes"]
        assert stage["seconds"] > 0


def test_counts_of_the_published_network(full_build: FullBuild) -> None:
    """Parameters and MACs as published: 274,056,163 in the UNet, 101.2 GMAC."""
    traced = next(stage for stage in full_build.result["stages"] if stage["stage"] == "01-fp16")
    assert traced["params_after"] == 274_056_163
    folded = next(stage for stage in full_build.result["stages"] if stage["stage"] == "03-fold")
    assert folded["macs_after"] / 1e9 == pytest.approx(101.2, abs=0.05)


def test_folded_graph_is_the_reference_projects(full_build: FullBuild) -> None:
    ops = next(stage for stage in full_build.result["stages"] if stage["stage"] == "03-fold")["ops_after"]
    assert {op: ops.get(op, 0) for op in FIGURE_3} == FIGURE_3
    assert not {"Constant", "Shape", "Div", "CastLike", "Identity"} & set(ops)


def test_weights_are_half_and_not_grown(full_build: FullBuild) -> None:
    manifest = json.loads((full_build.bundle / "manifest.json").read_text())
    weights = next(file for file in manifest["files"] if file["path"] == "unet/model.onnx.data")
    assert weights["bytes"] < 1.02 * 2 * 274_056_163


def test_onnxsim_on_the_whole_model_needs_more(full_build: FullBuild) -> None:
    """The reason for setting weights aside: folding here takes less memory than the weights it folds around."""
    fold = next(stage for stage in full_build.result["stages"] if stage["stage"] == "03-fold")
    before = next(stage for stage in full_build.result["stages"] if stage["stage"] == "02-onnx")
    assert fold["peak_rss_bytes"] - before["peak_rss_bytes"] < fold["bytes_before"] / 2


LOAD = """
import sys
from ldmc.runtime import load, memory
with load(sys.argv[1]) as pipeline:
    print(memory.private_bytes(), *pipeline.remarks)
"""


def test_weights_of_the_fp32_model_stay_mapped(tmp_path: Path) -> None:
    """After the first load has saved the optimised graph, loading takes no private memory for 1.05 GiB of weights."""
    bundle = tmp_path / "fp32.ldmc"
    build = f"build --target cpu --random-weights -o {bundle}"
    subprocess.run([sys.executable, "-m", "ldmc", *build.split()], check=True, capture_output=True)
    outputs = [
        subprocess.run([sys.executable, "-c", LOAD, str(bundle)], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    ]
    for output in outputs:
        private, remarks = output.split(maxsplit=1)
        assert int(private) < 150 * 2**20
        assert remarks.strip() == "the weights are random placeholders: every picture is noise"


# The reference project's app on the phone took 2379 MB; 35% less is promised.
ANDROID_MB = 2379 * 0.65
ANDROID_LIMIT_MIB = 1400

DRAW = """
import sys
from ldmc.runtime import load, memory
with load(sys.argv[1]) as pipeline:
    pipeline.generate(steps=2)
    print(memory.peak_rss_bytes(), *pipeline.remarks)
"""


def _forget(bundle: Path) -> None:
    """Out of the file cache, so that reading a file again is charged to who reads it."""
    for file in bundle.rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_android_draws_in_little_memory(tmp_path: Path) -> None:
    """The whole fp32 model, one component at a time, under a hard limit: from the first load, which optimises, on."""
    bundle = tmp_path / "full.android.ldmc"
    build = f"build --target android --random-weights -o {bundle}"
    subprocess.run([sys.executable, "-m", "ldmc", *build.split()], check=True, capture_output=True)
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["load"] == "one-at-a-time"
    assert manifest["pipeline"] == {"unet": "onnx,fold", "decoder": "onnx,fold"}
    command = [sys.executable, "-c", DRAW, str(bundle)]
    for _ in range(2):
        _forget(bundle)
        try:
            with memory_limit(ANDROID_LIMIT_MIB * 2**20) as limit:
                done = limit.run(command, REPOSITORY)
        except NoCgroup as error:
            pytest.skip(f"{error} (needs root and a writable /sys/fs/cgroup)")
        assert done.returncode == 0, f"exit {done.returncode} (a kill is -9): {done.stderr[-2000:]}"
        peak, remarks = done.stdout.split(maxsplit=1)
        assert int(peak) / 1e6 < ANDROID_MB
        assert remarks.strip() == "the weights are random placeholders: every picture is noise"


def test_the_whole_unet_in_parts_gives_the_same_bits(tmp_path: Path) -> None:
    """Every part and every finer part, on ONNX Runtime without optimisation, over one weights file."""
    network, paths = _cut_unet(tmp_path)
    feeds = {"input_0": np.random.RandomState(0).standard_normal((1, 3, 64, 64)).astype(np.float32)}
    feeds["input_1"] = np.array([500])
    expected = _run_in_order(paths[:1], feeds)
    assert np.isfinite(expected).all() and expected.std() > 0
    assert [len(part) for part in network.payload.finer] == [2, 2, 2, 2]
    np.testing.assert_array_equal(_run_in_order(paths[1:5], feeds), expected)
    np.testing.assert_array_equal(_run_in_order(paths[5:], feeds), expected)


def _cut_unet(folder: Path) -> tuple[Component, list[Path]]:
    """The UNet in four parts; files: the whole, the parts, the finer parts."""
    request = ModelRequest(None, 0)
    program = read_program(open_model(request, lambda _: None), request)
    (folder / "scratch").mkdir()
    lowering = Lowering(program.components[0], load_target("jetson-nano"), folder / "scratch")
    for step in (Onnx(), Fold()):
        lowering.run(step)
    whole = lowering.component
    lowering.run(Partition(parts=4))
    chain: Chain = lowering.component.payload
    models = [part.payload for part in (whole, *chain.parts, *(part for finer in chain.finer for part in finer))]
    stored = graphs.store(models, folder, "weights.data", lambda _: None)
    paths = [folder / f"{number}.onnx" for number in range(len(models))]
    for model, path in zip(models, paths):
        graphs.save(model, stored, path)
    return lowering.component, paths


def _run_in_order(paths: list[Path], feeds: dict[str, Any]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    values = dict(feeds)
    for path in paths:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_outputs()]
        values.update(zip(names, session.run(names, {v.name: values[v.name] for v in session.get_inputs()})))
    return values["output_0"]
