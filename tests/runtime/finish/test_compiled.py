"""Bundles as `ldmc build` writes them for a Jetson: they finish as they are, and draw what diffusers draws."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.device import Device
from tests.runtime.device_bundle import read_manifest, steps_of
from tests.runtime.old_python import old_python

ROOT = Path(__file__).parents[3]
PRESENT = sys.executable


def build(model, folder, target, passes):
    """The bundle of one `ldmc build`, in a process of its own."""
    bundle = folder / f"tiny.{target}.ldmc"
    done = subprocess.run(
        [PRESENT, "-m", "ldmc", "build", "--target", target, "--passes", passes, "--model", str(model), "-o",
         str(bundle)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return bundle


@pytest.fixture(scope="module")
def nano_bundle(tiny_model, tmp_path_factory):
    """The command the project is for, on a tiny model; read-only by agreement."""
    return build(tiny_model, tmp_path_factory.mktemp("compiled"), "jetson-nano", "fp16,onnx,trt")


def finish(bundle, tmp_path, version, python=PRESENT):
    """(device, its copy of the bundle, finished)."""
    (tmp_path / "device").mkdir()
    device = Device(tmp_path / "device", version, python)
    own = shutil.copytree(bundle, tmp_path / bundle.name)
    done = device.finish(own, "--runs", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert device.leaks() == {"allocations": 0, "bytes": 0, "streams": 0, "refused": 0}
    return device, own


def assert_draws_as_eager(device, bundle, model):
    """`ldmc verify`, with the device's libraries: against diffusers in fp32."""
    done = device.run_module("ldmc", "verify", bundle, "--model", model, "--steps", "4", "--json")
    assert done.returncode in (0, 5), done.stdout + done.stderr
    # Files that `finish` changed or added are as its manifest says, so that verify goes on to compare.
    assert json.loads(done.stdout)["image_psnr_db"] >= 35


def test_a_nano_bundle(nano_bundle, tiny_model, tmp_path):
    device, own = finish(nano_bundle, tmp_path, "8_2")
    assert {step["status"] for step in steps_of(own).values()} == {"done"}
    verified = read_manifest(own)["finish"]["verified"]
    assert verified["unet"]["passed"] and verified["decoder"]["passed"]
    assert_draws_as_eager(device, own, tiny_model)


def test_a_nano_bundle_in_the_nanos_python(nano_bundle, tmp_path):
    device, own = finish(nano_bundle, tmp_path, "8_2", old_python())
    assert min(entry["snr_db"] for entry in read_manifest(own)["finish"]["verified"].values()) > 40
    assert device.run(own, "--steps", "2", "-o", tmp_path / "out.png").returncode == 0


def test_a_nano_bundle_in_parts(tiny_model, tmp_path):
    bundle = build(tiny_model, tmp_path, "jetson-nano", "fp16,onnx,partition{parts=3},trt")
    (tmp_path / "own").mkdir()
    device, own = finish(bundle, tmp_path / "own", "8_2")
    assert len(read_manifest(own)["components"]["unet"]["parts"]) == 3
    assert_draws_as_eager(device, own, tiny_model)


def test_an_orin_bundle(tiny_model, tmp_path):
    bundle = build(tiny_model, tmp_path, "jetson-orin-nano", "fp16,onnx,trt")
    (tmp_path / "own").mkdir()
    device, own = finish(bundle, tmp_path / "own", "10_3")
    assert steps_of(own)["unet"]["engine"]["tensorrt"] == "10.3.0"
    assert_draws_as_eager(device, own, tiny_model)
