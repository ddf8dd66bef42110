"""UNets of configurations, without weights, and their plans for a target: what tests of several kinds share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ldmc.compiler.budget.graphs import part_graphs
from ldmc.compiler.budget.plan import Plan
from ldmc.compiler.budget.planner import plan
from ldmc.compiler.fit import Fitting
from ldmc.compiler.lower import Lowering
from ldmc.compiler.networks import build_unet
from ldmc.compiler.pipeline import checked_pipeline
from ldmc.compiler.spec import format_pipeline
from ldmc.ir import Component, Form, Network
from ldmc.passes.check import findings
from ldmc.targets.reader import load_target
from tests.passes.modules import NoWeights, copied

SHARED = "fp16,onnx,fold"  # of every target's pipeline


def unet(config: Mapping[str, Any]) -> Component:
    """The UNet of a configuration, in TORCH form."""
    skeleton = build_unet(SimpleNamespace(unet=config))  # type: ignore[arg-type]
    payload = Network(skeleton.module, skeleton.mode, NoWeights())
    return Component("unet", Form.TORCH, payload, skeleton.inputs, skeleton.outputs)


def planned(folded: Component, target_name: str, scratch: Path) -> Plan:
    """What `ldmc plan` says of the folded graph for a target, once its parser takes every part of it."""
    target = load_target(target_name)
    steps = checked_pipeline(f"{SHARED},trt" if target.engine.startswith("tensorrt") else SHARED, target)
    scratch.mkdir()
    fitting = Fitting(Lowering(copied(folded), target, scratch), steps[3:], lambda low, step: low.run(step))
    fitting.lower_to_target(strict=False)
    fitting.partition_to_fit()
    component = fitting.lowering.component
    parts = component.payload.parts if component.form is Form.PARTS else (component,)
    assert [finding for part in parts for finding in findings(part.payload, target)] == []
    return plan(target, {"unet": part_graphs(component)}, {"unet": format_pipeline(steps)})
