"""`trt`: TensorRT engines: built here where that is possible, else the recipe by which the device builds them.

    ONNX unet, 1119 nodes   ->   ENGINE unet/model.engine                        rtx-3070: here, without a GPU
                            ->   ENGINE pending: unet/model.onnx, and a ladder   Jetsons: `python3 -m runtime finish`

    trt                      for the target's own GPU
    trt{sm=89}               TensorRT for RTX: for another GPU's compute capability

An engine is made for one kind of GPU by one version of TensorRT, and TensorRT times kernels on the GPU that it builds
for. TensorRT for RTX does that later, on the user's machine, so that it alone builds anywhere. Either way the engine
is built by `ldmc.runtime.trt.worker`, in a process of its own, the same that the device runs.
"""

from __future__ import annotations

import gc
import importlib.util
import shutil
from dataclasses import dataclass
from typing import Any, ClassVar

from ldmc.errors import PassError
from ldmc.ir import Component, Engines, Form
from ldmc.passes.base import Context, Pass
from ldmc.passes.check import Check
from ldmc.passes.engines import ladder, worker
from ldmc.targets import nvidia
from ldmc.targets.target import MIB, Target

# What TensorRT for RTX 1.7 builds for, and what this project offers of it.
COMPUTE_CAPABILITIES = (75, 80, 86, 89, 120)
_ENGINE_PER_WEIGHTS = 1.25  # an engine's file, at most, over its weights


@dataclass(frozen=True)
class Trt(Pass):
    """Build TensorRT engines.

    sm: compute capability to build for, such as 86; 0 for the target's. TensorRT for RTX only.
    weightless: an engine without weights, to be refitted. TensorRT for RTX only, which so far refuses.
    """

    sm: int = 0
    weightless: bool = False

    name: ClassVar[str] = "trt"
    summary: ClassVar[str] = "build TensorRT engines here, or record how the device builds them"
    requires: ClassVar[tuple[Form, ...]] = (Form.ONNX, Form.PARTS)
    produces: ClassVar[Form] = Form.ENGINE
    tools: ClassVar[tuple[str, ...]] = ("onnx_ir",)
    faces_target: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.sm and self.sm not in COMPUTE_CAPABILITIES:
            offered = ", ".join(str(sm) for sm in COMPUTE_CAPABILITIES)
            raise ValueError(f"sm={self.sm}: TensorRT for RTX builds for {offered}")

    def objection(self, target: Target) -> str:
        if not target.engine.startswith("tensorrt"):
            return f"target {target.name!r} runs {target.engine}, not TensorRT"
        if target.engine == "tensorrt":
            given = [name for name in ("sm", "weightless") if getattr(self, name)]
            return (
                f"{given[0]} is for TensorRT for RTX, target {target.name!r} runs TensorRT" if given else ""
            )
        if self.weightless:
            return (
                "TensorRT for RTX 1.7 cannot build an engine without weights ahead of time: "
                "it needs a GPU's driver for that; leave weightless out"
            )
        if not self._sm(target):
            return f"target {target.name!r} says no gpu.compute_capability; give one, such as trt{{sm=86}}"
        return ""

    def lacks(self, target: Target) -> str:
        if self.name in target.device_passes:
            return ""
        if target.engine == "tensorrt-rtx":
            if importlib.util.find_spec("tensorrt_rtx") is None:
                return "TensorRT for RTX (tensorrt_rtx) is not installed: pip install -e .[rtx]"
            return ""
        return _lacks_gpu(target)

    def run(self, component: Component, context: Context) -> Component:
        parts = component.payload.parts if component.form is Form.PARTS else (component,)
        Check().run(component, context)
        if self.name in context.target.device_passes:
            recipe = {part.name: ladder.recipe(part, context.target) for part in parts}
            context.remark(f"{_counted(parts)} to build on the device: python3 -m runtime finish")
            return component.evolve(form=Form.ENGINE, payload=Engines(component, recipe=recipe))
        built = [self._build(part, context) for part in parts]
        files = tuple(engine.file for engine in built)
        return component.evolve(
            form=Form.ENGINE, payload=Engines(component, files, reports=tuple(e.report for e in built))
        )

    def _sm(self, target: Target) -> int:
        """Compute capability to build for: 86 for 8.6; 0 where the target does not say."""
        named = target.gpu.compute_capability if target.gpu else ""
        return self.sm or int(named.replace(".", "") or 0)

    def _build(self, part: Component, context: Context) -> worker.Built:
        """One engine, in a process of its own."""
        assert context.scratch is not None
        is_rtx = context.target.engine == "tensorrt-rtx"
        weights_bytes = ladder.weight_bytes(part)
        needed = int(weights_bytes * (1 + _ENGINE_PER_WEIGHTS))
        free = shutil.disk_usage(context.scratch).free
        if needed > free:
            raise PassError(
                f"{part.name}: its graph and its engine need about {needed / MIB:.0f} MiB of disk, "
                f"{free / MIB:.0f} MiB are free beside the bundle",
                fix="free some space, or write elsewhere with -o",
            )
        gc.collect()  # what tracing left behind: the worker needs the memory
        request = {
            "module": "tensorrt_rtx" if is_rtx else "tensorrt",
            "sm": str(self._sm(context.target)) if is_rtx else None,
        }
        capability = _dotted(self._sm(context.target)) if is_rtx else nvidia.compute_capability()
        built = worker.build(part, context.scratch, request)
        built.report.update(part=part.name, module=request["module"], compute_capability=capability)
        context.remark(_told(built.report))
        return built


def _lacks_gpu(target: Target) -> str:
    """What this machine lacks to build `target`'s engines in place."""
    found = nvidia.compute_capability()
    if found is None:
        return (
            f"target {target.name!r} builds engines on the GPU they are for, and no NVIDIA GPU answers here: "
            "build on that machine, or with TensorRT for RTX, which needs none: --target rtx-3070"
        )
    wanted = target.gpu.compute_capability if target.gpu else ""
    if wanted and wanted != found:
        return f"target {target.name!r} has a GPU of compute capability {wanted}, this machine's is {found}"
    if importlib.util.find_spec("tensorrt") is None:
        return "TensorRT (tensorrt) is not installed: pip install -e .[tensorrt]"
    return ""


def _counted(parts: tuple[Component, ...]) -> str:
    return "1 engine" if len(parts) == 1 else f"{len(parts)} engines"


def _dotted(sm: int) -> str:
    """86 -> 8.6, 120 -> 12.0"""
    return f"{sm // 10}.{sm % 10}"


def _told(report: dict[str, Any]) -> str:
    """What TensorRT said of an engine, in one line that is the same for every build."""
    fused = f" in {report['engine_layers']}" if report["engine_layers"] else ""
    said = [f"{report['layers']} layers{fused}", f"engine {report['engine_bytes'] / MIB:.1f} MiB"]
    said += [
        f"{word} {report[key] / MIB:.1f} MiB"
        for word, key in (("weights", "weights_bytes"), ("activations", "activation_bytes"))
        if report[key] is not None
    ]
    by = f"{report['module']} {report['tensorrt']}, compute capability {report['compute_capability']}"
    return f"{report['part']}: {', '.join(said)}; {by}"
