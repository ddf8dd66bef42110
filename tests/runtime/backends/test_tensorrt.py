"""Engines chained on the device, under the doubles: in child processes, which report what CUDA was left with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ldmc.runtime.backends.trt_engine import TensorRTEngine
from ldmc.runtime.errors import BundleProblem
from tests.runtime import overlap
from tests.runtime.device import Device
from tests.runtime.device_bundle import make_pending_bundle, read_manifest, write_manifest

RUN = """
import json, sys, numpy as np, runtime
from runtime import backends
from runtime.checks.opening import Vouched
from runtime.manifest import read_manifest
from runtime.errors import BundleProblem

manifest = read_manifest(".")
entry = manifest.components[sys.argv[1]]
latents = np.random.RandomState(1).standard_normal((4,) + entry.inputs[0].shape).astype("float16")
feeds = [[latent, np.array([7], "int64")][:len(entry.inputs)] for latent in latents]
try:
    options = backends.OpenOptions(vouched=Vouched(manifest, trust=True))
    engine = backends.open_component(manifest, entry, options, [])
except BundleProblem as problem:
    print(json.dumps({"message": problem.message, "fix": problem.fix}))
    raise SystemExit
found = [engine.run(feed)[0] for feed in feeds]
again = engine.run(feeds[0])[0]
engine.close()
print(json.dumps({"sums": [float(np.abs(one.astype("float64")).sum()) for one in found], "dtype": str(found[0].dtype),
                  "shape": found[0].shape, "stable": bool((again == found[0]).all())}))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished bundle; read-only by agreement."""
    folder = tmp_path_factory.mktemp("engines")
    bundle = make_pending_bundle(folder / "tiny.jetson-nano.ldmc")
    (folder / "device").mkdir()
    done = Device(folder / "device").finish(bundle)
    assert done.returncode == 0, done.stderr
    return bundle


@pytest.fixture
def device(tmp_path):
    (tmp_path / "device").mkdir()
    return Device(tmp_path / "device")


def run(device, bundle, name="unet", **environment):
    done = subprocess.run([sys.executable, "-B", "-c", RUN, name], cwd=bundle, capture_output=True, text=True,
                          env={**device.environment, **environment})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_parts_are_chained_in_one_block_of_memory(device, finished):
    found = run(device, finished)
    assert found["dtype"] == "float16" and found["shape"] == [1, 3, 8, 8] and found["stable"]
    assert len({round(total, 3) for total in found["sums"]}) == 4
    assert device.leaks() == {"allocations": 0, "bytes": 0, "streams": 0, "refused": 0}
    # skip and hidden: 2 KiB each; latent in and out and the time: 512, 512, 256 at most; activations: 4096 + 256 a node
    peak = int(device.report.read_text().split()[3])
    assert 2 * 2048 + 512 + 256 + 4096 <= peak <= 2 * 2048 + 2 * 512 + 256 + 4096 + 256 * 7


def test_a_chain_equals_its_parts_one_by_one(device, finished, tmp_path):
    """The same bundle, its UNet in ONNX Runtime: what the double's engines compute with."""
    plain = shutil.copytree(finished, tmp_path / "plain.ldmc")
    manifest = read_manifest(plain)
    for part in manifest["components"]["unet"]["parts"]:
        part.update(form="onnx", file=part["source"])
    write_manifest(plain, manifest)
    expected, found = run(device, plain), run(device, finished)
    assert found["sums"] == pytest.approx(expected["sums"], rel=1e-3)


@pytest.fixture(scope="module")
def finished_together(tmp_path_factory):
    """One whose components are in memory together, finished with TensorRT 10.3; read-only by agreement."""
    folder = tmp_path_factory.mktemp("orin")
    bundle = make_pending_bundle(folder / "tiny.ldmc")
    manifest = read_manifest(bundle)
    manifest["finish"]["device"] = {}
    write_manifest(bundle, dict(manifest, load="together"))
    (folder / "device").mkdir()
    done = Device(folder / "device", "10_3").finish(bundle)
    assert done.returncode == 0, done.stderr
    return bundle


