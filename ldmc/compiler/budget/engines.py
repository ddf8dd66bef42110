"""What each engine takes for one component: to build on the host, to build on the device, to run.

| engine | build on the host | build on the device | run |
|---|---|---|---|
| onnxruntime-cpu | ldmc | the first load: the graph is optimised and saved | mapped weights, planned buffers |
| tensorrt | ldmc | the builder, one part at a time: documented multiples | engines, one block of activations |
| tensorrt-rtx | ldmc, and the builder beside it | nothing | engine, fused activations |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ldmc.compiler.budget import host
from ldmc.compiler.budget.arena import touched_bytes
from ldmc.compiler.budget.eager import CUDA_CONTEXT_BYTES
from ldmc.compiler.budget.fusion import fused_timeline, written_timeline
from ldmc.compiler.budget.operators import weights_bytes
from ldmc.compiler.budget.phases import Phase, largest, together
from ldmc.compiler.budget.reuse import FLOAT_BYTES, onnxruntime_timeline
from ldmc.compiler.budget.timeline import Timeline, chained
from ldmc.compiler.summary import GraphSummary, TensorType
from ldmc.targets.builder_memory import WEIGHT_COPIES, WORKSPACE_BYTES
from ldmc.targets.target import MIB, Target

# Python 3.11, numpy and ONNX Runtime 1.31, opened and used once: 26 MiB private, 41 MiB of files. Measured.
_ORT_LIBRARIES_BYTES = 67 * MIB
_ORT_FILES_BYTES = 41 * MIB
_ORT_BYTES_PER_OPERATOR = 5 * 1024
_ORT_THREAD_SCRATCH_BYTES = 8 * MIB
# Saving the optimised graph holds every weight once more, and up to this beside it. Measured.
_ORT_RELAYOUT_BYTES = 96 * MIB
# With less memory than this many times the weights, the runtime optimises without copying them (see its backend).
_ORT_FAST_NEEDS, _ORT_LEAN_SHARE = 3, 12
# Python and numpy, before any library of the engine. Measured.
_PYTHON_BYTES = 30 * MIB
# TensorRT for RTX 1.7.1: what an engine of hardly any activations asks for; its builder's process. Measured.
_RTX_SCRATCH_BYTES = 8 * MIB
_RTX_BUILDER_LIBRARIES_BYTES = 310 * MIB
_RTX_BUILDER_WEIGHT_COPIES = 3.45

_ORT_SOURCE = "ONNX Runtime's own rules of sharing buffers, weights mapped; libraries measured"
_ORT_BUILD_SOURCE = "the first load, which optimises the graph and saves it: measured for ONNX Runtime 1.31"
_TRT_SOURCE = (
    f"upper bound: up to {WEIGHT_COPIES} copies of the weights are documented of builders; nothing is fused"
)
_TRT_RUN_SOURCE = (
    "libraries from posted logs, weights as stored, everything but views written, one engine file being read"
)
_RTX_RUN_SOURCE = (
    "weights and activations as TensorRT for RTX reports them; a CUDA context as PyTorch documents it"
)
_RTX_BUILD_SOURCE = "ldmc's own process, and the builder's beside it: measured for TensorRT for RTX 1.7.1"


@dataclass(frozen=True)
class ComponentPlan:
    """One component. parts: how many graphs it runs as. timeline: memory over one run of it."""

    name: str
    spec: str
    parts: int
    weights_bytes: int
    build_host: Phase
    build_device: Phase
    run: Phase
    timeline: Timeline


def plan_component(
    name: str, spec: str, graphs: Sequence[GraphSummary], target: Target, float_bytes: int | None = None
) -> ComponentPlan:
    """The phases of one component, alone.

    graphs: of its parts, in running order. float_bytes: what a floating-point element takes where it is not what the
        graphs say: a question of what if.

    Raises:
        PassError: a graph does not tell the size of everything.
    """
    model = _MODELS[target.engine](name, tuple(graphs), target, float_bytes)
    return ComponentPlan(
        name,
        spec,
        len(graphs),
        sum(model.weights),
        _owned(model.build_host(), name),
        _owned(model.build_device(), name),
        _owned(model.run(), name),
        chained(model.timelines),
    )


def private_bytes(run: Phase) -> int:
    """Of a run on ONNX Runtime, what is not mapped from files: what the system cannot take back under pressure."""
    return run.peak_bytes - run.weights_bytes - _ORT_FILES_BYTES


def rtx_builder_bytes(weights: int) -> int:
    """The process in which TensorRT for RTX builds one engine: its libraries, and what it makes of the weights."""
    return _RTX_BUILDER_LIBRARIES_BYTES + int(_RTX_BUILDER_WEIGHT_COPIES * weights)


def _owned(phase: Phase, name: str) -> Phase:
    return phase if phase.owner or not phase.peak_bytes else replace(phase, owner=name)


class _Model:
    """One component in one engine. weights: bytes of each part. timelines: of each part."""

    def __init__(
        self, name: str, graphs: tuple[GraphSummary, ...], target: Target, float_bytes: int | None
    ) -> None:
        self.name = name
        self.graphs = graphs
        self.target = target
        self.float_bytes = float_bytes
        self.weights = [weights_bytes(graph, self.stored_bytes) for graph in graphs]
        self.timelines = tuple(self.timeline(graph) for graph in graphs)
        self.owners = [f"{name}.{k}" for k in range(len(graphs))] if len(graphs) > 1 else [name]

    @property
    def stored_bytes(self) -> int | None:
        """Bytes of a floating-point weight where the engine holds it; None: as the graph says."""
        return self.float_bytes

    def timeline(self, graph: GraphSummary) -> Timeline:
        return written_timeline(graph, self.float_bytes)

    def build_host(self) -> Phase:
        return host.own_process(self.graphs)

    def build_device(self) -> Phase:
        return Phase()

    def run(self) -> Phase:
        raise NotImplementedError


class _OnnxRuntime(_Model):
    """On a CPU: the UNet, called in a loop, keeps an arena; the decoder's buffers come from the system, and go back."""

    @property
    def stored_bytes(self) -> int | None:
        return FLOAT_BYTES

    def timeline(self, graph: GraphSummary) -> Timeline:
        return onnxruntime_timeline(graph)

    def build_device(self) -> Phase:
        return largest([self._first_load(*part) for part in zip(self.owners, self.weights, self.graphs)])

    def _first_load(self, owner: str, weights: int, graph: GraphSummary) -> Phase:
        memory = self.target.memory
        is_lean = memory is not None and memory.total_mib * MIB < _ORT_FAST_NEEDS * weights
        return Phase(
            libraries_bytes=_ORT_LIBRARIES_BYTES + _ORT_BYTES_PER_OPERATOR * len(graph.nodes),
            weights_bytes=weights // _ORT_LEAN_SHARE if is_lean else weights,
            workspace_bytes=0 if is_lean else min(weights, _ORT_RELAYOUT_BYTES),
            owner=owner,
            basis="measured",
            source=_ORT_BUILD_SOURCE,
        )

    def run(self) -> Phase:
        parts = [
            self._run_part(*part) for part in zip(self.owners, self.weights, self.graphs, self.timelines)
        ]
        return together(parts, shared_scratch=self.name != "unet")

    def _run_part(self, owner: str, weights: int, graph: GraphSummary, timeline: Timeline) -> Phase:
        return Phase(
            libraries_bytes=_ORT_LIBRARIES_BYTES + _ORT_BYTES_PER_OPERATOR * len(graph.nodes),
            weights_bytes=weights,
            activations_bytes=touched_bytes(timeline) if self.name == "unet" else timeline.peak_bytes,
            workspace_bytes=min(_ORT_THREAD_SCRATCH_BYTES, timeline.peak_bytes),
            peak_node=timeline.peak_node,
            owner=owner,
            source=_ORT_SOURCE,
        )


