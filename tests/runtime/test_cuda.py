"""CUDA through ctypes, over the libcudart double: in a child, so that it loads the double and leaves with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.device import Device

PRELUDE = """
import json, numpy as np
from ldmc.runtime.cuda import Cuda
from ldmc.runtime.errors import BundleProblem

def problem(call):
    try:
        call()
    except BundleProblem as found:
        return found.message
"""


@pytest.fixture
def run(tmp_path):
    """Runs Python after PRELUDE; its `say(...)` comes back."""
    device = Device(tmp_path)

    def run_code(code, **environment):
        text = PRELUDE + "say = lambda found: print(json.dumps(found))\n" + code
        done = subprocess.run([sys.executable, "-c", text], env={**device.environment, **environment},
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), device.leaks()

    device.environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    return run_code


def test_what_is_copied_there_comes_back(run):
    found, leaks = run("""
cuda = Cuda()
array = np.arange(6, dtype="float16").reshape(2, 3)
one, other = cuda.allocate(array.nbytes), cuda.allocate(array.nbytes)
stream = cuda.create_stream()
cuda.to_device(one, array, stream)
cuda.on_device(other, one, array.nbytes, stream)
back = np.zeros_like(array)
cuda.to_host(back, other, stream)
before = back.tolist()
cuda.synchronize(stream)
say({"before": before, "after": back.tolist(), "read": cuda.read(other, (3,), "float16").tolist(),
     "version": cuda.version, "capability": cuda.compute_capability(), "memory": cuda.memory_info()})
cuda.free(one), cuda.free(other), cuda.destroy_stream(stream)
""")
    assert found == {"before": [[0.0] * 3] * 2, "after": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], "read": [0.0, 1.0, 2.0],
                     "version": "10.2", "capability": "5.3", "memory": [(4 << 30) - 24, 4 << 30]}
    assert leaks == {"allocations": 0, "bytes": 0, "streams": 0, "refused": 0}


def test_what_cuda_refuses_is_a_problem_in_its_words(run):
    found, leaks = run("""
cuda = Cuda()
address = cuda.allocate(8)
say([problem(lambda: cuda.free(address + 8)), problem(lambda: cuda.to_device(address, np.zeros(9, "uint8"))),
     problem(lambda: cuda.to_host(np.zeros(9, "uint8"), address)), problem(lambda: cuda.synchronize(12)),
     problem(lambda: cuda.allocate(5 << 20))])
""", CUDART_DOUBLE_TOTAL=str(4 << 20))
    assert found == [
        "CUDA's cudaFree failed: invalid argument (error 1)",
        "CUDA's cudaMemcpy failed: invalid argument (error 1)",
        "CUDA's cudaMemcpy failed: invalid argument (error 1)",
        "CUDA's cudaStreamSynchronize failed: invalid resource handle (error 400)",
        "CUDA's cudaMalloc failed: out of memory (error 2); 5 MiB were asked for",
    ]
    assert leaks == {"allocations": 1, "bytes": 8, "streams": 0, "refused": 5}  # the double counts what was left


def test_addresses_over_4_gib_are_not_cut(run):
    found, _ = run("""
cuda = Cuda()
blocks = [cuda.allocate(64 << 20) for _ in range(4)]
for index, block in enumerate(blocks):
    cuda.to_device(block, np.full(4, index, "int32"))
say([max(blocks) >> 32 > 0, [cuda.read(block, (4,), "int32").tolist() for block in blocks]])
for block in blocks:
    cuda.free(block)
""")
    assert found == [True, [[index] * 4 for index in range(4)]]


def test_no_library_says_where_it_was_looked_for(run):
    found, _ = run("""
say(problem(lambda: Cuda("libcudart-that-is-not-there.so")))
Cuda()
""")
    assert found.startswith("there is no CUDA runtime library here: libcudart-that-is-not-there.so (")


def test_a_library_without_a_function_is_refused(run):
    found, _ = run("""
say(problem(lambda: Cuda("libc.so.6")))
Cuda()
""")
    assert found == "libc.so.6 has no function cudaDeviceGetAttribute"
