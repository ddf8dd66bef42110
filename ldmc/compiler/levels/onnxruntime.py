"""ONNX Runtime as the reference project used it: the simplified export, in a session of its own making.

No graph is saved, no weight is mapped: what an engineer has who calls `InferenceSession(file)` with all optimisations.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ldmc.runtime.backends.onnxruntime_cpu import OnnxRuntimeComponent
from ldmc.runtime.component import Component
from ldmc.runtime.loader import Pipeline
from ldmc.runtime.manifest import read_manifest
from ldmc.runtime.onnx_runtime import import_onnxruntime
from ldmc.runtime.residency import Components


# What the reference project gave to ONNX Runtime: PyTorch's older exporter, opset 13, simplified.
PASSES = "torchscript,onnx{opset=13},fold"


def export(source: dict[str, Any], folder: Path) -> None:
    """Write the graphs of the model into `folder`, a bundle. source: see `worker.open_subject`."""
    from ldmc.compiler.driver import build
    from ldmc.compiler.frontend import ModelRequest
    from ldmc.compiler.original import place_of
    from ldmc.compiler.progress import Silent
    from ldmc.compiler.request import BuildRequest

    model = ModelRequest(source["place"] or place_of(source), source["weights"]["seed"])
    build(BuildRequest("cpu", model, passes=PASSES, output=folder, strict=True), Silent())


class SessionSubject:
    """The graphs of a bundle in two plain sessions, as `worker.Subject`."""

    def __init__(self, bundle: Path, threads: int | None) -> None:
        onnxruntime = import_onnxruntime()
        manifest = read_manifest(str(bundle))
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        settings.log_severity_level = 4  # fatal: an error is raised, and told once, without the colours of its log
        if threads is not None:
            settings.intra_op_num_threads = threads

        def open_one(name: str) -> Component:
            entry = manifest.components[name]
            file = manifest.listed_path(entry.parts[0].file)
            session = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
            return Component(entry, OnnxRuntimeComponent(session, entry))

        components = Components(open_one, False)
        for name in manifest.components:
            components.open(name)
        self.remarks: list[str] = []
        self._pipeline = Pipeline(manifest, components, self.remarks)

    def draw(
        self, seed: int, steps: int, batch: int, on_step: Callable[[int, int], None]
    ) -> tuple[Any, dict[str, float]]:
        """See `worker.Subject`."""
        images, seconds = self._pipeline.generate_timed(seed=seed, steps=steps, batch=batch, on_step=on_step)
        return images, seconds