@pytest.mark.parametrize("version, bundle", [("8_2", "finished"), ("10_3", "finished_together")])
def test_threads_that_draw_at_the_same_time_do_not_share_a_block(tmp_path, version, bundle, request):
    (tmp_path / "device").mkdir()
    device = Device(tmp_path / "device", version)
    done = subprocess.run([sys.executable, "-B", str(Path(overlap.__file__))], capture_output=True, text=True,
                          cwd=request.getfixturevalue(bundle), env=device.environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"different": 4, "at_once": ["equal"] * 4}
    assert device.leaks() == {"allocations": 0, "bytes": 0, "streams": 0, "refused": 0}


def test_a_load_that_fails_leaves_nothing_on_the_device(device, finished):
    found = run(device, finished, CUDART_DOUBLE_TOTAL="6000")  # the tensors fit, the activations do not
    assert "cudaMalloc failed: out of memory (error 2)" in found["message"]
    assert "systemctl isolate multi-user.target" in found["fix"]
    assert device.leaks() == {"allocations": 0, "bytes": 0, "streams": 0, "refused": 1}


def test_an_engine_whose_tensors_are_not_the_manifests(device, finished, tmp_path):
    own = shutil.copytree(finished, tmp_path / "own.ldmc")
    (own / "unet" / "1.engine").write_bytes((own / "unet" / "0.engine").read_bytes())
    found = run(device, own)
    assert found["message"].startswith("engine unet/1.engine has input_0 float16[1, 3, 8, 8], input_1 int32[1]")
    assert "the manifest expects inputs hidden float16[1, 16, 8, 8]" in found["message"]


def test_without_tensorrt(device, finished):
    found = run(device, finished, PYTHONPATH="")
    assert "needs the Python module tensorrt: No module named 'tensorrt'" in found["message"]
    assert "sudo apt install python3-libnvinfer" in found["fix"]


def test_an_engine_that_is_not_built(device, tmp_path):
    bundle = make_pending_bundle(tmp_path / "b.jetson-nano.ldmc")
    assert run(device, bundle, "decoder") == {
        "message": f"engine decoder/model.engine of {bundle} is not built yet",
        "fix": "on the jetson-nano run: python3 -m runtime finish"}


def test_the_names_are_those_of_a_real_binding():
    """TensorRT for RTX, where it is installed: its API is that of TensorRT 10 and later."""
    trt = pytest.importorskip("tensorrt_rtx")
    wanted = {
        trt.ICudaEngine: ("num_io_tensors", "get_tensor_name", "get_tensor_mode", "get_tensor_shape",
                          "get_tensor_dtype", "device_memory_size_v2", "create_execution_context"),
        trt.IExecutionContext: ("set_device_memory", "set_tensor_address", "execute_async_v3"),
        trt.Runtime: ("deserialize_cuda_engine",),
    }
    assert not [name for owner, names in wanted.items() for name in names if not hasattr(owner, name)]
    assert "strategy" in trt.ICudaEngine.create_execution_context.__doc__
    assert "stream_handle" in trt.IExecutionContext.execute_async_v3.__doc__
    assert trt.ExecutionContextAllocationStrategy.USER_MANAGED and trt.DataType.HALF.name == "HALF"


def test_a_real_tensorrt_says_why_it_does_not_load(tmp_path):
    """No engine at all, mapped from its file, in the real library."""
    trt = pytest.importorskip("tensorrt_rtx")
    path = tmp_path / "none.engine"
    path.write_bytes(b"no engine " * 100)
    with pytest.raises(BundleProblem) as raised:
        TensorRTEngine(trt, str(path), "none")
    assert raised.value.message == (
        f"engine {path} does not load in TensorRT for RTX {trt.__version__}: it was built by another version of "
        "TensorRT, or is damaged")
    assert raised.value.fix == "build the bundle again with this version"
