"""Running a pipeline over one component, holding every pass to what must not change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ldmc.compiler.meter import Reading, measured
from ldmc.compiler.stage import StageRecord, snapshot
from ldmc.errors import LdmcError, PassError
from ldmc.ir import Component, Form
from ldmc.passes.base import Context, Pass
from ldmc.targets.target import Target


def lower(
    component: Component, passes: list[Pass], target: Target, first_number: int, scratch: Path
) -> Iterator[tuple[Component, StageRecord]]:
    """Apply `passes` in order; after each, the component as it now is and the record of the stage.

    scratch: folder in which each stage gets one for its files.

    Raises:
        PassError: a pass failed, or changed the component's inputs or outputs.
    """
    before = snapshot(component)
    for number, step in enumerate(passes, start=first_number):
        remarks: list[str] = []
        own = scratch / f"{number:02d}-{step.name}"
        own.mkdir()
        with measured() as reading:
            lowered = _run(step, component, Context(target, remarks.append, own))
        check_io(component, lowered, step.name)
        after = snapshot(lowered)
        record = StageRecord(
            number,
            component.name,
            step.name,
            str(step),
            _status(lowered),
            before,
            after,
            reading.seconds,
            _peak_rss_bytes(reading, component, lowered),
            tuple(remarks),
        )
        component, before = lowered, after
        yield component, record


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
    if after.form is not Form.ONNX:
        return
    graph = after.payload.graph
    for side, values, specs in (
        ("input", graph.inputs, after.inputs),
        ("output", graph.outputs, after.outputs),
    ):
        found = [_described(value) for value in values]
        wanted = [f"{spec.name} {spec.dtype}{list(spec.shape)}" for spec in specs]
        if found != wanted:
            raise PassError(f"pass {name!r} broke the {side}s of {before.name}: {found} instead of {wanted}")


def _described(value: Any) -> str:
    dtype = value.dtype.numpy().name if value.dtype else "?"
    shape = list(value.shape.numpy()) if value.shape is not None and value.shape.is_static() else "?"
    return f"{value.name} {dtype}{shape}"
