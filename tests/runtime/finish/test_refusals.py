"""What `finish` refuses before it builds anything."""

from __future__ import annotations

import fcntl
import os

import numpy as np
import pytest

from tests.runtime.device import ORIN_RELEASE
from tests.runtime.device_bundle import FULL_LADDER, read_manifest, refresh_files, steps_of, write_manifest


def refused(device, bundle, *arguments, **environment):
    """The error of a finish that must refuse, having built nothing."""
    before = (bundle / "manifest.json").read_bytes()
    done = device.finish(bundle, *arguments, **environment)
    assert (bundle / "manifest.json").read_bytes() == before, done.stdout
    assert ": building" not in done.stdout and "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("path, text, words", [
    ("proc/sys/kernel/arch", "x86_64\n", "the bundle is for aarch64 and this is x86_64"),
    ("etc/nv_tegra_release", ORIN_RELEASE, "the bundle is for L4T 32.7 and this is 36.4.3"),
    ("etc/nv_tegra_release", "# R32 (release), REVISION: 70.1, GCID: 1\n",
     "the bundle is for L4T 32.7 and this is 32.70.1"),
    ("etc/nv_tegra_release", "", "this is no Jetson: there is no /etc/nv_tegra_release"),
])
def test_another_machine(nano, bundle, path, text, words):
    nano.write(path, text)
    code, error = refused(nano, bundle)
    assert code == 1 and words in error


def test_another_gpu(nano, bundle):
    code, error = refused(nano, bundle, CUDART_DOUBLE_CAPABILITY="72")
    assert code == 1 and "the bundle is for 5.3 and this is 7.2" in error


def test_another_tensorrt(nano, bundle):
    manifest = read_manifest(bundle)
    manifest["finish"]["device"]["tensorrt"] = "<=8.2,!=8.2.1"
    write_manifest(bundle, manifest)
    code, error = refused(nano, bundle)
    assert code == 1
    assert "the bundle is for TensorRT <=8.2,!=8.2.1 and this is 8.2.1.8\nfix:   build the bundle again" in error


def test_a_tensorrt_that_cannot_be_told(nano, bundle):
    manifest = read_manifest(bundle)
    manifest["finish"]["device"]["tensorrt"] = "8.2"
    write_manifest(bundle, manifest)
    code, error = refused(nano, bundle)
    assert code == 1
    assert "the bundle does not say which TensorRT it is for: 8.2 has no comparison\nfix:   build the" in error


def test_no_tensorrt(nano, bundle):
    code, error = refused(nano, bundle, PYTHONPATH="")
    assert code == 1
    assert "the Python module tensorrt cannot be imported: No module named 'tensorrt'" in error


def test_no_cuda(nano, bundle, tmp_path):
    (tmp_path / "libcudart.so.10.2").write_text("not a library")  # whatever CUDA this machine has has no GPU either
    code, error = refused(nano, bundle, LD_LIBRARY_PATH=str(tmp_path))
    assert code == 1
    assert "CUDA says no compute capability: " in error and "fix:   on a Jetson, install" in error


def test_too_little_memory(nano, bundle):
    manifest = read_manifest(bundle)
    for step in manifest["finish"]["steps"]:
        step["ladder"] = list(FULL_LADDER)
        step["peak_bytes"] = 900 << 20
    write_manifest(bundle, manifest)
    nano.set_memory(available_mib=500)
    nano.write("proc/77/comm", "Xorg\n")
    nano.write("proc/swaps", "Filename Type Size Used Priority\n/dev/zram0 partition 507 0 5\n")
    code, error = refused(nano, bundle)
    assert code == 1
    assert "is predicted to take 893 MiB even on its last rung, and 500 are available" in error
    assert "sudo systemctl isolate multi-user.target" in error and "nvzramconfig" in error
    assert "swap file for" not in error
    assert nano.finish(bundle, "--anyway").returncode == 0


def test_too_little_disk(nano, bundle):
    manifest = read_manifest(bundle)
    manifest["finish"]["steps"][0]["weights_bytes"] = 1 << 50
    write_manifest(bundle, manifest)
    code, error = refused(nano, bundle)
    assert code == 1 and "the engines need about 11811" in error and "MiB of disk" in error


def test_an_altered_file(nano, bundle):
    path = bundle / "unet" / "model.onnx.data"
    path.write_bytes(bytes(path.stat().st_size))
    code, error = refused(nano, bundle)
    assert code == 5 and "unet/model.onnx.data has SHA-256" in error


@pytest.mark.parametrize("change, words", [
    (lambda step: step.pop("ladder"), "lacks the key finish.steps[1].ladder"),
    (lambda step: step.update(component="vae"), "finish.steps[1] lacks a component of the bundle"),
    (lambda step: step.update(part="unet.9"), "part unet.9 has no graph to build an engine from"),
])
def test_a_step_that_makes_no_sense(nano, bundle, change, words):
    manifest = read_manifest(bundle)
    change(manifest["finish"]["steps"][1])
    write_manifest(bundle, manifest)
    code, error = refused(nano, bundle)
    assert code == 1 and words in error
    assert "fix:   build the bundle again" in error or "fix:   copy the bundle again whole" in error


def test_a_graph_outside_the_bundle(nano, bundle):
    manifest = read_manifest(bundle)
    manifest["components"]["unet"]["parts"][0]["source"] = "../../etc/passwd.onnx"
    write_manifest(bundle, manifest)
    code, error = refused(nano, bundle)
    assert code == 1 and "names a file outside the bundle" in error


