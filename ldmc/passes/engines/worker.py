"""One engine, built by `python -m ldmc.runtime.trt.worker`: in a process of its own, whose memory is given back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldmc.errors import PassError
from ldmc.ir import Component
from ldmc.targets.target import MIB

if TYPE_CHECKING:
    import onnx_ir as ir

_ROOT = Path(__file__).parents[3]  # where the package `ldmc` lies
_INLINE_BYTES = 1024  # smaller tensors stay in the graph file
_ALIGNMENT_BYTES = 4096
_IN_FLIGHT_BYTES = 64 * MIB  # tensors being read, cast and written at one time


@dataclass(frozen=True)
class Built:
    """An engine's file, and what its build reported: the worker's RESULT, less `ok`."""

    file: Path
    report: dict[str, Any]


def build(part: Component, scratch: Path, request: dict[str, Any]) -> Built:
    """Build the engine of `part`, an ONNX component, in `scratch`.

    request: the worker's REQUEST, less its paths.

    Raises:
        PassError: TensorRT refused, or the build was killed; one sentence.
    """
    scratch = scratch.resolve()  # the worker runs in another folder
    folder = scratch / part.name
    folder.mkdir()
    source, engine, result = folder / "model.onnx", scratch / f"{part.name}.engine", folder / "result.json"
    _save(part.payload, source)
    order = folder / "request.json"
    paths = {"source": str(source), "engine": str(engine), "result": str(result)}
    order.write_text(json.dumps({**_defaults(), **request, **paths}), encoding="utf-8")
    command = [sys.executable, "-m", "ldmc.runtime.trt.worker", str(order)]
    done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    report = _read(result, part.name, done)
    shutil.rmtree(folder)
    return Built(engine, report)


def _defaults() -> dict[str, Any]:
    """A request that leaves everything to TensorRT."""
    return {
        "workspace_bytes": None,
        "tactic_sources": None,
        "timing_cache": None,
        "sm": None,
        "weightless": False,
    }


def _save(model: ir.Model, file: Path) -> None:
    """The graph, and its weights beside it, one tensor at a time."""
    import onnx_ir as ir

    ir.save(
        model,
        file,
        external_data=f"{file.name}.data",
        size_threshold_bytes=_INLINE_BYTES,
        max_workers=os.cpu_count(),
        max_in_flight_bytes=_IN_FLIGHT_BYTES,
        alignment=_ALIGNMENT_BYTES,
        align_threshold=_ALIGNMENT_BYTES,
    )


def _read(result: Path, name: str, done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    """What the worker wrote; an error where it says so, or could not write."""
    if not result.exists():
        raise PassError(f"{name}: {_how_it_ended(done)}", fix=_fix(done.returncode))
    report: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    if not report.pop("ok"):
        raise PassError(f"{name}: {report['error']}")
    return report


def _how_it_ended(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        return f"the engine build was ended by {signal.Signals(-done.returncode).name}"
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return f"the engine build ended with exit code {done.returncode}: {said[-1] if said else 'no output'}"


def _fix(code: int) -> str:
    if code == -signal.SIGKILL:
        return "it ran out of memory: close other programs, or cut the component with partition{parts=2}"
    return ""
