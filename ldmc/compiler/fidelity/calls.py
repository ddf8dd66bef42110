"""What a component is compared on: calls of the reference on the way from noise to a picture.

    noise --t=999--> latent --...--> latent --t=500--> ... --t=0--> latent --decoder--> picture
          call 1                           call 2             call 3        call 1

Latents of the loop, and not fresh noise at every timestep: late in the loop a UNet sees nearly clean latents, and the
decoder sees nothing else; of noise there they would make values that no picture ever has. The loop is diffusers' own
with the checkpoint's scheduler and the eager fp32 modules, from the noise of seed 0. A latent is rounded to what the
bundle takes before either side sees it, so that this is no error of the bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ldmc.compiler.fidelity.blocks import Recording, recorded
from ldmc.compiler.frontend import Opened
from ldmc.compiler.progress import Steps
from ldmc.ir import COMPONENTS, Component, Program
from ldmc.runtime.manifest import Manifest


@dataclass(frozen=True)
class Call:
    """One call of the reference.

    inputs: numpy arrays in the order and dtypes of the bundle's component. output: float32. recording: of its blocks.
    """

    inputs: tuple[Any, ...]
    output: Any
    recording: Recording

    def cast_to(self, component: Component) -> list[Any]:
        """The inputs in the dtypes that `component` takes at its stage."""
        pairs = zip(self.inputs, component.inputs, strict=True)
        return [np.ascontiguousarray(array, dtype=spec.dtype) for array, spec in pairs]


class Reference:
    """The checkpoint of a bundle in eager fp32, one component in memory at a time.

    Attributes: `compared`: the timesteps of the UNet's compared calls, once they were made.

    Args:
        steps: of the loop. timesteps: how many of its calls are compared: the first, the last, and between.
        folder: where the blocks' values go; None where they are not wanted.
    """

    def __init__(
        self, opened: Opened, program: Program, manifest: Manifest, steps: int, timesteps: int, folder: Path | None
    ) -> None:
        self.compared: tuple[int, ...] = ()
        self._opened = opened
        self._program = program
        self._manifest = manifest
        self._steps = steps
        self._folder = folder
        self._timesteps = timesteps

    def calls(self, wanted: Sequence[str], progress: Steps) -> Iterator[tuple[str, list[Call]]]:
        """Name and calls of each wanted component; its module is gone when they are given."""
        noise = np.random.RandomState(0).standard_normal(self._manifest.components["unet"].inputs[0].shape)
        with progress.stage("unet: PyTorch, eager fp32", self._steps) as advance:
            latent, calls = self._denoise(noise, advance)
        if "unet" in wanted:
            yield "unet", calls
        if "decoder" not in wanted:
            return
        with progress.stage("decoder: PyTorch, eager fp32", None):
            call = self._call("decoder", self._module("decoder"), self._inputs("decoder", latent, 0), 0)
        yield "decoder", [call]

    def _denoise(self, noise: Any, advance: Callable[[int], None]) -> tuple[Any, list[Call]]:
        """The loop; the last latent, and the calls that are compared."""
        import torch

        from ldmc.compiler.eager import denoise, eager_scheduler

        scheduler = eager_scheduler(self._opened.checkpoint)
        scheduler.set_timesteps(self._steps)
        kept = _spread(min(self._timesteps, self._steps), len(scheduler.timesteps))
        module = self._module("unet")
        made: list[tuple[int, Call | None]] = []

        def unet(latent: Any, t: Any) -> Any:
            number = len(made)
            inputs = self._inputs("unet", latent.numpy(), int(t))
            call = self._call("unet", module, inputs, number if number in kept else None)
            made.append((int(t), call if number in kept else None))
            advance(1)
            return torch.from_numpy(call.output)

        latent = denoise(scheduler, unet, torch.from_numpy(noise.astype(np.float32)), self._steps)
        calls = [(t, call) for t, call in made if call is not None]
        self.compared = tuple(t for t, _ in calls)
        return latent.numpy(), [call for _, call in calls]

    def _module(self, name: str) -> Any:
        from ldmc.compiler.eager import eager_component

        component = self._program.components[COMPONENTS.index(name)]
        return eager_component(self._opened.checkpoint, name, component.payload.weights)

    def _inputs(self, name: str, latent: Any, t: int) -> tuple[Any, ...]:
        """A latent and a timestep as the bundle's component takes them; any further input is noise."""
        first, *others = self._manifest.components[name].inputs
        inputs = [np.asarray(latent).astype(first.dtype).reshape(first.shape)]
        for seed, spec in enumerate(others, 1):
            whole = np.dtype(spec.dtype).kind in "iu"
            values = np.full(spec.shape, t) if whole else np.random.RandomState(seed).standard_normal(spec.shape)
            inputs.append(values.astype(spec.dtype))
        return tuple(inputs)

    def _call(self, name: str, module: Any, inputs: tuple[Any, ...], number: int | None) -> Call:
        """One call; what the blocks gave is kept for a call with a number."""
        import torch

        tensors = [torch.from_numpy(a.astype(np.float32) if a.dtype.kind == "f" else a) for a in inputs]

        def run() -> Any:
            with torch.inference_mode():
                return module(*tensors).numpy()

        if self._folder is None or number is None:
            return Call(inputs, run(), Recording())
        folder = self._folder / f"{name}-{number:03d}"
        folder.mkdir()
        output, recording = recorded(module.net, folder, run)
        return Call(inputs, output, recording)


def _spread(count: int, calls: int) -> set[int]:
    """`count` of so many calls: the first, the last, and between."""
    return {round(k * (calls - 1) / max(count - 1, 1)) for k in range(count)}
