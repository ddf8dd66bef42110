"""The build, from request to bundle. Reads like a table of contents.

check everything that can be checked  ->  open the model  ->  for each component: lower, write  ->  finish
"""

from __future__ import annotations

import contextlib
import gc
import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import ldmc
from ldmc.artifacts.bundle import BundleWriter, check_output
from ldmc.compiler import emit
from ldmc.compiler.frontend import DEFAULT_MODEL, ModelRequest, open_model, read_program
from ldmc.compiler.meter import Reading, measured
from ldmc.compiler.pipeline import checked_pipeline
from ldmc.compiler.spec import format_pipeline
from ldmc.compiler.stage import StageRecord
from ldmc.errors import UsageError
from ldmc.ir import COMPONENTS, Component, Form, Program, Stats
from ldmc.passes.base import Pass
from ldmc.targets.reader import load_target
from ldmc.targets.target import Target

_TOOLS = (
    "torch",
    "diffusers",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxsim",
    "onnxruntime",
    "tensorrt",
    "tensorrt_rtx",
    "safetensors",
    "numpy",
)


@dataclass(frozen=True)
class BuildRequest:
    """What to build.

    passes: one spec for all components, or None for the target's default.
    output: folder of the bundle, or None for NAME.TARGET.ldmc here.
    """

    target: str
    model: ModelRequest = field(default_factory=ModelRequest)
    passes: str | None = None
    output: Path | None = None
    force: bool = False
    keep_intermediates: bool = False


class Progress(Protocol):
    """How the driver says what it is doing."""

    def stage(self, title: str, total_bytes: int | None) -> AbstractContextManager[Callable[[int], None]]:
        """Something that takes a while begins; the function given is told of bytes done."""
        ...

    def warn(self, message: str) -> None:
        """Something the user must not miss."""
        ...

    def component_done(self, name: str, records: list[StageRecord], write: Written) -> None:
        """A component is lowered and written."""
        ...


@dataclass(frozen=True)
class Written:
    """What writing a component took."""

    bytes: int
    reading: Reading


@dataclass(frozen=True)
class BuildResult:
    """What was built. peak_rss_bytes: the largest over all stages; None where unknown."""

    bundle: Path
    target: str
    seconds: float
    peak_rss_bytes: int | None
    records: tuple[StageRecord, ...]
    writes: dict[str, Written]

    def to_json(self) -> dict[str, Any]:
        """The documented output of `ldmc build --json`."""
        return {
            "bundle": str(self.bundle),
            "target": self.target,
            "seconds": self.seconds,
            "peak_rss_bytes": self.peak_rss_bytes,
            "stages": [record.to_json() for record in self.records],
            "write": {
                name: {
                    "bytes": w.bytes,
                    "seconds": w.reading.seconds,
                    "peak_rss_bytes": w.reading.peak_rss_bytes,
                }
                for name, w in self.writes.items()
            },
        }


def build(
    request: BuildRequest, progress: Progress, approve: Callable[[Path], None] | None = None
) -> BuildResult:
    """Compile a model into a bundle.

    approve: called with the complete bundle's temporary folder before it gets its name; what it raises, the build
        raises, and the bundle is gone.

    Raises:
        LdmcError: see `ldmc.errors`; nothing is left behind.
    """
    with measured() as total, _less_garbage_collection():
        target = load_target(request.target)
        pipelines = _pipelines(request, target)
        _check_machine(pipelines, target)
        _check_explicit_output(request)
        with progress.stage("open model", None), measured() as opening:
            opened = open_model(request.model, progress.warn)
            output = request.output or Path(f"{opened.name}.{target.name}.ldmc")
            check_output(output, force=request.force)
            program = read_program(opened, request.model)
        records: list[StageRecord] = []
        writes: dict[str, Written] = {}
        entries: dict[str, Any] = {}
        pending: list[dict[str, Any]] = []
        with BundleWriter(output, force=request.force) as bundle:
            for component in program.components:
                steps = pipelines[component.name]
                with bundle.scratch() as scratch:
                    lowered = _lower(component, steps, target, records, bundle, progress, request, scratch)
                    own = [record for record in records if record.component == component.name]
                    writes[component.name], entries[component.name] = _write(
                        lowered, own[-1].after.stats, bundle, progress
                    )
                pending += emit.finish_steps(lowered, target)
                progress.component_done(component.name, own, writes[component.name])
            with progress.stage("finish bundle", None), measured() as finishing:
                bundle.complete(_manifest(program, target, pipelines, entries, records, pending))
            if approve is not None:
                with progress.stage("verify against PyTorch", None):
                    approve(bundle.folder)
            bundle.publish()
    peaks = [r.peak_rss_bytes for r in (opening, finishing, *(w.reading for w in writes.values()))]
    known = [peak for peak in (*peaks, *(r.peak_rss_bytes for r in records)) if peak is not None]
    return BuildResult(output, target.name, total.seconds, max(known, default=None), tuple(records), writes)


