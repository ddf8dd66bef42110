"""Sequences of tensors, as PyTorch's exporter writes `chunk` and `split`, as one plain operator.

SplitToSequence(x, 32) -> s;  SequenceAt(s, 0) -> a;  SequenceAt(s, 1) -> b    ->    Split(x, [32, 32]) -> a, b

No parser of TensorRT reads a sequence, and a memory plan does not know the size of one.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ldmc.passes.rewrites.editor import Editor, static_shape

_SIZES_AS_INPUT = 13  # Split takes its sizes as an input since this opset
_OPERATORS = frozenset(
    {
        "ConcatFromSequence",
        "SequenceAt",
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceErase",
        "SequenceInsert",
        "SequenceLength",
        "SequenceMap",
        "SplitToSequence",
    }
)


def lower(model: ir.Model) -> None:
    """Write every SplitToSequence as a Split where its sizes and the places that are read are known; types included."""
    editor = Editor(model, model.opset_imports[""])
    for node in list(model.graph):
        if node.op_type == "SplitToSequence" and node.domain == "":
            _lower_one(node, editor)


def remaining(model: ir.Model) -> list[ir.Node]:
    """The nodes that take or give a sequence, subgraphs' included."""
    return [node for node in model.graph.all_nodes() if node.op_type in _OPERATORS and node.domain == ""]


def _lower_one(node: ir.Node, editor: Editor) -> None:
    sizes = _sizes(node)
    readers = [use.node for use in node.outputs[0].uses()]
    if sizes is None or node.outputs[0].is_graph_output():
        return
    places = [_place(reader, len(sizes)) for reader in readers if reader.graph is node.graph]
    if None in places or len(places) < len(readers):
        return
    read = [value for old in (*readers, node) for value in old.inputs]
    pieces = _split(node, sizes, editor)
    for reader, place in zip(readers, places, strict=True):
        assert place is not None
        _replace(reader, pieces[place], editor.graph)
    editor.graph.remove(node, safe=True)
    _drop_unread(read, editor.graph)


def _sizes(node: ir.Node) -> list[int] | None:
    """Sides of the pieces; None where they are computed, or each piece loses the axis it was cut along.

    Source: onnx, SplitToSequence-11: one number is the side of every piece, the last is smaller where it must be.
    """
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if given is None:
        return None
    tensor = ir.convenience.get_const_tensor(given)
    if tensor is None or isinstance(tensor, ir.LazyTensor):
        return None
    if len(tensor.shape) == 1:
        return [int(side) for side in tensor.numpy()]
    shape, size = static_shape(node.inputs[0]), int(tensor.numpy())
    if shape is None or size < 1:
        return None
    side = shape[_axis(node)]
    return [min(size, side - start) for start in range(0, side, size)]


def _place(reader: ir.Node, pieces: int) -> int | None:
    """Which piece `reader` takes; None where that is computed, or it takes the whole sequence."""
    given = reader.inputs[1] if reader.op_type == "SequenceAt" else None
    tensor = ir.convenience.get_const_tensor(given) if given is not None else None
    if tensor is None or isinstance(tensor, ir.LazyTensor):
        return None
    place = int(tensor.numpy())
    return place % pieces if -pieces <= place < pieces else None


def _split(node: ir.Node, sizes: list[int], editor: Editor) -> list[ir.Value]:
    """The pieces, given by a Split before `node`."""
    source, axis = node.inputs[0], _axis(node)
    assert source is not None
    name = (node.name or "").replace(node.op_type, "Split")
    if editor.opset < _SIZES_AS_INPUT:
        inputs = [source]
    else:
        inputs = [source, editor.constant(np.array(sizes, dtype=np.int64), f"{name}.sizes")]
    name = editor.free_name(name)
    split = ir.node("Split", inputs, {"axis": axis}, num_outputs=len(sizes), name=name)
    if len(inputs) == 1:
        split.attributes.add(ir.AttrInt64s("split", sizes))
    for k, (piece, size) in enumerate(zip(split.outputs, sizes, strict=True)):
        piece.name, piece.type = name if k == 0 else editor.free_name(f"{name}:{k}"), source.type
        if source.shape is not None:
            sides = list(source.shape)
            sides[axis] = size
            piece.shape = ir.Shape(sides)
    editor.graph.insert_before(node, split)
    return list(split.outputs)


def _replace(reader: ir.Node, piece: ir.Value, graph: ir.Graph) -> None:
    """`piece` for what `reader` gives; an output of the graph keeps a node of its own, for its name."""
    output = reader.outputs[0]
    if output.is_graph_output():
        kept = ir.node("Identity", [piece], name=reader.name)
        ir.convenience.replace_nodes_and_values(graph, reader, [reader], [kept], [output], kept.outputs)
        return
    output.replace_all_uses_with(piece)
    graph.remove(reader, safe=True)


def _drop_unread(values: list[ir.Value | None], graph: ir.Graph) -> None:
    """Sizes and places that nothing reads any more, where they are Constant nodes."""
    for value in values:
        maker = value.producer() if value is not None and not value.uses() else None
        if maker is not None and maker.op_type == "Constant" and maker.graph is graph:
            graph.remove(maker, safe=True)


def _axis(node: ir.Node) -> int:
    return node.attributes["axis"].as_int() if "axis" in node.attributes else 0
