"""`python3 -m runtime finish` from a pending bundle to a picture, under the doubles."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from ldmc.runtime.finish.command import main
from ldmc.runtime.checks.opening import Vouched
from ldmc.runtime.manifest import read_manifest as read_checked
from tests.runtime.device import json_of
from tests.runtime.device_bundle import draw_eagerly, read_manifest, refresh_files, steps_of, write_manifest

DRAW = """
import sys, numpy, runtime
with runtime.load(".") as pipeline:
    numpy.save(sys.argv[1], pipeline.generate(seed=5, steps=4))
    print(pipeline.unet(numpy.ones((2, 3, 8, 8), "float32"), 500).dtype)
"""


def draw(device, bundle, file):
    """The picture that the bundle draws on the device."""
    done = subprocess.run([device.python, "-B", "-c", DRAW, str(file)], cwd=bundle, env=device.environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "float32\n"
    return np.load(file)


def psnr_db(one, other):
    error = np.square(one.astype("float64") - other.astype("float64")).mean()
    return 10 * np.log10(255 ** 2 / max(error, 1e-12))


@pytest.fixture(scope="module")
def eager_picture():
    """What the same weights draw in fp32, without any of this."""
    return draw_eagerly(seed=5, steps=4)


def test_a_pending_bundle_finishes_and_draws_what_eager_draws(any_nano, bundle, eager_picture, tmp_path):
    done = any_nano.finish(bundle, "--runs", "1")
    assert (done.returncode, done.stderr) == (0, "")
    order = [line.split(":")[0] for line in done.stdout.splitlines() if ": built " in line]
    assert order == ["decoder", "unet.1", "unet.0"]  # smallest first
    assert psnr_db(draw(any_nano, bundle, tmp_path / "picture.npy"), eager_picture) >= 35
    assert any_nano.leaks() == {"allocations": 0, "bytes": 0, "streams": 0, "refused": 0}


def test_the_manifest_says_what_was_built(finished):
    manifest = read_checked(finished)
    Vouched(manifest).check_whole()
    assert [entry["path"] for entry in manifest.files if entry["role"] == "engine"] == [
        "decoder/model.engine", "unet/0.engine", "unet/1.engine"]
    for step in steps_of(finished).values():
        assert step["status"] == "done"
        [attempt] = step["attempts"]
        assert (attempt["rung"], attempt["outcome"]) == (0, "built")
        assert attempt["seconds"] > 0 and attempt["peak_rss_bytes"] > 1 << 20
        assert step["engine"]["tensorrt"] == "8.2.1.8" and step["engine"]["engine_bytes"] > 0
    verified = manifest.finish["verified"]
    assert all(verified[name]["passed"] and verified[name]["snr_db"] > 50 for name in ("unet", "decoder"))
    assert manifest.finish["timing"]["total"]["p50_seconds"] > 0


def test_a_second_finish_builds_nothing(nano, finished_bundle, tmp_path):
    started = tmp_path / "started"
    done = nano.finish(finished_bundle, TRT_DOUBLE_STARTED=str(started))
    assert done.returncode == 0 and "everything is built" in done.stdout
    assert not started.exists()


def test_again_replaces_an_engine_that_is_damaged(nano, finished_bundle, tmp_path):
    (finished_bundle / "unet" / "0.engine").write_bytes(b"?")
    assert nano.finish(finished_bundle).returncode == 5
    started = tmp_path / "started"
    assert nano.finish(finished_bundle, "--again", TRT_DOUBLE_STARTED=str(started)).returncode == 0
    assert len(started.read_text().splitlines()) == 3
    assert (finished_bundle / "unet" / "0.engine").stat().st_size > 1000


def test_builds_share_one_timing_cache(finished):
    assert (finished / ".finish" / "timing.cache").read_bytes() == b"CACHE 8.2 +++"


def test_only_one_component(nano, bundle):
    done = nano.finish(bundle, "--only", "unet")
    assert done.returncode == 0
    assert {name: step["status"] for name, step in steps_of(bundle).items()} == {
        "unet.0": "done", "unet.1": "done", "decoder": "pending"}
    assert "not done: decoder" in done.stdout and "decoder: " not in done.stdout.replace("not done: decoder", "")
    assert nano.finish(bundle, "--only", "decoder").returncode == 0
    done = nano.finish(bundle, "--only", "vae")
    assert done.returncode == 2 and "steps are decoder, unet, unet.0, unet.1" in done.stderr


def test_json_is_one_object_and_progress_goes_to_stderr(nano, bundle):
    done = nano.finish(bundle, "--runs", "1", "--json")
    report = json_of(done)
    assert report["ok"] and report["exit_code"] == 0
    assert [step["status"] for step in report["steps"]] == ["done"] * 3
    assert report["timing"]["steps"] == 2
    assert "unet.0: built" in done.stderr


def test_a_dry_run_changes_nothing(nano, bundle):
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    done = nano.finish(bundle, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before
    lines = done.stdout.splitlines()
    plan = lines[lines.index("3 to build, smallest first:") + 1:]
    assert [line.split(":")[0].strip() for line in plan if line.startswith("  ") and line[2] != " "] == [
        "decoder", "unet.1", "unet.0"]
    assert "    first        workspace 8 MiB, tactics of cublas cublas_lt cudnn; predicted peak 8 MiB" in plan
    assert "    else         2 smaller parts" in plan
    assert "    else         ONNX Runtime on the GPU; not installed here" in plan
    report = json_of(nano.finish(bundle, "--dry-run", "--json"))
    assert report["ready"] and len(report["steps"]) == 3


def test_a_dry_run_elsewhere_says_why_not_here(nano, bundle):
    nano.write("proc/sys/kernel/arch", "x86_64\n")
    done = nano.finish(bundle, "--dry-run")
    assert done.returncode == 1
    assert "this machine cannot do it: the bundle is for aarch64 and this is x86_64" in done.stdout
    assert done.stderr == "error: the bundle is for aarch64 and this is x86_64\n" \
        "fix:   copy the bundle to the device and run it there\n"
    report = json_of(nano.finish(bundle, "--dry-run", "--json"))
    assert (report["ok"], report["ready"], report["exit_code"]) == (False, False, 1)
    assert report["error"] == "the bundle is for aarch64 and this is x86_64" and len(report["steps"]) == 3


def test_a_dry_run_passes_over_what_the_run_would(nano, bundle):
    manifest = read_manifest(bundle)
    manifest["finish"]["steps"][0]["weights_bytes"] = 1 << 50
    write_manifest(bundle, manifest)
    assert nano.finish(bundle, "--dry-run").returncode == 1
    done = nano.finish(bundle, "--dry-run", "--anyway")
    assert (done.returncode, done.stderr) == (0, "")
    assert "this machine can do it" in done.stdout


def test_outputs_that_are_far_off_fail_with_5(nano, bundle):
    done = nano.finish(bundle, TRT_DOUBLE_NOISE="1.5")
    assert done.returncode == 5
    assert "the finished bundle does not draw what the model draws" in done.stderr
    assert "decoder gives 6.0 dB, unet gives -3.0 dB, 30.0 are needed" in done.stderr
    assert read_manifest(bundle)["finish"]["verified"]["decoder"] == {
        "snr_db": 6.02, "needed_snr_db": 30.0, "passed": False}
    assert nano.finish(bundle).returncode == 0  # nothing is built again; only the comparison is


def test_a_pending_bundle_says_what_to_run(nano, bundle):
    done = nano.run(bundle, "--steps", "1")
    assert done.returncode == 1
    assert "is not built yet\nfix:   on the jetson-nano run: python3 -m runtime finish" in done.stderr


def test_a_whole_bundle_has_nothing_to_finish(shared_bundle, capsys):
    assert main(["--bundle", str(shared_bundle)]) == 1
    assert "has nothing to finish: it was compiled whole" in capsys.readouterr().err


def test_an_engine_of_another_version_or_gpu_says_so(nano, finished_bundle):
    bundle = finished_bundle
    done = nano.run(bundle, "--steps", "1", CUDART_DOUBLE_CAPABILITY="72")
    assert done.returncode == 1
    assert "does not load in TensorRT 8.2.1.8: it was built on another kind of GPU\nfix:   build" in done.stderr
    engine = bundle / "unet" / "0.engine"
    engine.write_bytes(engine.read_bytes().replace(b"8.2.1.8", b"8.0.1.6"))
    done = nano.run(bundle, "--steps", "1")
    assert done.returncode == 5 and "unet/0.engine has SHA-256" in done.stderr
    refresh_files(bundle)
    done = nano.run(bundle, "--steps", "1")
    assert done.returncode == 1 and "unet/0.engine is in the form engine: loading it runs machine code" in done.stderr
    done = nano.run(bundle, "--steps", "1", "--trust")
    assert "unet/0.engine does not load in TensorRT 8.2.1.8: it was built by another version of TensorRT" in done.stderr
    engine.write_bytes(b"something else")
    assert "unet/0.engine has 14 bytes" in nano.run(bundle, "--steps", "1").stderr
