"""`fold`: constant folding and simplification, with the weights set aside.

    Shape -> Gather -> Concat -> Reshape            Reshape(const)
    Transpose(weight) -> MatMul           ->        MatMul(weight')          weight' is computed when written
    MatMul(q) MatMul(k) MatMul(v)                   MatMul(qkv) -> Split     as in the reference project's Figure 3

onnxsim needs about 3.5 times the model in memory when weights are inside. Here it gets the graph
alone: every weight stands in as an input. What then remains on weights (transposes, reshapes, the
quantiser's table) is folded lazily, one tensor at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ldmc.errors import PassError
from ldmc.ir import Component, Form
from ldmc.passes.base import Context, Pass

if TYPE_CHECKING:
    import onnx_ir as ir

_SLACK_BYTES = 2**20  # growth that no model is too small for


@dataclass(frozen=True)
class Fold(Pass):
    """Fold constants and simplify.

    max_growth: how much all constants together may grow, as a factor of their bytes before; 1 MiB is always allowed.
    merge_biases: where projections of one tensor are merged (Q, K and V of an attention), merge their biases, too.
    """

    max_growth: float = 1.05
    merge_biases: bool = True

    name: ClassVar[str] = "fold"
    summary: ClassVar[str] = "fold constants and simplify through onnxsim, with the weights set aside"
    requires: ClassVar[tuple[Form, ...]] = (Form.ONNX,)
    produces: ClassVar[Form] = Form.ONNX
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxsim", "onnx_ir")

    def __post_init__(self) -> None:
        if not 1.0 <= self.max_growth < math.inf:
            raise ValueError(f"max_growth={self.max_growth}: it is a factor from 1")

    def run(self, component: Component, context: Context) -> Component:
        from ldmc.passes.rewrites import parameters, qkv

        model: ir.Model = component.payload
        before = constant_bytes(model)
        allowance = max(_SLACK_BYTES, int(before * (self.max_growth - 1)))
        model = simplify(model, allowance)
        parameters.fold(model, allowance - (constant_bytes(model) - before))
        merged = qkv.merge(model, biases=self.merge_biases)
        if merged:
            context.remark(f"groups of projections merged into one: {merged}")
        grown = constant_bytes(model) - before
        if grown > allowance:
            raise PassError(
                f"{component.name}: folding grew the constants by {grown / 2**20:.1f} MiB, "
                f"max_growth={self.max_growth} allows {allowance / 2**20:.1f} MiB",
                fix=f"leave fold out, or allow it: fold{{max_growth={(before + grown) / max(before, 1) + 0.01:.2f}}}",
            )
        return component.evolve(payload=model)


def constant_bytes(model: ir.Model) -> int:
    """Bytes of all initializers and Constant nodes."""
    total = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    for node in model.graph:
        if node.op_type == "Constant":
            total += sum(_attribute_bytes(attribute) for attribute in node.attributes.values())
    return total


def _attribute_bytes(attribute: ir.Attr) -> int:
    """Bytes of what a Constant holds: a tensor, or numbers under `value_int`, `value_floats` and the like."""
    if attribute.name == "value":
        return int(attribute.as_tensor().nbytes)
    count = len(attribute.value) if attribute.name.endswith("s") else 1
    return count * (8 if attribute.name.startswith("value_int") else 4)


def simplify(model: ir.Model, allowance_bytes: int) -> ir.Model:
    """onnxsim on the graph alone. `model` is given back with its weights, simplified; it is not to be used after."""
    import onnx_ir as ir
    import onnxsim
    from onnx.shape_inference import infer_shapes
    from onnx_ir.passes.common import LiftConstantsToInitializersPass

    from ldmc.passes.rewrites import castlike
    from ldmc.passes.weightless import put_back, set_aside

    weights = set_aside(model.graph)
    typed = ir.from_proto(infer_shapes(ir.to_proto(model)))
    castlike.lower(typed)
    proto, _ = onnxsim.simplify(
        ir.to_proto(typed), tensor_size_threshold=f"{allowance_bytes}B", certify=False
    )
    simplified = ir.from_proto(infer_shapes(proto))
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(simplified)
    simplified.metadata_props.clear()  # onnxsim's record of what it did
    simplified.metadata_props.update(model.metadata_props)
    put_back(simplified.graph, weights)
    return simplified
