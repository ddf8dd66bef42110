"""ldmc's own process while it builds: it holds graphs, never the weights.

    libraries    430 MiB   PyTorch, diffusers and ONNX, imported
    workspace    105 MiB   tracing and folding, and 75 KiB for each operator of the graphs
    weights      at most 64 MiB in flight and the largest tensor while the bundle is written

Where the device builds the engines, PyTorch runs each component once in fp32, for outputs to check them against: then
its weights are in memory, and what it computes.

Measured over builds from 638 operators (582 MiB) to 1434 (640 MiB, 704 with fp32 weights in flight).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ldmc.compiler.budget.phases import Phase
from ldmc.compiler.summary import GraphSummary
from ldmc.targets.target import MIB

_LIBRARIES_BYTES = 430 * MIB
_LOWERING_BYTES = 105 * MIB
_BYTES_PER_OPERATOR = 75 * 1024
_IN_FLIGHT_BYTES = 64 * MIB
_SOURCE = "ldmc's own process: measured over builds of different size"
_REFERENCE_SOURCE = "ldmc's own process while PyTorch runs a component in fp32, for outputs to check engines against"


def own_process(graphs: Sequence[GraphSummary]) -> Phase:
    """The peak of ldmc's process while it builds a bundle from `graphs`, all of them."""
    weights = [weight.bytes for graph in graphs for weight in graph.initializers.values()]
    return Phase(
        libraries_bytes=_LIBRARIES_BYTES,
        weights_bytes=min(sum(weights), max(_IN_FLIGHT_BYTES, max(weights, default=0))),
        workspace_bytes=_LOWERING_BYTES + _BYTES_PER_OPERATOR * sum(len(graph.nodes) for graph in graphs),
        basis="measured",
        source=_SOURCE,
    )


def with_reference(own: Phase, weights_bytes: int, activations_bytes: int) -> Phase:
    """`own`, or the process while PyTorch runs a component in fp32: whichever holds more.

    weights_bytes, activations_bytes: of the component in fp32.
    """
    running = replace(
        own,
        weights_bytes=weights_bytes,
        activations_bytes=activations_bytes,
        basis="computed",
        source=_REFERENCE_SOURCE,
    )
    return max(own, running, key=lambda phase: phase.peak_bytes)
