"""`ldmc verify --by-stage` and `--by-block` from the outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkpoints import copy_model, read_state, replace_state
from tests.compiler.fidelity.conftest import Examined
from tests.compiler.fidelity.faults import copied, scale_weight, swap_node
from tests.conftest import Outcome

Run = Callable[..., Outcome]
FAST = ("--steps", 2, "--timesteps", 2)
STAGE_KEYS = {"component", "stage", "pass", "form", "snr_db", "needed_db", "added_db", "max_abs_error", "why"}
BLOCK_KEYS = {
    "component", "block", "is_level", "snr_db", "local_snr_db", "needed_db", "max_abs_error", "departs", "why",
}


def test_both_tables_at_eighty_columns_without_colour(
    ldmc: Run, fp16: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = ldmc("verify", fp16.bundle, "--by-stage", "--by-block", "--component", "decoder", *FAST)
    assert done.code == 0, done.err
    assert "\x1b" not in done.out and max(len(line) for line in done.out.splitlines()) <= 80
    for text in ("01-fp16", "added dB", "decoder.mid_block.attentions.0", "own SNR dB", "no block departs"):
        assert text in done.out
    assert "unet by" not in done.out


def test_json_has_its_documented_keys(ldmc: Run, fp32: Examined) -> None:
    done = ldmc("verify", fp32.bundle, "--by-stage", "--by-block", "--json", *FAST)
    assert done.code == 0, done.err
    report = done.json
    assert report["ok"] is True and report["first_departure"] is None
    assert report["timesteps"] == [500, 0]
    assert all(set(row) == STAGE_KEYS for row in report["stages"])
    assert all(set(row) == BLOCK_KEYS for row in report["blocks"])
    for rows in (report["stages"], report["blocks"]):
        assert {row["component"] for row in rows} == {"unet", "decoder"}


def test_a_fault_is_named_with_its_figures_and_exit_code_5(ldmc: Run, fp32: Examined, tmp_path: Path) -> None:
    bundle = copied(fp32.bundle, tmp_path / "bad.ldmc")
    scale_weight(bundle, "unet", "mid_block.resnets.1.conv1.weight", 1.5)
    done = ldmc("verify", bundle, "--by-block", "--component", "unet", "--json", *FAST)
    assert done.code == 5
    assert done.json["first_departure"] == {"component": "unet", "block": "mid_block.resnets.1"}
    message = done.json["error"]["message"]
    assert message.startswith("unet: mid_block.resnets.1 is the first block that departs") and "needed 70 dB" in message
    assert "--by-stage" in done.json["error"]["fix"]
    assert "mid_block.resnets.1" in done.err and "departs" in done.err


def test_a_fault_in_the_decoder_behind_a_good_unet(ldmc: Run, fp16: Examined, tmp_path: Path) -> None:
    bundle = copied(fp16.bundle, tmp_path / "bad.ldmc")
    swap_node(bundle, "decoder", "decoder.up_blocks.0.resnets.0/Add", "Sub")
    done = ldmc("verify", bundle, "--by-block", "--json", *FAST)
    assert done.code == 5
    assert done.json["first_departure"] == {"component": "decoder", "block": "decoder.up_blocks.0.resnets.0"}


def test_a_bundle_whose_engines_wait_is_looked_into_by_its_graphs(ldmc: Run, nano: Path, tmp_path: Path) -> None:
    good = ldmc("verify", nano, "--by-block", "--json", "--component", "unet", *FAST)
    assert good.code == 0, good.err
    assert good.json["remarks"] == [
        "unet: an engine cannot be looked into: the ONNX graph that it is built from was compared, on this CPU"
    ]
    bundle = copied(nano, tmp_path / "bad.ldmc")
    swap_node(bundle, "unet", "up_blocks.1.resnets.0.norm1/Sub", "Add")
    bad = ldmc("verify", bundle, "--by-block", "--json", "--component", "unet", *FAST)
    assert bad.code == 5
    assert bad.json["first_departure"]["block"] == "up_blocks.1.resnets.0"


def test_a_script_cannot_be_compared_by_block(ldmc: Run, script: Path) -> None:
    done = ldmc("verify", script, "--by-block")
    assert done.code == 2
    assert "it is in torchscript form, which has no ONNX graph to look into" in done.err
    assert "--by-stage" in done.err


def test_an_engine_without_its_graph_cannot_be_compared_by_block(ldmc: Run, nano: Path, tmp_path: Path) -> None:
    bundle = copied(nano, tmp_path / "engines.ldmc")
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    for component in manifest["components"].values():
        for part in component["parts"]:
            del part["source"]
    path.write_text(json.dumps(manifest))
    done = ldmc("verify", bundle, "--by-block")
    assert done.code == 2 and "does not carry its graph" in " ".join(done.err.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--by-block", "--component", "vae"), "has no component 'vae'"),
        (("--component", "unet"), "--component goes with --by-stage or --by-block"),
        (("--timesteps", 2), "--timesteps goes with --by-stage or --by-block"),
        (("--by-block", "--timesteps", 0), "0"),
        (("--by-stage", "--hashes-only"), "--hashes-only runs nothing"),
        (("--by-block", "--target", "cpu"), "--target goes with --by-stage"),
        (("--by-stage", "--target", "jetson-nano"), "is for the target 'cpu'"),
    ],
)
def test_options_that_cannot_work(ldmc: Run, fp32: Examined, options: tuple[object, ...], message: str) -> None:
    done = ldmc("verify", fp32.bundle, *options)
    assert done.code == 2
    assert message in " ".join(done.err.split())


def test_a_boards_own_target_is_asked_for(ldmc: Run, fp32: Examined, tmp_path: Path) -> None:
    bundle = copied(fp32.bundle, tmp_path / "board.ldmc")
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace('"target": "cpu"', '"target": "board"'))
    board = tmp_path / "board.toml"
    board.write_text('name = "board"\nsummary = "a board"\nextends = "cpu"\n')
    without = ldmc("verify", bundle, "--by-stage", "--component", "decoder", *FAST)
    assert without.code == 2 and "--target BOARD.toml" in without.err
    done = ldmc("verify", bundle, "--by-stage", "--component", "decoder", "--target", board, *FAST)
    assert done.code == 0, done.err


def test_another_model_is_refused(ldmc: Run, tiny_model: Path, fp32: Examined, tmp_path: Path) -> None:
    model = copy_model(tiny_model, tmp_path / "other")
    state = read_state(model / "unet")
    replace_state(model / "unet", state | {"conv_in.bias": state["conv_in.bias"] + 1e-6})
    done = ldmc("verify", fp32.bundle, "--by-block", "--model", model)
    assert done.code == 5 and "has other weights than the bundle was made from" in " ".join(done.err.split())


def test_an_altered_file_is_refused_before_anything_runs(ldmc: Run, fp32: Examined, tmp_path: Path) -> None:
    bundle = copied(fp32.bundle, tmp_path / "altered.ldmc")
    data = bundle / "unet" / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1] + b"\0\1")
    done = ldmc("verify", bundle, "--by-stage")
    assert done.code == 5 and "model.onnx.data" in done.err


@pytest.mark.parametrize("options", [(), ("--by-block",)])
def test_more_steps_than_the_model_knows(ldmc: Run, fp32: Examined, options: tuple[str, ...]) -> None:
    done = ldmc("verify", fp32.bundle, "--steps", 5000, *options)
    assert done.code == 2 and "steps is 5000; the model was trained with 1000 timesteps" in done.err
