"""The timestep's sine and cosine in fp16, for who drops `timestep` from what `fp16` keeps.

    angles = t * frequencies    fp32 -> fp16
    sin(angles), cos(angles)    fp16

Beyond 512 neighbouring fp16 numbers are half a radian apart, which is why the default keeps fp32.
diffusers' own `Timesteps` computes in fp32 whatever the network's dtype.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

_LONGEST_PERIOD = 10_000  # of diffusers' get_timestep_embedding


class HalfTimesteps(nn.Module):
    """Replaces `whole`, a diffusers `Timesteps`. Timesteps [batch] -> embedding float16 [batch, channels]."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.channels: int = whole.num_channels
        self.shift: float = whole.downscale_freq_shift
        self.cosine_first: bool = whole.flip_sin_to_cos
        self.scale: float = whole.scale

    def forward(self, timesteps: torch.Tensor) -> torch.Tensor:
        half = self.channels // 2
        exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) / (half - self.shift)
        frequencies = torch.exp(-math.log(_LONGEST_PERIOD) * exponents)
        angles = (self.scale * timesteps[:, None].float() * frequencies).to(torch.float16)
        waves = [angles.cos(), angles.sin()] if self.cosine_first else [angles.sin(), angles.cos()]
        return nn.functional.pad(torch.cat(waves, dim=-1), (0, self.channels % 2))
