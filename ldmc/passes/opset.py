"""`opset`: write the graph in an older operator set, as old parsers read it.

    opset 18, IR 8                               opset 13, IR 7
    ReduceMean(x, axes)                  ->      ReduceMean{axes=[2]}(x)
    Reshape{allowzero=1}(x, shape)               Reshape(x, shape)
    Gelu(x)                                      Div, Erf, Add, Mul, Mul

For each node its schemas in the two opsets are compared. Where they are of one version nothing is to be done; where
they differ, there is a lowering, or a proof that nothing the node uses has changed, or a refusal. onnx's own version
converter (1.23) has no adapters down for Reshape, Split, Pad, Identity and LayerNormalization, so it is not used.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ldmc.errors import PassError
from ldmc.ir import Component, Form
from ldmc.passes.base import Context, Pass
from ldmc.targets.target import Target

if TYPE_CHECKING:
    import onnx_ir as ir

    from ldmc.passes.rewrites.editor import Editor

MIN_TO, MAX_TO, NEWEST = 13, 17, 23


@dataclass(frozen=True)
class Opset(Pass):
    """Lower to an older operator set.

    to: operator set version to write, 13 to 17; the file format becomes the oldest that has it (IR 7 for opset 13).
    """

    to: int = 13

    name: ClassVar[str] = "opset"
    summary: ClassVar[str] = (
        "lower to an older operator set and file format, for parsers that read no newer one"
    )
    requires: ClassVar[tuple[Form, ...]] = (Form.ONNX,)
    produces: ClassVar[Form] = Form.ONNX
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnx_ir")

    def __post_init__(self) -> None:
        if not MIN_TO <= self.to <= MAX_TO:
            raise ValueError(f"to={self.to}: graphs are lowered to opset {MIN_TO} to {MAX_TO}")

    def objection(self, target: Target) -> str:
        if self.to > target.opset:
            return f"target {target.name!r} reads opset {target.opset} at most, not {self.to}"
        return ""

    def run(self, component: Component, context: Context) -> Component:
        from onnx.helper import find_min_ir_version_for, make_opsetid
        from onnx_ir.passes.common import RemoveUnusedOpsetsPass

        from ldmc.passes.weightless import checked

        model: ir.Model = component.payload
        source = model.opset_imports[""]
        _guard(model, component.name, source)
        changed = _lower(model, component.name, source, self.to) if source > self.to else Counter()
        oldest = min(source, self.to)
        model.opset_imports[""] = oldest
        RemoveUnusedOpsetsPass()(model)
        model.ir_version = find_min_ir_version_for([make_opsetid("", oldest)])
        _strip(model)
        listed = ", ".join(f"{op} {count}" for op, count in sorted(changed.items()))
        context.remark(f"opset {source} to {oldest}, IR {model.ir_version}; rewritten: {listed or 'nothing'}")
        return component.evolve(payload=checked(model, component.name))


def _guard(model: ir.Model, name: str, source: int) -> None:
    if source > NEWEST:
        raise PassError(
            f"{name}: the graph is of opset {source}, lowering is known from opset {NEWEST} down",
            fix=f"export with onnx{{opset={NEWEST}}} or lower",
        )
    if model.functions:
        raise PassError(f"{name}: the graph has {len(model.functions)} functions", fix="inline them")


def _lower(model: ir.Model, name: str, source: int, to: int) -> Counter[str]:
    """Rewrite every node that differs between the opsets; operator type -> how many were rewritten."""
    from ldmc.passes.rewrites.editor import Editor

    editor, changed = Editor(model, to), Counter[str]()
    for node in list(model.graph):
        before = (dict(node.attributes), tuple(node.inputs))
        why = _lower_node(node, editor, source, to)
        if why:
            raise PassError(
                f"{name}: node {node.name or '?'} ({node.op_type}) cannot be written in opset {to}: {why}",
                fix="export at an opset where the network has no such node, or rewrite its module",
            )
        if node.graph is None or (dict(node.attributes), tuple(node.inputs)) != before:
            changed[node.op_type] += 1
    return changed


def _lower_node(node: ir.Node, editor: Editor, source: int, to: int) -> str:
    """Write `node` in opset `to`; why it cannot be, or nothing."""
    from ldmc.passes.rewrites.functions import FUNCTIONS
    from ldmc.passes.rewrites.lowerings import SIGNATURES, Refusal
    from ldmc.passes.rewrites.unchanged import difference, drop_neutral, schema_of

    new, old = schema_of(node, source), schema_of(node, to)
    if new is None:
        return f"opset {source} of domain {node.domain or 'ai.onnx'!r} has no such operator"
    if old is not None and old.since_version == new.since_version:
        return ""
    lowering = SIGNATURES.get(node.op_type) or (FUNCTIONS.get(node.op_type) if old is None else None)
    if lowering is None and old is None:
        return f"there is none there (this one is of opset {new.since_version}), and no lowering is known"
    if lowering is not None:
        node.version = new.since_version
        try:
            lowering(node, editor)
        except Refusal as refusal:
            return str(refusal)
    if old is None or node.graph is None:
        return ""
    # Lowered in place: it must be the old schema's in all it uses. Not lowered: the two must agree on all it uses.
    why = difference(node, old if lowering else new, old)
    if not why:
        drop_neutral(node, old)
    return why


def _strip(model: ir.Model) -> None:
    """Notes on nodes and values: formats before IR 10 have no place for them."""
    for node in model.graph:
        node.metadata_props.clear()
        node.version = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
