"""From a module without weights to a graph: opsets, names, inputs and outputs, and what is never read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from ldmc.compiler.graph import summarise
from ldmc.errors import PassError
from ldmc.ir import Component, TensorSpec
from ldmc.passes.onnx import MAX_OPSET, MIN_OPSET
from tests.passes.modules import (
    LATENT,
    NOISE,
    TIMESTEP,
    Block,
    block,
    component_of,
    counts,
    eager,
    lowered,
    micro_condition_unet,
    noise,
    run,
)

Exported = Callable[[int], Component]
VECTOR_IN, VECTOR_OUT = TensorSpec("input_0", "float32", (1, 4)), TensorSpec("output_0", "float32", (1, 4))


@pytest.mark.parametrize("opset", range(MIN_OPSET, MAX_OPSET + 1))
def test_every_opset_computes_what_pytorch_does_before_and_after_folding(
    opset: int, exported: Exported
) -> None:
    latent, t = noise(1, 3, 8, 8), np.array([701])
    expected = eager(Block, latent, t)
    component = exported(opset)
    model: ir.Model = component.payload
    assert model.opset_imports == {"": opset}
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    np.testing.assert_allclose(run(model, latent, t)[0], expected, atol=2e-6)

    folded: ir.Model = lowered(component, "fold").payload
    assert folded.opset_imports == {"": opset}
    assert folded.graph.num_nodes() < 100
    onnx.checker.check_model(ir.to_proto(folded), full_check=True)
    np.testing.assert_allclose(run(folded, latent, t)[0], expected, atol=2e-6)


@pytest.mark.parametrize(("opset", "ir_version"), [(18, 8), (19, 9), (21, 10), (23, 11)])
def test_the_file_format_is_the_oldest_that_has_the_opset(
    opset: int, ir_version: int, exported: Exported
) -> None:
    """ONNX Runtime 1.14, the first with opset 18, refuses files newer than IR version 8."""
    component = exported(opset)
    assert component.payload.ir_version == ir_version
    assert lowered(component, "fold").payload.ir_version == ir_version


def test_inputs_and_outputs_have_their_frozen_names_in_order(exported: Exported) -> None:
    component = exported(18)
    graph = component.payload.graph
    assert [value.name for value in graph.inputs] == ["input_0", "input_1"]
    assert [value.name for value in graph.outputs] == ["output_0"]
    summary = summarise(component.payload)
    assert (summary.inputs, summary.outputs) == ((LATENT, TIMESTEP), (NOISE,))


def test_nodes_are_named_after_their_modules(exported: Exported) -> None:
    paths = {path.removeprefix("net").removeprefix(".") for path, _ in block().payload.module.named_modules()}
    names = [node.name for node in exported(18).payload.graph]
    assert len(set(names)) == len(names)
    for node in exported(18).payload.graph:
        path, slash, leaf = node.name.rpartition("/")
        assert path in paths if slash else True, node.name
        assert leaf.partition("_")[0] == node.op_type
        assert node.outputs[0].name in (node.name, "output_0")
    assert {"conv_in/Conv", "resnet.conv1/Conv", "attn.to_q/MatMul", "attn/Softmax", "time_proj/Sin"} <= set(
        names
    )


def test_initializers_are_named_by_their_checkpoint_keys(exported: Exported) -> None:
    lazy = {
        name
        for name, value in exported(18).payload.graph.initializers.items()
        if isinstance(value.const_value, ir.LazyTensor)
    }
    assert lazy == set(Block().state_dict())


def test_every_weight_arrives_where_it_belongs(exported: Exported) -> None:
    torch.manual_seed(0)
    state = Block().state_dict()
    initializers = exported(18).payload.graph.initializers
    for key, value in state.items():
        np.testing.assert_array_equal(initializers[key].const_value.numpy(), value.numpy())


def test_two_exports_are_the_same_bytes(exported: Exported) -> None:
    again = lowered(block(), "onnx").payload
    assert ir.to_proto(again).SerializeToString() == ir.to_proto(exported(18).payload).SerializeToString()


def test_nothing_of_the_exporters_notes_is_left(exported: Exported) -> None:
    proto = ir.to_proto(exported(18).payload)
    assert not proto.metadata_props and not proto.graph.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)
    assert not any(value.metadata_props for value in proto.graph.value_info)


@pytest.mark.parametrize("name", ["unet", "decoder"])
def test_the_tiny_model_is_lowered_without_reading_a_weight(
    name: str, tiny_stages: dict[str, list[Component]]
) -> None:
    _, plain, folded = tiny_stages[name]
    for stage in (plain, folded):
        weights = [value.const_value for value in stage.payload.graph.initializers.values()]
        assert sum(isinstance(weight, ir.LazyTensor) for weight in weights) > 50
        assert summarise(stage.payload).stats.params > 100_000
    first = "conv_in.weight" if name == "unet" else "decoder.conv_in.weight"
    with pytest.raises(AssertionError, match="was read"):
        folded.payload.graph.initializers[first].const_value.numpy()


def test_a_text_conditioned_unet_has_a_third_input() -> None:
    latent = TensorSpec("input_0", "float32", (1, 4, 8, 8))
    context = TensorSpec("input_2", "float32", (1, 77, 16))
    output = TensorSpec("output_0", "float32", (1, 4, 8, 8))
    component = component_of(micro_condition_unet, [latent, TIMESTEP, context], [output])
    folded = lowered(component, "onnx,fold")
    graph = folded.payload.graph
    assert [value.name for value in graph.inputs] == ["input_0", "input_1", "input_2"]
    arrays = noise(1, 4, 8, 8), np.array([17]), noise(1, 77, 16, seed=1)
    # keys and values of the text are merged within each attention, not across attentions
    merged = [node.name for node in graph if node.op_type == "Split" and "attn2.to_k+to_v" in node.name]
    assert merged and all(len(node.outputs) <= 3 for node in graph if "attn" in node.name)
    np.testing.assert_allclose(
        run(folded.payload, *arrays)[0], eager(micro_condition_unet, *arrays), atol=5e-6
    )


def test_a_module_without_parameters_has_no_weights() -> None:
    model = lowered(component_of(nn.SiLU, [VECTOR_IN], [VECTOR_OUT]), "onnx").payload
    assert not model.graph.initializers
    assert counts(model) == {"Sigmoid": 1, "Mul": 1}
    x = noise(1, 4)
    np.testing.assert_allclose(run(model, x)[0], eager(nn.SiLU, x), rtol=1e-6)


class Shared(nn.Module):
    """One weight under two names, and a constant of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.second(self.first(x)) + torch.tensor([1.0, 2.0, 3.0, 4.0])
        return output


