"""The fp32 reference: the checkpoint by diffusers alone, its own classes, its own files, its own scheduler.

    noise --init_noise_sigma--> latent --[scale_model_input, unet, step] x n--> latent --decoder--> image

Nothing is shared with what is compiled: no scheduler section of a manifest, no sampler of the runtime, no scaling and
no quantiser of the compiler. The configuration files are read anew.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import nn

from ldmc.compiler.checkpoint import Checkpoint
from ldmc.ir import WeightSource


class EagerUnet(nn.Module):
    """diffusers' UNet: positional tensors in, one tensor out."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.net(*inputs, return_dict=False)[0]
        return output


class EagerDecoder(nn.Module):
    """diffusers' VAE: latent [N, C, h, w] as the UNet sees it -> image [N, 3, H, W], as diffusers' pipelines decode.

    config: the parsed config.json. A VQModel without `scaling_factor` does not scale its latents: the file is older
    than the key, whose default in diffusers is of another model.
    """

    def __init__(self, net: Any, config: dict[str, Any]) -> None:
        super().__init__()
        self.net = net
        unscaled = config["_class_name"] == "VQModel" and "scaling_factor" not in config
        self.divisor = 1.0 if unscaled else net.config.scaling_factor

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        mean, std = (getattr(self.net.config, key, None) for key in ("latents_mean", "latents_std"))
        if mean is not None and std is not None:
            latent = latent * torch.tensor(std).view(1, -1, 1, 1).to(latent)
            latent = latent / self.divisor + torch.tensor(mean).view(1, -1, 1, 1).to(latent)
        else:
            latent = latent / self.divisor + (getattr(self.net.config, "shift_factor", None) or 0.0)
        output: torch.Tensor = self.net.decode(latent, return_dict=False)[0]
        return output


def eager_component(checkpoint: Checkpoint, name: str, weights: WeightSource) -> nn.Module:
    """Component `name` in fp32 with its weights, read tensor by tensor; `net` is diffusers' own module."""
    config = _read(checkpoint.folder / ("unet" if name == "unet" else checkpoint.decoder_folder) / "config.json")
    with torch.device("meta"), _quiet():
        net = getattr(diffusers, config["_class_name"]).from_config(config)
    state = {key: _whole(weights, key, value.shape) for key, value in net.state_dict().items()}
    net.load_state_dict(state, assign=True)
    return (EagerUnet(net) if name == "unet" else EagerDecoder(net, config)).eval()


def eager_scheduler(checkpoint: Checkpoint) -> Any:
    """The checkpoint's scheduler: its own class of diffusers, from its own file."""
    config = _read(checkpoint.folder / "scheduler" / "scheduler_config.json")
    name = config.get("_class_name") or _read(checkpoint.folder / "model_index.json")["scheduler"][1]
    with _quiet():
        return getattr(diffusers, name).from_config(config)


def denoise(
    scheduler: Any,
    unet: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    noise: torch.Tensor,
    steps: int,
    on_call: Callable[[int, int], None] = lambda done, of: None,
) -> torch.Tensor:
    """diffusers' own loop of a pipeline: the latent that `steps` steps make of `noise`, N(0, 1) of [N, C, h, w].

    unet: called with a latent and a timestep (0-d). on_call: called as on_call(done, calls) after each call.
    """
    scheduler.set_timesteps(steps)
    sample: torch.Tensor = noise * scheduler.init_noise_sigma
    for done, t in enumerate(scheduler.timesteps, 1):
        output = unet(scheduler.scale_model_input(sample, t), t)
        sample = scheduler.step(output, t, sample).prev_sample
        on_call(done, len(scheduler.timesteps))
    return sample


def _read(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def _whole(weights: WeightSource, key: str, shape: torch.Size) -> torch.Tensor:
    """Parameter `key` in fp32, in memory of its own: kernels round differently where a tensor lies unaligned."""
    pieces = [torch.from_numpy(chunk).float() for chunk in weights.chunks(key)]
    whole: torch.Tensor = torch.cat(pieces).reshape(shape)
    return whole


@contextmanager
def _quiet() -> Iterator[None]:
    """diffusers warns of the keys that a class does not read; `config_keys` and `scheduler` have decided on each."""
    logger = logging.getLogger("diffusers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
