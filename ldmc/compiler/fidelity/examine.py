"""Examining one bundle: its stages, its blocks, or both, on the same calls of the same reference."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ldmc.artifacts.manifest import read_whole_manifest
from ldmc.compiler.fidelity.by_block import compare_blocks
from ldmc.compiler.fidelity.by_stage import compare_stages
from ldmc.compiler.fidelity.calls import Call, Reference
from ldmc.compiler.fidelity.graph import JoinedGraph
from ldmc.compiler.fidelity.results import BlockResult, FidelityReport, StageResult
from ldmc.compiler.original import open_original
from ldmc.compiler.progress import Steps
from ldmc.compiler.runnable import check_bundle, check_here
from ldmc.errors import BundleError, UsageError
from ldmc.ir import COMPONENTS
from ldmc.runtime.leftovers import temporary_folder
from ldmc.runtime.manifest import ComponentEntry, Manifest
from ldmc.runtime.schedulers import sampler_of
from ldmc.targets.reader import load_target, target_names
from ldmc.targets.target import Target

_FROM_SOURCES = "an engine cannot be looked into: the ONNX graph that it is built from was compared, on this CPU"


@dataclass(frozen=True)
class Examination:
    """What to look at.

    component: one, or None for all. steps: of the loop that latents are of. timesteps: how many of its UNet calls are
    compared. model: where the checkpoint is, if not where the manifest says. target: the bundle's target file, where
    it is none of ldmc's. trust: native code and scripts that were not made here may run.
    """

    by_stage: bool = False
    by_block: bool = False
    component: str | None = None
    steps: int = 20
    timesteps: int = 3
    model: str | None = None
    target: str | None = None
    trust: bool = False


def examine(bundle: Path, asked: Examination, progress: Steps) -> FidelityReport:
    """Find where `bundle` loses fidelity.

    Holds one component of the reference in memory in fp32, then one stage or one block of the bundle.

    Raises:
        UsageError: it has no such component, no graph to look into, or its target's file is needed.
        InputProblem: the model was not trained for so many steps.
        BundleError: the manifest cannot be read, or the bundle's engines do not run here. BundleProblem: files are
            altered, or nothing here runs them.
        ModelError: the checkpoint cannot be read. VerificationError: it is another one.
    """
    manifest = read_whole_manifest(bundle)
    sampler_of(manifest.scheduler).check(asked.steps)
    wanted = _components(manifest, asked.component)
    target = _target(manifest, asked.target) if asked.by_stage else None
    if asked.by_block:
        _require_graphs(manifest, wanted)
    check_bundle(manifest, asked.trust)
    if asked.by_stage:
        check_here(manifest)
    opened, program = open_original(manifest.data["source"], asked.model)
    stages: list[StageResult] = []
    blocks: list[BlockResult] = []
    remarks: list[str] = []
    components = {component.name: component for component in program.components}
    with temporary_folder("ldmc-") as folder:
        scratch = Path(folder)
        reference = Reference(
            opened, program, manifest, asked.steps, asked.timesteps, scratch if asked.by_block else None
        )
        for name, calls in reference.calls(wanted, progress):
            gc.collect()
            if target is not None:
                stages += compare_stages(components[name], manifest, target, calls, scratch, progress, asked.trust)
            if asked.by_block:
                blocks += _blocks(name, manifest, calls, scratch, progress, remarks)
            for call in calls:
                call.recording.drop()
    return FidelityReport(tuple(stages), tuple(blocks), reference.compared, tuple(remarks))


def _components(manifest: Manifest, named: str | None) -> list[str]:
    """The components to look at, in order."""
    there = [name for name in COMPONENTS if name in manifest.components]
    if len(there) < len(COMPONENTS):
        raise BundleError(
            f"{manifest.root} has {' and '.join(there) or 'no component'}, not {' and '.join(COMPONENTS)}",
            fix="build it again whole",
        )
    if named is not None and named not in there:
        raise UsageError(
            f"{manifest.root} has no component {named!r}", fix=f"its components are {', '.join(there)}"
        )
    return there if named is None else [named]


def _target(manifest: Manifest, file: str | None) -> Target:
    """The target that the bundle was compiled for: passes read from it what they are not told."""
    if file is None and manifest.target not in target_names():
        raise UsageError(
            f"{manifest.root} is for the target {manifest.target!r}, which is none of ldmc's, and its passes depend "
            "on it",
            fix="give the file that it was built with: --target BOARD.toml",
        )
    target = load_target(file or manifest.target)
    if target.name != manifest.target:
        raise UsageError(
            f"{manifest.root} is for the target {manifest.target!r}, {file} is {target.name!r}",
            fix="give the file that it was built with",
        )
    return target


def _graph_files(manifest: Manifest, entry: ComponentEntry) -> list[Path]:
    """The ONNX files of a component, in running order; () where a part of it has none."""
    files = [part.source or (part.file if part.form == "onnx" else "") for part in entry.parts]
    return [Path(manifest.file_path(file)) for file in files] if all(files) else []


def _why_no_graph(entry: ComponentEntry) -> str:
    if entry.form == "engine":
        return "it is an engine, which cannot be looked into, and the bundle does not carry its graph"
    return f"it is in {entry.form} form, which has no ONNX graph to look into"


def _require_graphs(manifest: Manifest, wanted: Sequence[str]) -> None:
    entries = [manifest.components[name] for name in wanted]
    if not any(_graph_files(manifest, entry) for entry in entries):
        reasons = "; ".join(f"{entry.name}: {_why_no_graph(entry)}" for entry in entries)
        raise UsageError(
            f"{manifest.root} cannot be compared by block: {reasons}",
            fix="use --by-stage, or build it for the cpu target with the same passes up to the graph",
        )


def _blocks(
    name: str,
    manifest: Manifest,
    calls: Sequence[Call],
    scratch: Path,
    progress: Steps,
    remarks: list[str],
) -> list[BlockResult]:
    entry = manifest.components[name]
    files = _graph_files(manifest, entry)
    if not files:
        return [BlockResult(name, "", why=_why_no_graph(entry))]
    if entry.form == "engine":
        remarks.append(f"{name}: {_FROM_SOURCES}")
    waiting = Path(tempfile.mkdtemp(dir=scratch))
    graph = JoinedGraph(files, [spec.name for spec in entry.inputs], [spec.name for spec in entry.outputs])
    with progress.stage(f"{name}: by block", len(calls[0].recording.entered)) as advance:
        return compare_blocks(name, graph, calls, waiting, advance)