def _pipelines(request: BuildRequest, target: Target) -> dict[str, list[Pass]]:
    """Every component's passes, form-checked."""
    specs = target.pipelines if request.passes is None else dict.fromkeys(COMPONENTS, request.passes)
    return {name: checked_pipeline(specs[name], target) for name in COMPONENTS}


def _check_machine(pipelines: dict[str, list[Pass]], target: Target) -> None:
    """Refuse what this machine cannot do, before any work.

    Raises:
        UsageError: a pass needs what is not here.
    """
    for steps in pipelines.values():
        for step in steps:
            if lacking := step.lacks(target):
                raise UsageError(f"pass {step.name!r} cannot run here: {lacking}")


def _check_explicit_output(request: BuildRequest) -> None:
    """Refuse a taken output before the model is even looked for."""
    named = request.output
    if named is None and request.model.model is None:
        named = Path(f"{DEFAULT_MODEL}.{request.target}.ldmc")
    if named is not None:
        check_output(named, force=request.force)


def _lower(
    component: Component,
    steps: list[Pass],
    target: Target,
    records: list[StageRecord],
    bundle: BundleWriter,
    progress: Progress,
    request: BuildRequest,
    scratch: Path,
) -> Component:
    """Run the passes of one component; records and reports are added as stages end."""
    from ldmc.compiler.lower import lower

    stages = lower(component, steps, target, first_number=len(records) + 1, scratch=scratch)
    for step in steps:
        with progress.stage(f"{component.name}: {step.name}", None):
            component, record = next(stages)
        records.append(record)
        bundle.add_json(record.report(), f"reports/{record.stage}.json", "report")
        if request.keep_intermediates and component.form is Form.ONNX:
            bundle.add_onnx(
                component.payload, f"intermediate/{record.stage}/model.onnx", "intermediate", _ignore
            )
    return component


def _ignore(_: int) -> None:
    """Progress of what is not worth a bar."""


def _write(
    component: Component, stats: Stats, bundle: BundleWriter, progress: Progress
) -> tuple[Written, dict[str, Any]]:
    """Stream one component into the bundle; its section of the manifest."""
    total = emit.weight_bytes(component)
    gc.collect()  # what tracing left behind
    with progress.stage(f"{component.name}: write weights", total) as advance, measured() as reading:
        parts = emit.write(component, bundle, advance)
    return Written(total, reading), emit.manifest_entry(component, parts, stats)


def _manifest(
    program: Program,
    target: Target,
    pipelines: dict[str, list[Pass]],
    entries: dict[str, Any],
    records: list[StageRecord],
    pending: list[dict[str, Any]],
) -> dict[str, Any]:
    """The manifest, less what the writer adds."""
    packages = {name: version for name, version in target.requirements.items() if name != "python"}
    return {
        "name": program.name,
        "target": target.name,
        "pipeline": {name: format_pipeline(steps) for name, steps in pipelines.items()},
        "source": dict(program.source),
        "components": entries,
        "stages": [record.manifest_entry() for record in records],
        "requirements": {"python": target.requirements["python"], "packages": packages},
        "scheduler": dict(program.scheduler),
        "load": target.load,
        "finish": _finish(target, pending),
        "toolchain": _toolchain(),
    }


def _finish(target: Target, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """What is left to do on the device, and what device that must be; empty where nothing is."""
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
        "steps": steps,
    }


def _toolchain() -> dict[str, str]:
    """Versions of everything that had a hand in the bundle."""
    versions = {"ldmc": ldmc.__version__, "python": platform.python_version()}
    for name in _TOOLS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


@contextlib.contextmanager
def _less_garbage_collection() -> Iterator[None]:
    """Do not collect garbage meanwhile.

    Tracing makes millions of objects that live to the end; scanning them again and again costs a fifth of the build.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
