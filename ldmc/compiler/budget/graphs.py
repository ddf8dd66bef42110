"""The graphs of a request, lowered without weights: what a plan is made from.

    jetson-nano, fp16,onnx,trt   ->   unet: fp16,onnx,fold,groupnorm,opset,partition{parts=2}   2 graphs
                                      decoder: ...                                                1 graph

The same passes run as in a build, and the same are put between them (`compiler.fit`), up to the first that needs
weights or a device. Each component is lowered in a process of its own where the system can fork: tracing keeps one core
busy, and boards and laptops have two or more.
"""

from __future__ import annotations

import functools
import multiprocessing
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from ldmc.compiler.collection import less_garbage_collection
from ldmc.compiler.fit import Fitting
from ldmc.compiler.frontend import ModelRequest, open_model, read_program
from ldmc.compiler.graph import states_all_shapes, summarise
from ldmc.compiler.lower import Lowering
from ldmc.compiler.pipeline import pipelines_of
from ldmc.compiler.progress import ignore_warning
from ldmc.compiler.spec import format_pipeline
from ldmc.compiler.stage import Snapshot, StageRecord, snapshot
from ldmc.compiler.summary import GraphSummary
from ldmc.errors import LdmcError, PassError
from ldmc.ir import Component, Form, Stats
from ldmc.passes.base import Pass
from ldmc.runtime import stopping
from ldmc.runtime.leftovers import temporary_folder
from ldmc.targets.target import Target

_STOPS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Lowered:
    """One component as its engine gets it.

    spec: the passes asked for, with what was put between them. whole: its graph before it was cut into parts.
    parts: the graphs that run, in order. insertions: what was put between, or taken otherwise than the checkpoint
    says, and why; one line each.
    """

    name: str
    spec: str
    whole: GraphSummary
    parts: tuple[GraphSummary, ...]
    insertions: tuple[str, ...] = ()


def part_graphs(component: Component) -> tuple[GraphSummary, ...]:
    """The graphs of an ONNX, PARTS or ENGINE component, in running order.

    Raises:
        PassError: the component is in a form that has none.
    """
    if component.form is Form.ENGINE:
        return part_graphs(component.payload.source)
    if component.form is Form.PARTS:
        return tuple(summarise(part.payload) for part in component.payload.parts)
    _require_graph(component.name, component.form)
    return (summarise(component.payload),)


def _require_graph(name: str, form: Form) -> None:
    """Refuse a form that has no graph: what PyTorch runs tells nothing of the size of what it computes."""
    if form not in (Form.ONNX, Form.PARTS, Form.ENGINE):
        raise PassError(
            f"{name}: memory is planned from ONNX graphs, this is in {form} form",
            fix="plan a pipeline with onnx in it",
        )


def lower_request(
    model: ModelRequest, passes: str | None, target: Target, *, strict: bool = False
) -> tuple[Lowered, ...]:
    """Lower every component of `model` for `target`, as a build would, without reading a weight.

    passes: one spec for all components, or None for the target's. strict: put nothing between them.

    Raises:
        LdmcError: as a build does before it reads weights.
    """
    pipelines = pipelines_of(passes, target)
    for name, steps in pipelines.items():
        _require_graph(name, functools.reduce(lambda form, step: step.gives(form), steps, Form.TORCH))
    # No weight is fetched; the headers of those that are here are held to the network, as in a build.
    seeded = replace(model, random_seed=model.random_seed or 0, require_weights=False)
    with less_garbage_collection():
        opened = open_model(seeded, ignore_warning)  # a plan is the same for random weights
        program = read_program(opened, model if opened.weights else seeded, hashes=False)
        with temporary_folder("ldmc-plan-") as scratch:  # of this process, which outlives the forked ones
            lowered = _run_all([_Job(c, pipelines[c.name], target, strict, scratch) for c in program.components])
    notes = (*opened.checkpoint.notes, *lowered[0].insertions)
    return (replace(lowered[0], insertions=notes), *lowered[1:])


@dataclass(frozen=True)
class _Job:
    """One component to lower."""

    component: Component
    steps: list[Pass]
    target: Target
    strict: bool
    scratch: str

    def run(self) -> Lowered:
        lowering = Lowering(self.component, self.target, Path(self.scratch), _look)
        fitting = Fitting(lowering, list(self.steps), _advance)
        fitting.lower_to_target(strict=self.strict)
        fitting.lower_whole()
        whole = part_graphs(lowering.component)[0] if lowering.component.form is Form.ONNX else None
        if not self.strict:
            fitting.partition_to_fit()
        fitting.lower_to_engine()
        parts = part_graphs(lowering.component)
        spec = format_pipeline([*lowering.done, *fitting.waiting])
        return Lowered(self.component.name, spec, whole or parts[0], parts, tuple(fitting.remarks))


def _look(component: Component) -> Snapshot:
    """As a build looks, but not at graphs of which shapes would have to be inferred: no plan is made from those."""
    if component.form is Form.ONNX and not states_all_shapes(component.payload.graph):
        return Snapshot(component.form, Stats(0, {}, 0, 0), None)
    return snapshot(component)


def _advance(lowering: Lowering, step: Pass) -> StageRecord:
    return lowering.run(step)


def _run_all(jobs: Sequence[_Job]) -> tuple[Lowered, ...]:
    """Run the jobs at one time: the first here, each other one in a process forked from this."""
    if "fork" not in multiprocessing.get_all_start_methods():
        return tuple(job.run() for job in jobs)
    first, *others = jobs
    children = [_Child(job) for job in others]
    try:
        return (first.run(), *(child.result() for child in children))
    finally:
        for child in children:
            child.end()


class _Child:
    """A job in a forked process. Its component is never pickled, only what comes of it."""

    def __init__(self, job: _Job) -> None:
        context = multiprocessing.get_context("fork")
        self._name = job.component.name
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_send_result, args=(job, sender), daemon=True)
        # A signal between the fork and the child's first step must not be taken there for its parent's.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        sender.close()

    def result(self) -> Lowered:
        """What the job gave.

        Raises:
            PassError: what the job failed with.
        """
        try:
            lowered, message, fix = self._receiver.recv()
        except EOFError as error:
            self._process.join()
            raise PassError(
                f"{self._name}: the process that lowered it ended with {self._process.exitcode}"
            ) from error
        if lowered is None:
            raise PassError(message, fix=fix)
        assert isinstance(lowered, Lowered)
        return lowered

    def end(self) -> None:
        self._process.terminate()
        self._process.join()
        self._receiver.close()


def _send_result(job: _Job, sender: Connection) -> None:
    """The forked process: lower, send, end. Signals end it: the parent is the one that cleans up."""
    stopping.forget()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    try:
        sender.send((job.run(), "", ""))
    except LdmcError as error:
        sender.send((None, error.message, error.fix))
