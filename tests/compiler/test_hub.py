"""The hub, for real: a server on loopback, and ldmc in a process of its own that finds it through the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ldmc.compiler import frontend
from ldmc.compiler.checkpoint import read_checkpoint
from ldmc.compiler.hub import fetch, is_hub_id
from ldmc.errors import ModelError
from tests import checkpoints
from tests.conftest import Outcome
from tests.hub_server import COMMIT, Hub, serving
from tests.patience import HANG_SECONDS

# Prints what was opened; nothing is compiled.
OPEN = """
import json, sys
from ldmc.compiler.frontend import ModelRequest, open_model
warnings = []
opened = open_model(ModelRequest(*json.loads(sys.argv[1])), warnings.append)
weights = {name: [str(f) for f in files] for name, files in (opened.weights or {}).items()}
print(json.dumps({"name": opened.name, "kind": opened.kind, "weights": weights, "warnings": warnings}))
"""
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


@pytest.fixture(scope="module")
def hub(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with the tiny model, one without weights, and the default preset's id (with the tiny weights)."""
    folder = tmp_path_factory.mktemp("hub")
    whole = checkpoints.copy_model(tiny_model, folder / "whole")
    (whole / "README.md").write_text("# tiny")
    (whole / "unet" / "optimizer.bin").write_bytes(b"0" * 1000)
    # The same weights in another format, of which one is enough.
    (whole / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"0" * 1000)
    (whole / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"0" * 1000)
    (whole / "vqvae" / "training.log").write_text("step 1")
    (whole / "safety_checker").mkdir()
    (whole / "safety_checker" / "diffusion_pytorch_model.safetensors").write_bytes(b"0" * 1000)
    bare = checkpoints.copy_model(tiny_model, folder / "bare")
    for name in checkpoints.COMPONENTS:
        checkpoints.drop_weights(bare / name)
    models = {
        "someone/tiny-ldm": whole,
        "someone/bare-ldm": bare,
        frontend.PRESETS[frontend.DEFAULT_MODEL]: whole,
    }
    with serving(models) as server:
        yield server


def environment(endpoint: str, home: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return {**kept, "HF_ENDPOINT": endpoint, "HF_HOME": str(home)}


def opened(env: dict[str, str], *request: Any) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", OPEN, json.dumps(request)],
        env=env,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def ldmc_process(env: dict[str, str], *arguments: object, cwd: Path) -> Outcome:
    command = [sys.executable, "-m", "ldmc", *map(str, arguments)]
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=HANG_SECONDS)
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_the_first_build_fetches_what_it_needs_and_the_second_needs_no_hub(
    hub: Hub, tiny_bundle: Path, tmp_path: Path
) -> None:
    hub.fetched.clear()
    home = tmp_path / "home"
    found = opened(environment(hub.endpoint, home), "someone/tiny-ldm")
    assert (found["name"], found["kind"], found["warnings"]) == ("tiny-ldm", "hub", [])
    assert all(str(home) in file and COMMIT in file for files in found["weights"].values() for file in files)
    assert sorted(hub.fetched) == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vqvae/config.json",
        "vqvae/diffusion_pytorch_model.safetensors",
    ]

    built = ldmc_process(
        environment(NOWHERE, home),
        "build",
        "--target",
        "cpu",
        "--model",
        "someone/tiny-ldm",
        "--json",
        cwd=tmp_path,
    )
    assert built.code == 0, built.err
    bundle = tmp_path / "tiny-ldm.cpu.ldmc"
    assert built.json["bundle"] == bundle.name
    assert "%|" not in built.err  # huggingface_hub's own bars
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert (manifest["source"]["model"], manifest["source"]["kind"]) == ("someone/tiny-ldm", "hub")
    for relative in ("unet/model.onnx.data", "decoder/model.onnx.data", "unet/model.onnx"):
        assert (bundle / relative).read_bytes() == (tiny_bundle / relative).read_bytes()


def test_placeholder_weights_fetch_the_configuration_alone(hub: Hub, tmp_path: Path) -> None:
    hub.fetched.clear()
    found = opened(environment(hub.endpoint, tmp_path), "someone/tiny-ldm", 3)
    assert found["weights"] == {}
    assert hub.fetched
    assert not [file for file in hub.fetched if not file.endswith(".json")]


def test_no_model_takes_the_presets_weights_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    found = opened(environment(hub.endpoint, tmp_path))
    assert (found["name"], found["kind"], found["warnings"]) == (frontend.DEFAULT_MODEL, "preset", [])
    assert set(found["weights"]) == {"unet", "decoder"}


def test_no_model_and_no_hub_warns_and_goes_on(tmp_path: Path) -> None:
    found = opened(environment(NOWHERE, tmp_path))
    assert (found["kind"], found["weights"]) == ("preset", {})
    (warning,) = found["warnings"]
    assert "PLACEHOLDER WEIGHTS" in warning
    assert "the hub cannot be reached" in warning


def test_require_weights_without_a_hub_is_exit_1_and_leaves_nothing(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    env = environment(NOWHERE, tmp_path / "home")
    done = ldmc_process(env, "build", "--target", "cpu", "--require-weights", "--json", cwd=work)
    assert done.code == 1
    assert done.json["error"]["code"] == "model"
    assert "no weights for ldm-celebahq-256" in done.json["error"]["message"]
    assert "the hub cannot be reached" in done.json["error"]["message"]
    assert "--random-weights" in done.json["error"]["fix"]
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    ("endpoint", "model", "message", "fix"),
    [
        ("hub", "someone/bare-ldm", "model 'someone/bare-ldm' has no weights", "--model DIR"),
        ("hub", "someone/no-such", "the hub has no model 'someone/no-such', or it is private", "HF_TOKEN"),
        (
            "nowhere",
            "someone/tiny-ldm",
            "is not in the local cache and the hub cannot be reached",
            "HF_ENDPOINT",
        ),
        (
            "offline",
            "someone/tiny-ldm",
            "is not in the local cache and the hub cannot be reached",
            "HF_ENDPOINT",
        ),
    ],
)
def test_a_named_model_that_cannot_be_had(
    endpoint: str, model: str, message: str, fix: str, hub: Hub, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    env = environment(hub.endpoint if endpoint == "hub" else NOWHERE, tmp_path / "home")
    if endpoint == "offline":
        env["HF_HUB_OFFLINE"] = "1"
    done = ldmc_process(env, "build", "--target", "cpu", "--model", model, "--json", cwd=work)
    assert done.code == 1
    assert message in done.json["error"]["message"]
    assert fix in done.json["error"]["fix"]
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/name", True),
        ("CompVis/ldm-celebahq-256", True),
        ("a.b_c-d/e.f_g-h", True),
        ("name", False),
        ("a/b/c", False),
        ("owner/", False),
        ("/name", False),
        ("./name", False),
        ("../name", False),
        ("owner/..", False),
        ("owner name/x", False),
        ("https://hub/x", False),
    ],
)
def test_what_looks_like_a_hub_id(text: str, expected: bool) -> None:
    assert is_hub_id(text) is expected


def test_an_id_that_the_hub_would_refuse_is_told_so() -> None:
    with pytest.raises(ModelError, match="is not a hub id") as caught:
        fetch("owner--x/name", with_weights=False)
    assert "owner/name" in caught.value.fix


def test_the_served_checkpoint_reads(hub: Hub) -> None:
    assert read_checkpoint(hub.models["someone/tiny-ldm"]).decoder_folder == "vqvae"
