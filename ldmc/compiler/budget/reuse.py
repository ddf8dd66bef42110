"""Which values share a buffer in ONNX Runtime, and when each buffer comes and goes.

    Reshape          its input's buffer                                   a view
    Softmax          its input's buffer, if nobody else needs it          in place
    anything else    a buffer that is free and of the same shape, else a new one

The rules of its allocation planner (onnxruntime/core/framework/allocation_planner.cc): a buffer that is used again
lives from its first value to its last, also while it holds nothing. Elementwise operators of two inputs are not done
in place on a CPU. Values of the graph's inputs are the caller's; an output has a buffer of its own.
"""

from __future__ import annotations

from collections import Counter

from ldmc.compiler.budget.operators import Operator, fused, is_view, operators, sizes_bytes, use_counts
from ldmc.compiler.budget.timeline import Buffer, Timeline
from ldmc.compiler.summary import GraphSummary

# On a CPU it computes in float32 whatever the graph says: it has no fp16 kernels for most operators.
FLOAT_BYTES = 4
IN_PLACE_OPS = frozenset({"Softmax", "Sqrt", "Exp", "Neg", "Relu", "Sigmoid", "Tanh", "Erf"})

Shape = tuple[object, ...]


def onnxruntime_timeline(graph: GraphSummary) -> Timeline:
    """Buffers of one call on the CPU.

    Raises:
        PassError: a size is not known.
    """
    return _Planner(graph).plan()


class _Planner:
    """Walks the operators in order, as the engine's planner does before it runs anything."""

    def __init__(self, graph: GraphSummary) -> None:
        self._operators = [operator for operator in fused(operators(graph)) if operator.outputs]
        self._sizes = sizes_bytes(graph, FLOAT_BYTES)
        self._shapes: dict[str, Shape] = {
            name: kind.static_shape or () for name, kind in graph.types().items()
        }
        self._is_float = {
            name: (kind.dtype or "").startswith("float") for name, kind in graph.types().items()
        }
        self._results = {spec.name for spec in graph.outputs}
        self._uses: Counter[str] = use_counts(self._operators)
        self._uses.update(spec.name for spec in (*graph.inputs, *graph.outputs))
        self._owner = {spec.name: spec.name for spec in graph.inputs}
        self._waiting = {spec.name: self._uses[spec.name] for spec in graph.inputs}
        self._callers = set(self._owner)
        self._free: list[str] = []
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}

    def plan(self) -> Timeline:
        for step, operator in enumerate(self._operators):
            for number, value in enumerate(operator.outputs):
                self._place(operator, number, value, step)
            self._release(operator, step)
        end = len(self._operators) - 1
        self._last.update((self._owner[name], end) for name in self._results if name in self._owner)
        buffers = [
            Buffer(name, self._sizes[name], first, self._last[name]) for name, first in self._first.items()
        ]
        return Timeline(tuple(operator.name for operator in self._operators), tuple(buffers))

    def _place(self, operator: Operator, number: int, value: str, step: int) -> None:
        """Give one output its buffer."""
        source = None if value in self._results else self._reusable(operator, number, value)
        if source is None:
            self._owner[value] = value
            self._waiting[value] = self._uses[value]
            self._first[value] = step
        else:
            self._owner[value] = source
            self._waiting[source] += self._uses[value]
        self._last[self._owner[value]] = step

    def _reusable(self, operator: Operator, number: int, value: str) -> str | None:
        """The buffer that output `number` can have; None for a new one."""
        inputs = [name for name in operator.inputs if name in self._owner]
        if (
            number == 0
            and inputs
            and inputs[0] == operator.inputs[0]
            and self._is_alias(operator, inputs[0], value)
        ):
            return self._owner[inputs[0]]
        if operator.op in IN_PLACE_OPS and inputs:
            source = self._owner[inputs[0]]
            if self._waiting[source] == 1 and self._same(inputs[0], value):
                return source
        for free in self._free:
            if self._same(free, value):
                self._free.remove(free)
                return free
        return None

    def _is_alias(self, operator: Operator, source: str, value: str) -> bool:
        """Views; and casts between floats, which are all float32 here."""
        is_cast = operator.op == "Cast" and self._is_float[source] and self._is_float[value]
        return is_view(operator) or is_cast

    def _same(self, one: str, other: str) -> bool:
        return self._shapes[one] == self._shapes[other] and self._sizes[one] == self._sizes[other]

    def _release(self, operator: Operator, step: int) -> None:
        """Count down what was read; what nobody needs any more is free."""
        for name in operator.inputs:
            if name not in self._owner:
                continue
            owner = self._owner[name]
            self._last[owner] = step
            self._waiting[owner] -= 1
            if self._waiting[owner] == 0 and owner not in self._callers:
                self._free.insert(0, owner)
        for name in operator.outputs:
            if self._uses[name] == 0:
                self._free.insert(0, self._owner[name])
