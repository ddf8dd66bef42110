"""`check`: hold a graph to what its target's parser reads, before anything is built.

    ONNX graph    ->    the same graph, or an error that names nodes, rules and the passes that repair them

    unet: 23 findings against the target's parser:
        the graph is of opset 18, TensorRT 8.2 reads 13 at most [opset: ...; opset{to=13} repairs it]

The operator tables are data of the targets (`ldmc/targets/operators/`); the traps are in `ldmc/passes/rules/`, each
with its source and the versions it is about. No weight is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ldmc.errors import PassError
from ldmc.ir import Component, Form
from ldmc.passes.base import Context, Pass
from ldmc.targets.operators import operator_table
from ldmc.targets.target import Target

if TYPE_CHECKING:
    import onnx_ir as ir

    from ldmc.passes.rules import Rule, View

_SHOWN = 5
_ORDER = ("fold", "groupnorm", "opset")  # in which repairs go into a pipeline


@dataclass(frozen=True)
class Finding:
    """One thing the target would not take, or would take wrongly.

    node: its name; empty for the graph as a whole. module: path of the module it comes from.
    rule: the rule's id. source: where the rule is from. repair: spec of the pass that mends it; empty for none.
    """

    node: str
    module: str
    rule: str
    sentence: str
    source: str
    repair: str = ""


@dataclass(frozen=True)
class Check(Pass):
    """Verify the graph against the target's operator table and its parser's traps."""

    name: ClassVar[str] = "check"
    summary: ClassVar[str] = (
        "verify the graph against the target's operator table and its parser's known traps"
    )
    requires: ClassVar[tuple[Form, ...]] = (Form.ONNX, Form.PARTS)
    produces: ClassVar[Form | None] = None
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnx_ir")
    faces_target: ClassVar[bool] = True

    def run(self, component: Component, context: Context) -> Component:
        models = _models(component)
        found = [finding for model in models for finding in findings(model, context.target)]
        if found:
            raise _refusal(component.name, found)
        nodes = sum(1 for model in models for _ in model.graph)
        table = (
            f"TensorRT {context.target.operators}'s table"
            if context.target.operators
            else "the general rules"
        )
        context.remark(f"{nodes} nodes checked against {table}")
        return component


def findings(model: ir.Model, target: Target) -> list[Finding]:
    """All that keeps `target`'s parser from reading `model` as it is meant: the graph first, then nodes in order.

    Raises:
        UsageError: the target names an operator table that is not there.
    """
    from ldmc.passes.rules import RULES, View

    view = View(model, target, operator_table(target.operators) if target.operators else None)
    rules = [rule for rule in RULES if rule.applies(view)]
    return [*_of_graph(rules, view), *_of_nodes(rules, view)]


def counted(found: list[Finding]) -> str:
    """`1 finding`, `8 findings`."""
    return f"{len(found)} finding{'' if len(found) == 1 else 's'}"


def repairs(found: list[Finding]) -> list[str]:
    """The specs that repair `found`, each once, in the order in which they go into a pipeline."""
    specs = {finding.repair for finding in found if finding.repair}
    return sorted(specs, key=lambda spec: (_ORDER.index(spec.partition("{")[0]), spec))


def _models(component: Component) -> list[ir.Model]:
    """Every graph of `component`, finer parts included."""
    if component.form is Form.ONNX:
        return [component.payload]
    chain = component.payload
    return [part.payload for part in (*chain.parts, *(part for parts in chain.finer for part in parts))]


def _of_graph(rules: list[Rule], view: View) -> Iterator[Finding]:
    for rule in rules:
        for problem in rule.whole(view) if rule.whole is not None else ():
            where = _module(problem.node)
            yield Finding(
                problem.node, where, rule.id, problem.clause, rule.source, problem.repair or rule.repair
            )


def _of_nodes(rules: list[Rule], view: View) -> Iterator[Finding]:
    for node in view.model.graph:
        name = node.name or node.outputs[0].name or ""
        for rule in rules:
            if rule.find is None or (rule.ops and node.op_type not in rule.ops):
                continue
            problem = rule.find(node, view)
            if problem is not None:
                sentence = f"{node.op_type} {problem.clause}"
                yield Finding(
                    name, _module(name), rule.id, sentence, rule.source, problem.repair or rule.repair
                )


def _module(node: str) -> str:
    """`a.b.norm1/Mul_2` -> `a.b.norm1`: as the exporter named it."""
    return node.rpartition("/")[0]


def _refusal(name: str, found: list[Finding]) -> PassError:
    listed = "".join(f"\n    {_line(finding)}" for finding in found[:_SHOWN])
    more = f"\n    and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    specs, lost = repairs(found), sum(not finding.repair for finding in found)
    fix = f"put {','.join(specs)} before it" if specs else "change the model, or choose another target"
    if specs and lost:
        fix += f"; that leaves {lost} that no pass repairs"
    return PassError(f"{name}: {counted(found)} against the target's parser:{listed}{more}", fix=fix)


def _line(finding: Finding) -> str:
    where = f"{finding.node}: " if finding.node else ""
    repair = f"; {finding.repair} repairs it" if finding.repair else ""
    return f"{where}{finding.sentence} [{finding.rule}: {finding.source}{repair}]"
