"""New nodes in place of one old node, named after its module as the exporter would.

    norm1/InstanceNormalization    ->    norm1/ReduceMean, norm1/Sub, norm1/Mul, ...

The old node's outputs keep their names; types and shapes of what is new are found afterwards
(`ldmc.passes.weightless.checked`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

_REDUCE_AXES_AS_INPUT = 18  # Reduce*, all but ReduceSum, take axes as an input since this opset


class Editor:
    """One graph being edited: the names and constants that are there.

    opset: what the graph will be of, in which new nodes are written.
    """

    def __init__(self, model: ir.Model, opset: int) -> None:
        self.graph = model.graph
        self.opset = opset
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        self._taken = {node.name for node in self.graph}
        self._taken.update(value.name for node in self.graph for value in node.outputs)
        self._taken.update(value.name for value in self.graph.inputs)
        self._taken.update(self.graph.initializers)

    def free_name(self, wanted: str) -> str:
        """`wanted`, or with the next number: `a/Mul`, `a/Mul_2`."""
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name

    def constant(self, array: np.ndarray[Any, Any], name: str) -> ir.Value:
        """An initializer holding `array`; the same one for equal arrays."""
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.weight(ir.tensor(array), name)
        return self._constants[key]

    def weight(self, tensor: ir.TensorProtocol, name: str) -> ir.Value:
        """An initializer holding `tensor`, which may be lazy."""
        shape = ir.Shape(tensor.shape.numpy())
        value = ir.Value(name=self.free_name(name), type=ir.TensorType(tensor.dtype), shape=shape)
        value.const_value = tensor
        self.graph.initializers.add(value)
        return value

    def in_place_of(self, *nodes: ir.Node) -> StandIn:
        """What will replace `nodes`, all of one module; the last gives the outputs that stay."""
        return StandIn(self, nodes)


class StandIn:
    """Nodes that will stand for others, in order."""

    def __init__(self, editor: Editor, old: Sequence[ir.Node]) -> None:
        self.editor = editor
        self._old = old
        self._nodes: list[ir.Node] = []
        path, slash, _ = (old[-1].name or "").rpartition("/")
        self._stem = path + slash

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        outputs: int = 1,
    ) -> ir.Value:
        """Add a node; its first output."""
        name = self.editor.free_name(self._stem + op_type)
        node = ir.node(op_type, inputs, attributes, num_outputs=outputs, name=name)
        node.outputs[0].name = name
        for k, value in enumerate(node.outputs[1:], start=1):
            value.name = self.editor.free_name(f"{name}:{k}")
        self._nodes.append(node)
        return node.outputs[0]

    def constant(self, array: np.ndarray[Any, Any], label: str) -> ir.Value:
        """A constant, named `module/label`."""
        return self.editor.constant(array, self._stem + label)

    def integers(self, values: Sequence[int], label: str) -> ir.Value:
        """Shape, axes or sizes as an int64 constant."""
        return self.constant(np.array(values, dtype=np.int64), label)

    def mean(self, value: ir.Value, axes: Sequence[int]) -> ir.Value:
        """ReduceMean over `axes`, which stay as 1; axes where the opset has them."""
        if self.editor.opset < _REDUCE_AXES_AS_INPUT:
            return self.op("ReduceMean", [value], {"axes": list(axes), "keepdims": 1})
        return self.op("ReduceMean", [value, self.integers(axes, "axes")], {"keepdims": 1})

    def finish(self, *outputs: ir.Value) -> None:
        """Put the new nodes into the graph; `outputs` take the place of the last old node's outputs."""
        *inner, last = self._old
        ir.convenience.replace_nodes_and_values(
            self.editor.graph, last, [last, *reversed(inner)], self._nodes, last.outputs, outputs
        )


def integers_of(value: ir.Value | None) -> list[int] | None:
    """The numbers of a constant int64 tensor; None where it is none."""
    tensor = value.const_value if value is not None else None
    if value is None or tensor is None or value.is_graph_input() or isinstance(tensor, ir.LazyTensor):
        return None
    return [int(number) for number in tensor.numpy().reshape(-1)]


def static_shape(value: ir.Value | None) -> list[int] | None:
    """The value's shape where every side is known."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return [int(side) for side in value.shape.numpy()]
