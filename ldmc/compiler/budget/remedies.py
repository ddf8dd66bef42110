"""What would bring a peak down, each with the peak predicted for it.

fp16                       half the weights, where they are fp32 and the target computes in half
partition{parts=4}         one engine at a time from a part of the weights
fp16,partition{parts=2}    both
one component at a time    where the runtime holds all of them
headless                   the desktop's memory is free for the model
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ldmc.compiler.budget.plan import ONE_AT_A_TIME, Plan, Remedy, assess
from ldmc.compiler.budget.slices import cut
from ldmc.compiler.summary import GraphSummary
from ldmc.targets.target import MIB, Target

PARTS = (2, 3, 4, 6, 8, 12, 16)
# "idle 300..500 MiB headless, about 1.5 GB with a desktop": posted logs of Jetsons.
HEADLESS_MIB = 500

Graphs = Mapping[str, Sequence[GraphSummary]]


def remedies(target: Target, components: Graphs, over: Plan) -> tuple[Remedy, ...]:
    """Changes that lower the peak of `over`, which does not fit, or raise its budget; those that fit first."""
    budget_bytes = over.budget_bytes
    if budget_bytes is None:
        return ()
    peak_bytes = over.device_peak[1].peak_bytes
    tried = [
        *_half(target, components, over.load, budget_bytes),
        *_parts(target, components, over.load, budget_bytes, None),
        *_one_at_a_time(target, components, over.load, budget_bytes),
    ]
    if not any(remedy.fits for remedy in tried) and _gains_from_half(target, components):
        tried += _parts(target, components, over.load, budget_bytes, 2)
    found = [remedy for remedy in tried if remedy.peak_bytes < peak_bytes]
    found += _headless(target, peak_bytes)
    return tuple(sorted(found, key=lambda remedy: not remedy.fits))


def _half(target: Target, components: Graphs, load: str, budget_bytes: int) -> list[Remedy]:
    if not _gains_from_half(target, components):
        return []
    half = assess(target, components, load=load, float_bytes=2)
    return [Remedy("fp16", half.device_peak[1].peak_bytes, budget_bytes)]


def _gains_from_half(target: Target, components: Graphs) -> bool:
    """Whether weights are stored in fp32 and the target computes in half."""
    dtypes: dict[str, int] = {}
    for graphs in components.values():
        for graph in graphs:
            for weight in graph.initializers.values():
                dtypes[weight.dtype] = dtypes.get(weight.dtype, 0) + weight.bytes
    heaviest = max(dtypes, key=lambda dtype: dtypes[dtype], default="")
    return heaviest == "float32" and "float16" in target.precisions


def _parts(
    target: Target, components: Graphs, load: str, budget_bytes: int, float_bytes: int | None
) -> list[Remedy]:
    """The fewest parts that fit, or else the most that were tried; nothing where components are in parts already."""
    if target.engine != "tensorrt" or any(len(graphs) > 1 for graphs in components.values()):
        return []
    before = "fp16," if float_bytes else ""
    remedy = None
    for parts in PARTS:
        sliced = {name: cut(graphs[0], parts) for name, graphs in components.items()}
        peak_bytes = assess(target, sliced, load=load, float_bytes=float_bytes).device_peak[1].peak_bytes
        if remedy is not None and peak_bytes >= remedy.peak_bytes:
            break
        remedy = Remedy(f"{before}partition{{parts={parts}}}", peak_bytes, budget_bytes)
        if remedy.fits:
            break
    return [remedy] if remedy else []


def _one_at_a_time(target: Target, components: Graphs, load: str, budget_bytes: int) -> list[Remedy]:
    if load == ONE_AT_A_TIME or len(components) < 2:
        return []
    alone = assess(target, components, load=ONE_AT_A_TIME)
    return [Remedy("run components one at a time", alone.device_peak[1].peak_bytes, budget_bytes)]


def _headless(target: Target, peak_bytes: int) -> list[Remedy]:
    """Without a desktop: the same peak, a larger budget."""
    memory = target.memory
    if memory is None or not memory.shared or memory.system_mib <= HEADLESS_MIB or not target.gpu:
        return []
    if not target.gpu.compute_capability:  # a phone has no other way to be
        return []
    freed_bytes = (memory.system_mib - HEADLESS_MIB) * MIB
    return [Remedy("headless", peak_bytes, memory.budget_bytes + freed_bytes)]
