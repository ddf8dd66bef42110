"""A graph as a line of nodes in running order, and what a cut at each place of it costs.

    conv_in/Conv  norm/Cast | norm/Reshape   norm/InstanceNormalization   ...   up/Concat(.., conv_in/Conv)
                            ^
                            norm/Cast and conv_in/Conv are both read further on. The cast can be made again from
                            conv_in/Conv, so that one half-precision tensor crosses, and not one and a half.

A value that is only another one in another shape or precision (Reshape, Squeeze, Unsqueeze, Flatten, Identity, Cast)
is *free*: a part may make it again. What crosses is the cheapest set of values that everything read later can be made
from. The component's inputs and constants are there for every part and cross nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property

import onnx_ir as ir

from ldmc.errors import PassError

VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
FREE = VIEWS | {"Cast"}
# What every engine takes as an input: TensorRT 8.2 makes 32-bit integers of 64-bit ones.
CROSSING = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16})

Cover = tuple[float, tuple[ir.Value, ...]]


class Line:
    """The nodes of `model` in order. A place `p` is before node `p`: 1 to `len(nodes) - 1`.

    Raises:
        PassError: a node runs a graph of its own (If, Loop), whose reads are not followed here.
    """

    def __init__(self, model: ir.Model, component: str) -> None:
        self.component = component
        self.nodes = list(model.graph)
        for node in self.nodes:
            if any(
                a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()
            ):
                raise PassError(
                    f"{component}: node {node.name} ({node.op_type}) runs a graph of its own and cannot be cut around",
                    fix="put fold before partition: it removes what is decided when compiling",
                )
        self.inputs = set(model.graph.inputs)
        self.outputs = set(model.graph.outputs)
        self.constants = dict(_constants(model.graph))
        self.defined = {value: at for at, node in enumerate(self.nodes) for value in node.outputs}
        self._costs: dict[ir.Value, float] = {}

    @cached_property
    def last_read(self) -> dict[ir.Value, int]:
        """Value -> index of the last node that reads it; values that nothing reads are left out."""
        return {value: at for at, node in enumerate(self.nodes) for value in node.inputs if value is not None}

    def live(self, place: int) -> set[ir.Value]:
        """Values that are made before `place` and read after it."""
        return {
            v for v, at in self.defined.items() if at < place <= self.last_read.get(v, -1)
        } - self.constants.keys()

    @cached_property
    def crossing_bytes(self) -> list[float]:
        """Bytes that cross each place; infinite where something crosses that cannot. Entry 0 and the last are 0."""
        costs = [0.0]
        live: set[ir.Value] = set()
        for place in range(1, len(self.nodes)):
            live.update(v for v in self.nodes[place - 1].outputs if v not in self.constants)
            live = {value for value in live if self.last_read.get(value, -1) >= place}
            costs.append(sum(self._cost(value) for value in self.cover(live)))
        return [*costs, 0.0]

    def cover(self, needed: Iterable[ir.Value]) -> list[ir.Value]:
        """The values of least bytes from which all `needed` can be made by free nodes, in the order they are made."""
        needed = set(needed)
        children: dict[ir.Value | None, list[ir.Value]] = {}
        seen: set[ir.Value] = set()
        for value in sorted(needed, key=self.defined.__getitem__):
            while value not in seen:
                seen.add(value)
                parent = self._made_freely_from(value)
                if parent is not None and (parent in self.inputs or parent in self.constants):
                    break  # made again from what every part has
                children.setdefault(parent, []).append(value)
                if parent is None:
                    break
                value = parent

        def cheapest(value: ir.Value) -> Cover:
            own: Cover = (
                0.0 if value in self.outputs else self._cost(value),
                (value,),
            )  # an output is given anyway
            if value in needed:
                return own
            below = [cheapest(child) for child in children[value]]
            apart: Cover = (sum(cost for cost, _ in below), tuple(v for _, values in below for v in values))
            return apart if apart[0] <= own[0] else own

        chosen = [value for root in children.get(None, ()) for value in cheapest(root)[1]]
        return sorted(chosen, key=self.defined.__getitem__)

    def _cost(self, value: ir.Value) -> float:
        """`_size`, asked once for each value: places are many, and most see the same values."""
        if value not in self._costs:
            self._costs[value] = _size(value)
        return self._costs[value]

    def _made_freely_from(self, value: ir.Value) -> ir.Value | None:
        """The value of which `value` is a view or a cast; None where it is not."""
        node = value.producer()
        if node is None or node.op_type not in FREE or node.domain not in ("", "ai.onnx"):
            return None
        if any(other is not None and other not in self.constants for other in node.inputs[1:]):
            return None
        return node.inputs[0]

    def weights(self, at: int) -> dict[ir.Value, int]:
        """The constants that node `at` reads, and their bytes."""
        return {v: self.constants[v] for v in self.nodes[at].inputs if v is not None and v in self.constants}

    def activation_bytes(self, start: int, stop: int) -> int:
        """Most bytes alive while nodes `start` to `stop` run in order, what comes in included.

        Views take no memory of their own. What came in stays until the part is done, as an engine's caller holds it.

        Raises:
            PassError: the shape of a value is not known.
        """
        most = max(self._alive_bytes[start:stop], default=0)
        return most + sum(self._known_size(value) for value in self.cover(self.live(start)))

    @cached_property
    def _alive_bytes(self) -> list[int]:
        """Bytes alive while each node runs, from the first that reads a value to the last."""
        owner: dict[ir.Value, ir.Value] = {value: value for value in self.inputs}
        last: dict[ir.Value, int] = {}
        for at, node in enumerate(self.nodes):
            for value in node.outputs:
                if value not in self.constants:
                    seen = node.inputs[0] if node.op_type in VIEWS else value
                    owner[value] = owner.get(seen, value) if seen is not None else value
            last.update((owner[v], at) for v in (*node.inputs, *node.outputs) if v is not None and v in owner)
        alive = sum(self._known_size(value) for value in self.inputs)
        timeline = []
        for at, node in enumerate(self.nodes):
            alive += sum(self._known_size(value) for value in node.outputs if owner.get(value) is value)
            timeline.append(alive)
            read = {owner[v] for v in (*node.inputs, *node.outputs) if v is not None and v in owner}
            alive -= sum(self._known_size(value) for value in read if last[value] == at)
        return timeline

    def _known_size(self, value: ir.Value) -> int:
        size = size_bytes(value)
        if size is None:
            raise PassError(
                f"{self.component}: the shape of {value.name} is not known, so its memory cannot be predicted",
                fix="put fold before partition",
            )
        return size


def size_bytes(value: ir.Value) -> int | None:
    """Bytes of a dense tensor; None where dtype or shape is not known."""
    if value.dtype is None or value.shape is None or not value.shape.is_static():
        return None
    return math.ceil(value.dtype.itemsize * math.prod(value.shape.numpy()))


def _size(value: ir.Value) -> float:
    """Bytes that it takes to hand `value` on; infinite where that cannot be done."""
    size = size_bytes(value)
    return math.inf if size is None or value.dtype not in CROSSING else float(size)


def _constants(graph: ir.Graph) -> Iterable[tuple[ir.Value, int]]:
    """Initializers and what Constant nodes hold, with their bytes."""
    for value in graph.initializers.values():
        yield value, value.const_value.nbytes if value.const_value is not None else 0
    for node in graph:
        if node.op_type == "Constant":
            tensor = node.attributes.get("value")
            size = tensor.as_tensor().nbytes if tensor is not None else size_bytes(node.outputs[0]) or 0
            yield node.outputs[0], size
