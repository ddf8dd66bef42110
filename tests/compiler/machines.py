"""Machines to examine: whatever has what a test says it has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ldmc.compiler.machine import Answer, Machine

CORE = {
    "torch": "2.13.0+cpu", "diffusers": "0.42.0", "onnx": "1.23.0", "onnx_ir": "1.1.0", "onnxscript": "0.7.0",
    "onnxsim": "0.8.0", "onnxruntime": "1.31.0",
}  # fmt: skip
NO_DRIVER = {"version": "", "devices": [], "error": "libcuda.so.1 cannot be loaded"}


def gpu(capability: str, name: str = "a GPU") -> dict[str, Any]:
    """What `ldmc.targets.nvidia` says on a machine with that GPU."""
    return {"version": "12.6", "devices": [{"name": name, "compute_capability": capability}], "error": ""}


def machine(
    packages: Mapping[str, str],
    *,
    arch: str = "x86_64",
    driver: Mapping[str, Any] = NO_DRIVER,
    modules: Mapping[str, Path | None] | None = None,
    programs: Mapping[str, str] | None = None,
    broken: Mapping[str, str] | None = None,
    outputs: Mapping[str, Answer] | None = None,
) -> Machine:
    """A machine with these packages, each with the module of its name.

    modules: folders of modules that differ; None for a package without its module. programs: name -> path.
    broken: module -> what its import complains of. outputs: path of a program -> its answer.
    """
    folders = {**{name: Path("/site") / name for name in packages}, **(modules or {})}

    def run(arguments: Sequence[str]) -> Answer:
        if "ldmc.targets.nvidia" in arguments:
            return Answer(True, json.dumps(driver))
        if outputs and arguments[0] in outputs:
            return outputs[arguments[0]]
        assert arguments[1] == "-c", arguments
        module = arguments[2].removeprefix("import ").partition(" ")[0]
        if broken and module in broken:
            return Answer(False, broken[module])
        return Answer(
            True, f"{packages[module]}\nsaid by {module}" if module == "onnxruntime" else packages[module]
        )

    return Machine(
        arch,
        lambda name: packages.get(name, ""),
        folders.get,
        lambda name: (programs or {}).get(name, ""),
        run,
    )
