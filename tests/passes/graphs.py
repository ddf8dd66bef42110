"""ONNX text in and out: components of text, and graphs compared by what they say rather than by how they name it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ldmc.ir import Component, Form, TensorSpec


def text_model(text: str, opset: int) -> ir.Model:
    """The model of `g (inputs) => (outputs) { nodes }`, with types and shapes inferred."""
    import onnx

    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {text}')
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    for node in model.graph:
        node.name = f"mod.{node.outputs[0].name}/{node.op_type}"
    return model


def component_of_model(model: ir.Model, name: str = "unet") -> Component:
    """`model` as a component in ONNX form."""

    def specs(values: Any) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(value.name, value.dtype.numpy().name, tuple(value.shape.numpy())) for value in values
        )

    return Component(name, Form.ONNX, model, specs(model.graph.inputs), specs(model.graph.outputs))


def lazily(model: ir.Model, *names: str) -> ir.Model:
    """The same, with the initializers `names` lazy; they raise when they are read."""

    def unread() -> ir.TensorProtocol:
        raise AssertionError("a weight was read")

    for name in names:
        value = model.graph.initializers[name]
        old = value.const_value
        assert old is not None
        value.const_value = ir.LazyTensor(unread, dtype=old.dtype, shape=old.shape, name=name)
    return model


def said(model: ir.Model) -> list[Any]:
    """What the graph says: operators, attributes and inputs in order, constants by value, other values by number."""
    names: dict[ir.Value, object] = {value: value.name for value in model.graph.inputs}
    lines = []
    for node in model.graph:
        inputs = [_named(value, names) for value in node.inputs]
        while inputs and inputs[-1] is None:
            inputs.pop()
        attributes = {name: _plain(a.value) for name, a in sorted(node.attributes.items())}
        lines.append((node.op_type, attributes, inputs))
        for value in node.outputs:
            names[value] = value.name if value.is_graph_output() else len(names)
    return lines


def _named(value: ir.Value | None, names: dict[ir.Value, object]) -> object:
    if value is None:
        return None
    if value.const_value is not None:
        array = value.const_value.numpy()
        return (array.dtype.name, array.shape, array.round(5).tolist())
    return names[value]


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


def snr_db(reference: Any, other: Any) -> float:
    """Signal to noise of `other` against `reference`."""
    signal = np.square(reference.astype("float64")).sum()
    noise = np.square(reference.astype("float64") - other.astype("float64")).sum()
    return float(10 * np.log10(signal / max(noise, 1e-300)))
