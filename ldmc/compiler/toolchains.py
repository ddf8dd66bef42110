"""Which toolchains a machine has: packages, programs and the GPU's driver, with versions, and how to get the rest.

find_tools(this_machine())  ->  Toolchains(torch 2.13.0 found, tensorrt missing: pip install ..., ...; no GPU)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ldmc.compiler.machine import Machine, python

_CORE = "pip install -e ."
_DRIVER = "CUDA driver"


@dataclass(frozen=True)
class Tool:
    """One toolchain. detail: what else is known of it, or why it does not count. fix: how to get it, if missing."""

    name: str
    found: bool
    version: str = ""
    detail: str = ""
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """As printed by `ldmc doctor --json`."""
        return asdict(self)


@dataclass(frozen=True)
class Device:
    """An NVIDIA GPU. compute_capability: such as `8.6`."""

    name: str
    compute_capability: str


@dataclass(frozen=True)
class Toolchains:
    """All that was looked for, in the order it is shown, and the GPUs of the machine."""

    machine: Machine
    tools: tuple[Tool, ...]
    devices: tuple[Device, ...]

    def get(self, name: str) -> Tool | None:
        """The tool of that name; None for one that is not among those looked for."""
        return next((tool for tool in self.tools if tool.name == name), None)


@dataclass(frozen=True)
class _Package:
    """A Python package. module: what is imported. distributions: what it may be installed as.

    attempt: Python that is run where a folder alone proves little; it prints the version, then a line for `detail`.
    detail: what else can be said without running it.
    """

    name: str
    module: str
    distributions: tuple[str, ...]
    fix: str
    attempt: str = ""
    detail: Callable[[Path], str] | None = None


def _torch_build(folder: Path) -> str:
    """Which CUDA a torch was built for, from the file it keeps that in."""
    file = folder / "version.py"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    cuda = re.search(r"^cuda\b.*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return f"built for CUDA {cuda.group(1)}" if cuda else "built for CPU"


_PACKAGES = (
    _Package("torch", "torch", ("torch",), _CORE, detail=_torch_build),
    _Package("diffusers", "diffusers", ("diffusers",), _CORE),
    _Package("onnx", "onnx", ("onnx",), _CORE),
    _Package("onnxscript", "onnxscript", ("onnxscript",), _CORE),
    _Package("onnxsim", "onnxsim", ("onnxsim",), _CORE),
    _Package(
        "onnxruntime",
        "onnxruntime",
        ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-trt-rtx"),
        _CORE,
        attempt="import onnxruntime as o; print(o.__version__); print(', '.join(o.get_available_providers()))",
    ),
    _Package(
        "onnx-graphsurgeon", "onnx_graphsurgeon", ("onnx-graphsurgeon",), "pip install onnx-graphsurgeon"
    ),
    _Package("polygraphy", "polygraphy", ("polygraphy",), "pip install polygraphy"),
    _Package(
        "tensorrt_rtx",
        "tensorrt_rtx",
        ("tensorrt_rtx", "tensorrt_rtx_cu13", "tensorrt_rtx_cu12"),
        "pip install -e .[rtx] (x86-64 only, needs no GPU)",
        attempt="import tensorrt_rtx as t; t.Builder; print(t.__version__)",
    ),
    _Package(
        "tensorrt",
        "tensorrt",
        ("tensorrt", "tensorrt_cu13", "tensorrt_cu12", "tensorrt_cu11"),
        "pip install -e .[tensorrt] (a Jetson has it in JetPack)",
        attempt="import tensorrt as t; t.Builder; print(t.__version__)",
    ),
    _Package(
        "torch_tensorrt",
        "torch_tensorrt",
        ("torch_tensorrt", "torch_tensorrt_rtx"),
        "pip install torch-tensorrt, on a machine with NVIDIA's driver",
    ),
    _Package("triton", "triton", ("triton",), "comes with a PyTorch that is built for CUDA"),
    _Package("openvino", "openvino", ("openvino",), "pip install -e .[openvino]"),
)


def find_tools(machine: Machine) -> Toolchains:
    """Look for every toolchain; what has to be tried is tried side by side."""
    with ThreadPoolExecutor() as pool:
        packages = [pool.submit(_package, package, machine) for package in _PACKAGES]
        trtexec, smi = pool.submit(_trtexec, machine), pool.submit(_nvidia_smi, machine)
        driver, devices = _driver(machine)
    found = {tool.name: tool for tool in (job.result() for job in packages)}
    found["torch_tensorrt"] = _with_driver(found["torch_tensorrt"], driver, "its import fails")
    programs = (_compiler(machine), trtexec.result(), _with_driver(_torchtrtc(machine), driver, "it does not start"))
    return Toolchains(machine, (*found.values(), *programs, driver, smi.result()), devices)


def _package(package: _Package, machine: Machine) -> Tool:
    """A package by its metadata and its folder, and by an attempt where it has one."""
    version = next(filter(None, map(machine.version, package.distributions)), "")
    folder = machine.folder(package.module)
    if folder is None:
        stub = (
            f"package {version} is installed, but there is no module {package.module} in it"
            if version
            else ""
        )
        return Tool(package.name, False, version, stub, package.fix)
    if not package.attempt:
        return Tool(package.name, True, version or "?", package.detail(folder) if package.detail else "")
    answer = machine.run(python("-c", package.attempt))
    if not answer.ok:
        return Tool(
            package.name, False, version, f"installed, but its import fails: {answer.text}", package.fix
        )
    said, _, detail = answer.text.partition("\n")
    return Tool(package.name, True, said, detail)


def _with_driver(tool: Tool, driver: Tool, without: str) -> Tool:
    """A tool that is linked to the driver."""
    if not tool.found or driver.found:
        return tool
    return Tool(
        tool.name,
        True,
        tool.version,
        f"{tool.detail}{'; ' * bool(tool.detail)}{without} without a CUDA driver",
    )


def _torchtrtc(machine: Machine) -> Tool:
    """On PATH, or inside the wheel, which does not put it there. Not run: it needs a GPU even for its version."""
    folder = machine.folder("torch_tensorrt")
    inside = folder / "bin" / "torchtrtc" if folder else None
    version = machine.version("torch_tensorrt") or machine.version("torch_tensorrt_rtx")
    if path := machine.program("torchtrtc"):
        return Tool("torchtrtc", True, version or "?", path)
    if inside is not None and inside.is_file():
        return Tool("torchtrtc", True, version or "?", "inside the torch_tensorrt package, not on PATH")
    return Tool("torchtrtc", False, fix="comes with torch_tensorrt")


def _compiler(machine: Machine) -> Tool:
    """What AOTInductor compiles with."""
    path = machine.program("g++")
    if not path:
        return Tool("g++", False, fix="install g++ (for the pass aoti)")
    answer = machine.run([path, "-dumpfullversion"])
    return Tool("g++", True, answer.text if answer.ok else "?", path)


def _trtexec(machine: Machine) -> Tool:
    """NVIDIA's command line builder; ldmc does without, and its version says which TensorRT is installed."""
    path = machine.program("trtexec")
    if not path:
        return Tool(
            "trtexec", False, fix="comes with JetPack and NVIDIA's TensorRT archive (ldmc does without)"
        )
    answer = machine.run([path, "--help"])
    return Tool("trtexec", True, _trtexec_version(answer.text) or "?", path)


