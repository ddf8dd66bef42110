"""Fitting: what was asked for stays; what the target needs is put between, said, or with --strict refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ldmc.targets.builder_memory import build_peak_bytes
from ldmc.targets.reader import load_target
from ldmc.targets.target import MIB

ASKED = "fp16,onnx,trt"
REPAIRED = "fp16,onnx,fold,groupnorm{form=primitive},opset,trt"


def board(path: Path, budget_mib: int) -> Path:
    """A Jetson Nano with another memory, as a file."""
    path.write_text(
        f'extends = "jetson-nano"\nname = "board"\n[memory]\ntotal_mib = {budget_mib + 500}\nsystem_mib = 500\n'
    )
    return path


def manifest(bundle: Path) -> dict:
    return json.loads((bundle / "manifest.json").read_text())


def largest_build_mib(bundle: Path) -> float:
    return max(step["peak_bytes"] for step in manifest(bundle)["finish"]["steps"]) / MIB


@pytest.fixture(scope="module")
def nano(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The tiny model for a Jetson Nano, and what `build --json` said."""
    from ldmc.compiler.driver import build
    from ldmc.compiler.frontend import ModelRequest
    from ldmc.compiler.progress import Silent
    from ldmc.compiler.request import BuildRequest

    output = tmp_path_factory.mktemp("bundles") / "tiny.jetson-nano.ldmc"
    request = BuildRequest("jetson-nano", ModelRequest(str(tiny_model)), passes=ASKED, output=output)
    return output, build(request, Silent()).to_json()


def test_what_was_asked_for_is_expanded_and_said(nano: tuple[Path, dict]) -> None:
    bundle, said = nano
    assert manifest(bundle)["pipeline"] == {"unet": REPAIRED, "decoder": REPAIRED} == said["pipeline"]
    unet = [insertion for insertion in said["insertions"] if insertion["component"] == "unet"]
    assert [insertion["spec"] for insertion in unet] == ["fold", "groupnorm{form=primitive}", "opset{to=13}"]
    assert all(insertion["reason"] for insertion in unet)
    assert "InstanceNormalization becomes a plugin" in unet[1]["reason"]
    assert said["pending"] == ["unet", "decoder"]


def test_what_the_device_gets_is_whole(nano: tuple[Path, dict]) -> None:
    bundle, _ = nano
    finish = manifest(bundle)["finish"]
    paths = {file["path"] for file in manifest(bundle)["files"]}
    assert {*finish["reference"].values(), "unet/model.onnx", "unet/model.onnx.data"} <= paths
    assert finish["device"] == {
        "arch": "aarch64", "compute_capability": "5.3", "l4t": "32.7", "tensorrt": ">=8.2,<8.3",
    }  # fmt: skip
    for step in finish["steps"]:
        assert step["peak_bytes"] > load_target("jetson-nano").memory.libraries_bytes  # type: ignore[union-attr]
        assert [sorted(rung) for rung in step["ladder"]] == [
            ["tactic_sources", "workspace_bytes"],
            ["tactic_sources", "workspace_bytes"],
            ["tactic_sources", "workspace_bytes"],
            ["fallback"],
        ]


def test_strict_refuses_a_graph_that_the_parser_would_reject(
    ldmc: Callable, tiny_model: Path, tmp_path: Path
) -> None:
    done = ldmc(
        "build", "--target", "jetson-nano", "--passes", ASKED, "--strict", "--model", tiny_model,
        "-o", tmp_path / "x.ldmc",
    )  # fmt: skip
    assert done.code == 1
    assert "unet: target 'jetson-nano' would reject the graph, --strict inserts nothing" in done.err
    assert "add fold,groupnorm{form=primitive},opset{to=13} where the graph is whole" in done.err
    assert list(tmp_path.iterdir()) == []


def test_strict_takes_a_pipeline_that_says_everything(
    ldmc: Callable, tiny_model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "x.ldmc"
    done = ldmc(
        "build", "--target", "jetson-nano", "--passes", REPAIRED, "--strict", "--model", tiny_model, "--json",
        "-o", output,
    )  # fmt: skip
    assert (done.code, done.json["insertions"]) == (0, [])
    assert manifest(output)["pipeline"]["unet"] == REPAIRED


def test_a_network_that_cannot_be_built_whole_is_cut(
    ldmc: Callable, nano: tuple[Path, dict], tiny_model: Path, tmp_path: Path
) -> None:
    whole_mib = largest_build_mib(nano[0])
    tight = board(tmp_path / "board.toml", int(whole_mib))
    output = tmp_path / "x.ldmc"
    done = ldmc("build", "--target", tight, "--passes", ASKED, "--model", tiny_model, "--json", "-o", output)
    assert done.code == 0, done.err
    cut = [insertion for insertion in done.json["insertions"] if insertion["spec"].startswith("partition")]
    assert [insertion["component"] for insertion in cut] == ["unet"]
    assert f"has {int(whole_mib)} MiB" in cut[0]["reason"]
    assert f"partition{{parts={len(manifest(output)['components']['unet']['parts'])}}}" == cut[0]["spec"]
    assert largest_build_mib(output) <= int(whole_mib) < whole_mib
    assert "unet: inserted partition" in done.err


def test_memory_that_holds_no_build_at_all_is_exit_4_and_can_be_overruled(
    ldmc: Callable, tiny_model: Path, tmp_path: Path
) -> None:
    hopeless = board(tmp_path / "board.toml", 810)
    arguments = ("build", "--target", hopeless, "--passes", ASKED, "--model", tiny_model)
    done = ldmc(*arguments, "-o", tmp_path / "x.ldmc")
    assert done.code == 4
    assert "810 MiB" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["board.toml"]
    assert ldmc(*arguments, "-o", tmp_path / "x.ldmc", "--allow-over-budget").code == 0


def test_the_builders_bound_is_what_the_facts_say() -> None:
    nano = load_target("jetson-nano")
    assert nano.memory is not None
    whole = build_peak_bytes(523 * MIB, 0, nano)
    assert whole == (230 + 159 + 412 + 5 * 523 + 64) * MIB > nano.memory.budget_bytes
