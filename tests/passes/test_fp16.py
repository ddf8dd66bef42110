"""Half precision, and the islands that stay fp32: which they are, and that they really are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.embeddings import Timesteps
from torch import nn

from ldmc.compiler.quantiser import NearestCode
from ldmc.errors import PassError, UsageError
from ldmc.ir import Component, TensorSpec
from ldmc.passes.attention import Fp32SoftmaxAttention
from ldmc.passes.base import Context
from ldmc.passes.fp16 import Fp16
from ldmc.passes.timesteps import HalfTimesteps
from tests.passes.modules import (
    LATENT,
    NOISE,
    TIMESTEP,
    block,
    component_of,
    counts,
    lowered,
    micro_unet,
    noise,
    run,
    run_exactly,
    target,
)

HALF, WHOLE = ir.DataType.FLOAT16, ir.DataType.FLOAT
VECTOR_IN, VECTOR_OUT = TensorSpec("input_0", "float32", (1, 4)), TensorSpec("output_0", "float32", (1, 4))


def halved(component: Component, *keep: str) -> tuple[Component, list[str]]:
    """The component after fp16, and what the pass remarked."""
    remarks: list[str] = []
    return Fp16(keep=keep).run(component, Context(target(), remarks.append)), remarks


def whole(component: Component) -> set[str]:
    """Modules that have parameters in fp32."""
    net = component.payload.module.net
    return {
        path
        for path, m in net.named_modules()
        for p in m.parameters(recurse=False)
        if p.dtype == torch.float32
    }


def norms(component: Component) -> set[str]:
    return {path for path, m in component.payload.module.net.named_modules() if isinstance(m, nn.GroupNorm)}


# ---- which modules stay fp32


def test_weights_and_io_are_halved_and_integers_stay() -> None:
    after, _ = halved(block(), "none")
    assert not whole(after)
    assert [str(spec.dtype) for spec in after.inputs] == ["float16", "int64"]
    assert [str(spec.dtype) for spec in after.outputs] == ["float16"]
    assert [spec.shape for spec in after.inputs] == [(1, 3, 8, 8), (1,)]


def test_the_component_it_is_given_is_not_changed() -> None:
    before = block()
    parameters = dict(before.payload.module.named_parameters())
    halved(before, "norm", "softmax", "timestep", "unet/resnet")
    module = before.payload.module
    assert all(p.dtype == torch.float32 and p is parameters[name] for name, p in module.named_parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert isinstance(module.net.attn.processor, AttnProcessor2_0)


def test_norms_are_kept() -> None:
    after, remarks = halved(block(), "norm")
    assert whole(after) == norms(after) == {"resnet.norm1", "resnet.norm2", "attn.group_norm"}
    assert remarks == ["3 fp32 islands: norm"]


def test_the_quantiser_is_kept() -> None:
    component = component_of(
        lambda: nn.Sequential(NearestCode(nn.Embedding(8, 3))), [LATENT], [NOISE], "decoder"
    )
    assert whole(halved(component, "quantiser")[0]) == {"0.embedding"}
    assert not whole(halved(component, "norm")[0])


def test_without_keep_the_target_decides() -> None:
    after = Fp16().run(block(), Context(target("norm")))
    assert whole(after) == norms(after)
    assert not whole(Fp16(keep=("none",)).run(block(), Context(target("norm"))))


def test_a_module_path_is_kept_with_all_that_is_in_it() -> None:
    after, remarks = halved(block(), "unet/resnet", "unet/time_embedding.linear_1")
    inside = {f"resnet.{name}" for name in ("norm1", "conv1", "time_emb_proj", "norm2", "conv2")}
    assert whole(after) == inside | {"time_embedding.linear_1"}
    assert remarks == ["2 fp32 islands: unet/resnet, unet/time_embedding.linear_1"]


def test_an_island_in_an_island_is_one() -> None:
    _, remarks = halved(block(), "unet/resnet", "unet/resnet.conv1", "norm")
    assert remarks[0].startswith("2 fp32 islands")  # the resnet, and the attention's norm


def test_a_list_of_modules_stands_for_its_modules() -> None:
    after, _ = halved(component_of(micro_unet, [LATENT, TIMESTEP], [NOISE]), "unet/up_blocks")
    kept = whole(after)
    assert kept and all(path.startswith("up_blocks.0.") for path in kept)
    parameters = after.payload.module.net.up_blocks.named_parameters()
    assert all(p.dtype == torch.float32 for _, p in parameters)


def test_a_path_of_the_other_component_is_left_to_it() -> None:
    assert not whole(halved(block(), "decoder/no.such.module")[0])


@pytest.mark.parametrize(
    ("path", "suggestion"),
    [("resnet.convl", "unet/resnet.conv"), ("mid_block", None), ("attn.to_g", "unet/attn.to_")],
)
def test_an_unknown_path_suggests_the_nearest(path: str, suggestion: str | None) -> None:
    with pytest.raises(UsageError, match=f"keep=unet/{path}: unet has no module '{path}'") as caught:
        halved(block(), f"unet/{path}")
    assert ("did you mean" in caught.value.fix) == (suggestion is not None)
    assert (suggestion or "") in caught.value.fix


@pytest.mark.parametrize(
    "item", ["norms", "", "unet", "unet/", "unett/mid_block", "encoder/conv_in", "/conv_in"]
)
def test_an_unknown_kind_or_component_is_refused_when_the_spec_is_read(item: str) -> None:
    with pytest.raises(
        ValueError, match="expected none, one of norm, softmax, quantiser, timestep, or COMPONENT"
    ):
        Fp16(keep=("norm", item))


# ---- what the graph computes in which dtype


def nodes_in(dtype: ir.DataType, model: ir.Model) -> list[str]:
    """Names of the nodes that compute in `dtype`, casts aside."""
    return [
        node.name or ""
        for node in model.graph
        if node.op_type != "Cast" and any(value.dtype == dtype for value in node.outputs)
    ]


def test_on_the_tiny_model_only_islands_compute_in_fp32(tiny_stages: dict[str, list[Component]]) -> None:
    for name, islands in (("unet", ("norm", "time_proj")), ("decoder", ("norm", "quantize"))):
        folded = tiny_stages[name][-1]
        wide = nodes_in(WHOLE, folded.payload)
        assert wide and all(any(island in node for island in islands) for node in wide)
        assert len(nodes_in(HALF, folded.payload)) > 30
        weights = {key: value.dtype for key, value in folded.payload.graph.initializers.items()}
        convolutions = [dtype for key, dtype in weights.items() if "conv" in key and "norm" not in key]
        assert convolutions and set(convolutions) == {HALF}


def test_on_the_tiny_model_only_the_edges_of_islands_cast(tiny_stages: dict[str, list[Component]]) -> None:
    graph = tiny_stages["decoder"][-1].payload.graph
    casts = [node.name for node in graph if node.op_type == "Cast"]
    islands = {name.rpartition("/")[0] for name in casts}
    assert all("norm" in path or path == "quantize" for path in islands)
    assert len(casts) == 2 * len(islands)


@pytest.fixture(scope="module")
def kept() -> Callable[[str], ir.Model]:
    """`Block` lowered with only one kind kept."""
    kinds = ("none", "timestep", "softmax")
    graphs = {kind: lowered(block(), f"fp16{{keep={kind}}},onnx,fold").payload for kind in kinds}
    return lambda kind: graphs[kind]


def test_keeping_nothing_leaves_no_fp32(kept: Callable[[str], ir.Model]) -> None:
    wide = nodes_in(WHOLE, kept("none"))
    assert all(name.startswith("time_proj/") for name in wide)  # the angles, before they are rounded
    assert not {"Sin", "Cos", "Concat"} & {name.rpartition("/")[2].partition("_")[0] for name in wide}


def dtype_of(model: ir.Model, op: str) -> ir.DataType:
    [node] = [node for node in model.graph if node.op_type == op]
    dtype = node.inputs[0].dtype
    assert dtype is not None
    return dtype


def test_a_kept_timestep_has_its_sine_in_fp32_and_only_then(kept: Callable[[str], ir.Model]) -> None:
    assert dtype_of(kept("timestep"), "Sin") == dtype_of(kept("timestep"), "Cos") == WHOLE
    assert dtype_of(kept("none"), "Sin") == dtype_of(kept("none"), "Cos") == HALF


def test_a_kept_softmax_is_in_fp32_and_only_then(kept: Callable[[str], ir.Model]) -> None:
    assert dtype_of(kept("softmax"), "Softmax") == WHOLE
    assert dtype_of(kept("none"), "Softmax") == HALF


def test_dropping_the_timestep_changes_what_is_computed() -> None:
    """At t = 0 all angles are zero; at t = 999 those of fp16 are up to a quarter radian off."""
    embedding = TensorSpec("output_0", "float32", (1, 64))
    component = component_of(
        lambda: nn.Sequential(Timesteps(64, True, 0)), [replace(TIMESTEP, name="input_0")], [embedding]
    )
    kept, dropped = (
        lowered(component, f"fp16{{keep={kind}}},onnx,fold").payload for kind in ("timestep", "none")
    )
    start, late = np.array([0]), np.array([999])
    np.testing.assert_array_equal(run_exactly(kept, start)[0], run_exactly(dropped, start)[0])
    exact = Timesteps(64, True, 0)(torch.tensor([999])).numpy()
    np.testing.assert_allclose(run_exactly(kept, late)[0], exact, atol=5e-4)
    assert np.abs(run_exactly(dropped, late)[0] - exact).max() > 0.01


def test_fp16_agrees_with_fp32(exported: Callable[[int], Component]) -> None:
    latent, t = noise(1, 3, 8, 8), np.array([321])
    [expected] = run(exported(18).payload, latent, t)
    [actual] = run(lowered(block(), "fp16,onnx").payload, latent.astype("float16"), t)
    assert actual.dtype == np.float16
    error = np.square(actual.astype("float64") - expected).sum()
    assert 10 * np.log10(np.square(expected).sum() / error) > 50


def test_all_in_one_island_is_fp32_between_casts() -> None:
    """The no-op: nothing but the casts at the edges is added."""
    component = component_of(lambda: nn.Sequential(nn.Linear(4, 4), nn.SiLU()), [VECTOR_IN], [VECTOR_OUT])
    plain = lowered(component, "onnx,fold").payload
    kept = lowered(component, "fp16{keep=unet/0},onnx,fold").payload
    added = {
        op: n - counts(plain).get(op, 0) for op, n in counts(kept).items() if n != counts(plain).get(op, 0)
    }
    assert added == {"Cast": 2}
    x = noise(1, 4)
    [expected], [actual] = run(plain, x), run(kept, x.astype("float16"))
    np.testing.assert_allclose(actual, expected, rtol=2e-3, atol=1e-4)


# ---- beyond 65504


class Hot(nn.Module):
    """`inner` multiplies by 1000 and divides by 1000: finite at both ends, 300000 between."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
        nn.init.eye_(self.inner[0].weight).mul_(1000.0)
        nn.init.eye_(self.inner[1].weight).mul_(0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.inner(x)
        return output


def hot() -> nn.Module:
    with torch.no_grad():
        return Hot()


HOT = np.array([[300.0, -300.0, 1.0, 0.0]], dtype="float16")


def through_hot(*keep: str) -> Any:
    component = component_of(hot, [VECTOR_IN], [VECTOR_OUT])
    [value] = run_exactly(lowered(component, f"fp16{{keep=[{','.join(keep)}]}},onnx").payload, HOT)
    return value


def test_a_large_value_survives_inside_an_island() -> None:
    np.testing.assert_allclose(through_hot("unet/inner").astype("float64"), HOT, rtol=2e-3)


@pytest.mark.parametrize("keep", ["none", "unet/inner.0", "unet/inner.1"])
def test_a_large_value_does_not_survive_outside_or_at_the_edge(keep: str) -> None:
    """The first island's output is cast down where it leaves; the second's input is fp16 before it enters."""
    assert not np.isfinite(through_hot(keep)[0, :2]).all()


def test_a_weight_beyond_fp16_is_an_error_that_names_what_to_keep() -> None:
    def huge() -> nn.Module:
        module = nn.Sequential(nn.Linear(4, 4))
        nn.init.constant_(module[0].weight, 1e6)
        return module

    component = component_of(huge, [VECTOR_IN], [VECTOR_OUT])
    with pytest.raises(PassError) as caught:
        lowered(component, "fp16,onnx").payload.graph.initializers["0.weight"].const_value.numpy()
    assert caught.value.message == "unet: 0.weight holds 1e+06, more than float16 can represent"
    assert "unet/0]" in caught.value.fix
    kept = lowered(component, "fp16{keep=[norm,quantiser,timestep,unet/0]},onnx").payload
    assert kept.graph.initializers["0.weight"].const_value.numpy().max() == 1e6


# ---- softmax in fp32


def attention(**options: Any) -> Attention:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {"query_dim": 16, "heads": 4, "dim_head": 4, "bias": True}
    return Attention(**{**defaults, **options}).eval()


SELF = {
    "tokens": ({}, (2, 10, 16)),
    "image": (
        {"norm_num_groups": 4, "residual_connection": True, "rescale_output_factor": 1.5},
        (2, 16, 3, 5),
    ),
    "without bias": ({"bias": False, "out_bias": False}, (1, 10, 16)),
    "one head": ({"heads": 1, "dim_head": 16}, (1, 10, 16)),
}


@pytest.mark.parametrize("case", SELF)
def test_kept_softmax_is_diffusers_self_attention(case: str) -> None:
    options, shape = SELF[case]
    module, x = attention(**options), torch.randn(*shape)
    with torch.inference_mode():
        expected = module(x)
        module.set_processor(Fp32SoftmaxAttention())
        actual = module(x)
    assert expected.shape == actual.shape == x.shape
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_kept_softmax_is_diffusers_cross_attention(scale: float) -> None:
    module, x, text = attention(cross_attention_dim=12), torch.randn(2, 10, 16), scale * torch.randn(2, 7, 12)
    with torch.inference_mode():
        expected = module(x, encoder_hidden_states=text)
        module.set_processor(Fp32SoftmaxAttention())
        actual = module(x, encoder_hidden_states=text)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6 * scale)


