"""`onnx` on a script: PyTorch's older exporter, its opsets, and weights that stay where they are."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from ldmc.compiler.graph import summarise
from ldmc.compiler.pipeline import checked_pipeline
from ldmc.compiler.spec import parse_pass
from ldmc.errors import PassError, SpecError
from ldmc.ir import Component, Form, Script, TensorSpec
from ldmc.passes.modules import with_weights
from ldmc.passes.onnx import OPSETS
from ldmc.targets.reader import load_target
from tests.passes.modules import (
    LATENT,
    TIMESTEP,
    Block,
    NoWeights,
    block,
    component_of,
    copied,
    counts,
    eager,
    lowered,
    micro_condition_unet,
    noise,
    run,
)

Exported = Callable[[int], Component]
LOW, HIGH = OPSETS[Form.TORCHSCRIPT]


@pytest.fixture(scope="module")
def scripted() -> Component:
    return lowered(block(), "torchscript")


@pytest.fixture(scope="module")
def exported(scripted: Component) -> Exported:
    """`Block` through TorchScript by opset."""

    @cache
    def export(opset: int) -> Component:
        return lowered(scripted, f"onnx{{opset={opset}}}")

    return lambda opset: copied(export(opset))


@pytest.mark.parametrize("opset", range(LOW, HIGH + 1))
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
    assert counts(folded)["Split"] == 1
    onnx.checker.check_model(ir.to_proto(folded), full_check=True)
    np.testing.assert_allclose(run(folded, latent, t)[0], expected, atol=2e-6)


def test_opset_13_is_ir_version_7(exported: Exported) -> None:
    """What a parser of that age reads."""
    assert exported(13).payload.ir_version == 7
    assert lowered(exported(13), "fold").payload.ir_version == 7


@pytest.mark.parametrize("fold", ["", ",fold"])
def test_in_half_precision_it_is_what_the_other_exporter_gives(fold: str) -> None:
    latent, t = noise(1, 3, 8, 8, dtype="float16"), np.array([701])
    ours = lowered(block(), f"fp16,torchscript,onnx{{opset=13}}{fold}").payload
    other = lowered(block(), f"fp16,onnx{fold}").payload
    left, right = run(ours, latent, t)[0], run(other, latent, t)[0]
    assert left.dtype == right.dtype == np.float16
    np.testing.assert_allclose(left.astype("float32"), right.astype("float32"), atol=4e-3)


def test_no_weight_is_read() -> None:
    component = lowered(block(), "fp16,torchscript")
    script: Script = component.payload
    unreadable = replace(script.network, weights=NoWeights())
    component = component.evolve(payload=Script(script.module, unreadable))
    folded = lowered(component, "onnx{opset=14},fold")
    assert summarise(folded.payload).stats.params > 3000
    weight = folded.payload.graph.initializers["conv_in.weight"].const_value
    with pytest.raises(AssertionError, match="conv_in.weight was read"):
        weight.numpy()


def test_the_operators_are_those_of_the_exporters_own_folding(
    scripted: Component, exported: Exported
) -> None:
    module = with_weights(scripted.payload.network, "unet")
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.zeros(LATENT.shape), torch.zeros(1, dtype=torch.int64)), buffer, dynamo=False,
            opset_version=13, do_constant_folding=True, keep_initializers_as_inputs=True,
        )  # fmt: skip
    theirs = counts(ir.from_proto(onnx.load_model_from_string(buffer.getvalue())))
    assert counts(exported(13).payload) == theirs


def test_nodes_are_named_after_their_modules(exported: Exported) -> None:
    paths = {path.removeprefix("net").removeprefix(".") for path, _ in block().payload.module.named_modules()}
    graph = exported(13).payload.graph
    names = [node.name for node in graph]
    assert len(set(names)) == len(names)
    for node in graph:
        path, slash, leaf = node.name.rpartition("/")
        assert path in paths if slash else True, node.name
        assert leaf.partition("_")[0] == node.op_type
    expected = {
        "conv_in/Conv",
        "resnet.conv1/Conv",
        "attn.to_q/MatMul",
        "attn/Softmax",
        "resnet.nonlinearity/Mul",
    }
    assert expected <= set(names)


def test_a_module_that_is_called_twice_gives_its_name_to_both(exported: Exported) -> None:
    """The exporter numbers such calls, `nonlinearity_1`, which is no module."""
    names = [node.name for node in exported(13).payload.graph if node.op_type == "Sigmoid"]
    assert sum(name.startswith("resnet.nonlinearity/") for name in names) == 3


def test_initializers_are_named_by_their_checkpoint_keys(exported: Exported) -> None:
    initializers = exported(13).payload.graph.initializers
    state = Block().state_dict()
    # transposed and reshaped where their operator wants it, so under another name
    other = {key for key in state if "to_" in key and key.endswith("weight") or "norm" in key}
    assert set(state) - other <= set(initializers)
    torch.manual_seed(0)
    for key, value in Block().state_dict().items():
        if key in initializers:
            np.testing.assert_array_equal(initializers[key].const_value.numpy(), value.numpy())


def test_two_exports_are_the_same_bytes(scripted: Component, exported: Exported) -> None:
    again = lowered(scripted, "onnx{opset=13}").payload
    assert ir.to_proto(again).SerializeToString() == ir.to_proto(exported(13).payload).SerializeToString()


def test_a_text_conditioned_unet() -> None:
    latent = TensorSpec("input_0", "float32", (1, 4, 8, 8))
    context = TensorSpec("input_2", "float32", (1, 77, 16))
    output = TensorSpec("output_0", "float32", (1, 4, 8, 8))
    component = component_of(micro_condition_unet, [latent, TIMESTEP, context], [output])
    folded = lowered(component, "torchscript,onnx{opset=13},fold").payload
    arrays = noise(1, 4, 8, 8), np.array([17]), noise(1, 77, 16, seed=1)
    np.testing.assert_allclose(run(folded, *arrays)[0], eager(micro_condition_unet, *arrays), atol=5e-6)
    merged = [
        node.name for node in folded.graph if node.op_type == "Split" and "attn2.to_k+to_v" in node.name
    ]
    assert merged


REFUSED = {
    "torchscript,onnx{opset=21}": "from torchscript form the exporter writes opset 9 to 20, not 21",
    "onnx{opset=13}": "from torch form the exporter writes opset 18 to 23, not 13; from torchscript 9 to 20",
}


@pytest.mark.parametrize(("text", "message"), REFUSED.items(), ids=REFUSED)
def test_an_opset_of_the_other_exporter_is_refused_before_any_work(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        checked_pipeline(text, load_target("cpu"))
    assert message in caught.value.message
    assert caught.value.message.splitlines()[-1].index("^") == 4 + text.index("onnx")


@pytest.mark.parametrize("opset", [8, 24])
def test_an_opset_of_no_exporter_is_refused_when_the_spec_is_read(opset: int) -> None:
    with pytest.raises(SpecError, match=f"opset={opset}: the exporters write opset 9 to 23"):
        parse_pass(f"onnx{{opset={opset}}}")


def test_what_the_exporter_cannot_write_is_an_error_and_prints_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    component = lowered(block(), "torchscript{fused=true}")
    capfd.readouterr()
    with pytest.raises(PassError, match="scaled_dot_product_attention' to ONNX opset version 13") as caught:
        lowered(component, "onnx{opset=13}")
    assert "newer opset, or leave fused=true out" in caught.value.fix
    assert capfd.readouterr() == ("", "")
    assert counts(lowered(component, "onnx{opset=14}").payload)["Softmax"] == 1
