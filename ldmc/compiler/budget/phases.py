"""What a phase of the work takes: the four kinds of memory, the operator at its peak, and what the figures rest on.

run        libraries 801 + weights 523 + activations 38 + workspace 0 = 1362 MiB, at up_blocks.3.resnets.0.norm1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Basis = Literal["measured", "computed", "documented multiple"]


@dataclass(frozen=True)
class Phase:
    """Memory of one phase, in bytes.

    peak_node: the operator that runs at the peak; empty where no operator does.
    owner: the component or part it is the peak of.
    basis: whether the engine's own memory was measured, computed from its rules, or is an upper bound from multiples
        that its documentation and users report. source: one sentence on that.
    """

    libraries_bytes: int = 0
    weights_bytes: int = 0
    activations_bytes: int = 0
    workspace_bytes: int = 0
    peak_node: str = ""
    owner: str = ""
    basis: Basis = "computed"
    source: str = ""

    @property
    def peak_bytes(self) -> int:
        return self.libraries_bytes + self.weights_bytes + self.activations_bytes + self.workspace_bytes

    def to_json(self) -> dict[str, Any]:
        """One of `build_host`, `build_device`, `run` of a plan."""
        return {
            "peak_bytes": self.peak_bytes,
            "parts": {
                "libraries": self.libraries_bytes,
                "weights": self.weights_bytes,
                "activations": self.activations_bytes,
                "workspace": self.workspace_bytes,
            },
            "peak_node": self.peak_node,
        }

    def contributors(self) -> list[tuple[str, int]]:
        """What it consists of, the largest first; nothing of 0 bytes."""
        named = [
            ("libraries", self.libraries_bytes),
            ("weights", self.weights_bytes),
            ("activations", self.activations_bytes),
            ("workspace", self.workspace_bytes),
        ]
        return sorted(((name, size) for name, size in named if size), key=lambda item: -item[1])


def largest(phases: Sequence[Phase]) -> Phase:
    """The worst of phases that follow one another, each giving its memory back."""
    return max(phases, key=lambda phase: phase.peak_bytes, default=Phase())


def together(phases: Sequence[Phase], *, shared_scratch: bool) -> Phase:
    """Phases that hold their memory at one time, over the same libraries.

    shared_scratch: whether they take turns in one block of activations, rather than each keeping its own.
    """
    worst = largest(phases)
    activations = [phase.activations_bytes for phase in phases]
    return Phase(
        libraries_bytes=max((phase.libraries_bytes for phase in phases), default=0),
        weights_bytes=sum(phase.weights_bytes for phase in phases),
        activations_bytes=max(activations, default=0) if shared_scratch else sum(activations),
        workspace_bytes=max((phase.workspace_bytes for phase in phases), default=0),
        peak_node=max(phases, key=lambda phase: phase.activations_bytes, default=worst).peak_node,
        owner=max(phases, key=lambda phase: phase.activations_bytes, default=worst).owner,
        basis=worst.basis,
        source=worst.source,
    )
