"""Eager PyTorch on a GPU: every operator writes its output, and the caching allocator keeps what it ever held.

    GroupNorm     Reshape, InstanceNormalization, Reshape, Mul, Add   ->   one output
    SiLU, addmm   see `operators.fused`
    VQ            distances of all positions to all codes, three times at once

It is the reference project's first two rows, fp32 and fp16, so that the budget's figures can be held against theirs:
what the GPU's memory grew by from before the model was loaded. So it holds a CUDA context, the weights of the whole
pipeline, and what the allocator reserved; on a Jetson, whose memory CPU and GPU share, cuBLAS too. PyTorch links cuDNN
and loads it when it is imported, which is before.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from ldmc.compiler.budget.operators import Operator, fused, is_view, operators, sizes_bytes
from ldmc.compiler.budget.phases import Phase
from ldmc.compiler.budget.timeline import Buffer, Timeline
from ldmc.compiler.summary import GraphSummary
from ldmc.targets.target import MIB, Target

# diffusers 0.0.4 to 0.11, which the reference project used: z^2 + e^2, 2 z.e and their difference, before argmin.
_DISTANCES_AT_ONCE = 3
_NORM_OPS = frozenset({"Reshape", "InstanceNormalization", "Mul", "Add", "Cast"})
# PyTorch's c10/cuda/CUDACachingAllocator: small requests share segments of 2 MiB, middle ones of 20 MiB.
_SMALL_BYTES, _SMALL_SEGMENT_BYTES = MIB, 2 * MIB
_LARGE_BYTES, _LARGE_SEGMENT_BYTES = 10 * MIB, 20 * MIB
_ROUND_BYTES = 512
# "the currently used ~300MB are small compared to previous releases": PyTorch maintainers on a CUDA context that loads
# kernels as they are needed (CUDA 11.7 and later), github.com/pytorch/pytorch/issues/107667.
CUDA_CONTEXT_BYTES = 300 * MIB
_LOADED_BEFORE = "cuDNN"


def eager_run(graphs: Sequence[GraphSummary], parameters: int, float_bytes: int, target: Target) -> Phase:
    """What drawing a picture takes of the GPU's memory, less what was taken before the model was loaded.

    graphs: the fp32 graphs of all components, in running order, before they were cut. parameters: of the whole
        pipeline, those that drawing does not use included. float_bytes: 4 or 2.
    """
    timelines = tuple(eager_timeline(graph, float_bytes) for graph in graphs)
    worst = max(timelines, key=lambda timeline: timeline.peak_bytes)
    return Phase(
        libraries_bytes=_libraries_bytes(target),
        weights_bytes=parameters * float_bytes,
        activations_bytes=reserved_bytes(timelines),
        peak_node=worst.peak_node,
        source="PyTorch's caching allocator, replayed; libraries from posted logs",
    )


def _libraries_bytes(target: Target) -> int:
    known = target.memory.libraries_mib if target.memory else {}
    counted = [size for name, size in known.items() if name != _LOADED_BEFORE]
    return sum(counted) * MIB if counted else CUDA_CONTEXT_BYTES


def eager_timeline(graph: GraphSummary, float_bytes: int) -> Timeline:
    """Buffers of one call in eager PyTorch, every float of `float_bytes`. Inputs are counted as held by the caller."""
    found = _module_operators(fused(operators(graph)))
    sizes = sizes_bytes(graph, float_bytes)
    owner = {spec.name: spec.name for spec in graph.inputs}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for step, operator in enumerate(found):
        for name in operator.outputs:
            source = operator.inputs[0] if is_view(operator) and operator.inputs else ""
            owner[name] = owner.get(source, name) if source else name
            if owner[name] == name:
                first[name] = step
            last[owner[name]] = step
        last.update((owner[name], step) for name in operator.inputs if name in owner)
    last.update((owner[spec.name], len(found) - 1) for spec in graph.outputs if spec.name in owner)
    buffers = [Buffer(name, sizes[name], first[name], last[name]) for name in first]
    buffers += _distances(found, sizes)
    return Timeline(tuple(operator.name for operator in found), tuple(buffers))


def _module_operators(found: list[Operator]) -> list[Operator]:
    """A GroupNorm's operators as one: they stand together and are named after one module."""
    result: list[Operator] = []
    for operator in found:
        before = result[-1] if result else None
        if before is not None and _is_same_norm(before, operator):
            result[-1] = Operator(before.name, before.op, before.inputs, operator.outputs)
        else:
            result.append(operator)
    return result


