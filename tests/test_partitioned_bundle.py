"""A partitioned bundle through every command: built, inspected, compared, run, verified."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ldmc.cli import main
from tests.conftest import Outcome

Run = Callable[..., Outcome]
FLAGS = ("--passes", "fp16,onnx,fold,partition{parts=3}", "--keep-intermediates")


@pytest.fixture(scope="module")
def built(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in three parts."""
    bundle = tmp_path_factory.mktemp("partitioned") / "cut.cpu.ldmc"
    main(["build", "--target", "cpu", "--model", str(tiny_model), *FLAGS, "-o", str(bundle)])
    return bundle


def manifest_of(bundle: Path) -> dict[str, Any]:
    return dict(json.loads((bundle / "manifest.json").read_text()))


def test_the_manifest_says_what_each_part_reads_and_gives(built: Path) -> None:
    unet = manifest_of(built)["components"]["unet"]
    assert unet["form"] == "onnx-parts"
    assert [(part["name"], part["form"], part["file"]) for part in unet["parts"]] == [
        (f"unet.{k}", "onnx", f"unet/{k}.onnx") for k in range(3)
    ]
    assert unet["parts"][2]["outputs"] == unet["outputs"]
    given = {spec["name"]: spec for spec in unet["inputs"]}
    for part in unet["parts"]:
        assert all(given[spec["name"]] == spec for spec in part["inputs"])
        given.update((spec["name"], spec) for spec in part["outputs"])


def test_parts_share_one_weights_file_that_holds_each_weight_once(built: Path) -> None:
    manifest = manifest_of(built)
    sizes = {file["path"]: file["bytes"] for file in manifest["files"]}
    assert {path for path in sizes if path.startswith("unet/")} == {
        "unet/0.onnx", "unet/1.onnx", "unet/2.onnx", "unet/model.onnx.data",
    }  # fmt: skip
    stages = {
        s["pass"].partition("{")[0]: Path(s["report"]).stem
        for s in manifest["stages"]
        if s["component"] == "unet"
    }
    whole = sizes[f"intermediate/unet/{stages['fold']}/model.onnx.data"]
    assert abs(sizes["unet/model.onnx.data"] - whole) < 16 * 4096  # pages between tensors that stand in another order
    assert {f"intermediate/unet/{stages['partition']}/{k}.onnx" for k in range(3)} <= sizes.keys()


def test_the_report_shows_every_value_of_every_cut(built: Path) -> None:
    manifest = manifest_of(built)
    stage = next(
        s for s in manifest["stages"] if s["component"] == "unet" and s["pass"].startswith("partition")
    )
    report = json.loads((built / stage["report"]).read_text())
    assert [part["name"] for part in report["parts"]] == ["unet.0", "unet.1", "unet.2"]
    for part, entry in zip(report["parts"][:-1], manifest["components"]["unet"]["parts"]):
        assert {spec["name"] for spec in entry["outputs"]} <= {value["name"] for value in part["crosses"]}
        assert part["crossing_bytes"] == sum(value["bytes"] for value in part["crosses"]) > 0
        assert all(value["name"].startswith(value["module"] + "/") for value in part["crosses"])
    assert report["parts"][-1]["crosses"] == []
    assert any(remark.startswith("after unet.0: ") for remark in report["remarks"])


def test_inspect_lists_the_parts(ldmc: Run, built: Path) -> None:
    done = ldmc("inspect", built)
    assert done.code == 0, done.err
    for name in ("unet.0", "unet.1", "unet.2", "decoder.0", "crossing MiB"):
        assert name in done.out


def test_diff_shows_nothing_but_the_cut(ldmc: Run, built: Path) -> None:
    done = ldmc("diff", f"{built}:unet:fold", f"{built}:unet:partition", "--json")
    assert done.code == 0, done.err
    diff = done.json["components"]["unet"] if "components" in done.json else done.json
    text = json.dumps(diff)
    assert '"added": []' in text and '"removed": []' in text and '"changed": []' in text
    assert ldmc("diff", f"{built}:unet", f"{built}:unet:partition", "--exit-code").code == 0


def test_it_runs(ldmc: Run, built: Path, tiny_bundle_fp16: Path, tmp_path: Path) -> None:
    done = ldmc("run", built, "--steps", 2, "-o", tmp_path / "cut.png", "--json")
    assert done.code == 0, done.err
    assert done.json["warnings"] == []
    assert done.json["open_seconds"] == 0


def test_it_agrees_with_pytorch(ldmc: Run, built: Path) -> None:
    """Every half-precision value of every part is looked at for overflow on the way."""
    done = ldmc("verify", built, "--steps", 2, "--json")
    assert done.code == 0, done.err
    assert done.json["ok"] is True
    assert done.json["components"]["unet"]["snr_db"] > 40


def test_an_overflow_in_a_later_part_is_found_and_cured(ldmc: Run, tiny_model: Path, tmp_path: Path) -> None:
    """The network is compiled again whole: cutting changes no value."""
    from tests.checkpoints import copy_model, read_state, replace_state

    model = copy_model(tiny_model, tmp_path / "model")
    state = read_state(model / "unet")
    state["up_blocks.1.resnets.0.conv1.bias"].fill_(60000.0)
    state["up_blocks.1.resnets.0.time_emb_proj.bias"].fill_(60000.0)
    replace_state(model / "unet", state)
    done = ldmc(
        "build", "--target", "cpu", "--model", model, "--passes", "fp16,onnx,fold,partition{parts=2}",
        "-o", tmp_path / "hot.ldmc", "--verify",
    )  # fmt: skip
    assert done.code == 5
    assert "unet: node up_blocks.1.resnets.0" in " ".join(done.err.split())
    assert "fp16{keep=[" in done.err
