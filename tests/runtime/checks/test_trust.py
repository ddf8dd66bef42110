"""Native code and scripts of a bundle run only where somebody vouches for them; attacked with a script that writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from ldmc.runtime import BundleProblem, load
from ldmc.runtime.backends import OpenOptions, open_component
from ldmc.runtime.checks.trust import UntrustedBundle, remember
from ldmc.runtime.manifest import read_manifest
from tests.runtime.old_python import old_python
from tests.runtime.tiny_bundle import list_files, make_bundle, read_manifest_json, write_manifest

WORDS = ("is in the form torchscript: loading it runs a script of whoever made", "--trust")


class Thief(torch.nn.Module):
    """A decoder that writes into a file of the user's: what TorchScript lets any script do."""

    def __init__(self, victim):
        super().__init__()
        self.victim: str = victim

    def forward(self, latent):
        stolen = torch.from_file(self.victim, True, 4, dtype=torch.uint8).fill_(33)
        return torch.nn.functional.interpolate(latent, scale_factor=4.0) + 0 * stolen.sum()


@pytest.fixture(scope="module")
def stolen(tmp_path_factory):
    """(bundle, victim): a bundle whose decoder is a script that writes into `victim`, and carries its runtime."""
    folder = tmp_path_factory.mktemp("stolen")
    victim = folder / "victim.txt"
    bundle = make_bundle(folder / "tiny.cpu.ldmc", runtime=True)
    torch.jit.script(Thief(str(victim))).save(str(bundle / "decoder" / "model.ts"))
    manifest = read_manifest_json(bundle)
    decoder = manifest["components"]["decoder"]
    decoder["form"] = "torchscript"
    decoder["parts"][0].update(form="torchscript", file="decoder/model.ts")
    manifest.update(pipeline={"unet": "onnx", "decoder": "torchscript"})
    manifest["source"].update(kind="folder", config_sha256="0" * 64)
    for component in manifest["components"].values():
        component["stats"].update(params=1, bytes=1, macs=1)
    write_manifest(bundle, manifest)
    list_files(bundle)
    return bundle, victim


@pytest.fixture
def untouched(stolen):
    """The victim, which must be as it was when the test ends."""
    stolen[1].write_text("mine")
    yield stolen[1]
    assert stolen[1].read_text() == "mine"


def test_the_script_is_what_it_is_feared_to_be(stolen):
    bundle, victim = stolen
    victim.write_text("mine")
    with load(bundle, trust=True) as pipeline:
        pipeline.generate(steps=1)
    assert victim.read_text() == "!!!!"


def test_it_is_not_loaded(stolen, untouched):
    with pytest.raises(UntrustedBundle) as caught:
        load(stolen[0])
    assert all(word in caught.value.message + caught.value.fix for word in WORDS)
    assert caught.value.message.startswith("decoder/model.ts is in the form")
    manifest = read_manifest(stolen[0])
    with pytest.raises(UntrustedBundle):
        open_component(manifest, manifest.components["decoder"], OpenOptions(), [])


@pytest.mark.parametrize("command", [
    ("run",), ("verify",), ("verify", "--by-stage"), ("bench", "--baseline", "none"),
])
def test_no_command_that_runs_it_does(stolen, untouched, ldmc, tmp_path, command):
    name, *options = command
    output = () if name == "verify" else ("-o", tmp_path / "out.png")
    done = ldmc(name, stolen[0], *options, *output)
    assert done.code == 1, done.err
    assert all(word in done.err for word in WORDS), done.err
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("command", [("inspect",), ("verify", "--hashes-only"), ("report",), ("diff",)])
def test_commands_that_look_never_load_it(stolen, untouched, ldmc, tmp_path, monkeypatch, command):
    def refuse(*_arguments, **_options):
        raise AssertionError("it was loaded")

    monkeypatch.setattr(torch.jit, "load", refuse)
    name, *options = command
    arguments = {"report": [stolen[0], "-o", tmp_path / "r.html"], "diff": [f"{stolen[0]}:unet", f"{stolen[0]}:unet"]}
    done = ldmc(name, *arguments.get(name, [stolen[0]]), *options)
    assert done.code == 0, done.err


@pytest.mark.parametrize("python", ["present", "3.6"])
def test_the_bundles_own_runtime_does_not_load_it(stolen, untouched, tmp_path, python):
    python = sys.executable if python == "present" else old_python()
    for command in ((), ("bench", "--idle", "0", "--runs", "1", "--steps", "1")):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        done = subprocess.run([python, "-m", "runtime", *command], cwd=str(stolen[0]), env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
        assert done.returncode == 1
        assert all(word in done.stderr for word in WORDS), done.stderr
        assert "Traceback" not in done.stderr


def test_a_manifest_that_was_made_here_is_trusted(stolen, tmp_path):
    bundle, victim = stolen
    victim.write_text("mine")
    remember(str(tmp_path / "ldmc"), read_manifest(bundle).sha256)
    load(bundle, cache_folder=tmp_path / "ldmc", cache=False).close()
    with pytest.raises(UntrustedBundle):
        load(bundle, cache_folder=tmp_path / "other")


def test_another_manifest_is_another_bundle(stolen, tmp_path):
    remember(str(tmp_path / "ldmc"), "0" * 64)
    with pytest.raises(UntrustedBundle):
        load(stolen[0], cache_folder=tmp_path / "ldmc")


@pytest.mark.parametrize("form, file", [("aoti", "decoder/model.pt2"), ("engine", "decoder/model.engine")])
def test_other_forms_that_carry_code(bundle, form, file):
    (bundle / file).write_bytes(b"\x7fELF")
    manifest = read_manifest_json(bundle)
    compiled = {"torch": "2.13.0", "device": "cpu", "machine": "x86_64", "capability": "AVX2"}
    manifest["components"]["decoder"]["parts"][0].update(form=form, file=file, compiled=compiled)
    write_manifest(bundle, manifest)
    list_files(bundle)
    with pytest.raises(UntrustedBundle, match=f"{file} is in the form {form}: loading it runs machine code"):
        load(bundle)


def test_what_build_makes_here_is_trusted_here(tiny_model, ldmc, tmp_path, cache_home):
    done = ldmc("build", "--target", "cpu", "--model", tiny_model, "--passes", "torchscript", "-o", tmp_path / "b.ldmc",
                "--no-report", "--json")
    assert done.code == 0, done.err
    sha256 = read_manifest(tmp_path / "b.ldmc").sha256
    assert done.json["manifest_sha256"] == sha256 and f"manifest sha256:{sha256}" in done.err
    assert (cache_home / "ldmc" / "trusted" / sha256).exists()
    load(tmp_path / "b.ldmc").close()
    with pytest.raises(BundleProblem, match="whoever made"):
        load(tmp_path / "b.ldmc", cache_folder=tmp_path / "of-another-user")
    found = ldmc("verify", tmp_path / "b.ldmc", "--hashes-only", "--json")
    assert json.loads(found.out)["manifest_sha256"] == sha256
