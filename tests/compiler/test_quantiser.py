"""Nearest codes: the same as diffusers chooses, in little memory, in PyTorch and exported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vq_model import VectorQuantizer
from torch import nn

from ldmc.compiler import quantiser
from ldmc.compiler.graph import summarise
from ldmc.compiler.quantiser import NearestCode
from ldmc.ir import Component, TensorSpec
from tests.passes.modules import component_of, counts, eager, lowered, noise, run

MIB = 2**20
SIZES = [(8192, 3), (256, 4), (64, 3), (7, 2), (1, 3)]


def reference(codes: int, width: int, spread: float) -> VectorQuantizer:
    torch.manual_seed(0)
    module = VectorQuantizer(codes, width, beta=0.25, legacy=False).eval()
    nn.init.normal_(module.embedding.weight, std=spread)
    return module


def positions(z: torch.Tensor) -> Any:
    """[batch, width, rows, columns] -> float64 [positions, width]."""
    return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1]).double().numpy()


def chosen_by(module: VectorQuantizer, z: torch.Tensor) -> torch.Tensor:
    """The codes that diffusers chooses; its output itself is z + (code - z), which rounds."""
    _, _, (_, _, indices) = module(z)
    batch, width, *space = z.shape
    return module.embedding(indices).view(batch, *space, width).permute(0, 3, 1, 2)


def assert_same_codes(z: torch.Tensor, actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Ties aside: where the codes differ, both are equally near in float64."""
    ours, theirs, latents = positions(actual), positions(expected), positions(z)
    differ = (ours != theirs).any(axis=1)
    assert differ.mean() < 0.01
    to_ours = np.square(latents[differ] - ours[differ]).sum(axis=1)
    to_theirs = np.square(latents[differ] - theirs[differ]).sum(axis=1)
    np.testing.assert_allclose(to_ours, to_theirs, rtol=1e-6)


@pytest.mark.parametrize(("codes", "width"), SIZES)
@pytest.mark.parametrize("spread", [1.0, 0.1, 1e-4])
def test_the_same_codes_as_diffusers_on_ten_thousand_latents(codes: int, width: int, spread: float) -> None:
    theirs = reference(codes, width, spread)
    ours = NearestCode(theirs.embedding)
    z = torch.randn(4, width, 50, 50, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert_same_codes(z, ours(z)[0], chosen_by(theirs, z))


@pytest.mark.parametrize("height", [1, 3, 64, 2499, 2500, 10**6])
def test_slices_of_any_height_give_the_same(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = reference(64, 3, 1.0)
    z = torch.randn(1, 3, 50, 50, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(quantiser, "SLICE_BYTES", height * 64 * 4)
    with torch.inference_mode():
        assert_same_codes(z, NearestCode(theirs.embedding)(z)[0], chosen_by(theirs, z))


def test_a_slice_is_never_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = reference(64, 3, 1.0)
    monkeypatch.setattr(quantiser, "SLICE_BYTES", 1)
    z = torch.randn(1, 3, 2, 2)
    with torch.inference_mode():
        assert torch.equal(NearestCode(theirs.embedding)(z)[0], chosen_by(theirs, z))


def test_codes_come_out_as_they_are_and_are_their_own_nearest() -> None:
    theirs = reference(64, 3, 1.0)
    ours = NearestCode(theirs.embedding)
    z = theirs.embedding.weight.detach().t().reshape(1, 3, 8, 8)
    with torch.inference_mode():
        assert torch.equal(ours(z)[0], z)
    assert dict(ours.named_parameters()).keys() == dict(theirs.named_parameters()).keys()


def test_a_latent_of_another_width_is_refused() -> None:
    with pytest.raises(RuntimeError), torch.inference_mode():
        NearestCode(nn.Embedding(64, 3))(torch.zeros(1, 4, 8, 8))


LATENT = TensorSpec("input_0", "float32", (1, 3, 64, 64))


def real_size() -> NearestCode:
    return NearestCode(nn.Embedding(8192, 3))


@pytest.fixture(scope="module")
def exported() -> Component:
    component = component_of(
        real_size, [LATENT], [TensorSpec("output_0", "float32", LATENT.shape)], "decoder"
    )
    return lowered(component, "onnx,fold")


def test_exported_at_the_real_size_it_needs_at_most_32_mib(exported: Component) -> None:
    stats = summarise(exported.payload).stats
    assert stats.peak_activation_bytes is not None
    assert 4 * MIB < stats.peak_activation_bytes <= 32 * MIB


def test_exported_the_table_is_one_constant(exported: Component) -> None:
    found = counts(exported.payload)
    assert found["ArgMax"] == found["MatMul"] == 8
    assert not {"ReduceSum", "Neg", "Expand", "TopK"} & found.keys()
    shapes = {
        tuple(value.const_value.shape.numpy()) for value in exported.payload.graph.initializers.values()
    }
    assert {(8192, 3), (4, 8192)} <= shapes


def test_exported_it_chooses_the_same_codes(exported: Component) -> None:
    z = noise(*LATENT.shape, seed=3)
    [actual] = run(exported.payload, z)
    np.testing.assert_array_equal(actual, eager(real_size, z))
