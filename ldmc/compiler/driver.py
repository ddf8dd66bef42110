"""The build, from request to bundle. Reads like a table of contents.

check everything that can be checked  ->  open the model  ->  lower each component to what the target reads
->  plan its memory  ->  for each component: lower to the end, write  ->  finish
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ldmc.artifacts.bundle import BundleWriter, check_output
from ldmc.compiler import emit
from ldmc.compiler.fit import Fitting, Insertion
from ldmc.compiler.frontend import DEFAULT_MODEL, ModelRequest, Opened, open_model, read_program
from ldmc.compiler.lower import Lowering
from ldmc.compiler.manifest import finish_section, manifest
from ldmc.compiler.meter import Reading, measured
from ldmc.compiler.pipeline import checked_pipeline
from ldmc.compiler.stage import StageRecord
from ldmc.errors import UsageError
from ldmc.ir import COMPONENTS, Component, Program
from ldmc.passes.base import Pass
from ldmc.targets.reader import load_target
from ldmc.targets.target import Target


@dataclass(frozen=True)
class BuildRequest:
    """What to build.

    passes: one spec for all components, or None for the target's default.
    output: folder of the bundle, or None for NAME.TARGET.ldmc here.
    strict: insert nothing that was not asked for, and refuse what does not fit.
    allow_over_budget: go on where the target's memory is predicted to be too small.
    """

    target: str
    model: ModelRequest = field(default_factory=ModelRequest)
    passes: str | None = None
    output: Path | None = None
    force: bool = False
    keep_intermediates: bool = False
    strict: bool = False
    allow_over_budget: bool = False


class Progress(Protocol):
    """How the driver says what it is doing."""

    def stage(self, title: str, total_bytes: int | None) -> AbstractContextManager[Callable[[int], None]]:
        """Something that takes a while begins; the function given is told of bytes done."""
        ...

    def note(self, message: str) -> None:
        """Something that was decided for the user."""
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
    pipeline: dict[str, str]
    insertions: tuple[Insertion, ...]
    pending: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The documented output of `ldmc build --json`."""
        return {
            "bundle": str(self.bundle),
            "target": self.target,
            "seconds": self.seconds,
            "peak_rss_bytes": self.peak_rss_bytes,
            "pipeline": self.pipeline,
            "insertions": [insertion.to_json() for insertion in self.insertions],
            "pending": list(self.pending),
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
        _check_explicit_output(request, target)
        with progress.stage("open model", None), measured() as opening:
            opened = open_model(request.model, progress.warn)
            output = request.output or Path(f"{opened.name}.{target.name}.ldmc")
            check_output(output, force=request.force)
            program = read_program(opened, request.model)
        with BundleWriter(output, force=request.force) as bundle:
            job = _Job(request, target, opened, program, bundle, progress)
            with bundle.scratch() as scratch:
                job.lower(pipelines, scratch)
            content = job.manifest()
            with progress.stage("finish bundle", None), measured() as finishing:
                bundle.complete(content)
            if approve is not None:
                with progress.stage("verify against PyTorch", None):
                    approve(bundle.folder)
            bundle.publish()
    return job.result(output, total, (opening, finishing))


class _Job:
    """One build under way: everything its steps share."""

    def __init__(
        self,
        request: BuildRequest,
        target: Target,
        opened: Opened,
        program: Program,
        bundle: BundleWriter,
        progress: Progress,
    ) -> None:
        self.request = request
        self.target = target
        self.opened = opened
        self.program = program
        self.bundle = bundle
        self.progress = progress
        self.fittings: list[Fitting] = []
        self.writes: dict[str, Written] = {}
        self.entries: dict[str, Any] = {}
        self.pending: list[dict[str, Any]] = []

    def lower(self, pipelines: dict[str, list[Pass]], scratch: Path) -> None:
        """Lower and write every component. No weight is read before all of them are known to fit the target."""
        for component in self.program.components:
            lowering = Lowering(component, self.target, scratch)
            fitting = Fitting(lowering, list(pipelines[component.name]), self.run)
            self.fittings.append(fitting)
            fitting.lower_to_target(strict=self.request.strict)
            if not self.request.strict and not self.request.allow_over_budget:
                fitting.partition_to_fit()
            for insertion in fitting.insertions:
                self.progress.note(str(insertion))
        for fitting in self.fittings:
            while fitting.waiting:
                fitting.advance()
            self.write(fitting.lowering)

    def run(self, lowering: Lowering, step: Pass) -> StageRecord:
        """Apply one pass, with its progress, report and intermediate graph."""
        with self.progress.stage(f"{lowering.component.name}: {step.name}", None):
            record = lowering.run(step)
        self.bundle.add_json(record.report(), record.report_path, "report")
        if self.request.keep_intermediates:
            emit.write_intermediate(lowering.component, self.bundle, f"intermediate/{record.component}/{record.stage}")
        return record

    def write(self, lowering: Lowering) -> None:
        """Stream one component into the bundle."""
        component = lowering.component
        total = emit.weight_bytes(component)
        gc.collect()  # what tracing left behind
        with (
            self.progress.stage(f"{component.name}: write weights", total) as advance,
            measured() as reading,
        ):
            parts = emit.write(component, self.bundle, advance)
        stats = lowering.records[-1].after.stats
        self.entries[component.name] = emit.manifest_entry(component, parts, stats)
        self.writes[component.name] = Written(total, reading)
        self.pending += emit.finish_steps(component, self.target)
        self.progress.component_done(component.name, lowering.records, self.writes[component.name])

    def manifest(self) -> dict[str, Any]:
        """The manifest, with the references that the device needs."""
        lowerings = [fitting.lowering for fitting in self.fittings]
        references = {
            lowering.component.name: self.reference(original, lowering.component)
            for original, lowering in zip(self.program.components, lowerings, strict=True)
            if any(step["component"] == original.name for step in self.pending)
        }
        dtype = lowerings[0].component.inputs[0].dtype
        finish = finish_section(self.target, self.pending, references, dtype)
        return manifest(self.program, self.target, lowerings, self.entries, finish)

    def reference(self, original: Component, lowered: Component) -> str:
        """Write what the device checks the component against; its path in the bundle."""
        from ldmc.compiler.reference import save_reference

        relative = f"reference/{original.name}.npz"
        last = self.program.scheduler["num_train_timesteps"] - 1

        def save(file: Path) -> None:
            save_reference(self.opened, lowered, original.payload, last, file)

        with self.progress.stage(f"{original.name}: reference outputs", None):
            self.bundle.add_file(relative, "reference", save)
        return relative

    def result(self, output: Path, total: Reading, others: tuple[Reading, ...]) -> BuildResult:
        """What is told of the build."""
        records = tuple(record for fitting in self.fittings for record in fitting.lowering.records)
        readings = [*others, *(w.reading for w in self.writes.values())]
        peaks = [reading.peak_rss_bytes for reading in readings] + [r.peak_rss_bytes for r in records]
        pipeline = {
            fitting.lowering.component.name: ",".join(str(step) for step in fitting.lowering.done)
            for fitting in self.fittings
        }
        return BuildResult(
            output,
            self.target.name,
            total.seconds,
            max((peak for peak in peaks if peak is not None), default=None),
            records,
            self.writes,
            pipeline,
            tuple(insertion for fitting in self.fittings for insertion in fitting.insertions),
            tuple(step["part"] for step in self.pending),
        )


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


def _check_explicit_output(request: BuildRequest, target: Target) -> None:
    """Refuse a taken output before the model is even looked for."""
    named = request.output
    if named is None and request.model.model is None:
        named = Path(f"{DEFAULT_MODEL}.{target.name}.ldmc")
    if named is not None:
        check_output(named, force=request.force)


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
