"""What is handed from part to part of a cut component, from the names and types of what each part reads and gives.

    unet.0 => (a, b)     unet.1 (a) => (c)     unet.2 (b, c) => (output_0)
    after unet.0: a, b        after unet.1: b, c

Plain data: no ONNX here, so that a manifest can be asked, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ldmc.ir import TensorSpec


class Reading(Protocol):
    """A part: what it reads and what it gives, by name."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> Sequence[TensorSpec]: ...
    @property
    def outputs(self) -> Sequence[TensorSpec]: ...


@dataclass(frozen=True)
class Crossing:
    """One value that crosses a cut."""

    spec: TensorSpec

    @property
    def bytes(self) -> int:
        """Size of the dense tensor."""
        return math.prod(self.spec.shape) * np.dtype(self.spec.dtype).itemsize

    @property
    def module(self) -> str:
        """The module that gives it: `down_blocks.0.resnets.0` for `down_blocks.0.resnets.0/Add_2`."""
        return self.spec.name.rpartition("/")[0]

    def to_json(self) -> dict[str, Any]:
        """As written into reports."""
        return {**self.spec.to_json(), "module": self.module, "bytes": self.bytes}


def crossings(parts: Sequence[Reading]) -> list[tuple[Crossing, ...]]:
    """For each cut, the values that a part before it gives and a part after it reads, in the order they are given."""
    found = []
    for cut in range(1, len(parts)):
        later = {spec.name for part in parts[cut:] for spec in part.inputs}
        given = (spec for part in parts[:cut] for spec in part.outputs)
        found.append(tuple(Crossing(spec) for spec in given if spec.name in later))
    return found


def crossing_bytes(values: Sequence[Crossing]) -> int:
    """Bytes of all of them."""
    return sum(value.bytes for value in values)


@dataclass(frozen=True)
class _Entry:
    """A part of a manifest."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def crossing_bytes_of(parts: Sequence[Mapping[str, Any]]) -> list[int]:
    """Bytes that cross behind each part of a manifest's component; 0 behind the last."""
    entries = [_Entry(part["name"], _specs(part["inputs"]), _specs(part["outputs"])) for part in parts]
    return [*map(crossing_bytes, crossings(entries)), 0]


def _specs(records: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(record["name"], record["dtype"], tuple(record["shape"])) for record in records)