class _TensorRT(_Model):
    """Engines that are built where they run, each part in a process of its own, and share a block of activations."""

    def build_host(self) -> Phase:
        own = super().build_host()
        if not self.target.device_passes:
            return own
        weights = sum(weights_bytes(graph, FLOAT_BYTES) for graph in self.graphs)
        activations = max(written_timeline(graph, FLOAT_BYTES).peak_bytes for graph in self.graphs)
        return host.with_reference(own, weights, activations)

    def build_device(self) -> Phase:
        return largest([self._builder(*part) for part in zip(self.owners, self.weights, self.timelines)])

    def _builder(self, owner: str, weights: int, timeline: Timeline) -> Phase:
        """See `ldmc.targets.builder_memory`, which this is the sum of."""
        return Phase(
            libraries_bytes=self.target.memory.libraries_bytes if self.target.memory else 0,
            weights_bytes=WEIGHT_COPIES * weights,
            activations_bytes=timeline.peak_bytes,
            workspace_bytes=WORKSPACE_BYTES,
            peak_node=timeline.peak_node,
            owner=owner,
            basis="documented multiple",
            source=_TRT_SOURCE,
        )

    def run(self) -> Phase:
        worst = max(self.timelines, key=lambda timeline: timeline.peak_bytes)
        return Phase(
            libraries_bytes=self._libraries_bytes(),
            weights_bytes=sum(self.weights),
            activations_bytes=worst.peak_bytes + max(_handed_bytes(graph) for graph in self.graphs),
            workspace_bytes=max(self.weights),  # an engine's file, while it is read
            peak_node=worst.peak_node,
            owner=self.owners[self.timelines.index(worst)],
            basis="documented multiple",
            source=_TRT_RUN_SOURCE,
        )

    def _libraries_bytes(self) -> int:
        return _PYTHON_BYTES + (self.target.memory.libraries_bytes if self.target.memory else 0)


