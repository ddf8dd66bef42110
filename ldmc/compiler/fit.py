"""Fitting a pipeline to its target: what was asked for stays, in its order; what the target needs is put between.

    asked      fp16,onnx,trt
    expanded   fp16,onnx,fold,groupnorm{form=primitive},opset{to=13},partition{parts=4},trt

Two things are fitted, both from the graph and without a weight: what the target's parser reads (repairs, each named
by the finding of `check` that it mends), then what its memory holds (the smallest partition). What is inserted and what
still waits is held to the same check of forms as what was asked for. A repair that was asked for behind the pass that
needs it comes forward; a partition goes behind all that takes the graph whole. `--strict` inserts nothing and refuses
instead.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ldmc.compiler.lower import Lowering
from ldmc.compiler.pipeline import first_misfit
from ldmc.compiler.spec import parse_pass
from ldmc.compiler.stage import StageRecord
from ldmc.errors import PassError
from ldmc.ir import Chain, Form
from ldmc.passes.base import Context, Pass
from ldmc.passes.check import Finding, counted, findings, repairs
from ldmc.passes.partition import Partition
from ldmc.targets.builder_memory import build_peak_bytes
from ldmc.targets.target import MIB


@dataclass(frozen=True)
class Insertion:
    """A pass that was not asked for. spec: the pass. reason: what it mends, with numbers."""

    component: str
    spec: str
    reason: str

    def __str__(self) -> str:
        return f"{self.component}: inserted {self.spec}: {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """As printed by `ldmc build --json`."""
        return {"component": self.component, "spec": self.spec, "reason": self.reason}


@dataclass
class Fitting:
    """One component, its passes that are still to run, and what was put between them.

    run: applies one pass to `lowering` (the driver's, which shows progress).
    insertions: passes that were not asked for. remarks: a line for each of them, and for each that came forward.
    """

    lowering: Lowering
    waiting: list[Pass]
    run: Callable[[Lowering, Pass], StageRecord]
    insertions: list[Insertion] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def lower_to_target(self, *, strict: bool) -> None:
        """Run the passes up to the first that faces the target, then repairs until its parser takes the graph.

        Raises:
            PassError: the parser would reject the graph, and nothing repairs it or `strict` forbids to.
        """
        while self.waiting and not self.waiting[0].faces_target:
            self.advance()
        if self.lowering.component.form is not Form.ONNX:
            return
        while found := findings(self.lowering.component.payload, self.lowering.target):
            if strict:
                raise self._refusal(found, "--strict inserts nothing")
            spec = self._next_repair(found)
            if spec is None:
                raise self._refusal(found, self._why_unrepaired(found))
            mended = [finding for finding in found if finding.repair == spec]
            more = f" (and {len(mended) - 1} more)" if len(mended) > 1 else ""
            self._repair(spec, f"{mended[0].sentence}{more}")

    def lower_whole(self) -> None:
        """Run the passes asked for that take and give the whole graph: a partition would take it from them."""
        self._advance_while(
            lambda step: Form.ONNX in step.requires and step.gives(Form.ONNX) is Form.ONNX, Form.ONNX
        )

    def partition_to_fit(self) -> None:
        """Cut the whole graph into as many parts as it takes to build their engines on the device, one at a time.

        Nothing is cut that fits whole, that was cut as it was asked for, that is built elsewhere, or that fits in no
        number of parts: the plan then says so, with figures.

        Raises:
            PassError: it must be cut, and a pass that was asked for takes no parts.
        """
        lowering, target = self.lowering, self.lowering.target
        on_device = any(step.name in target.device_passes for step in self.waiting)
        if not on_device or target.memory is None or lowering.component.form is not Form.ONNX:
            return
        if any(step.name == Partition.name for step in self.waiting):
            return
        stats = lowering.stats
        whole_bytes = build_peak_bytes(stats.bytes, stats.peak_activation_bytes or 0, target)
        if whole_bytes <= target.memory.budget_bytes:
            return
        if parts := _fewest_parts(lowering):
            reason = (
                f"building its engine whole takes up to {whole_bytes / MIB:.0f} MiB, "
                f"{target.name} has {target.memory.budget_bytes / MIB:.0f} MiB"
            )
            self.insert(f"partition{{parts={parts}}}", reason)

    def lower_to_engine(self) -> None:
        """Run the passes asked for that work on graphs, parts included; engines and weights come after."""
        self._advance_while(lambda step: step.produces is not Form.ENGINE, Form.ONNX, Form.PARTS)

    def advance(self) -> None:
        """Run the next pass that was asked for."""
        self.run(self.lowering, self.waiting[0])
        del self.waiting[0]

    def _advance_while(self, wanted: Callable[[Pass], bool], *forms: Form) -> None:
        """Run the next passes that were asked for, as long as they are `wanted` and the component is in `forms`."""
        while self.waiting and self.lowering.component.form in forms and wanted(self.waiting[0]):
            self.advance()

    def insert(self, spec: str, reason: str) -> None:
        """Run a pass that was not asked for.

        Raises:
            PassError: with it, the passes that wait do not fit any more.
        """
        step = parse_pass(spec)
        self._hold([step, *self.waiting], spec, reason)
        self.run(self.lowering, step)
        self.insertions.append(Insertion(self.lowering.component.name, spec, reason))
        self.remarks.append(str(self.insertions[-1]))

    def _repair(self, spec: str, reason: str) -> None:
        """Insert `spec`; or have the pass of that name which was asked for later come forward, with its own options."""
        name = parse_pass(spec).name
        asked = next((waiting for waiting in self.waiting if waiting.name == name), None)
        if asked is None:
            self.insert(spec, reason)
            return
        others = [waiting for waiting in self.waiting if waiting is not asked]
        self._hold([asked, *others], str(asked), reason)
        self.remarks.append(f"{self.lowering.component.name}: moved {asked} before {self.waiting[0].name}: {reason}")
        self.run(self.lowering, asked)
        self.waiting[:] = others

    def _hold(self, steps: list[Pass], inserted: str, reason: str) -> None:
        """Refuse passes that do not fit from here on."""
        lowering = self.lowering
        misfit = first_misfit(steps, lowering.target, lowering.component.form, lowering.done)
        if misfit is None:
            return
        where = f"before {self.waiting[0].name}" if self.waiting else "at the end"
        refusing = steps[misfit.index].name if 0 < misfit.index < len(steps) else ""
        raise PassError(
            f"{lowering.component.name}: {reason}; {inserted} has to be put {where}, and then {misfit.message}",
            fix=f"leave {refusing} out" if refusing else misfit.fix,
        )

    def _next_repair(self, found: list[Finding]) -> str | None:
        """The first repair whose pass has not run; None where there is none."""
        done = {step.name for step in self.lowering.done}
        return next((spec for spec in repairs(found) if parse_pass(spec).name not in done), None)

    def _why_unrepaired(self, found: list[Finding]) -> str:
        """Nothing repairs it, or what would was asked for with options of its own."""
        done = {step.name: str(step) for step in self.lowering.done}
        for spec in repairs(found):
            ran = done[parse_pass(spec).name]
            if ran != str(parse_pass(spec)):
                return f"and {ran} was asked for where it needs {spec}"
        return "no pass repairs it"

    def _refusal(self, found: list[Finding], why: str) -> PassError:
        lowering, specs = self.lowering, repairs(found)
        rules = ", ".join(
            f"{rule} ({count})" for rule, count in Counter(f.rule for f in found).most_common(5)
        )
        place = f"{found[0].node}: " if found[0].node else ""
        return PassError(
            f"{lowering.component.name}: target {lowering.target.name!r} would reject the graph, {why}; "
            f"{counted(found)}: {rules}; the first: {place}{found[0].sentence}",
            fix=f"add {','.join(specs)} where the graph is whole"
            if specs
            else "change the model or the target",
        )


def _fewest_parts(lowering: Lowering) -> int:
    """Into how many parts to cut: as few as leave memory to spare, else as few as fit at all; 0 where none do."""
    for cut in (Partition(finer=False), Partition(finer=False, spare_mib=0)):
        with contextlib.suppress(PassError):
            chain: Chain = cut.run(lowering.component, Context(lowering.target)).payload
            return len(chain.parts)
    return 0
