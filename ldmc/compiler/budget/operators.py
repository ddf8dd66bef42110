"""A graph as an engine runs it: some operators become one, some none.

    x -> Sigmoid -> s, Mul(x, s) -> y        QuickGelu(x) -> y       ONNX Runtime, eager (SiLU)
    x -> MatMul(w) -> m, Add(m, b) -> y      Gemm(x, w, b) -> y      ONNX Runtime, eager (addmm)

Weights and constants are left out of the inputs: they are not activations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from ldmc.compiler.summary import VIEW_OPS, GraphSummary
from ldmc.errors import PassError

# Operators of one element at a time: engines run a chain of them as one.
POINTWISE_OPS = frozenset(
    {
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Sigmoid",
        "Sqrt",
        "Exp",
        "Neg",
        "Cast",
        "Erf",
        "Tanh",
        "Pow",
        "Where",
        "Clip",
    }
)
FLOATS = frozenset({"float16", "float32", "bfloat16", "float64"})


class Operator(NamedTuple):
    """One operator as it runs. op: its type; `QuickGelu` and `Gemm` also for what was fused into one."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def operators(graph: GraphSummary) -> list[Operator]:
    """The operators of `graph` that compute something, with the activations they read."""
    weights = set(graph.initializers)
    weights.update(name for node in graph.nodes if node.op == "Constant" for name in node.outputs)
    return [
        Operator(
            node.name,
            node.op,
            tuple(name for name in node.inputs if name and name not in weights),
            tuple(name for name in node.outputs if name),
        )
        for node in graph.nodes
        if node.op != "Constant"
    ]


def fused(found: list[Operator]) -> list[Operator]:
    """`found` with SiLU and MatMul + bias as one operator each."""
    return _fuse_bias(_fuse_silu(found))


def _fuse_silu(found: list[Operator]) -> list[Operator]:
    uses = use_counts(found)
    makers = {name: operator for operator in found for name in operator.outputs}
    gone: set[str] = set()
    result = []
    for operator in found:
        source = _silu_source(operator, makers, uses)
        if source is not None:
            gone.update(name for name in operator.inputs if name != source)
            operator = Operator(operator.name, "QuickGelu", (source,), operator.outputs)
        result.append(operator)
    return [operator for operator in result if not gone.intersection(operator.outputs)]


def _silu_source(operator: Operator, makers: dict[str, Operator], uses: Counter[str]) -> str | None:
    """x, where `operator` is the Mul of x * Sigmoid(x) and nobody else reads the Sigmoid."""
    if operator.op != "Mul" or len(operator.inputs) != 2:
        return None
    for value, gate in (operator.inputs, operator.inputs[::-1]):
        maker = makers.get(gate)
        if maker and maker.op == "Sigmoid" and maker.inputs == (value,) and uses[gate] == 1:
            return value
    return None


def _fuse_bias(found: list[Operator]) -> list[Operator]:
    """MatMul and the Add of a constant that alone reads it."""
    readers: dict[str, list[Operator]] = {}
    for operator in found:
        for name in operator.inputs:
            readers.setdefault(name, []).append(operator)
    gone: set[str] = set()
    result = []
    for operator in found:
        if operator.outputs and operator.outputs[0] in gone:
            continue
        reading = readers.get(operator.outputs[0], []) if operator.op == "MatMul" else []
        if len(reading) == 1 and reading[0].op == "Add" and len(reading[0].inputs) == 1:
            operator = Operator(operator.name, "Gemm", operator.inputs, reading[0].outputs)
            gone.update(operator.outputs)
        result.append(operator)
    return result


def use_counts(found: Iterable[Operator]) -> Counter[str]:
    """How often each value is read."""
    return Counter(name for operator in found for name in operator.inputs)


def sizes_bytes(graph: GraphSummary, float_bytes: int | None = None) -> dict[str, int]:
    """Bytes of every value. float_bytes: what a floating-point element takes; None: what the graph says.

    Raises:
        PassError: a size is not known.
    """
    sizes = {}
    for name, kind in graph.types().items():
        size, shape = kind.size_bytes, kind.static_shape
        if size is None or shape is None:
            raise PassError(
                f"memory cannot be planned: the size of {name} is not known ({kind})",
                fix="put fold after onnx, or export for a newer opset: shapes must be known",
            )
        if float_bytes is not None and kind.dtype in FLOATS:
            count = 1
            for side in shape:
                count *= side
            size = count * float_bytes
        sizes[name] = size
    return sizes


def weights_bytes(graph: GraphSummary, float_bytes: int | None = None) -> int:
    """Bytes of all initializers and Constants, each once. float_bytes: as for `sizes_bytes`."""
    constants = {name for node in graph.nodes if node.op == "Constant" for name in node.outputs}
    sizes = sizes_bytes(graph, float_bytes)
    return sum(sizes[name] for name in (*graph.initializers, *constants) if name in sizes)


def is_view(operator: Operator) -> bool:
    """Whether the output is the memory of the first input."""
    return operator.op in VIEW_OPS and bool(operator.inputs)