class _TensorRTForRTX(_Model):
    """Engines that are built here, and fuse."""

    def timeline(self, graph: GraphSummary) -> Timeline:
        return written_timeline(graph, self.float_bytes) if self.float_bytes else fused_timeline(graph)

    def build_host(self) -> Phase:
        own, builder = super().build_host(), rtx_builder_bytes(max(self.weights))
        return replace(
            own,
            libraries_bytes=own.libraries_bytes + _RTX_BUILDER_LIBRARIES_BYTES,
            weights_bytes=builder - _RTX_BUILDER_LIBRARIES_BYTES,  # ldmc's own are on disk by then
            source=_RTX_BUILD_SOURCE,
        )

    def run(self) -> Phase:
        worst = max(self.timelines, key=lambda timeline: timeline.peak_bytes)
        known = self.target.memory.libraries_bytes if self.target.memory else 0
        return Phase(
            libraries_bytes=known or CUDA_CONTEXT_BYTES,
            weights_bytes=sum(self.weights),
            activations_bytes=worst.peak_bytes + max(_handed_bytes(graph) for graph in self.graphs),
            workspace_bytes=_RTX_SCRATCH_BYTES,
            peak_node=worst.peak_node,
            owner=self.owners[self.timelines.index(worst)],
            basis="measured",
            source=_RTX_RUN_SOURCE,
        )


def _handed_bytes(graph: GraphSummary) -> int:
    """Inputs and outputs: the caller's buffers, or what parts hand to one another."""
    return sum(TensorType.of(spec).size_bytes or 0 for spec in (*graph.inputs, *graph.outputs))


_MODELS: dict[str, Callable[[str, tuple[GraphSummary, ...], Target, int | None], _Model]] = {
    "onnxruntime-cpu": _OnnxRuntime,
    "tensorrt": _TensorRT,
    "tensorrt-rtx": _TensorRTForRTX,
}
