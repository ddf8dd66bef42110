"""How much error every pass adds: the bundle's pipeline again, each form run on the reference's calls.

    stage         SNR dB   added dB
    00-frontend      inf       none      the network as it is compiled, before any pass
    01-fp16         57.3      -57.3
    02-onnx         57.2      -71.0
    03-fold         57.2      -96.2
    bundle          57.4      -66.5      the bundle's own files, by its runtime

What a stage added is the power of what it changed, against its own input, and not the difference of two errors: those
may cancel. Nothing is kept but outputs: a stage's weights are streamed into a folder that is gone before the next.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ldmc.compiler.fidelity.calls import Call
from ldmc.compiler.fidelity.figures import Figures
from ldmc.compiler.fidelity.forms import outputs_of, outputs_of_bundle
from ldmc.compiler.fidelity.results import StageResult
from ldmc.compiler.lower import Lowering
from ldmc.compiler.manifest import NEEDED_SNR_DB
from ldmc.compiler.pipeline import recorded_pipeline
from ldmc.compiler.progress import Steps
from ldmc.ir import Component, Form
from ldmc.runtime import BundleProblem
from ldmc.runtime.manifest import Manifest
from ldmc.targets.target import Target

FRONTEND, BUNDLE = "00-frontend", "bundle"


def compare_stages(
    component: Component,
    manifest: Manifest,
    target: Target,
    calls: Sequence[Call],
    scratch: Path,
    progress: Steps,
    trust: bool,
) -> list[StageResult]:
    """Every stage of one component.

    component: in TORCH form. manifest: of the bundle, with the expanded pipeline. scratch: for graphs and weights of
    one stage at a time. trust: see `ldmc.runtime.load`.
    """
    steps = recorded_pipeline(manifest.data["pipeline"][component.name], target)
    rows = _Rows(component, calls, scratch, trust)
    lowering = Lowering(component, target, scratch)
    with progress.stage(f"{component.name}: {FRONTEND}", None):
        rows.add_form(FRONTEND, "", component)
    for number, step in enumerate(steps, 1):
        stage = f"{number:02d}-{step.name}"
        with progress.stage(f"{component.name}: {stage}", None):
            if step.produces in (Form.ENGINE, Form.AOTI):  # the bundle has what they compiled
                rows.add_bundle(stage, str(step), manifest)
            else:
                lowering.run(step)
                rows.add_form(stage, str(step), lowering.component)
    with progress.stage(f"{component.name}: {BUNDLE}", None):
        rows.add_runnable(manifest)
    return rows.rows


class _Rows:
    """The rows of one component as they come, each stage compared with the reference and with the stage before."""

    def __init__(self, component: Component, calls: Sequence[Call], scratch: Path, trust: bool) -> None:
        self._trust = trust
        self.rows: list[StageResult] = []
        self._component = component  # as it was after the last pass that ran here
        self._calls = calls
        self._scratch = scratch
        self._expected = [call.output for call in calls]
        self._before = self._expected

    def add_form(self, stage: str, spec: str, component: Component) -> None:
        """What a pass gave."""
        self._component = component
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            outputs = outputs_of(component, self._calls, Path(folder))
        gc.collect()
        self._add(self._row(stage, spec, str(component.form)), outputs)

    def add_bundle(self, stage: str, spec: str, manifest: Manifest) -> None:
        """What the bundle's files give here, or why they give nothing."""
        row = self._row(stage, spec, manifest.components[self._component.name].form)
        try:
            outputs = outputs_of_bundle(manifest, self._component.name, self._calls, self._trust)
        except BundleProblem as problem:
            self.rows.append(replace(row, why=problem.message))
            return
        self._add(row, outputs)

    def add_runnable(self, manifest: Manifest) -> None:
        """The last row: the bundle's files, or the graphs that its engines are built from where those do not run."""
        if not (self.rows[-1].why and manifest.components[self._component.name].form == "engine"):
            self.add_bundle(BUNDLE, "", manifest)
            return
        try:
            sources = manifest.of_sources()
        except BundleProblem as problem:
            self.rows.append(replace(self._row(BUNDLE, "", "engine"), why=problem.message))
            return
        self.add_bundle(BUNDLE, "", sources)

    def _row(self, stage: str, spec: str, form: str) -> StageResult:
        dtype = self._component.inputs[0].dtype
        return StageResult(self._component.name, stage, spec, form, NEEDED_SNR_DB[dtype])

    def _add(self, row: StageResult, outputs: list[Any]) -> None:
        error, change = Figures(), Figures()
        for expected, before, given in zip(self._expected, self._before, outputs, strict=True):
            error.add(expected, given)
            change.add(before, given)
        self._before = outputs
        self.rows.append(
            replace(row, snr_db=error.snr_db, added_db=-change.snr_db, max_abs_error=error.worst)
        )