@pytest.mark.parametrize("passes", ["onnx", "torchscript,onnx"])
def test_a_shared_weight_is_bound(passes: str) -> None:
    model = lowered(component_of(Shared, [VECTOR_IN], [VECTOR_OUT]), passes).payload
    x = noise(1, 4)
    np.testing.assert_allclose(run(model, x)[0], eager(Shared, x), rtol=1e-6, atol=1e-6)


class Idle(Shared):
    """With weights that nothing reads, and some whose results nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.idle, self.dead = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.dead(x)
        return super().forward(x)


@pytest.mark.parametrize("passes", ["onnx", "fp16,onnx", "torchscript", "aoti"])
def test_weights_that_nothing_reads_are_named(passes: str) -> None:
    """They are the model's, and would be gone without a word."""
    with pytest.raises(PassError) as caught:
        lowered(component_of(Idle, [VECTOR_IN], [VECTOR_OUT]), passes)
    names = "idle.weight, idle.bias, dead.weight"
    assert caught.value.message.startswith("unet: 3 of 7 weights of the checkpoint are used by nothing")
    assert caught.value.message.endswith(names)


class Buffered(nn.Module):
    def __init__(self, persistent: bool) -> None:
        super().__init__()
        self.register_buffer("offset", torch.arange(4.0), persistent=persistent)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = x + self.offset
        return output


def test_a_saved_buffer_is_a_weight() -> None:
    model = lowered(component_of(lambda: Buffered(True), [VECTOR_IN], [VECTOR_OUT]), "onnx").payload
    np.testing.assert_array_equal(run(model, np.zeros((1, 4), "float32"))[0], [[0, 1, 2, 3]])


def test_a_buffer_that_is_not_saved_is_an_error() -> None:
    with pytest.raises(PassError, match="unet: net.offset is neither in the checkpoint nor computed"):
        lowered(component_of(lambda: Buffered(False), [VECTOR_IN], [VECTOR_OUT]), "onnx")


def test_another_number_of_outputs_is_an_error() -> None:
    component = component_of(nn.SiLU, [VECTOR_IN], [VECTOR_OUT, VECTOR_OUT])
    with pytest.raises(
        PassError, match="the exported graph has 1 inputs and 1 outputs, the component has 1 and 2"
    ):
        lowered(component, "onnx")


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if bool(x.sum() > 0) else -x


def test_what_cannot_be_traced_is_an_error_with_the_components_name() -> None:
    with pytest.raises(PassError, match="pass 'onnx' failed on unet: ") as caught:
        lowered(component_of(Branching, [VECTOR_IN], [VECTOR_OUT]), "onnx")
    assert caught.value.__cause__ is not None
