"""Bundles of AOTInductor packages: drawn through torch alone, and what is said where one does not fit the machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ldmc import runtime
from ldmc.runtime.backends import OpenOptions, aoti, open_component
from ldmc.runtime.checks.opening import Vouched
from ldmc.runtime.errors import BundleProblem
from ldmc.runtime.manifest import read_manifest
from tests.conftest import build_bundle
from tests.runtime import overlap
from tests.runtime.tiny_bundle import read_manifest_json, refresh_files, write_manifest

DRAW = """
import json, os, sys
sys.path = [os.getcwd()] + [p for p in sys.path if p and "site-packages" in p or "lib/python" in p]
import runtime
with runtime.load(".") as pipeline:
    image = pipeline.generate(seed=3, steps=3)
print(json.dumps({"modules": sorted(sys.modules), "image": image.tolist()}))
"""
COMPILE_PARTS = {"ldmc", "diffusers", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "torch._inductor.codecache"}
LATENT, T = np.zeros((1, 3, 8, 8), "float32"), np.array([5])


@pytest.fixture(scope="module")
def bundle(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model compiled for this CPU; read-only by agreement."""
    return build_bundle(tiny_model, tmp_path_factory.mktemp("packages") / "tiny.cpu.ldmc", "aoti")


@pytest.fixture
def own(bundle: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(bundle, tmp_path / "tiny.cpu.ldmc"))


def _unet(bundle: Path, threads: int | None = None):
    manifest = read_manifest(bundle)
    options = OpenOptions(threads=threads, vouched=Vouched(manifest, trust=True))
    return open_component(manifest, manifest.components["unet"], options, [])


def _compiled(bundle: Path, **changes: str) -> dict[str, Any]:
    """What the unet's package needs, after `changes`."""
    content = read_manifest_json(bundle)
    needs = content["components"]["unet"]["parts"][0]["compiled"]
    needs.update(changes)
    write_manifest(bundle, content)
    return needs