def _is_same_norm(before: Operator, operator: Operator) -> bool:
    """Whether `operator` goes on with the normalisation that `before` is the beginning of."""
    module = operator.name.rpartition("/")[0]
    same = before.name.rpartition("/")[0] == module and "norm" in module.rpartition(".")[2]
    return (
        same and operator.op in _NORM_OPS and before.op in _NORM_OPS and before.outputs[0] in operator.inputs
    )


def _distances(found: list[Operator], sizes: dict[str, int]) -> list[Buffer]:
    """The quantiser's distances, which our graph computes in slices and eager all at once."""
    steps = [step for step, operator in enumerate(found) if operator.op == "ArgMax"]
    if not steps:
        return []
    whole = sum(sizes[found[step].inputs[0]] for step in steps)
    return [Buffer(f"distances {k}", whole, steps[0], steps[0]) for k in range(_DISTANCES_AT_ONCE)]


@dataclass
class _Segment:
    """bytes: of the whole. free: (start, length) of its gaps, sorted."""

    bytes: int
    is_small: bool
    free: list[tuple[int, int]]


class _CachingAllocator:
    """Best fit over segments that are never given back."""

    def __init__(self) -> None:
        self.segments: list[_Segment] = []

    @property
    def reserved_bytes(self) -> int:
        return sum(segment.bytes for segment in self.segments)

    def take(self, size_bytes: int) -> tuple[int, int, int]:
        """Segment, start and length of what was given."""
        needed = max(-(-size_bytes // _ROUND_BYTES), 1) * _ROUND_BYTES
        is_small = needed <= _SMALL_BYTES
        gaps = [
            (length, number, start)
            for number, segment in enumerate(self.segments)
            if segment.is_small == is_small
            for start, length in segment.free
            if length >= needed
        ]
        if not gaps:
            self.segments.append(_new_segment(needed, is_small))
            gaps = [(self.segments[-1].bytes, len(self.segments) - 1, 0)]
        length, number, start = min(gaps)
        segment = self.segments[number]
        segment.free.remove((start, length))
        left = length - needed
        if left >= _ROUND_BYTES if is_small else left > _SMALL_BYTES:
            bisect.insort(segment.free, (start + needed, left))
            length = needed
        return number, start, length

    def give_back(self, place: tuple[int, int, int]) -> None:
        number, start, length = place
        free = self.segments[number].free
        at = bisect.bisect_left(free, (start, 0))
        if at < len(free) and free[at][0] == start + length:
            length += free.pop(at)[1]
        if at and sum(free[at - 1]) == start:
            at -= 1
            start, before = free.pop(at)
            length += before
        free.insert(at, (start, length))


def _new_segment(needed: int, is_small: bool) -> _Segment:
    if is_small:
        size = _SMALL_SEGMENT_BYTES
    elif needed < _LARGE_BYTES:
        size = _LARGE_SEGMENT_BYTES
    else:
        size = -(-needed // (2 * MIB)) * 2 * MIB
    return _Segment(size, is_small, [(0, size)])


def reserved_bytes(timelines: tuple[Timeline, ...]) -> int:
    """What the allocator has reserved after `timelines` have run one after the other."""
    allocator = _CachingAllocator()
    for timeline in timelines:
        born: dict[int, list[int]] = {}
        dying: dict[int, list[int]] = {}
        for number, buffer in enumerate(timeline.buffers):
            born.setdefault(buffer.first, []).append(number)
            dying.setdefault(buffer.last, []).append(number)
        places: dict[int, tuple[int, int, int]] = {}
        for step in range(len(timeline.steps)):
            for number in born.get(step, ()):
                places[number] = allocator.take(timeline.buffers[number].bytes)
            for number in dying.get(step, ()):
                allocator.give_back(places.pop(number))
    return allocator.reserved_bytes
