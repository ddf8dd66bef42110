"""The manifest's sections that the compiler knows: pipelines, stages, requirements, what is left to the device."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

import ldmc
from ldmc.compiler.lower import Lowering
from ldmc.compiler.spec import format_pipeline
from ldmc.ir import Program
from ldmc.runtime.versions import release
from ldmc.targets.target import Target

_TOOLS = (
    "torch",
    "diffusers",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxsim",
    "onnxruntime",
    "safetensors",
    "numpy",
    "tensorrt-rtx",
    "tensorrt",
    "triton",
)
# What every bundle needs, whatever runs it; and what a part that PyTorch runs needs instead of the target's engine.
_ALWAYS = ("numpy",)
# Scripts were seen to run with PyTorch 1.10; fused attention came with 2.0.
_TORCH, _FUSED_TORCH, _FUSED = ">=1.10", ">=2.0", "aten::scaled_dot_product_attention"
_RUN_BY_TORCH = {"torchscript", "aoti"}
# What outputs must reach against PyTorch in fp32, SNR in dB by dtype: in `verify`, and in `finish` on the device.
NEEDED_SNR_DB = {"float32": 60.0, "float16": 30.0}


def manifest(
    program: Program,
    target: Target,
    lowerings: Iterable[Lowering],
    entries: Mapping[str, Any],
    finish: Mapping[str, Any],
    insertions: list[dict[str, Any]],
) -> dict[str, Any]:
    """The manifest, less what the bundle's writer adds.

    entries: component -> its section. finish: see `finish_section`. insertions: passes nobody asked for, and why.
    """
    packages = _packages(target.requirements, entries)
    lowerings = list(lowerings)
    return {
        "name": program.name,
        "target": target.name,
        "pipeline": {lowering.component.name: format_pipeline(lowering.done) for lowering in lowerings},
        "insertions": insertions,
        "source": dict(program.source),
        "components": dict(entries),
        "stages": [record.manifest_entry() for lowering in lowerings for record in lowering.records],
        "requirements": {"python": target.requirements["python"], "packages": packages},
        "scheduler": dict(program.scheduler),
        "load": target.load,
        "power": target.power,
        "finish": dict(finish),
        "toolchain": _toolchain(),
    }


def finish_section(
    target: Target, steps: list[dict[str, Any]], references: Mapping[str, str], dtypes: list[str]
) -> dict[str, Any]:
    """What is left to do on the device, and what device that must be; empty where nothing is.

    references: component -> file with its inputs and eager outputs. dtypes: of the components' latents.
    """
    if not steps:
        return {}
    return {
        "device": {
            "arch": target.arch,
            "compute_capability": target.gpu.compute_capability if target.gpu else "",
            "l4t": target.toolchain.get("l4t", ""),
            "tensorrt": target.requirements.get("tensorrt") or target.requirements.get("tensorrt_rtx", ""),
        },
        "libraries_bytes": target.memory.libraries_bytes if target.memory else 0,
        "reference": dict(references),
        "needed_snr_db": min(NEEDED_SNR_DB[dtype] for dtype in dtypes),
        "steps": steps,
    }


def _packages(requirements: Mapping[str, str], entries: Mapping[str, Any]) -> dict[str, str]:
    """Packages a device needs for the components `entries`: those of the target, and torch where it runs a part.

    requirements: of the target. Its engine is left out where no part runs on it.
    """
    parts = [part for entry in entries.values() for part in entry["parts"]]
    forms = {part["form"] for part in parts}
    engine = not forms <= _RUN_BY_TORCH
    needed = {name: v for name, v in requirements.items() if name in _ALWAYS or (engine and name != "python")}
    if "torchscript" in forms:
        fused = any(_FUSED in entry["stats"]["ops"] for entry in entries.values())
        needed["torch"] = _FUSED_TORCH if fused else _TORCH
    for part in parts:
        if part["form"] == "aoti":
            needed["torch"] = _one_minor(part["compiled"]["torch"])
    return needed


def _one_minor(version: str) -> str:
    """2.13.0 -> >=2.13,<2.14: what AOTInductor compiles calls PyTorch's insides."""
    major, minor = release(version)[:2]
    return f">={major}.{minor},<{major}.{minor + 1}"


def _toolchain() -> dict[str, str]:
    """Versions of everything that had a hand in the bundle."""
    versions = {"ldmc": ldmc.__version__, "python": platform.python_version()}
    for name in _TOOLS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