def _trtexec_version(text: str) -> str:
    """`[TensorRT v8201]` -> 8.2.1; from 10 on with two digits for the second: `[TensorRT v101600]` -> 10.16.0."""
    found = re.search(r"TensorRT v(\d{4,6})\b", text)
    if found is None:
        return ""
    number = int(found.group(1))
    major = 1_000 if number < 10_000 else 10_000
    return f"{number // major}.{number % major // 100}.{number % 100}"


def _nvidia_smi(machine: Machine) -> Tool:
    path = machine.program("nvidia-smi")
    if not path:
        return Tool("nvidia-smi", False, fix="comes with NVIDIA's driver (a Jetson has tegrastats)")
    answer = machine.run([path, "--query-gpu=driver_version", "--format=csv,noheader"])
    if not answer.ok:
        return Tool("nvidia-smi", False, "", f"{path} fails: {answer.text}", "mend NVIDIA's driver")
    return Tool("nvidia-smi", True, answer.text.partition("\n")[0], path)


def _driver(machine: Machine) -> tuple[Tool, tuple[Device, ...]]:
    """The driver and its GPUs; a driver without a GPU is there, but can do nothing."""
    answer = machine.run(python("-m", "ldmc.targets.nvidia"))
    try:
        said = json.loads(answer.text.rpartition("\n")[2])
    except ValueError:  # the process that asked the driver did not survive it
        said = {"version": "", "devices": [], "error": answer.text}
    devices = tuple(Device(**device) for device in said["devices"])
    listed = ", ".join(
        f"{device.name} (compute capability {device.compute_capability})" for device in devices
    )
    found = bool(said["version"])
    fix = "" if devices else "needs an NVIDIA GPU and its driver"
    return Tool(_DRIVER, found, said["version"], listed or said["error"], fix), devices
