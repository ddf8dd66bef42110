"""The promise about the whole 330M model: both engines built ahead of time, without a GPU, inside 3 GiB."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.memory_limit import NoCgroup, memory_limit

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorrt_rtx") is None,
        reason="tensorrt_rtx is not installed: pip install -e .[rtx]",
    ),
]
GIB = 2**30


@dataclass(frozen=True)
class EngineBuild:
    """The full model for the RTX 3070, built by the command line; limited: under a memory cgroup of 3 GiB."""

    bundle: Path
    manifest: dict[str, Any]
    result: dict[str, Any]
    limited: bool


@pytest.fixture(scope="module")
def engine_build(tmp_path_factory: pytest.TempPathFactory) -> EngineBuild:
    """Built once for all tests here; the limit holds compiler and engine builder together."""
    folder = tmp_path_factory.mktemp("engines")
    arguments = "build --target rtx-3070 --random-weights -o full.ldmc --json"
    command = [sys.executable, "-m", "ldmc", *arguments.split()]
    try:
        with memory_limit(3 * GIB) as limit:
            done = limit.run(command, folder)
        limited = True
    except NoCgroup:
        done, limited = (
            subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False),
            False,
        )
    assert done.returncode == 0, f"exit {done.returncode} (a kill is -9): {done.stderr[-2000:]}"
    bundle = folder / "full.ldmc"
    manifest = json.loads((bundle / "manifest.json").read_text())
    return EngineBuild(bundle, manifest, json.loads(done.stdout), limited)


def test_builds_inside_three_gib(engine_build: EngineBuild) -> None:
    if not engine_build.limited:
        pytest.skip("no memory cgroup can be made here (needs root and a writable /sys/fs/cgroup)")
    assert engine_build.result["peak_rss_bytes"] < 2.5 * GIB


def test_the_builders_memory_is_in_the_stages_peak(engine_build: EngineBuild) -> None:
    stages = engine_build.result["stages"]
    peaks = {stage["pass"]: stage["peak_rss_bytes"] for stage in stages if stage["component"] == "unet"}
    assert peaks["trt"] > peaks["fold"] + GIB / 2


@pytest.mark.parametrize(("name", "least_layers"), [("unet", 1000), ("decoder", 300)])
def test_tensorrts_own_figures_are_in_the_manifest(
    engine_build: EngineBuild, name: str, least_layers: int
) -> None:
    component = engine_build.manifest["components"][name]
    [engine] = component["engine"]
    assert engine["layers"] > least_layers
    assert engine["weights_bytes"] == pytest.approx(component["stats"]["bytes"], rel=0.02)
    assert 0 < engine["activation_bytes"] <= component["stats"]["peak_activation_bytes"] * 2


def test_an_engine_is_little_more_than_its_weights(engine_build: EngineBuild) -> None:
    for name, component in engine_build.manifest["components"].items():
        file = engine_build.bundle / name / "model.engine"
        assert file.stat().st_size < 1.1 * component["stats"]["bytes"]
