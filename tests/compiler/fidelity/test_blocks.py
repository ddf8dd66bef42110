"""Which modules are blocks, and what is recorded of them while the network runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel, VQModel
from torch import nn

from ldmc.compiler.fidelity.blocks import blocks_of, recorded


def test_levels_and_blocks_of_a_unet(tiny_model: Path) -> None:
    paths = list(blocks_of(UNet2DModel.from_pretrained(tiny_model / "unet")))
    assert {"conv_in", "time_embedding", "conv_norm_out", "conv_out", "down_blocks.0", "mid_block"} <= set(paths)
    assert {"down_blocks.1.attentions.0", "mid_block.resnets.1", "up_blocks.0.upsamplers.0"} <= set(paths)
    assert not [path for path in paths if path.endswith(("conv1", "to_q", "linear_1"))]


def test_values_are_what_the_modules_gave_in_the_order_they_ran(tiny_model: Path, tmp_path: Path) -> None:
    vqvae = VQModel.from_pretrained(tiny_model / "vqvae").eval()
    seen: dict[str, Any] = {}
    vqvae.decoder.mid_block.register_forward_hook(lambda *call: seen.update(mid=call[2].numpy()))
    vqvae.quantize.register_forward_hook(lambda *call: seen.update(quantize=call[2][0].numpy()))
    latent = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        picture, recording = recorded(vqvae, tmp_path, lambda: vqvae.decode(latent).sample.numpy())
    assert recording.entered[:5] == [
        "quantize", "post_quant_conv", "decoder", "decoder.conv_in", "decoder.mid_block",
    ]  # fmt: skip
    assert not [path for path in recording.entered if path.startswith("encoder")]
    np.testing.assert_array_equal(np.load(recording.files["decoder.mid_block"]), seen["mid"])
    np.testing.assert_array_equal(np.load(recording.files["quantize"]), seen["quantize"])
    np.testing.assert_array_equal(np.load(recording.files["decoder.conv_out"]), picture)
    recording.drop()
    assert not list(tmp_path.iterdir())


class Twice(nn.Module):
    """Calls one module twice, another once and changes what that gave in place, and a third that gives no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.Linear(2, 2)
        self.once = nn.Linear(2, 2)
        self.nothing = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value = self.once(self.pair(self.pair(x)))
        value += 1
        self.nothing(None)
        return value


def test_what_runs_twice_is_told_and_hooks_do_not_stay(tmp_path: Path) -> None:
    net = Twice()
    with torch.inference_mode():
        output, recording = recorded(net, tmp_path, lambda: net(torch.ones(1, 2)))
    assert recording.twice == {"pair"}
    assert recording.entered == ["pair", "once", "nothing"] and "nothing" not in recording.files
    np.testing.assert_allclose(np.load(recording.files["once"]) + 1, output.numpy())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_hooks_do_not_stay_where_a_call_fails(tmp_path: Path) -> None:
    net = Twice()
    with pytest.raises(RuntimeError):
        recorded(net, tmp_path, lambda: net(torch.ones(1, 3)))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
