"""Looking for toolchains: by metadata, by folder, by an attempt in another process, and on PATH."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from ldmc.targets.nvidia import probe
from ldmc.compiler.machine import Answer, this_machine
from ldmc.compiler.toolchains import Device, Tool, find_tools
from tests.compiler.machines import CORE, NO_DRIVER, gpu, machine
from tests.patience import HANG_SECONDS

TOOLS = [
    "torch", "diffusers", "onnx", "onnxscript", "onnxsim", "onnxruntime", "onnx-graphsurgeon", "polygraphy",
    "tensorrt_rtx", "tensorrt", "torch_tensorrt", "triton", "openvino", "g++", "trtexec",
    "torchtrtc", "CUDA driver", "nvidia-smi",
]  # fmt: skip


def tool(where, name: str) -> Tool:
    found = find_tools(where).get(name)
    assert found is not None
    return found


def test_everything_is_looked_for_and_what_is_missing_has_a_fix() -> None:
    found = find_tools(machine({}))
    assert [each.name for each in found.tools] == TOOLS
    assert not any(each.found for each in found.tools)
    assert all(each.fix and not each.version for each in found.tools)
    assert found.devices == ()
    assert found.get("toaster") is None


def test_a_package_is_found_with_its_version() -> None:
    where = machine(CORE)
    assert tool(where, "onnxsim") == Tool("onnxsim", True, "0.8.0")
    assert tool(where, "onnxruntime") == Tool("onnxruntime", True, "1.31.0", "said by onnxruntime")


def test_a_module_without_metadata_is_found_without_a_version() -> None:
    where = machine({}, modules={"onnx_graphsurgeon": Path("/usr/lib/onnx_graphsurgeon")})
    assert tool(where, "onnx-graphsurgeon") == Tool("onnx-graphsurgeon", True, "?")


def test_a_package_that_is_only_a_shell_does_not_count() -> None:
    stub = tool(machine({"tensorrt": "10.3.0"}, modules={"tensorrt": None}), "tensorrt")
    assert (stub.found, stub.version) == (False, "10.3.0")
    assert stub.detail == "package 10.3.0 is installed, but there is no module tensorrt in it"
    assert "pip install" in stub.fix


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt_rtx", "onnxruntime"])
def test_a_package_whose_import_fails_does_not_count(name: str) -> None:
    complaint = "ImportError: libnvinfer.so.10: cannot open shared object file"
    found = tool(machine({name: "10.3.0"}, broken={name: complaint}), name)
    assert (found.found, found.detail) == (False, f"installed, but its import fails: {complaint}")
    assert found.fix


@pytest.mark.parametrize(
    ("text", "build"),
    [
        ("cuda: Optional[str] = None\n", "built for CPU"),
        ("debug = False\ncuda: Optional[str] = '12.6'\nhip = None\n", "built for CUDA 12.6"),
        ("cuda = '10.2'\n", "built for CUDA 10.2"),
        (None, "built for CPU"),
    ],
)
def test_which_cuda_a_torch_was_built_for(text: str | None, build: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "version.py").write_text(text)
    assert tool(machine({"torch": "2.13.0"}, modules={"torch": tmp_path}), "torch").detail == build


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # trtexec --help", "8.2.1"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v8503] # trtexec --help", "8.5.3"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec --help", "10.3.0"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v101602] [b36] # trtexec --help", "10.16.2"),
        ("=== Model Options ===", "?"),
    ],
)
def test_the_version_of_trtexec(banner: str, version: str) -> None:
    where = machine(
        {}, programs={"trtexec": "/t/trtexec"}, outputs={"/t/trtexec": Answer(True, f"{banner}\nmore")}
    )
    assert tool(where, "trtexec") == Tool("trtexec", True, version, "/t/trtexec")


def test_torchtrtc_is_found_on_path_or_inside_its_package(tmp_path: Path) -> None:
    packages = {"torch_tensorrt": "2.14.0"}
    on_path = machine(packages, driver=gpu("8.6"), programs={"torchtrtc": "/bin/torchtrtc"})
    assert tool(on_path, "torchtrtc") == Tool("torchtrtc", True, "2.14.0", "/bin/torchtrtc")
    inside = machine(packages, driver=gpu("8.6"), modules={"torch_tensorrt": tmp_path})
    assert not tool(inside, "torchtrtc").found
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "torchtrtc").touch()
    assert tool(inside, "torchtrtc").detail == "inside the torch_tensorrt package, not on PATH"


def test_without_a_driver_what_is_linked_to_it_says_so(tmp_path: Path) -> None:
    where = machine({"torch_tensorrt": "2.14.0"}, programs={"torchtrtc": "/bin/torchtrtc"})
    assert tool(where, "torchtrtc").detail == "/bin/torchtrtc; it does not start without a CUDA driver"
    assert tool(where, "torch_tensorrt").detail == "its import fails without a CUDA driver"


def test_nvidia_smi() -> None:
    def where(answer: Answer):
        return machine({}, programs={"nvidia-smi": "/bin/nvidia-smi"}, outputs={"/bin/nvidia-smi": answer})

    two = tool(where(Answer(True, "560.35.03\n560.35.03")), "nvidia-smi")
    assert two == Tool("nvidia-smi", True, "560.35.03", "/bin/nvidia-smi")
    failed = tool(where(Answer(False, "couldn't communicate with the NVIDIA driver")), "nvidia-smi")
    assert not failed.found
    assert failed.detail == "/bin/nvidia-smi fails: couldn't communicate with the NVIDIA driver"


def test_the_gpus_are_the_drivers() -> None:
    found = find_tools(machine({}, driver=gpu("8.7", "Orin")))
    assert found.get("CUDA driver") == Tool("CUDA driver", True, "12.6", "Orin (compute capability 8.7)")
    assert found.devices == (Device("Orin", "8.7"),)
    idle = tool(
        machine({}, driver={**NO_DRIVER, "version": "12.6", "error": "cuInit: there is no GPU"}),
        "CUDA driver",
    )
    assert (idle.found, idle.version, idle.detail) == (True, "12.6", "cuInit: there is no GPU")
    assert idle.fix


def test_a_driver_that_kills_the_process_that_asks_is_no_driver() -> None:
    killed = Answer(False, "killed by signal 11")
    died = find_tools(replace(machine({}), run=lambda _: killed))
    assert died.get("CUDA driver") == Tool(
        "CUDA driver", False, "", "killed by signal 11", "needs an NVIDIA GPU and its driver"
    )
    assert died.devices == ()


# The real machine.


def test_real_programs_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, script in (
        ("trtexec", 'echo "&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # $0 $*"'),
        ("nvidia-smi", '[ "$1" = --query-gpu=driver_version ] && echo 535.104.05'),
        ("torchtrtc", "exit 1"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_tools(this_machine())
    assert found.get("trtexec") == Tool("trtexec", True, "8.2.1", str(tmp_path / "trtexec"))
    assert found.get("nvidia-smi") == Tool("nvidia-smi", True, "535.104.05", str(tmp_path / "nvidia-smi"))
    torchtrtc = found.get("torchtrtc")
    assert torchtrtc is not None
    assert torchtrtc.found


def test_real_packages_are_not_imported_here() -> None:
    code = (
        "import json, sys\n"
        "from ldmc.compiler import machine\n"
        "from ldmc.compiler.machine import this_machine\n"
        f"machine.TRY_SECONDS = {HANG_SECONDS}\n"  # an import beside other work may take more than a user would wait
        "from ldmc.compiler.toolchains import find_tools\n"
        "tools = {t.name: t.version for t in find_tools(this_machine()).tools if t.found}\n"
        "print(json.dumps([tools, sorted({name.partition('.')[0] for name in sys.modules})]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    tools, modules = json.loads(done.stdout)
    assert not {"torch", "onnx", "onnxruntime", "diffusers", "tensorrt", "tensorrt_rtx"} & set(modules)
    for name in ("torch", "onnx", "onnxruntime", "diffusers", "onnxsim"):
        assert tools[name] == metadata.version(name)


def test_tensorrt_for_rtx_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from ldmc.compiler import machine as module

    monkeypatch.setattr(module, "TRY_SECONDS", HANG_SECONDS)  # it is large to import
    try:
        version = metadata.version("tensorrt_rtx")
    except metadata.PackageNotFoundError:
        pytest.skip("tensorrt_rtx is not installed: pip install -e .[rtx]")
    found = tool(this_machine(), "tensorrt_rtx")
    assert found.found
    assert found.version == version


def test_an_attempt_that_hangs_or_crashes_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from ldmc.compiler import machine as module

    run = this_machine().run
    assert run([sys.executable, "-c", "raise ImportError('no libfoo')"]) == Answer(
        False, "ImportError: no libfoo"
    )
    assert run([sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"]) == Answer(
        False, "killed by signal 11"
    )
    assert run([sys.executable, "-c", "import sys; sys.exit(3)"]) == Answer(False, "exit 3")
    assert run(["/nowhere/program"]) == Answer(False, "No such file or directory")
    monkeypatch.setattr(module, "TRY_SECONDS", 0.2)
    assert run([sys.executable, "-c", "import time; time.sleep(60)"]).text.startswith("no answer in")


# The driver, by a double of libcuda.


DRIVER = """
#include <stdio.h>
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = index + 7; return 0; }
int cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "GPU %d", device); return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) {
    *value = which == 75 ? 8 : which == 76 ? device : -1;
    return 0;
}
"""


def build_driver(folder: Path, init: int, source: str = DRIVER) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to build a double of libcuda with")
    library = folder / "libcuda.so.1"
    subprocess.run(
        [compiler, "-shared", "-fPIC", f"-DINIT={init}", "-x", "c", "-", "-o", str(library)],
        input=source,
        text=True,
        check=True,
    )
    return library


def test_a_driver_says_its_version_and_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = build_driver(tmp_path, 0)
    said = {
        "version": "12.6",
        "devices": [
            {"name": "GPU 7", "compute_capability": "8.7"},
            {"name": "GPU 8", "compute_capability": "8.8"},
        ],
        "error": "",
    }
    assert probe(str(library)) == said
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    found = find_tools(this_machine())
    assert found.devices == (Device("GPU 7", "8.7"), Device("GPU 8", "8.8"))
    driver = found.get("CUDA driver")
    assert driver is not None
    assert (driver.found, driver.version, driver.fix) == (True, "12.6", "")


@pytest.mark.parametrize(("status", "error"), [(100, "cuInit: there is no GPU"), (999, "cuInit: error 999")])
def test_a_driver_without_a_gpu(status: int, error: str, tmp_path: Path) -> None:
    assert probe(str(build_driver(tmp_path, status))) == {"version": "12.6", "devices": [], "error": error}


def test_a_library_that_is_no_driver(tmp_path: Path) -> None:
    said = probe(str(build_driver(tmp_path, 0, "int nothing;")))
    assert said == {"version": "", "devices": [], "error": "it has no cuDriverGetVersion"}
    assert probe("libno-such-driver.so.1")["error"] == "libno-such-driver.so.1 cannot be loaded"


def test_a_driver_that_crashes_does_not_take_ldmc_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = re.sub(r"return INIT;", "return *(volatile int *)0;", DRIVER)
    build_driver(tmp_path, 0, crash)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    driver = tool(this_machine(), "CUDA driver")
    assert (driver.found, driver.detail) == (False, "killed by signal 11")
