"""PyTorch as diffusers runs it, or traced: what every other level is compared with.

The networks, the scheduler and the quantiser are diffusers' own; nothing of the compiler or the runtime computes here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from ldmc.compiler.eager import EagerUnet, denoise, eager_component, eager_scheduler
from ldmc.compiler.original import open_original


class TorchSubject:
    """Both networks in PyTorch, as `worker.Subject`.

    source: the manifest's section of that name, with the model's place. half: weights and inputs in fp16.
    trace: by torch.jit.trace. batch: pictures of a drawing. device: as PyTorch calls it.
    """

    def __init__(
        self, source: dict[str, Any], half: bool, trace: bool, batch: int, threads: int | None, device: str
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.remarks: list[str] = []
        self._device = torch.device(device)
        self._batch = batch
        self._dtype = torch.float16 if half else torch.float32
        opened, program = open_original(source, source.get("place"))
        self._scheduler = eager_scheduler(opened.checkpoint)
        networks = []
        for component in program.components:
            module = eager_component(opened.checkpoint, component.name, component.payload.weights)
            if half:
                module.half()
                self._keep_quantiser(module)
            networks.append(module.to(self._device))
        self._latent_shape = program.components[0].inputs[0].shape[1:]
        modules: list[Any] = [self._traced(network) for network in networks] if trace else networks
        self._unet, self._decoder = modules

    def draw(
        self, seed: int, steps: int, batch: int, on_step: Callable[[int, int], None]
    ) -> tuple[Any, dict[str, float]]:
        """See `worker.Subject`. The same noise as the runtime's."""
        noise = np.stack([np.random.RandomState(seed + k).standard_normal(self._latent_shape) for k in range(batch)])
        start = self._now()
        with torch.inference_mode():
            latent = torch.from_numpy(noise.astype(np.float32)).to(self._device, self._dtype)
            sample = denoise(self._scheduler, self._call, latent, steps, on_step)
            denoised = self._now()
            images = _pixels(self._decoder(sample))
        end = self._now()
        seconds = {"denoise_seconds": denoised - start, "decode_seconds": end - denoised, "total_seconds": end - start}
        return (images[0] if batch == 1 else images), seconds

    def _call(self, latent: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        timestep = torch.full((self._batch,), int(t), dtype=torch.int64, device=self._device)
        output: torch.Tensor = self._unet(latent.to(self._dtype), timestep)
        return output

    def _now(self) -> float:
        """The time, once all that was asked of the GPU is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def _traced(self, module: nn.Module) -> Any:
        """At the batch that is drawn: diffusers' attention writes it into a trace."""
        inputs: tuple[Any, ...] = (
            torch.zeros((self._batch, *self._latent_shape), dtype=self._dtype, device=self._device),
        )
        if isinstance(module, EagerUnet):
            inputs += (torch.zeros(self._batch, dtype=torch.int64, device=self._device),)
        with torch.inference_mode():
            return torch.jit.trace(module, inputs, check_trace=False)

    def _keep_quantiser(self, module: nn.Module) -> None:
        """PyTorch has no cdist in half precision on a CPU: there the search for the nearest code stays in fp32."""
        quantiser = getattr(getattr(module, "net", None), "quantize", None)
        if quantiser is None or self._device.type != "cpu":
            return
        quantiser.float()
        quantiser.register_forward_pre_hook(lambda _module, args: tuple(a.float() for a in args))
        quantiser.register_forward_hook(lambda _module, _args, output: (output[0].half(), *output[1:]))
        self.remarks.append("the quantiser is in fp32: PyTorch has no cdist in fp16 on a CPU")


def _pixels(images: torch.Tensor) -> Any:
    """[N, 3, H, W] in -1..1 -> uint8 [N, H, W, 3]; one channel becomes grey."""
    pixels = ((images.float() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return np.ascontiguousarray(pixels if pixels.shape[3] == 3 else np.repeat(pixels, 3, axis=3))
