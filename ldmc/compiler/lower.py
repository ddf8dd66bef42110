"""Running a pipeline over one component, holding every pass to what must not change."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ldmc.compiler.meter import Reading, measured
from ldmc.compiler.stage import Snapshot, StageRecord, snapshot
from ldmc.errors import LdmcError, PassError
from ldmc.ir import Chain, Component, Form, Stats, TensorSpec
from ldmc.passes.base import Context, Pass
from ldmc.targets.target import Target


class Lowering:
    """One component on its way through its passes.

    component: as it now is. done: the passes that ran. records: what each did, numbered 1, 2, ... for this component.

    Args:
        scratch: a folder in which each stage gets one for its files.
        look: counts a component between two stages.
    """

    def __init__(
        self,
        component: Component,
        target: Target,
        scratch: Path,
        look: Callable[[Component], Snapshot] = snapshot,
    ) -> None:
        self.component = component
        self.target = target
        self.done: list[Pass] = []
        self.records: list[StageRecord] = []
        self._scratch = scratch
        self._look = look
        self._snapshot = look(component)

    @property
    def stats(self) -> Stats:
        """What can be counted of the component as it now is."""
        return self._snapshot.stats

    def run(self, step: Pass) -> StageRecord:
        """Apply one pass.

        Raises:
            PassError: the pass failed, or changed the component's inputs or outputs.
        """
        number = len(self.done) + 1
        remarks: list[str] = []
        folder = self._scratch / f"{self.component.name}-{number:02d}-{step.name}"
        folder.mkdir()
        with measured() as reading:
            lowered = _run(step, self.component, Context(self.target, remarks.append, folder))
        check_io(self.component, lowered, step.name)
        after = self._look(lowered)
        record = StageRecord(
            number,
            self.component.name,
            step.name,
            str(step),
            _status(lowered),
            self._snapshot,
            after,
            reading.seconds,
            _peak_rss_bytes(reading, self.component, lowered),
            tuple(remarks),
        )
        self.component, self._snapshot = lowered, after
        self.done.append(step)
        self.records.append(record)
        return record


def _status(component: Component) -> str:
    """`pending` where the device has to do the work."""
    waits = component.form is Form.ENGINE and (component.payload.embed or not component.payload.files)
    return "pending" if waits else "done"


def _peak_rss_bytes(reading: Reading, before: Component, after: Component) -> int | None:
    """Of this process or of one that built an engine for it, whichever held more."""
    is_built = after.form is Form.ENGINE and before.form is not Form.ENGINE
    reports = after.payload.reports if is_built else ()
    peaks = [reading.peak_rss_bytes, *(report["peak_rss_bytes"] for report in reports)]
    return max((peak for peak in peaks if peak is not None), default=None)


def _run(step: Pass, component: Component, context: Context) -> Component:
    """Run one pass; errors that ldmc does not know are chained and told with the pass and component."""
    try:
        return step.run(component, context)
    except (LdmcError, KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PassError(
            f"pass {step.name!r} failed on {component.name}: {first}",
            fix="run `ldmc --debug ...` for the whole traceback, and report it with the model's configuration",
        ) from error


def check_io(before: Component, after: Component, name: str) -> None:
    """Names and order of inputs and outputs are frozen, and an ONNX graph's are those of its component.

    Raises:
        PassError: they are not.
    """
    old = [spec.name for spec in (*before.inputs, *before.outputs)]
    new = [spec.name for spec in (*after.inputs, *after.outputs)]
    if old != new:
        raise PassError(f"pass {name!r} changed the inputs and outputs of {before.name} from {old} to {new}")
    if after.form is Form.ONNX:
        _check_graph(after, f"of {before.name}", name)
    if after.form is Form.PARTS:
        _check_chain(after, name)


def _check_graph(component: Component, where: str, name: str) -> None:
    """An ONNX graph has the inputs and outputs that its component says."""
    graph = component.payload.graph
    for side, values, specs in (
        ("input", graph.inputs, component.inputs),
        ("output", graph.outputs, component.outputs),
    ):
        found = [_described(value) for value in values]
        wanted = [_stated(spec) for spec in specs]
        if found != wanted:
            raise PassError(f"pass {name!r} broke the {side}s {where}: {found} instead of {wanted}")


def _check_chain(component: Component, name: str) -> None:
    """What each part reads is the component's input or was given before, once; all its outputs are given.

    Parts that stand for a part read and give what it does.
    """
    given = {spec.name: _stated(spec) for spec in component.inputs}
    chain: Chain = component.payload
    for part, finer in itertools.zip_longest(chain.parts, chain.finer):
        before = dict(given)
        _run_through((part,), given, name)
        if finer:
            _run_through(finer, before, name)
            _require(part.outputs, before, f"the finer parts of {part.name} do not give", name)
    _require(component.outputs, given, f"no part of {component.name} gives", name)


def _run_through(parts: tuple[Component, ...], given: dict[str, str], name: str) -> None:
    """Check `parts` in order; `given`, names and types of what is there, grows by what they give."""
    for part in parts:
        _check_graph(part, f"of {part.name}", name)
        _require(part.inputs, given, f"before {part.name}, nothing gives", name)
        twice = [spec.name for spec in part.outputs if spec.name in given]
        if twice:
            raise PassError(f"pass {name!r} made {part.name} give what is there already: {', '.join(twice)}")
        given.update((spec.name, _stated(spec)) for spec in part.outputs)


def _require(specs: tuple[TensorSpec, ...], given: dict[str, str], words: str, name: str) -> None:
    missing = [_stated(spec) for spec in specs if given.get(spec.name) != _stated(spec)]
    if missing:
        raise PassError(f"pass {name!r} broke the chain: {words} {', '.join(missing)}")


def _stated(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.dtype}{list(spec.shape)}"


def _described(value: Any) -> str:
    dtype = value.dtype.numpy().name if value.dtype else "?"
    shape = list(value.shape.numpy()) if value.shape is not None and value.shape.is_static() else "?"
    return f"{value.name} {dtype}{shape}"
