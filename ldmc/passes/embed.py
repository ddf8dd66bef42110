"""`embed`: the engine inside a TorchScript module, as the reference project ran it: what `torch.jit.load` loads.

    unet/model.engine   ->   torchtrtc unet/model.engine unet/model.ts --embed-engine --device-type=gpu

torchtrtc loads the engine to embed it, so it runs where the engine runs, and its TensorRT must be the one that built
the engine: the step is left to `python3 -m runtime finish`, which checks that first.
Source: https://docs.pytorch.org/TensorRT/tutorials/torchtrtc.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar

from ldmc.errors import PassError
from ldmc.ir import Component, Engines, Form
from ldmc.passes.base import Context, Pass
from ldmc.targets.target import Target

# torchtrtc orders inputs and outputs by what stands behind the first dot, or else the first underscore.
_NUMBERED = re.compile(r"[^._]*[._]\d+")


@dataclass(frozen=True)
class Embed(Pass):
    """Embed each engine in TorchScript, on the device."""

    name: ClassVar[str] = "embed"
    summary: ClassVar[str] = "embed each engine in TorchScript by torchtrtc, on the device"
    requires: ClassVar[tuple[Form, ...]] = (Form.ENGINE,)
    produces: ClassVar[Form] = Form.ENGINE
    runs_on: ClassVar[str] = "device"
    tools: ClassVar[tuple[str, ...]] = ("torch_tensorrt",)
    excludes: ClassVar[tuple[str, ...]] = ("partition",)  # names that cross from part to part have no number

    def objection(self, target: Target) -> str:
        if not target.engine.startswith("tensorrt"):
            return f"target {target.name!r} runs {target.engine}, not TensorRT"
        return ""

    def run(self, component: Component, context: Context) -> Component:
        engines: Engines = component.payload
        source = engines.source
        parts = source.payload.parts if source.form is Form.PARTS else (source,)
        for part in parts:
            names = [spec.name for spec in (*part.inputs, *part.outputs)]
            unnumbered = [name for name in names if not _NUMBERED.fullmatch(name)]
            if unnumbered:
                raise PassError(
                    f"{part.name} cannot be embedded: torchtrtc orders inputs and outputs by a number in their names, "
                    f"and {unnumbered[0]!r}, which crosses from part to part, has none",
                    fix="embed a component that is not partitioned, or leave embed out: "
                    "the runtime runs engines without it",
                )
        count = "1 engine" if len(parts) == 1 else f"{len(parts)} engines"
        context.remark(f"{count} to embed on the device: python3 -m runtime finish")
        return component.evolve(payload=replace(engines, embed=True))