def test_kept_softmax_in_fp16_is_nearer_to_fp32_than_its_scores_are() -> None:
    """Scores of about 60 are 0.03 apart in fp16; a softmax in fp32 loses no more than that."""
    module, x = attention(), torch.randn(1, 10, 16)
    module.set_processor(Fp32SoftmaxAttention())
    with torch.inference_mode():
        expected = module(x)
        actual = module.half()(x.half())
    assert actual.dtype == torch.float16
    torch.testing.assert_close(actual.float(), expected, rtol=5e-3, atol=5e-3)


def test_kept_softmax_gives_diffusers_nothing_to_complain_about(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("diffusers")
    propagated, logger.propagate = logger.propagate, True
    try:
        module = attention()
        module.set_processor(Fp32SoftmaxAttention())
        with torch.inference_mode():
            module(torch.randn(1, 10, 16), temb=torch.zeros(1, 4))
    finally:
        logger.propagate = propagated
    assert not caplog.records


def test_kept_softmax_refuses_a_mask() -> None:
    module = attention()
    module.set_processor(Fp32SoftmaxAttention())
    with pytest.raises(PassError, match="mask"):
        module(torch.randn(1, 10, 16), attention_mask=torch.ones(1, 10))


def test_softmax_of_another_kind_of_attention_cannot_be_kept() -> None:
    def normed() -> nn.Module:
        return nn.Sequential(attention(qk_norm="layer_norm"))

    tokens = TensorSpec("input_0", "float32", (1, 10, 16))
    component = component_of(normed, [tokens], [tokens])
    with pytest.raises(
        PassError, match="0: its kind of attention .AttnProcessor2_0. cannot keep its softmax"
    ):
        halved(component, "softmax")


# ---- sine and cosine in fp16


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("channels", [16, 17])
@pytest.mark.parametrize("shift", [0, 1])
def test_half_timesteps_are_diffusers_timesteps_rounded(flip: bool, channels: int, shift: int) -> None:
    module = Timesteps(channels, flip, shift)
    small, large = torch.tensor([0, 1, 3]), torch.tensor([999])
    half = HalfTimesteps(module)
    assert half(small).dtype == torch.float16
    torch.testing.assert_close(half(small).float(), module(small), rtol=2e-3, atol=2e-3)
    assert (half(large).float() - module(large)).abs().max() > 1e-2
