"""`partition`: one network cut into parts that run in order, so that no engine is built from all of its weights.

    unet (input_0, input_1) => (output_0)     1119 nodes, 523 MiB of weights
    ->
    unet.0 (input_0, input_1) => (conv_in/Conv, down_blocks.0.resnets.0/Add_2, ...)    13 values, 10.8 MiB cross
    unet.1 (conv_in/Conv, ...) => (output_0)

Cuts are made where little is alive: at the boundaries of levels, with the skips carried across. A value crosses
once, in its smallest form; what is only a view or a cast of it is made again behind the cut. The parts share the
weights file, and run to the same output, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ldmc.errors import PassError
from ldmc.ir import Chain, Component, Form
from ldmc.passes.base import Context, Pass
from ldmc.targets.builder_memory import build_peak_bytes
from ldmc.targets.target import MIB, Target

if TYPE_CHECKING:
    from ldmc.passes.cutting.choose import Candidates
    from ldmc.passes.cutting.line import Line

_SHOWN = 3  # values of a cut that its remark names


@dataclass(frozen=True)
class Partition(Pass):
    """Cut a component into parts.

    parts: how many. max_mib: or, most MiB of weights of one part; as few parts as that takes.
    fit: or, as few parts as it takes to build each on the target; only `build`.
    spare_mib: with `fit`, memory of the target's budget that is left free.
    finer: where the device builds engines, carry every part cut in two once more, for when its builder runs out of
        memory all the same.
    """

    parts: int = 0
    max_mib: int = 0
    fit: str = "build"
    spare_mib: int = 400
    finer: bool = True

    name: ClassVar[str] = "partition"
    summary: ClassVar[str] = "cut a component into parts that run in order, where little is alive"
    requires: ClassVar[tuple[Form, ...]] = (Form.ONNX,)
    produces: ClassVar[Form] = Form.PARTS
    tools: ClassVar[tuple[str, ...]] = ("onnx_ir",)
    faces_target: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("parts", "max_mib", "spare_mib"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: it cannot be negative")
        if self.parts and self.max_mib:
            raise ValueError("parts and max_mib exclude each other")
        if self.fit != "build":
            raise ValueError(f"fit={self.fit}: what can be fitted is build")

    def objection(self, target: Target) -> str:
        if not self.parts and not self.max_mib and target.memory is None:
            return f"target {target.name!r} has no memory budget to fit; give parts or max_mib"
        return ""

    def run(self, component: Component, context: Context) -> Component:
        from ldmc.passes.cutting import choose, line, split

        own = line.Line(component.payload, component.name)
        found = choose.candidates(own)
        parts = split.split(component, own, self._places(component, own, found, context))
        finer = tuple(_halves(part) for part in parts) if self.finer and context.target.device_passes else ()
        _remark_on(parts, context)
        return component.evolve(form=Form.PARTS, payload=Chain(parts, finer))

    def _places(self, component: Component, line: Line, found: Candidates, context: Context) -> list[int]:
        """Where to cut."""
        if self.parts:
            if self.parts > found.most_parts:
                raise PassError(
                    f"{component.name} can be cut into {_count(found.most_parts)} at most, not {self.parts}",
                    fix=f"partition{{parts={found.most_parts}}}",
                )
            return found.choose(self.parts)
        if self.max_mib:
            return self._within_max(component, found)
        return self._within_budget(component, line, found, context)

    def _within_max(self, component: Component, found: Candidates) -> list[int]:
        """The fewest parts of at most `max_mib` each."""
        limit_bytes = self.max_mib * MIB
        for parts in range(1, found.most_parts + 1):
            if found.least_heaviest(parts) <= limit_bytes:
                return found.choose(parts, limit_bytes)
        smallest_mib = found.least_heaviest(found.most_parts) / MIB
        raise PassError(
            f"{component.name}: a part of {smallest_mib:.1f} MiB of weights cannot be cut further, "
            f"max_mib={self.max_mib} is less",
            fix=f"partition{{max_mib={int(smallest_mib) + 1}}}",
        )

    def _within_budget(
        self, component: Component, line: Line, found: Candidates, context: Context
    ) -> list[int]:
        """The fewest parts that the target can build one at a time, with memory to spare."""
        memory = context.target.memory
        assert memory is not None  # see `objection`
        allowed = memory.budget_bytes - self.spare_mib * MIB
        least = 0
        for parts in range(1, found.most_parts + 1):
            places = found.choose(parts)
            peak = self._largest_build(line, found, places, context.target)
            least = min(least or peak, peak)
            if peak <= allowed:
                context.remark(
                    f"predicted peak of the largest build: {peak / MIB:.0f} MiB of "
                    f"{memory.budget_bytes / MIB:.0f} MiB, {(memory.budget_bytes - peak) / MIB:.0f} MiB to spare "
                    "(an upper bound from documented multiples)"
                )
                return places
        raise PassError(
            f"{component.name}: building its smallest part takes up to {least / MIB:.0f} MiB, "
            f"{context.target.name} has {memory.budget_bytes / MIB:.0f} MiB, of which {self.spare_mib} MiB are to be "
            "left free",
            fix="put fp16 before onnx, or ask for less to spare: partition{fit=build,spare_mib=0}",
        )

    def _largest_build(self, line: Line, found: Candidates, places: list[int], target: Target) -> int:
        """Most memory that building any part takes."""
        bounds = [0, *places, len(line.nodes)]
        return max(
            build_peak_bytes(found.weight_bytes(start, stop), line.activation_bytes(start, stop), target)
            for start, stop in zip(bounds, bounds[1:])
        )


def _count(parts: int) -> str:
    return "1 part" if parts == 1 else f"{parts} parts"


def _halves(part: Component) -> tuple[Component, ...]:
    """`part` cut in two; () where it cannot be."""
    from ldmc.passes.cutting import choose, line, split

    own = line.Line(part.payload, part.name)
    found = choose.candidates(own)
    return split.split(part, own, found.choose(2)) if found.most_parts > 1 else ()


def _remark_on(parts: tuple[Component, ...], context: Context) -> None:
    """Say what each part weighs and what crosses each cut."""
    from ldmc.passes.cutting.crossing import crossing_bytes, crossings
    from ldmc.passes.cutting.split import weight_bytes

    weights = ", ".join(f"{part.name} {weight_bytes(part) / MIB:.1f} MiB" for part in parts)
    context.remark(f"{_count(len(parts))}: {weights} of weights")
    for before, values in zip(parts, crossings(parts)):
        largest = sorted(values, key=lambda value: -value.bytes)[:_SHOWN]
        shown = ", ".join(f"{value.spec.name} {value.bytes / MIB:.2f} MiB" for value in largest)
        more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
        count = f"{len(values)} {'values' if len(values) > 1 else 'value'}"
        context.remark(
            f"after {before.name}: {count}, {crossing_bytes(values) / MIB:.2f} MiB cross: {shown}{more}"
        )
