"""Placeholder weights: always the same noise, tensor by tensor, and scaled as the layers themselves would scale it."""

from __future__ import annotations

import hashlib
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel, VQModel
from torch import nn

from ldmc.compiler import placeholder
from ldmc.compiler.frontend import ModelRequest, open_model, read_program
from ldmc.compiler.placeholder import Init, PlaceholderWeights, layer_inits
from tests import checkpoints
from tests.checkpoints import whole

INITS = {
    "conv.weight": Init((8, 4, 3, 3), 0.2),
    "conv.bias": Init((8,), 0.2),
    "norm.weight": Init((8,), 0.0, center=1.0),
    "norm.bias": Init((8,), 0.0),
}


def weights(seed: int = 0, component: str = "unet") -> PlaceholderWeights:
    return PlaceholderWeights(seed, component, INITS)


def test_the_same_seed_gives_the_same_tensors_in_any_order_and_on_any_thread() -> None:
    first = {key: whole(weights(), key) for key in INITS}
    source = weights()
    backwards = {key: whole(source, key) for key in reversed(INITS)}
    whole(source, "conv.weight")
    with ThreadPoolExecutor(4) as pool:
        threaded = dict(zip(INITS, pool.map(lambda key: whole(source, key), INITS), strict=True))
    for key in INITS:
        assert first[key].dtype == np.float32
        assert first[key].size == math.prod(INITS[key].shape)
        np.testing.assert_array_equal(first[key], backwards[key])
        np.testing.assert_array_equal(first[key], threaded[key])


def test_the_numbers_never_change() -> None:
    """Bundles of one seed must stay equal from release to release and machine to machine."""
    digest = hashlib.sha256(whole(weights(7), "conv.weight").tobytes()).hexdigest()
    assert digest == "1f408c03926ec9cd852bfb68715629810471efc75206cb63cb1768a477480a6f"


def test_seeds_components_and_names_all_tell_tensors_apart() -> None:
    base = whole(weights(), "conv.weight")
    others = [whole(weights(1), "conv.weight"), whole(weights(0, "decoder"), "conv.weight")]
    renamed = whole(PlaceholderWeights(0, "unet", {"conv2.weight": INITS["conv.weight"]}), "conv2.weight")
    for other in [*others, renamed]:
        assert not np.array_equal(base, other)
        assert abs(np.corrcoef(base.ravel(), other.ravel())[0, 1]) < 0.2


def test_the_size_of_the_pieces_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = whole(weights(), "conv.weight")
    monkeypatch.setattr(placeholder, "CHUNK_ELEMENTS", 37)
    pieces = list(weights().chunks("conv.weight"))
    assert [len(piece) for piece in pieces] == [37] * 7 + [29]
    np.testing.assert_array_equal(np.concatenate(pieces), expected)


def test_a_tensor_does_not_depend_on_which_others_there_are() -> None:
    alone = PlaceholderWeights(0, "unet", {"conv.bias": INITS["conv.bias"]})
    np.testing.assert_array_equal(whole(alone, "conv.bias"), whole(weights(), "conv.bias"))


def test_bounds_and_constants() -> None:
    values = whole(weights(), "conv.weight")
    assert -0.2 <= values.min() < -0.19
    assert 0.19 < values.max() <= 0.2
    assert (whole(weights(), "norm.weight") == 1).all()
    assert (whole(weights(), "norm.bias") == 0).all()


LAYERS = {
    "conv": lambda: nn.Conv2d(48, 96, 3),
    "conv 1x1": lambda: nn.Conv2d(128, 96, 1),
    "linear": lambda: nn.Linear(320, 256),
    "group norm": lambda: nn.GroupNorm(8, 64),
    "layer norm": lambda: nn.LayerNorm(64),
    "embedding": lambda: nn.Embedding(1000, 64),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_scaled_like_the_layers_own_initialisation(make) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    layer = make()
    source = PlaceholderWeights(0, "unet", layer_inits(layer))
    for key, real in layer.state_dict().items():
        ours = whole(source, key)
        assert ours.size == real.numel()
        assert ours.mean() == pytest.approx(real.mean().item(), abs=0.15 * max(real.std().item(), 0.01))
        assert ours.std() == pytest.approx(real.std(correction=0).item(), rel=0.15)


def test_every_tensor_of_real_networks_is_scaled_like_diffusers_scales_it() -> None:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, attention_head_dim=32,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    decoder = VQModel(block_out_channels=(32,), num_vq_embeddings=512, norm_num_groups=32)
    for name, net in (("unet", unet), ("decoder", decoder)):
        inits = layer_inits(net)
        state = net.state_dict()
        assert inits.keys() == state.keys()
        source = PlaceholderWeights(0, name, inits)
        for key, real in state.items():
            if real.numel() < 500:
                continue
            assert whole(source, key).std() == pytest.approx(real.std().item(), rel=0.15), key


def test_a_build_says_that_it_has_placeholder_weights(tiny_model: Path, tmp_path: Path) -> None:
    """With and without weight files beside the configuration; the networks' parameters are all there."""
    bare = checkpoints.copy_model(tiny_model, tmp_path / "tiny-ldm")
    for component in checkpoints.COMPONENTS:
        checkpoints.drop_weights(bare / component)
    sources = []
    for folder in (tiny_model, bare):
        request = ModelRequest(str(folder), random_seed=3)
        program = read_program(open_model(request, pytest.fail), request)
        assert program.source["weights"] == {"kind": "placeholder", "seed": 3, "files": []}
        sources.append({component.name: component.payload.weights for component in program.components})
    for name in ("unet", "decoder"):
        assert sources[0][name] == sources[1][name]
        assert sources[0][name].seed == 3
    json.dumps(program.source)


def test_equal_names_of_two_components_have_different_noise(tiny_model: Path) -> None:
    request = ModelRequest(str(tiny_model), random_seed=0)
    unet, decoder = read_program(open_model(request, pytest.fail), request).components
    assert (unet.payload.weights.component, decoder.payload.weights.component) == ("unet", "decoder")
