"""What a rule is: a question asked of a node (or of the graph), where the answer is known from, and what repairs it.

Rule("pad-mode", "onnx-tensorrt 8.2", find=..., ops={"Pad"}, before=(8, 3))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from ldmc.targets.operators import OperatorTable
from ldmc.targets.target import Target

PARSER = "source of onnx-tensorrt 8.2-GA"  # where most traps were read
FOLD = "fold"
GROUPNORM = "groupnorm{form=primitive}"
OPSETS_WRITTEN = range(13, 18)  # by the pass `opset`


@dataclass(frozen=True)
class View:
    """A graph and what it is for.

    table: the operator table of its parser, None where the target has none.
    """

    model: ir.Model
    target: Target
    table: OperatorTable | None

    @property
    def opset(self) -> int:
        """Of the ONNX operators."""
        return self.model.opset_imports[""]

    @property
    def parser(self) -> str:
        """Who reads the graph, for messages."""
        if self.table is not None:
            return f"TensorRT {self.table.version[0]}.{self.table.version[1]}"
        return {"onnxruntime-cpu": "ONNX Runtime", "tensorrt-rtx": "TensorRT for RTX"}.get(
            self.target.engine, "TensorRT"
        )

    @property
    def lowering(self) -> str:
        """The spec that lowers the opset to the target's; empty where it is one that no pass writes."""
        return f"opset{{to={self.target.opset}}}" if self.target.opset in OPSETS_WRITTEN else ""


@dataclass(frozen=True)
class Problem:
    """What a rule found: a clause that goes on from the node's name. repair: "" for the rule's own.

    node: for rules on the graph, what it was found at.
    """

    clause: str
    repair: str = ""
    node: str = ""


@dataclass(frozen=True)
class Rule:
    """One thing to hold a graph to.

    find: the problem of one node, or None. whole: the problems of the graph; a rule has one of the two.
    ops: operator types it is asked of; empty for all.
    engines: prefix of the engines it is for. tabled: only where the target has an operator table, so that its parser
    is one of onnx-tensorrt's that are known. before: it holds for TensorRT before this version; None for all.
    """

    id: str
    source: str
    find: Callable[[ir.Node, View], Problem | None] | None = None
    whole: Callable[[View], Iterable[Problem]] | None = None
    ops: frozenset[str] = field(default_factory=frozenset)
    engines: str = "tensorrt"
    tabled: bool = True
    before: tuple[int, int] | None = None
    repair: str = ""

    def applies(self, view: View) -> bool:
        """Whether the rule is about the view's target."""
        if not view.target.engine.startswith(self.engines):
            return False
        if view.table is None:
            return not self.tabled
        return self.before is None or view.table.version < self.before


def is_constant(value: ir.Value | None) -> bool:
    """Whether a value is an initializer or a Constant node's; no value at all counts as one."""
    if value is None:
        return True
    if value.const_value is not None and not value.is_graph_input():
        return True
    producer = value.producer()
    return producer is not None and producer.op_type == "Constant"


def has_input(node: ir.Node, index: int) -> bool:
    """Whether optional input `index` is given."""
    return index < len(node.inputs) and node.inputs[index] is not None


def text_of(node: ir.Node, name: str, default: str) -> str:
    """A string attribute."""
    return node.attributes[name].as_string() if name in node.attributes else default


def integer_of(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute."""
    return node.attributes[name].as_int() if name in node.attributes else default


def rank_of(value: ir.Value | None) -> int | None:
    """How many axes a value has, where it is known."""
    return len(value.shape) if value is not None and value.shape is not None else None
