"""The promises about the whole 330M model: compiled inside 1 GiB, loaded lean, graphs as in the reference project."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.memory_limit import NoCgroup, memory_limit

pytestmark = pytest.mark.full
GIB = 2**30

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
