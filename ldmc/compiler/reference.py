"""What a device checks its engines against: inputs, and what plain PyTorch in fp32 makes of them.

    reference/unet.npz      in_0 [2, 1, 3, 64, 64], in_1 [2, 1], out_0 [2, 1, 3, 64, 64]     two calls
    reference/decoder.npz   in_0 [1, 1, 3, 64, 64], out_0 [1, 1, 3, 256, 256]                one call

Inputs are in the component's own dtypes, outputs in float32. The same seed gives the same file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ldmc.compiler.frontend import Opened
from ldmc.ir import Component, Network

# Timesteps of the UNet's calls, as fractions of the schedule: pure noise, and half way.
_FRACTIONS = (1.0, 0.5)


def save_reference(opened: Opened, component: Component, network: Network, last_timestep: int, file: Path) -> None:
    """Write the reference of one component.

    component: as it will run, for the dtypes and shapes of its inputs. network: as it was before any pass.
    Holds the component's weights in memory in fp32 meanwhile.
    """
    import torch

    from ldmc.compiler.eager import eager_component

    calls = [_inputs(component, round(fraction * last_timestep), k) for k, fraction in enumerate(_FRACTIONS)]
    calls = calls if len(component.inputs) > 1 else calls[:1]
    module = eager_component(opened.checkpoint, component.name, network.weights)
    with torch.inference_mode():
        outputs = [module(*(_tensor(array) for array in call)).numpy() for call in calls]
    arrays: dict[str, Any] = {f"in_{k}": np.stack(values) for k, values in enumerate(zip(*calls, strict=True))}
    arrays["out_0"] = np.stack(outputs).astype(np.float32)
    with file.open("wb") as stream:
        np.savez(stream, **arrays)


def _inputs(component: Component, timestep: int, seed: int) -> list[Any]:
    """Gaussian noise for floating-point inputs, the timestep for the others."""
    noise = np.random.RandomState(seed)
    return [
        noise.standard_normal(spec.shape).astype(spec.dtype)
        if spec.dtype.startswith("float")
        else np.full(spec.shape, timestep, spec.dtype)
        for spec in component.inputs
    ]


def _tensor(array: Any) -> Any:
    """As the reference takes it: its floats are fp32."""
    import torch

    return torch.from_numpy(array.astype(np.float32) if array.dtype.kind == "f" else array)
