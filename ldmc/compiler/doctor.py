"""What this machine can do for each target: build whole, build with a step left to the device, or nothing.

    jetson-nano  pending  trt: finish on the device        (engines of TensorRT 8.2 cannot be built elsewhere)
    rtx-3070     whole                                     (tensorrt_rtx builds for SM86 without a GPU)
    cuda         nothing  tensorrt and a GPU are missing

Decided from the target's engine, device passes, GPU and versions alone, so that a board of one's own is answered too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ldmc.compiler.machine import Machine
from ldmc.compiler.toolchains import Toolchains, find_tools
from ldmc.passes import TABLE, pass_class
from ldmc.runtime.versions import fits
from ldmc.targets.target import ENGINE_PACKAGES, Target

FINISH = "run `python3 -m runtime finish` in the bundle, on the device"
_INSTALL = "pip install -e ."
# What every build needs: to read the model, and to write graphs.
_ALWAYS = ("torch", "diffusers", "onnx", "onnx_ir")


@dataclass(frozen=True)
class Lack:
    """What is missing for a pass. what: for a list of such. fix: how to get it."""

    what: str
    fix: str


@dataclass(frozen=True)
class Ability:
    """What a machine can do for one target.

    can: build `whole`, build with the steps `pending` left to the device (on the device itself, too), or `nothing`.
    missing: what a whole build here would need; with `pending`, that is no fault. fix: how to get it, or to finish.
    """

    name: str
    can: Literal["whole", "pending", "nothing"]
    pending: tuple[str, ...]
    missing: tuple[str, ...]
    fix: str

    def to_json(self) -> dict[str, Any]:
        """As printed by `ldmc doctor --json`."""
        return {**asdict(self), "pending": list(self.pending), "missing": list(self.missing)}


@dataclass(frozen=True)
class Diagnosis:
    """All that `ldmc doctor` says."""

    toolchains: Toolchains
    abilities: tuple[Ability, ...]

    def to_json(self) -> dict[str, Any]:
        """The documented output of `ldmc doctor --json`."""
        return {
            "tools": [tool.to_json() for tool in self.toolchains.tools],
            "targets": [ability.to_json() for ability in self.abilities],
        }


def diagnose(targets: Iterable[Target], machine: Machine) -> Diagnosis:
    """Look for the toolchains of `machine`, and say what it can do for each target."""
    toolchains = find_tools(machine)
    return Diagnosis(toolchains, tuple(ability(target, toolchains) for target in targets))


def ability(target: Target, toolchains: Toolchains) -> Ability:
    """What a machine with these toolchains can do for `target`, by its default passes."""
    lacks = {name: _lacks(name, target, toolchains) for name in default_passes(target)}
    pending = tuple(name for name in lacks if name in target.device_passes)
    fatal = [_packages(_ALWAYS, toolchains)]
    fatal += [lacking for name, lacking in lacks.items() if name not in pending]
    here = _unique(lack for lacking in fatal for lack in lacking)
    if here:
        return Ability(target.name, "nothing", (), tuple(lack.what for lack in here), _fixes(here))
    if pending:
        left = _unique(lack for name in pending for lack in lacks[name])
        return Ability(target.name, "pending", pending, tuple(lack.what for lack in left), FINISH)
    return Ability(target.name, "whole", (), (), "")


def default_passes(target: Target) -> list[str]:
    """Names of the passes in the target's pipelines, each once, in their order; options are left out."""
    specs = [_without_braces(spec) for spec in target.pipelines.values()]
    names = [name.strip() for spec in specs for name in spec.split(",")]
    return list(dict.fromkeys(names))


def _without_braces(spec: str) -> str:
    """`a{b=c{d=1},e=[f]},g` -> `a,g`."""
    inner = re.compile(r"\{[^{}]*\}")
    while inner.search(spec):
        spec = inner.sub("", spec)
    return spec


def _lacks(name: str, target: Target, toolchains: Toolchains) -> list[Lack]:
    """What this machine lacks to run pass `name` for `target` itself."""
    if name == "trt":
        return _engine_lacks(target, toolchains)
    if name == "embed":
        return [*_tools(("torch_tensorrt", "torchtrtc"), toolchains), *_gpu_lacks(target, toolchains)]
    lacking = _packages(pass_class(name).tools, toolchains) if name in TABLE else []
    if name == "aoti":
        lacking += _tools(("g++",), toolchains)
        if target.engine.startswith("tensorrt"):
            lacking += [*_tools(("triton",), toolchains), *_gpu_lacks(target, toolchains)]
    return lacking


def _engine_lacks(target: Target, toolchains: Toolchains) -> list[Lack]:
    """To build an engine: TensorRT for RTX does it ahead of time; TensorRT only where the engine will run."""
    package = ENGINE_PACKAGES[target.engine]
    if package == "onnxruntime":
        return []
    lacking = _tools((package,), toolchains)
    tool, wanted = toolchains.get(package), target.requirements[package]
    if not lacking and tool is not None and not fits(tool.version, wanted):
        lacking = [Lack(f"{package} {wanted} (here {tool.version})", f"install {package} {wanted}")]
    return lacking if package == "tensorrt_rtx" else [*lacking, *_gpu_lacks(target, toolchains)]


def _gpu_lacks(target: Target, toolchains: Toolchains) -> list[Lack]:
    """The target's GPU, on a machine of its kind."""
    arch, devices = toolchains.machine.arch, toolchains.devices
    if arch not in target.arch.split(" or "):
        return [Lack(f"{target.arch} (this is {arch})", "build on such a machine")]
    wanted = target.gpu.compute_capability if target.gpu else ""
    if any(wanted in ("", device.compute_capability) for device in devices):
        return []
    if not wanted:
        return [Lack("NVIDIA GPU", "build on a machine with one, and its driver")]
    seen = ", ".join(device.compute_capability for device in devices)
    here = f" (here {seen})" if seen else ""
    return [Lack(f"GPU of compute capability {wanted}{here}", "build on a machine with one, and its driver")]


def _tools(names: Iterable[str], toolchains: Toolchains) -> list[Lack]:
    """Those of the tools that are missing."""
    found = ((name, toolchains.get(name)) for name in names)
    return [Lack(name, tool.fix) for name, tool in found if tool is not None and not tool.found]


def _packages(modules: Iterable[str], toolchains: Toolchains) -> list[Lack]:
    """Those of the importable packages that are missing, whether or not they are among the toolchains."""
    lacking = []
    for module in modules:
        tool = toolchains.get(module)
        found = toolchains.machine.folder(module) is not None if tool is None else tool.found
        if not found:
            lacking.append(Lack(module, tool.fix if tool else _INSTALL))
    return lacking


def _fixes(lacks: list[Lack]) -> str:
    """How to get all that is missing: `tensorrt: pip install ...; NVIDIA GPU: ...`."""
    missing: dict[str, list[str]] = {}
    for lack in lacks:
        missing.setdefault(lack.fix, []).append(lack.what)
    return "; ".join(f"{', '.join(names)}: {fix}" for fix, names in missing.items())


def _unique(lacks: Iterable[Lack]) -> list[Lack]:
    return list(dict.fromkeys(lacks))
