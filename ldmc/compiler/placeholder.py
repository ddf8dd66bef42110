"""Placeholder weights: deterministic noise scaled as each layer's own initialisation scales it.

Each tensor comes from its own generator, seeded by the seed and the parameter's name, so it does
not matter which tensors are made, in which order, or on how many threads.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ldmc.ir import CHUNK_ELEMENTS


@dataclass(frozen=True)
class Init:
    """How a parameter is filled: uniform in [-bound, bound) around `center`; bound 0 is a constant."""

    shape: tuple[int, ...]
    bound: float
    center: float = 0.0


@dataclass(frozen=True)
class PlaceholderWeights:
    """Implements `ldmc.ir.WeightSource` with noise. `component` keeps equal names of two components apart."""

    seed: int
    component: str
    inits: Mapping[str, Init]

    def chunks(self, key: str) -> Iterator[Any]:
        """Parameter `key`, float32."""
        init = self.inits[key]
        digest = hashlib.sha256(f"{self.seed}/{self.component}/{key}".encode()).digest()
        generator = np.random.Generator(np.random.SFC64(int.from_bytes(digest[:16], "little")))
        left = math.prod(init.shape)
        while left > 0:
            count = min(left, CHUNK_ELEMENTS)
            left -= count
            if init.bound == 0.0:
                yield np.full(count, init.center, dtype=np.float32)
                continue
            values = generator.random(count, dtype=np.float32)
            values -= np.float32(0.5)
            values *= np.float32(2 * init.bound)
            values += np.float32(init.center)
            yield values


def layer_inits(module: Any) -> dict[str, Init]:
    """How each parameter of a torch module is initialised by its own layer.

    Convolutions and linear layers: torch's uniform of 1/sqrt(fan_in); norms: ones and zeros;
    embeddings: variance 1 in general, and 1/n for a codebook, as diffusers' VectorQuantizer does.
    """
    inits: dict[str, Init] = {}
    for path, layer in module.named_modules():
        prefix = f"{path}." if path else ""
        for name, parameter in layer.named_parameters(recurse=False):
            inits[prefix + name] = _init(layer, path, name, tuple(parameter.shape))
    return inits


def _init(layer: Any, path: str, name: str, shape: tuple[int, ...]) -> Init:
    kind = type(layer).__name__
    if kind in ("GroupNorm", "LayerNorm"):
        return Init(shape, bound=0.0, center=1.0 if name == "weight" else 0.0)
    if kind == "Embedding":
        return Init(shape, bound=1.0 / shape[0] if path.endswith("quantize.embedding") else 3.0**0.5)
    weight = tuple(layer.weight.shape) if hasattr(layer, "weight") else shape
    fan_in = int(np.prod(weight[1:])) if len(weight) > 1 else weight[0]
    return Init(shape, bound=fan_in**-0.5)
