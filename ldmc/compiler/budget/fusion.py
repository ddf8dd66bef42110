"""What a TensorRT engine keeps in memory: much of a graph is never written out.

    Mul, Add, Sigmoid, Mul, Cast      one kernel: only what comes out of the last is written
    MatMul, Softmax, MatMul           one kernel, in fp16: the scores of an attention are never written
    Reshape                           a view

In between, a value comes with the operator that writes it and goes with the last that reads it. TensorRT for RTX fuses
so. What TensorRT 8 to 10 fuse depends on GPU and version: for them everything but views is taken to be written, which
is more.
"""

from __future__ import annotations

from ldmc.compiler.budget.operators import POINTWISE_OPS, Operator, is_view, operators, sizes_bytes
from ldmc.compiler.budget.timeline import Buffer, Timeline
from ldmc.compiler.summary import GraphSummary


def fused_timeline(graph: GraphSummary) -> Timeline:
    """Buffers of one call of an engine that fuses. Inputs and outputs are the caller's.

    Raises:
        PassError: a size is not known.
    """
    return _Engine(graph, None, fuses=True).plan()


def written_timeline(graph: GraphSummary, float_bytes: int | None = None) -> Timeline:
    """The same where everything but views is written, inputs and outputs too: as `compiler.liveness` counts.

    float_bytes: see `operators.sizes_bytes`.
    """
    return _Engine(graph, float_bytes, fuses=False).plan()


class _Engine:
    """Works out which values are written, and how long what they are made of must live."""

    def __init__(self, graph: GraphSummary, float_bytes: int | None, *, fuses: bool) -> None:
        self._operators = operators(graph)
        self._sizes = sizes_bytes(graph, float_bytes)
        self._is_half = {name: kind.dtype == "float16" for name, kind in graph.types().items()}
        self._callers = {spec.name for spec in (*graph.inputs, *graph.outputs)}
        self._makers = {name: operator for operator in self._operators for name in operator.outputs}
        self._readers: dict[str, list[Operator]] = {}
        for operator in self._operators:
            for name in operator.inputs:
                self._readers.setdefault(name, []).append(operator)
        self._unwritten = self._scores() | self._inside_chains() if fuses else set[str]()
        self._graph = graph
        self._counts_io = not fuses

    def plan(self) -> Timeline:
        end = len(self._operators) - 1
        first = {spec.name: 0 for spec in self._graph.inputs} if self._counts_io and end >= 0 else {}
        last = dict.fromkeys(first, end)
        for step, operator in enumerate(self._operators):
            for name in operator.outputs:
                if self._is_written(operator, name):
                    first[name] = last[name] = step
            for name in operator.inputs:
                self._keep(name, step, last)
        for spec in self._graph.outputs if self._counts_io else ():
            self._keep(spec.name, end, last)
        last.update((spec.name, end) for spec in self._graph.inputs if spec.name in last)
        buffers = [Buffer(name, self._sizes[name], first[name], last[name]) for name in first]
        return Timeline(tuple(operator.name for operator in self._operators), tuple(buffers))

    def _is_written(self, operator: Operator, name: str) -> bool:
        is_ours = self._counts_io or name not in self._callers
        return not is_view(operator) and name not in self._unwritten and is_ours

    def _keep(self, name: str, step: int, last: dict[str, int]) -> None:
        """`name` is needed at `step`; where it is not written, what it is made of is needed then."""
        if name in last:
            last[name] = step
            return
        maker = self._makers.get(name)
        if maker is not None and (self._counts_io or name not in self._callers):
            for source in maker.inputs:
                self._keep(source, step, last)

    def _scores(self) -> set[str]:
        """What stands between the two MatMuls of an attention in half precision; there is no such kernel in fp32."""
        found: set[str] = set()
        for operator in self._operators:
            if operator.op != "Softmax" or not self._is_half[operator.outputs[0]]:
                continue
            found.update(operator.outputs)
            name = operator.inputs[0]
            while True:
                found.add(name)
                maker = self._makers.get(name)
                if maker is None or maker.op == "MatMul" or not maker.inputs:
                    break
                name = maker.inputs[0]
        return found

    def _inside_chains(self) -> set[str]:
        """What a pointwise operator gives to no one but other pointwise operators."""
        return {
            name
            for operator in self._operators
            if operator.op in POINTWISE_OPS
            for name in operator.outputs
            if name not in self._callers and self._feeds_a_chain(name)
        }

    def _feeds_a_chain(self, name: str) -> bool:
        """At most two readers: a value that more of them need is written."""
        readers = self._seen_readers(name)
        return 0 < len(readers) <= 2 and all(reader.op in POINTWISE_OPS for reader in readers)

    def _seen_readers(self, name: str) -> list[Operator]:
        """Who reads a value, views looked through."""
        found: list[Operator] = []
        for reader in self._readers.get(name, []):
            found += self._seen_readers(reader.outputs[0]) if is_view(reader) else [reader]
        return found
