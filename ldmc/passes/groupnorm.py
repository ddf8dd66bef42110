"""`groupnorm`: write every GroupNorm in the form that the target's engine takes.

    instance     Reshape -> InstanceNormalization -> Reshape -> Mul -> Add             as PyTorch's exporter writes it
    primitive    -> Reshape -> ReduceMean, Sub, Mul, ReduceMean, Add, Sqrt, Div -> Reshape -> Mul -> Add
    group        -> GroupNormalization

TensorRT 8.2 makes a plugin of each InstanceNormalization, each with a cuDNN handle of its own, and reads scale and
bias in fp16 as if they were fp32. Written out, with statistics in fp32, it is plain layers. Casts around fp32 islands
stay where they are; a norm in fp16 gets its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ldmc.errors import PassError
from ldmc.ir import Component, Form
from ldmc.passes.base import Context, Pass

if TYPE_CHECKING:
    import onnx_ir as ir

    from ldmc.passes.rewrites.editor import Editor

FORMS = ("instance", "primitive", "group")
_GROUP_SINCE = 18
_NORMS = ("InstanceNormalization", "GroupNormalization")


@dataclass(frozen=True)
class GroupNorm(Pass):
    """Choose the form of GroupNorm.

    form: `instance`, `primitive` or `group`; `target` for what the target's engine takes.
        What is already written out as `primitive` stays so. `group` needs opset 18; ONNX deprecated the operator's
        first version (18 to 20, scale per group), though engines read it.
    """

    form: str = "target"

    name: ClassVar[str] = "groupnorm"
    summary: ClassVar[str] = (
        "write GroupNorm as InstanceNormalization, as primitive operators, or as one operator"
    )
    requires: ClassVar[tuple[Form, ...]] = (Form.ONNX,)
    produces: ClassVar[Form] = Form.ONNX
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnx_ir")

    def __post_init__(self) -> None:
        if self.form not in (*FORMS, "target"):
            raise ValueError(f"form={self.form}: expected target, {', '.join(FORMS)}")

    def run(self, component: Component, context: Context) -> Component:
        from ldmc.passes.weightless import checked

        model: ir.Model = component.payload
        form = context.target.groupnorm if self.form == "target" else self.form
        if form == "group" and model.opset_imports[""] < _GROUP_SINCE:
            raise PassError(
                f"{component.name}: GroupNormalization came with opset {_GROUP_SINCE}, "
                f"the graph is of opset {model.opset_imports['']}",
                fix="use groupnorm{form=primitive}, or export at a later opset",
            )
        written, kept = _rewrite(model, form, component.name)
        context.remark(f"{written} norms written as {form}, {kept} kept as they were")
        if not written:
            return component
        return component.evolve(payload=checked(model, component.name, deprecated=form == "group"))


def _rewrite(model: ir.Model, form: str, name: str) -> tuple[int, int]:
    """Rewrite the norms of another form; how many were, and how many were not."""
    from ldmc.passes.rewrites.editor import Editor

    opset = model.opset_imports[""]
    editor = Editor(model, opset)
    norms = [node for node in model.graph if node.op_type in _NORMS and node.domain == ""]
    written = sum(_rewrite_one(node, editor, form, opset, name) for node in norms)
    return written, len(norms) - written


def _rewrite_one(node: ir.Node, editor: Editor, form: str, opset: int, name: str) -> bool:
    from ldmc.passes.rewrites import groupnorm_match, norms
    from ldmc.passes.rewrites.editor import static_shape

    grouped = node.op_type == "GroupNormalization"
    if form == ("group" if grouped else "instance"):
        return False
    source = node.inputs[0]
    shape = static_shape(source)
    if source is None or source.dtype is None or shape is None or len(shape) < 3:
        found = f"{shape} {source.dtype}" if source is not None else "nothing"
        raise PassError(
            f"{name}: {node.op_type} {node.name} normalises {found}; "
            "a static shape [N, C, ...] of known type is needed",
            fix="put fold before it",
        )
    if form == "group":
        match = groupnorm_match.match(node)
        return match is not None and groupnorm_match.fold(match, editor, opset)
    if grouped and form == "primitive":
        norms.group_to_primitive(node, editor, opset)
    elif grouped:
        norms.group_to_instance(node, editor, opset)
    else:
        norms.instance_to_primitive(node, editor)
    return True
