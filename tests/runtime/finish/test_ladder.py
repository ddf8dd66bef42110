"""What happens when a build does not fit: one rung down at a time, and everything written into the manifest.

Of unet.0, the double's builder takes 3 x 5536 bytes of weights + 4 MiB for cuDNN + the workspace.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import onnx
import pytest

from tests.runtime.device import DOUBLES
from tests.runtime.device_bundle import make_pending_bundle, read_manifest, steps_of

MIB = 1 << 20
ENOUGH_FOR_SMALL_WORKSPACE = str(6 * MIB)  # not for 8 MiB + cuDNN
ENOUGH_WITHOUT_CUDNN = str(3 * MIB)
# 1 MiB of workspace, and weights: unet.0 has 5568 bytes in fp16, its finer parts 864 and 4642, the decoder 2400
ENOUGH_FOR_FINER = str(1 * MIB + 3 * 5000)
GPU = str(DOUBLES / "onnxruntime_gpu")


def outcomes(step):
    return [(attempt["rung"], attempt["outcome"]) for attempt in step.get("attempts", [])]


def with_gpu_runtime(device):
    """Puts ONNX Runtime with CUDA on the device."""
    device.environment["PYTHONPATH"] = GPU + ":" + device.environment["PYTHONPATH"]


def test_a_killed_build_takes_the_smaller_workspace(nano, bundle):
    done = nano.finish(bundle, TRT_DOUBLE_LIMIT_BYTES=ENOUGH_FOR_SMALL_WORKSPACE)
    assert (done.returncode, done.stderr) == (0, "")
    for step in steps_of(bundle).values():
        assert outcomes(step) == [(0, "killed"), (1, "built")]
        assert step["status"] == "done"
        assert step["attempts"][0]["reason"] == "the system killed the build: it is out of memory"
        assert step["attempts"][0]["peak_rss_bytes"] > MIB and step["attempts"][0]["least_available_bytes"] > MIB
    assert "unet.0: killed in " in done.stdout
    assert "unet.0: building, workspace 1 MiB, tactics of cublas cublas_lt cudnn" in done.stdout


def test_then_it_does_without_cudnn(nano, bundle, tmp_path):
    started = tmp_path / "started"
    done = nano.finish(bundle, "--only", "decoder", TRT_DOUBLE_LIMIT_BYTES=ENOUGH_WITHOUT_CUDNN,
                       TRT_DOUBLE_STARTED=str(started))
    assert done.returncode == 0, done.stderr
    assert outcomes(steps_of(bundle)["decoder"]) == [(0, "killed"), (1, "killed"), (2, "built")]
    assert started.read_text().split() == [
        "model.onnx", str(8 * MIB), "cudnn", "model.onnx", str(MIB), "cudnn", "model.onnx", str(MIB), "-"]


def test_tensorrts_own_out_of_memory_counts_as_well(nano, bundle):
    done = nano.finish(bundle, "--only", "decoder", TRT_DOUBLE_LIMIT_BYTES=ENOUGH_FOR_SMALL_WORKSPACE,
                       TRT_DOUBLE_OOM="error")
    assert done.returncode == 0, done.stderr
    step = steps_of(bundle)["decoder"]
    assert outcomes(step) == [(0, "out of memory"), (1, "built")]
    assert "OutOfMemory" in step["attempts"][0]["reason"]


def test_then_it_builds_smaller_parts(nano, bundle):
    done = nano.finish(bundle, "--only", "unet", TRT_DOUBLE_LIMIT_BYTES=ENOUGH_FOR_FINER)
    assert (done.returncode, done.stderr) == (0, "")
    manifest = read_manifest(bundle)
    assert [part["name"] for part in manifest["components"]["unet"]["parts"]] == ["unet.0.0", "unet.0.1", "unet.1"]
    steps = steps_of(bundle)
    assert list(steps) == ["unet.0", "unet.0.0", "unet.0.1", "unet.1", "decoder"]
    assert steps["unet.0"]["replaced_by"] == ["unet.0.0", "unet.0.1"]
    assert outcomes(steps["unet.0"]) == [(0, "killed"), (1, "killed"), (2, "killed")]
    assert outcomes(steps["unet.0.1"])[-1] == (2, "built")
    assert manifest["finish"]["verified"]["unet"]["passed"]
    assert nano.leaks()["allocations"] == 0


def test_at_last_onnx_runtime_runs_the_graph(nano, bundle):
    with_gpu_runtime(nano)
    done = nano.finish(bundle, "--only", "decoder", TRT_DOUBLE_LIMIT_BYTES="1")
    assert (done.returncode, done.stderr) == (0, "")
    manifest = read_manifest(bundle)
    [part] = manifest["components"]["decoder"]["parts"]
    assert (part["form"], part["provider"], part["file"]) == ("onnx", "cuda", "decoder/model.onnx")
    assert outcomes(steps_of(bundle)["decoder"])[-1] == (3, "fallback")
    assert manifest["finish"]["verified"]["decoder"]["passed"]
    assert "decoder: decoder runs in ONNX Runtime, not in TensorRT" in done.stdout
    assert nano.finish(bundle, "--again", "--only", "decoder").returncode == 0  # with memory enough, TensorRT again
    [part] = read_manifest(bundle)["components"]["decoder"]["parts"]
    assert (part["form"], part["file"]) == ("engine", "decoder/model.engine")


def test_without_onnx_runtime_the_last_rung_says_what_to_install(nano, bundle):
    done = nano.finish(bundle, "--only", "decoder", TRT_DOUBLE_LIMIT_BYTES="1")
    assert done.returncode == 1
    assert "ONNX Runtime with CUDA is not here to run it instead\nfix:   install onnxruntime-gpu" in done.stderr
    assert steps_of(bundle)["decoder"]["status"] == "failed"
    assert nano.finish(bundle, "--only", "decoder").returncode == 0  # with more memory, from the top
    step = steps_of(bundle)["decoder"]
    assert outcomes(step) == [(0, "built")] and len(step["earlier_attempts"]) == 3


def test_a_ladder_without_rungs_left_says_what_was_tried(nano, tmp_path):
    bundle = make_pending_bundle(tmp_path / "b", finer=False, fallback=False)
    nano.set_memory(available_mib=3000, swap_mib=0)
    nano.write("proc/812/comm", "gdm3\n")
    done = nano.finish(bundle, "--keep-going", TRT_DOUBLE_LIMIT_BYTES="1")
    assert done.returncode == 1
    assert "decoder could not be built in any of the ways the bundle knows (workspace 8 MiB" in done.stderr
    assert "sudo systemctl isolate multi-user.target" in done.stderr and "swap file" in done.stderr
    assert [step["status"] for step in steps_of(bundle).values()] == ["failed"] * 3  # the others were tried as well


def test_a_graph_that_is_refused_is_not_tried_again_on_other_rungs(nano, bundle):
    path = bundle / "decoder" / "model.onnx"
    model = onnx.load(str(path), load_external_data=False)
    model.graph.node[-1].op_type = "Mish"
    path.write_bytes(model.SerializeToString())
    manifest = read_manifest(bundle)
    for entry in manifest["files"]:
        if entry["path"] == "decoder/model.onnx":
            entry.update(bytes=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    done = nano.finish(bundle)
    assert done.returncode == 1
    assert "part decoder could not be built: TensorRT 8.2.1.8 cannot read" in done.stderr and "Mish" in done.stderr
    steps = steps_of(bundle)
    assert outcomes(steps["decoder"]) == [(0, "failed")]
    assert "attempts" not in steps["unet.0"]
    done = nano.finish(bundle, "--keep-going")
    assert done.returncode == 1
    assert [steps_of(bundle)[name]["status"] for name in ("unet.0", "unet.1", "decoder")] == ["done", "done", "failed"]


def test_a_rung_that_is_predicted_not_to_fit_is_passed_over(nano, bundle):
    nano.set_memory(available_mib=5)
    done = nano.finish(bundle, "--only", "decoder")
    assert done.returncode == 0, done.stderr
    assert outcomes(steps_of(bundle)["decoder"]) == [(0, "skipped"), (1, "built")]
    assert "decoder: passed over workspace 8 MiB" in done.stdout
    assert "predicted to take 8 MiB, 5 are available" in done.stdout


@pytest.mark.parametrize("limit, rung", [(ENOUGH_FOR_SMALL_WORKSPACE, 1), (ENOUGH_WITHOUT_CUDNN, 2)])
def test_a_build_under_pressure_draws_the_same(nano, bundle, finished, limit, rung, tmp_path):
    assert nano.finish(bundle, TRT_DOUBLE_LIMIT_BYTES=limit).returncode == 0
    assert [outcomes(step)[-1] for step in steps_of(bundle).values()] == [(rung, "built")] * 3
    pictures = []
    for folder in (bundle, finished):
        done = nano.run(folder, "--steps", "2", "-o", tmp_path / "out.png")
        assert done.returncode == 0, done.stderr
        pictures.append((tmp_path / "out.png").read_bytes())
    assert pictures[0] == pictures[1]
    assert np.isfinite(read_manifest(bundle)["finish"]["verified"]["unet"]["snr_db"])


def test_one_part_in_onnx_runtime_the_other_in_tensorrt(nano, bundle):
    """What crosses between them goes through the host; both see the same values."""
    with_gpu_runtime(nano)
    manifest = read_manifest(bundle)
    manifest["finish"]["steps"][1]["ladder"] = [{"fallback": "onnxruntime-cuda"}]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    done = nano.finish(bundle, "--runs", "1")
    assert (done.returncode, done.stderr) == (0, "")
    manifest = read_manifest(bundle)
    assert [part["form"] for part in manifest["components"]["unet"]["parts"]] == ["engine", "onnx"]
    assert manifest["finish"]["verified"]["unet"]["passed"]
    assert nano.leaks() == {"allocations": 0, "bytes": 0, "streams": 0, "refused": 0}