def test_wrong_use(nano, bundle):
    assert refused(nano, bundle, "--runs", "-1")[0] == 2
    assert refused(nano, bundle, "--sideways")[0] == 2


def test_another_finish_at_work(nano, bundle):
    (bundle / ".finish").mkdir()
    handle = os.open(bundle / ".finish" / "lock", os.O_RDWR | os.O_CREAT)
    os.write(handle, b"4711\n")
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        code, error = refused(nano, bundle)
    finally:
        os.close(handle)
    assert code == 1 and "another finish is at work on this bundle: process 4711" in error
    assert all(step["status"] == "pending" for step in steps_of(bundle).values())


@pytest.mark.parametrize("change", [
    lambda manifest: manifest["components"]["unet"]["parts"][0].update(name="../../../precious"),
    lambda manifest: manifest["components"]["unet"]["parts"][0].update(file="../precious.engine"),
    lambda manifest: manifest["components"]["unet"]["parts"][0].update(file="manifest.json"),
    lambda manifest: manifest["finish"]["steps"][0].update(part="../../../precious"),
    lambda manifest: manifest["finish"]["steps"][0]["ladder"][3]["finer"][0].update(file="../precious.engine"),
    lambda manifest: manifest["finish"]["steps"][0]["ladder"][3]["finer"][0].update(name="../../precious"),
    lambda manifest: manifest["finish"]["reference"].update(unet="../precious.npz"),
])
def test_names_that_lead_out_of_the_bundle(nano, bundle, change):
    """They are made into names of files that are removed and written."""
    precious = [bundle.parent / f"precious{suffix}" for suffix in ("", ".engine", ".log", ".request.json", ".npz")]
    for file in precious:
        file.write_text("mine")
    manifest = read_manifest(bundle)
    change(manifest)
    write_manifest(bundle, manifest)
    code, _ = refused(nano, bundle)
    assert code == 1
    assert [file.read_text() for file in precious] == ["mine"] * 5


@pytest.mark.parametrize("link", [".finish", ".finish/unet.1.log", ".finish/timing.cache", "unet/1.engine"])
def test_links_that_lead_out_of_the_bundle(nano, bundle, tmp_path, link):
    """What `finish` would write goes nowhere else."""
    outside = tmp_path / "outside"
    if link == ".finish":
        outside.mkdir()
    else:
        outside.write_text("mine")
        (bundle / ".finish").mkdir()
    (bundle / link).symlink_to(outside)
    done = nano.finish(bundle, "--only", "unet.1")
    assert done.returncode in (1, 5) and "Traceback" not in done.stderr
    assert list(outside.iterdir()) == [] if outside.is_dir() else outside.read_text() == "mine"


def test_a_timing_cache_from_elsewhere_is_not_read(nano, bundle):
    """TensorRT would deserialise it; the double appends to what it is given."""
    (bundle / ".finish").mkdir()
    (bundle / ".finish" / "timing.cache").write_bytes(b"FORGED")
    assert nano.finish(bundle, "--only", "decoder").returncode == 0
    assert b"FORGED" not in (bundle / ".finish" / "timing.cache").read_bytes()


def test_a_planted_module_is_named_before_anything_is_imported(nano, bundle, tmp_path):
    (bundle / "tensorrt.py").write_text("open(%r, 'w').close()\n" % str(tmp_path / "it-ran"))
    for arguments in ((), ("--dry-run",)):
        code, error = refused(nano, bundle, *arguments)
        assert code == 5 and "has 1 file that its manifest does not list: tensorrt.py" in error
    assert not (tmp_path / "it-ran").exists()


def test_references_are_not_unpickled(nano, bundle, tmp_path):
    """numpy did that by default until 1.16.3, and a Jetson has 1.13."""
    class Opened:
        def __reduce__(self):
            return open, (str(tmp_path / "it-ran"), "w")

    file = bundle / "reference" / "decoder.npz"
    with np.load(file) as stored:
        arrays = dict(stored)
    np.savez(file, **{**arrays, "out_0": np.array([Opened()], object)})
    refresh_files(bundle)
    done = nano.finish(bundle, "--only", "decoder")
    assert done.returncode == 1 and "component decoder does not run" in done.stderr
    assert not (tmp_path / "it-ran").exists()


def test_an_engine_that_came_with_the_bundle_is_not_run(nano, finished_bundle, tmp_path):
    """`finish` would load it to compare and to time; what it built itself it may."""
    elsewhere = {"XDG_CACHE_HOME": str(tmp_path / "another-user")}
    done = nano.finish(finished_bundle, **elsewhere)
    assert done.returncode == 1
    assert "is in the form engine: loading it runs machine code of whoever made" in done.stderr
    assert nano.finish(finished_bundle, "--trust", **elsewhere).returncode == 0
    assert nano.finish(finished_bundle, "--again", **elsewhere).returncode == 0
    assert nano.run(finished_bundle, "--steps", "1", "-o", tmp_path / "a.png", **elsewhere).returncode == 0


def test_without_a_cache_folder_engines_built_in_this_run_are_compared(nano, bundle, tmp_path):
    (tmp_path / "file").write_text("")
    nowhere = {"XDG_CACHE_HOME": str(tmp_path / "file")}
    assert nano.finish(bundle, **nowhere).returncode == 0
    done = nano.run(bundle, "--steps", "1", **nowhere)
    assert done.returncode == 1 and "--trust" in done.stderr
