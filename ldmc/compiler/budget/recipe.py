"""The reference project's own way to an engine, predicted: what was killed on its Nano, and what is built here instead.

    fp16, whole UNet: one ONNX, inline weights, trtexec     libraries + 10 x weights + ...    over
    fp32, the same                                                                            over by more
    fp16, whole pipeline in one engine                                                        over
    as planned here                                                                           fits

Multiples of the weights, each an upper bound (facts of TensorRT 8.2, from its source, documentation and posted logs):
the builder up to 5; parsing inline weights 3; trtexec 8.2.1 reads the engine back while parser, network and blob are
still alive, 2 more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ldmc.compiler.budget.fusion import written_timeline
from ldmc.compiler.budget.operators import weights_bytes
from ldmc.compiler.summary import GraphSummary
from ldmc.targets.builder_memory import WEIGHT_COPIES
from ldmc.targets.target import MIB, Target
from ldmc.targets.trtexec import reference_recipe

_INLINE_COPIES = 3
_READ_BACK_COPIES = 2
_READS_BACK = ("8.2",)  # releases whose trtexec does
_WORKSPACE_BYTES = 16 * MIB  # trtexec 8.2's default


@dataclass(frozen=True)
class Recipe:
    """One way to build an engine. over_bytes: by how much it is over the budget; 0 where it fits."""

    name: str
    peak_bytes: int
    over_bytes: int

    def to_json(self) -> dict[str, Any]:
        return {"recipe": self.name, "peak_bytes": self.peak_bytes, "over_bytes": self.over_bytes}


def reference_recipes(target: Target, components: Mapping[str, Sequence[GraphSummary]]) -> tuple[Recipe, ...]:
    """What the reference project tried, on `target`; () where that builds no engines with trtexec or has no budget."""
    if target.engine != "tensorrt" or target.memory is None or "unet" not in components:
        return ()
    unet, every = components["unet"], [graph for graphs in components.values() for graph in graphs]
    cases = (
        ("fp16, whole UNet", unet, 2),
        ("fp32, whole UNet", unet, 4),
        ("fp16, whole pipeline", every, 2),
        ("fp32, whole pipeline", every, 4),
    )
    return tuple(_recipe(name, graphs, size, target) for name, graphs, size in cases)


def multiples(target: Target) -> str:
    """What the rows are made of, and the command they are about, for people."""
    read_back = f", {_READ_BACK_COPIES} for trtexec reading the engine back" if _reads_back(target) else ""
    command = " ".join(reference_recipe(target.toolchain.get("tensorrt", target.operators), "unet"))
    return (
        f"{WEIGHT_COPIES} x weights for the builder, {_INLINE_COPIES} for parsing inline weights{read_back}; "
        f"the command: {command}"
    )


def _recipe(name: str, graphs: Sequence[GraphSummary], float_bytes: int, target: Target) -> Recipe:
    assert target.memory is not None
    copies = WEIGHT_COPIES + _INLINE_COPIES + (_READ_BACK_COPIES if _reads_back(target) else 0)
    weights = sum(weights_bytes(graph, float_bytes) for graph in graphs)
    activations = max(written_timeline(graph, float_bytes).peak_bytes for graph in graphs)
    peak_bytes = target.memory.libraries_bytes + copies * weights + activations + _WORKSPACE_BYTES
    return Recipe(name, peak_bytes, max(peak_bytes - target.memory.budget_bytes, 0))


def _reads_back(target: Target) -> bool:
    return target.toolchain.get("tensorrt", "").startswith(_READS_BACK)
