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
)
# What the outputs of engines that the device builds must reach there, against PyTorch in fp32.
NEEDED_SNR_DB = {"float32": 60.0, "float16": 30.0}


def manifest(
    program: Program,
    target: Target,
    lowerings: Iterable[Lowering],
    entries: Mapping[str, Any],
    finish: Mapping[str, Any],
) -> dict[str, Any]:
    """The manifest, less what the bundle's writer adds.

    entries: component -> its section. finish: see `finish_section`.
    """
    packages = {name: version for name, version in target.requirements.items() if name != "python"}
    lowerings = list(lowerings)
    return {
        "name": program.name,
        "target": target.name,
        "pipeline": {lowering.component.name: format_pipeline(lowering.done) for lowering in lowerings},
        "source": dict(program.source),
        "components": dict(entries),
        "stages": [record.manifest_entry() for lowering in lowerings for record in lowering.records],
        "requirements": {"python": target.requirements["python"], "packages": packages},
        "scheduler": dict(program.scheduler),
        "load": target.load,
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


def _toolchain() -> dict[str, str]:
    """Versions of everything that had a hand in the bundle."""
    versions = {"ldmc": ldmc.__version__, "python": platform.python_version()}
    for name in _TOOLS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
