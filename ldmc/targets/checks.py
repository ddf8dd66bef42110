"""What must hold in a target beyond the kinds of its keys: names that exist, figures that can be, versions that parse.

`problems` finds what does not; the reader, which knows the files, makes the first one an error.

    memory.total_mib = 400, system_mib = 500  ->  Problem(("memory", "system_mib"), 500, "...less than total_mib, 400")
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from ldmc.ir import COMPONENTS
from ldmc.runtime.versions import problem_of
from ldmc.targets.operator_tables import operator_versions, read_operators
from ldmc.targets.target import ENGINE_PACKAGES, ISLANDS, Compute, Gpu, Memory, Target

Path = tuple[str, ...]
# It becomes part of the names of bundles.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CAPABILITY = re.compile(r"\d{1,2}\.\d")
_CONSTRAINT = 'a version constraint, such as ">=8.2,<8.3"'


@dataclass(frozen=True)
class Missing:
    """A key that must be there. wanted: what it must be."""

    path: Path
    wanted: str


@dataclass(frozen=True)
class Unknown:
    """A key that means nothing. known: the keys of its table."""

    path: Path
    value: Any
    known: tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """A key whose value cannot be. wanted: what it is not. near: the allowed value that was likely meant."""

    path: Path
    value: Any
    wanted: str
    near: str = ""


def nearest(word: object, known: Iterable[str]) -> str:
    """The known word that `word` was likely meant to be, or an empty text."""
    found = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return found[0] if found else ""


def one_of(path: Path, value: Any, known: Iterable[str], more: str = "") -> Problem:
    """A value that is none of those known."""
    words = list(known)
    return Problem(path, value, f"one of {', '.join(words)}{more}", nearest(value, words))


def problems(target: Target) -> Iterator[Problem | Missing | Unknown]:
    """What is wrong with `target`, in the order of its keys."""
    if not _NAME.fullmatch(target.name):
        yield Problem(("name",), target.name, "letters, digits, '.', '_' and '-'")
    if not target.precisions:
        yield Problem(("precisions",), [], "a list of one or more")
    for island in target.fp32_islands:
        if "/" not in island and island not in ISLANDS:
            yield one_of(("fp32_islands",), island, ISLANDS, ", or COMPONENT/module.path")
    yield from _requirements(target)
    yield from _pipelines(target.pipelines)
    yield from _opset(target)
    for watts in target.power_modes_w:
        yield from _positive(("power_modes_w",), watts)
    if target.gpu is not None:
        yield from _gpu(target.gpu)
    if target.memory is not None:
        yield from _memory(target.memory)
    if target.compute is not None:
        yield from _compute(target.compute)


def _requirements(target: Target) -> Iterator[Problem | Missing]:
    for package in ("python", ENGINE_PACKAGES[target.engine]):
        if package not in target.requirements:
            yield Missing(("requirements", package), _CONSTRAINT)
    for package, constraint in target.requirements.items():
        if why := problem_of(constraint):
            yield Problem(("requirements", package), constraint, f"{_CONSTRAINT}: {why}")


def _pipelines(pipelines: dict[str, str]) -> Iterator[Problem | Missing | Unknown]:
    for component, spec in pipelines.items():
        if component not in COMPONENTS:
            yield Unknown(("pipelines", component), spec, COMPONENTS)
        elif not spec.strip():
            yield Problem(("pipelines", component), spec, "passes, such as onnx,fold")
    for component in COMPONENTS:
        if component not in pipelines:
            yield Missing(("pipelines", component), "passes, such as onnx,fold")


def _opset(target: Target) -> Iterator[Problem]:
    if target.opset < 1:
        yield Problem(("opset",), target.opset, "a whole number above 0")
    if not target.operators:
        return
    if target.operators not in operator_versions():
        yield one_of(("operators",), target.operators, operator_versions(), ", or empty for no table")
        return
    most = read_operators(target.operators)["opset_max"]
    if target.opset > most:
        limit = f"{most} or less, the last opset of the operator table {target.operators}"
        yield Problem(("opset",), target.opset, limit)


def _gpu(gpu: Gpu) -> Iterator[Problem]:
    if gpu.compute_capability and not _CAPABILITY.fullmatch(gpu.compute_capability):
        wanted = 'MAJOR.MINOR, such as "5.3", or empty'
        yield Problem(("gpu", "compute_capability"), gpu.compute_capability, wanted)


def _memory(memory: Memory) -> Iterator[Problem]:
    yield from _positive(("memory", "total_mib"), memory.total_mib)
    for path, size in (
        (("memory", "system_mib"), memory.system_mib),
        *((("memory", "libraries_mib", name), size) for name, size in memory.libraries_mib.items()),
    ):
        if size < 0:
            yield Problem(path, size, "0 or more")
    if memory.system_mib >= memory.total_mib:
        yield Problem(("memory", "system_mib"), memory.system_mib, f"less than total_mib, {memory.total_mib}")
    elif memory.models_bytes <= 0:
        room = memory.total_mib - memory.system_mib
        wanted = f"less, together, than the {room} MiB that total_mib and system_mib leave"
        yield Problem(("memory", "libraries_mib"), memory.libraries_mib, wanted)


def _compute(compute: Compute) -> Iterator[Problem | Unknown]:
    precisions = get_args(get_args(get_type_hints(Target)["precisions"])[0])
    for precision, gflops in compute.peak_gflops.items():
        if precision not in precisions:
            yield Unknown(("compute", "peak_gflops", precision), gflops, precisions)
        yield from _positive(("compute", "peak_gflops", precision), gflops)
    yield from _positive(("compute", "bandwidth_gb_s"), compute.bandwidth_gb_s)


def _positive(path: Path, value: float) -> Iterator[Problem]:
    if not (value > 0 and math.isfinite(value)):
        yield Problem(path, value, "a number above 0")
