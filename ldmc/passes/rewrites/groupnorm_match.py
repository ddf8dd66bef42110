"""Finding GroupNorm as PyTorch's exporter writes it, and folding it into one operator.

x -> Reshape [N, G, -1] -> InstanceNormalization -> Reshape [N, C, ...] (-> Mul -> Add)   ->   GroupNormalization(x)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ldmc.passes.lazy import reshaped
from ldmc.passes.rewrites import norms
from ldmc.passes.rewrites.editor import Editor, static_shape


@dataclass(frozen=True)
class Match:
    """A GroupNorm around `instance`: the Reshapes before and after it, and Mul and Add by channel where there are."""

    split: ir.Node
    instance: ir.Node
    join: ir.Node
    scale: tuple[ir.Node, ir.Value] | None
    bias: tuple[ir.Node, ir.Value] | None

    @property
    def groups(self) -> int:
        """How many groups the channels are in."""
        shape = static_shape(self.split.outputs[0])
        assert shape is not None  # `match` has looked
        return shape[1]


def match(instance: ir.Node) -> Match | None:
    """The GroupNorm that an InstanceNormalization is the middle of, if it is of one."""
    source = instance.inputs[0]
    split = source.producer() if source is not None else None
    join = _only_reader(instance.outputs[0])
    if split is None or join is None or (split.op_type, join.op_type) != ("Reshape", "Reshape"):
        return None
    whole, grouped = static_shape(split.inputs[0]), static_shape(split.outputs[0])
    if whole is None or grouped is None or static_shape(join.outputs[0]) != whole:
        return None
    if len(whole) < 3 or len(grouped) != 3 or grouped[0] != whole[0] or whole[1] % grouped[1]:
        return None
    scale = _by_channel(join.outputs[0], "Mul", whole)
    bias = _by_channel(scale[0].outputs[0] if scale else join.outputs[0], "Add", whole)
    return Match(split, instance, join, scale, bias)


def fold(found: Match, editor: Editor, opset: int) -> bool:
    """Write GroupNormalization as `opset` has it; whether it could be."""
    done = (
        _fold_per_channel(found, editor)
        if opset >= norms.PER_CHANNEL_SINCE
        else _fold_per_group(found, editor)
    )
    if done and not found.split.outputs[0].uses():
        editor.graph.remove(found.split, safe=True)
    return done


def _fold_per_channel(found: Match, editor: Editor) -> bool:
    """Opset 21 on: its scale and bias are those by channel."""
    plain = norms.is_filled_with(found.instance.inputs[1], 1) and norms.is_filled_with(
        found.instance.inputs[2], 0
    )
    if not plain or found.scale is None or found.bias is None:
        return False
    add, bias = found.bias
    mul, scale = found.scale
    stand = editor.in_place_of(found.instance, found.join, mul, add)
    vectors = [
        editor.weight(reshaped(value.const_value, [-1], name), name)
        for value, name in ((scale, f"{mul.name}:scale"), (bias, f"{add.name}:bias"))
        if value.const_value is not None
    ]
    stand.finish(stand.op("GroupNormalization", [found.split.inputs[0], *vectors], _attributes(found)))
    return True


def _fold_per_group(found: Match, editor: Editor) -> bool:
    """Opset 18 to 20: its scale and bias are those of the InstanceNormalization, one number for a group."""
    stand = editor.in_place_of(found.instance, found.join)
    inputs = [found.split.inputs[0], *found.instance.inputs[1:]]
    stand.finish(stand.op("GroupNormalization", inputs, _attributes(found)))
    return True


def _attributes(found: Match) -> dict[str, int | float]:
    return {"epsilon": norms.epsilon_of(found.instance), "num_groups": found.groups}


def _only_reader(value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _by_channel(value: ir.Value, op_type: str, whole: list[int]) -> tuple[ir.Node, ir.Value] | None:
    """The one reader of `value`, if it combines it with a constant of one number for each channel."""
    reader = _only_reader(value)
    if reader is None or reader.op_type != op_type:
        return None
    other = next((operand for operand in reader.inputs if operand is not value), None)
    if other is None or other.const_value is None or other.is_graph_input():
        return None
    sides = [int(side) for side in other.const_value.shape.numpy()]
    column = [whole[1]] + [1] * (len(whole) - 2)
    return (reader, other) if sides in (column, [1, *column]) and np.prod(sides) == whole[1] else None
