"""One build under way: what its steps share, and the steps.

lower every component to what the target reads   ->   plan its memory   ->   lower to the end and write, one by one
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from ldmc.artifacts.bundle import BundleWriter
from ldmc.compiler import emit
from ldmc.compiler.budget.chart import chart_svg
from ldmc.compiler.budget.graphs import part_graphs
from ldmc.compiler.budget.plan import Plan
from ldmc.compiler.budget.planner import plan
from ldmc.compiler.fit import Fitting
from ldmc.compiler.frontend import Opened
from ldmc.compiler.lower import Lowering
from ldmc.compiler.manifest import finish_section, manifest
from ldmc.compiler.meter import measured
from ldmc.compiler.progress import Progress, Written
from ldmc.compiler.request import BuildRequest
from ldmc.compiler.spec import format_pipeline
from ldmc.compiler.stage import StageRecord
from ldmc.errors import BudgetError
from ldmc.ir import Component, Form, Program
from ldmc.passes.base import Pass
from ldmc.targets.target import Target

# Forms that a plan is made from: what runs is known, operator by operator.
_PLANNED = (Form.ONNX, Form.PARTS, Form.ENGINE)


class Job:
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
        self.plan: Plan | None = None

    def lower(self, pipelines: dict[str, list[Pass]], scratch: Path) -> None:
        """Lower and write every component. No weight is read before all of them are known to fit the target."""
        for component in self.program.components:
            lowering = Lowering(component, self.target, scratch)
            fitting = Fitting(lowering, list(pipelines[component.name]), self.run)
            self.fittings.append(fitting)
            fitting.lower_to_target(strict=self.request.strict)
            fitting.lower_whole()
            if not self.request.strict and not self.request.allow_over_budget:
                fitting.partition_to_fit()
            fitting.lower_to_engine()
            for remark in fitting.remarks:
                self.progress.note(remark)
        self.hold_to_budget()
        for fitting in self.fittings:
            while fitting.waiting:
                fitting.advance()
            self.write(fitting.lowering)

    def hold_to_budget(self) -> None:
        """Predict what building and running take on the target.

        Raises:
            BudgetError: more than its memory, and that was not allowed.
        """
        lowerings = [fitting.lowering for fitting in self.fittings]
        if not all(lowering.component.form in _PLANNED for lowering in lowerings) or not lowerings:
            return  # what PyTorch runs tells nothing of the size of what it computes
        graphs = {lowering.component.name: part_graphs(lowering.component) for lowering in lowerings}
        specs = {
            fitting.lowering.component.name: format_pipeline([*fitting.lowering.done, *fitting.waiting])
            for fitting in self.fittings
        }
        self.plan = plan(self.target, graphs, specs)
        self.bundle.add_json(self.plan.to_json(), "reports/memory.json", "report")
        self.bundle.add_json(self.plan.timelines_json(), "reports/timeline.json", "report")
        chart = chart_svg(self.plan)
        self.bundle.add_file("reports/memory.svg", "report", lambda file: _write_text(file, chart))
        if self.plan.fits:
            return
        if not self.request.allow_over_budget:
            raise BudgetError(
                self.plan.complaint(),
                fix=f"{self.plan.advice() or 'a smaller model'}; or go on with --allow-over-budget",
            )
        self.progress.warn(self.plan.complaint())

    def run(self, lowering: Lowering, step: Pass) -> StageRecord:
        """Apply one pass, with its progress, report and intermediate graph."""
        with self.progress.stage(f"{lowering.component.name}: {step.name}", None):
            record = lowering.run(step)
        self.bundle.add_json(record.report(), record.report_path, "report")
        if self.request.keep_intermediates:
            emit.write_intermediate(
                lowering.component, self.bundle, f"intermediate/{record.component}/{record.stage}"
            )
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
        dtypes = [lowering.component.inputs[0].dtype for lowering in lowerings]
        finish = finish_section(self.target, self.pending, references, dtypes)
        insertions = [insertion.to_json() for fitting in self.fittings for insertion in fitting.insertions]
        return manifest(self.program, self.target, lowerings, self.entries, finish, insertions)

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


def _write_text(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
