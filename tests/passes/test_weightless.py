"""Graphs without their weights: set aside, checked, put back, and never read."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from ldmc.errors import PassError
from ldmc.passes.weightless import checked, put_back, set_aside
from tests.passes.graphs import lazily, text_model

TEXT = """(float[2] x) => (float[2] y) <float[2] w = {1,2}, float[2] unused = {1,2}, float[2] b = {3,4}> {
    t = Mul (x, w)  y = Add (t, b) }"""


def test_lazy_weights_go_and_come_back() -> None:
    model = lazily(text_model(TEXT, 13), "w", "unused")
    tensor = model.graph.initializers["w"].const_value
    weights = set_aside(model.graph)
    assert [value.name for value in model.graph.inputs] == ["x", "w", "unused"]
    assert list(model.graph.initializers) == ["b"]
    put_back(model.graph, weights)
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert sorted(model.graph.initializers) == ["b", "w"]  # what nothing reads is gone
    assert model.graph.initializers["w"].const_value is tensor


def test_checked_knows_every_type_and_keeps_the_weights() -> None:
    model = lazily(text_model(TEXT, 13), "w")
    tensor = model.graph.initializers["w"].const_value
    model.graph.node(0).outputs[0].type = model.graph.node(0).outputs[0].shape = None
    result = checked(model, "unet")
    value = result.graph.node(0).outputs[0]
    assert (value.dtype, value.shape) == (ir.DataType.FLOAT, ir.Shape([2]))
    assert result.graph.initializers["w"].const_value is tensor
    assert sorted(result.graph.initializers) == ["b", "w"]


def test_a_graph_that_is_not_valid_is_refused() -> None:
    model = text_model(TEXT, 13)
    model.graph.node(0).attributes.add(ir.AttrInt64("axes", 1))
    with pytest.raises(PassError, match="unet: the rewritten graph is not valid ONNX of opset 13: .*axes"):
        checked(model, "unet")