def test_it_draws_through_torch_alone_what_onnx_runtime_draws(
    bundle: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-c", DRAW],
        cwd=bundle,
        env={**environment, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    drawn = json.loads(done.stdout)
    assert "torch" in drawn["modules"]
    assert not COMPILE_PARTS & set(drawn["modules"])
    assert not list(tmp_path.iterdir())  # what was unpacked is gone
    with runtime.load(str(tiny_bundle), cache=False) as pipeline:
        other = pipeline.generate(seed=3, steps=3)
    difference = np.abs(np.asarray(drawn["image"], np.int64) - other)
    assert difference.max() <= 1


def test_pictures_drawn_at_the_same_time_are_those_drawn_in_turn(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runtime.load(str(bundle)) as pipeline:
        expected = overlap.drawn_in_turn(pipeline)
        monkeypatch.setattr(aoti, "run_on_cpu", overlap.made_to_overlap(aoti.run_on_cpu))
        for one, other in zip(expected, overlap.drawn_in_threads(pipeline), strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_bundle_asks_for_the_torch_it_was_compiled_with(bundle: Path) -> None:
    major, minor = torch.__version__.split(".")[:2]
    wanted = f">={major}.{minor},<{major}.{int(minor) + 1}"
    assert read_manifest_json(bundle)["requirements"]["packages"] == {"numpy": ">=1.13", "torch": wanted}


def test_the_manifest_says_what_it_runs_on(bundle: Path) -> None:
    part = read_manifest(bundle).components["decoder"].parts[0]
    assert part.compiled == {
        "torch": torch.__version__.partition("+")[0],
        "device": "cpu",
        "machine": os.uname().machine,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def test_the_commands_take_it(bundle: Path, ldmc, tmp_path: Path) -> None:
    verified = ldmc("verify", bundle, "--steps", 2, "--json")
    assert verified.code == 0, verified.err
    assert all(component["snr_db"] > 90 for component in verified.json["components"].values())
    assert ldmc("inspect", bundle, "--json").json["components"]["decoder"]["form"] == "aoti"
    picture = tmp_path / "picture.png"
    assert ldmc("run", bundle, "--steps", 2, "-o", picture).code == 0
    assert picture.stat().st_size > 100
    output = tmp_path / "bench.json"
    bench = ldmc("bench", bundle, "--baseline", "none", "--steps", 1, "--runs", 1, "-o", output, "--json")
    assert bench.code == 0 and bench.json["levels"][0]["total"]["p50_seconds"] > 0


def test_what_it_costs_in_fidelity_is_told_by_stage(bundle: Path, ldmc) -> None:
    rows = ldmc("verify", bundle, "--by-stage", "--component", "unet", "--steps", 2, "--json").json["stages"]
    assert [(row["stage"], row["form"]) for row in rows] == [
        ("00-frontend", "torch"), ("01-aoti", "aoti"), ("bundle", "aoti")]
    assert all(row["snr_db"] > 90 for row in rows)


def test_a_batch_is_drawn_one_by_one(bundle: Path) -> None:
    with runtime.load(str(bundle)) as pipeline:
        pictures = pipeline.generate(seed=3, steps=2, batch=2)
        np.testing.assert_array_equal(pictures[1], pipeline.generate(seed=4, steps=2))


def test_threads_are_for_one_call(bundle: Path) -> None:
    seen = []
    before = torch.get_num_threads()
    unet = _unet(bundle, threads=before + 1)
    model = unet._model
    unet._model = lambda *inputs: [seen.append(torch.get_num_threads()), model(*inputs)][1]
    unet.run([LATENT, T])
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_the_number_of_threads_is_not_compiled_in(bundle: Path) -> None:
    """`num_threads(2)` would be there."""
    assert b"omp parallel num_threads" not in (bundle / "unet" / "model.pt2").read_bytes()


def test_what_torch_refuses_is_said_in_one_line(bundle: Path) -> None:
    with pytest.raises(BundleProblem, match=r"PyTorch failed to run component unet: \S") as caught:
        _unet(bundle).run([LATENT])
    assert "\n" not in caught.value.message


def test_a_broken_package_is_named(own: Path) -> None:
    file = own / "unet" / "model.pt2"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    refresh_files(own)
    with pytest.raises(BundleProblem, match=r"PyTorch \S+ cannot load \S+model.pt2: \S") as caught:
        runtime.load(str(own), trust=True)
    assert "\n" not in caught.value.message


def test_a_file_that_is_no_package_is_named(own: Path) -> None:
    (own / "unet" / "model.pt2").write_bytes(b"not a package")
    refresh_files(own)
    with pytest.raises(BundleProblem, match=r"PyTorch \S+ cannot load \S+model.pt2: \S"):
        runtime.load(str(own), trust=True)


def test_another_torch_is_refused_before_the_package_is_read(own: Path) -> None:
    _compiled(own, torch="2.7.1")
    with pytest.raises(
        BundleProblem, match=r"was compiled by PyTorch 2.7.1 and runs with 2.7 only; here is "
    ) as caught:
        _unet(own)
    assert caught.value.fix.startswith("pip install 'torch>=")


def test_another_patch_version_of_torch_is_taken(own: Path) -> None:
    major, minor = torch.__version__.split(".")[:2]
    _compiled(own, torch=f"{major}.{minor}.99")
    assert _unet(own).run([LATENT, T])[0].shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("needed", "here", "fits"),
    [
        (("x86_64", "AVX2"), ("x86_64", "AVX2"), True),
        (("x86_64", "AVX2"), ("x86_64", "AVX512"), True),
        (("x86_64", "AVX512"), ("x86_64", "AVX2"), False),
        (("x86_64", "AVX2"), ("aarch64", "DEFAULT"), False),
        (("aarch64", "SVE256"), ("aarch64", "SVE256"), True),
        (("aarch64", "SVE256"), ("aarch64", "DEFAULT"), False),
    ],
)
def test_a_cpu_of_another_kind_is_refused(
    needed: tuple[str, str], here: tuple[str, str], fits: bool, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ldmc.runtime.backends import aoti

    _compiled(own, machine=needed[0], capability=needed[1])
    monkeypatch.setattr(aoti.platform, "machine", lambda: here[0])
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: here[1])
    monkeypatch.setattr(aoti, "_load", lambda *_: "loaded")
    if fits:
        assert _unet(own)._model == "loaded"
        return
    sentence = f"was compiled for a CPU of {needed[0]} with {needed[1]}, and this machine's is of {here[0]} with"
    with pytest.raises(BundleProblem, match=sentence) as caught:
        _unet(own)
    assert caught.value.fix == "build the bundle again on this machine: --target cpu --passes aoti"


def test_without_torch_it_says_what_to_install(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BundleProblem, match="needs PyTorch, which cannot be imported") as caught:
        _unet(bundle)
    assert caught.value.fix.startswith("pip install 'torch>=")


def test_a_closed_part_gives_its_package_back_at_once(bundle: Path, no_collection: None) -> None:
    unet = _unet(bundle)
    package = weakref.ref(unet._model)
    unet.close()
    assert package() is None
