"""The build, from request to bundle. Reads like a table of contents.

check everything that can be checked  ->  open the model  ->  lower each component to what the target reads
->  plan its memory  ->  for each component: lower to the end, write  ->  finish
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldmc.artifacts.bundle import BundleWriter, check_output
from ldmc.compiler import places
from ldmc.compiler.budget.plan import Plan
from ldmc.compiler.collection import less_garbage_collection
from ldmc.compiler.fit import Insertion
from ldmc.compiler.frontend import DEFAULT_MODEL, Opened, open_model, read_program, require_drawable
from ldmc.compiler.job import Job
from ldmc.compiler.meter import Reading, measured
from ldmc.compiler.pipeline import pipelines_of
from ldmc.compiler.progress import Progress, Written
from ldmc.compiler.request import BuildRequest
from ldmc.compiler.stage import StageRecord
from ldmc.errors import UsageError
from ldmc.ir import Program
from ldmc.passes.base import Pass
from ldmc.runtime.checks import trust
from ldmc.runtime.checks.cache_folder import default_cache_folder, usable_cache_folder
from ldmc.targets.reader import load_target
from ldmc.targets.target import Target


@dataclass(frozen=True)
class BuildResult:
    """What was built.

    peak_rss_bytes: the largest over all stages; None where unknown.
    weights: `kind` (checkpoint, placeholder), `seed`, and `asked`: whether those are the weights that were asked for,
        and not random ones in the place of the default model's, which could not be had.
    """

    bundle: Path
    target: str
    seconds: float
    peak_rss_bytes: int | None
    records: tuple[StageRecord, ...]
    writes: dict[str, Written]
    pipeline: dict[str, str]
    insertions: tuple[Insertion, ...]
    pending: tuple[str, ...]
    plan: Plan | None
    weights: Mapping[str, Any]
    manifest_sha256: str

    def to_json(self) -> dict[str, Any]:
        """The documented output of `ldmc build --json`."""
        return {
            "bundle": str(self.bundle),
            "manifest_sha256": self.manifest_sha256,
            "target": self.target,
            "seconds": self.seconds,
            "peak_rss_bytes": self.peak_rss_bytes,
            "pipeline": self.pipeline,
            "insertions": [insertion.to_json() for insertion in self.insertions],
            "pending": list(self.pending),
            "plan": self.plan.to_json() if self.plan else None,
            "weights": dict(self.weights),
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
    with measured() as total, less_garbage_collection():
        target = load_target(request.target)
        pipelines = pipelines_of(request.passes, target)
        _check_machine(pipelines, target)
        _check_explicit_output(request, target)
        with progress.stage("open model", None), measured() as opening:
            opened = open_model(request.model, progress.warn)
            require_drawable(opened)
            output = request.output or Path(f"{opened.name}.{target.name}.ldmc")
            check_output(output, force=request.force)
            program = read_program(opened, request.model)
        for note in opened.checkpoint.notes:
            progress.note(note)
        with BundleWriter(output, force=request.force) as bundle:
            job = Job(request, target, opened, program, bundle, progress)
            with bundle.scratch() as scratch:
                job.lower(pipelines, scratch)
            content = job.manifest()
            with progress.stage("finish bundle", None), measured() as finishing:
                manifest_sha256 = bundle.complete(content)
            if approve is not None:
                with progress.stage("verify against PyTorch", None):
                    approve(bundle.folder)
            bundle.publish()
        _remember_checkpoint(opened, program, progress)
        _remember_bundle(output, manifest_sha256, job, progress)
    return _result(job, output, total, (opening, finishing), manifest_sha256)


def _remember_checkpoint(opened: Opened, program: Program, progress: Progress) -> None:
    """Keep where the checkpoint lies, for `verify` and `bench`; outside the bundle, which is published."""
    if opened.kind != "folder":
        return
    try:
        places.remember(program.source, opened.checkpoint.folder)
    except OSError as error:
        progress.note(f"verify and bench will need --model: {error.filename} cannot be written: {error.strerror}")


def _remember_bundle(output: Path, manifest_sha256: str, job: Job, progress: Progress) -> None:
    """Put the bundle on the user's list of those made here, whose native code and scripts are loaded unasked."""
    folder, why = usable_cache_folder(default_cache_folder(), str(output))
    try:
        if folder is not None:
            trust.remember(folder, manifest_sha256)
            return
    except OSError as error:
        why = str(error)
    forms = {part["form"] for entry in job.entries.values() for part in entry["parts"]} & trust.FORMS.keys()
    if forms:
        progress.note(f"the bundle could not be noted as made here ({why}): load it with --trust")


def _result(
    job: Job, output: Path, total: Reading, others: tuple[Reading, ...], manifest_sha256: str
) -> BuildResult:
    """What is told of the build."""
    records = tuple(record for fitting in job.fittings for record in fitting.lowering.records)
    readings = [*others, *(w.reading for w in job.writes.values())]
    peaks = [reading.peak_rss_bytes for reading in readings] + [r.peak_rss_bytes for r in records]
    pipeline = {
        fitting.lowering.component.name: ",".join(str(step) for step in fitting.lowering.done)
        for fitting in job.fittings
    }
    weights = job.program.source["weights"]
    asked = weights["kind"] == "checkpoint" or job.request.model.random_seed is not None
    return BuildResult(
        output,
        job.target.name,
        total.seconds,
        max((peak for peak in peaks if peak is not None), default=None),
        records,
        job.writes,
        pipeline,
        tuple(insertion for fitting in job.fittings for insertion in fitting.insertions),
        tuple(step["part"] for step in job.pending),
        job.plan,
        {"kind": weights["kind"], "seed": weights["seed"], "asked": asked},
        manifest_sha256,
    )


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
