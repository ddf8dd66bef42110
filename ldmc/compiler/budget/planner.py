"""The plan of a target's memory, with what would make it fit where it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ldmc.compiler.budget.plan import Plan, assess
from ldmc.compiler.budget.remedies import remedies
from ldmc.compiler.summary import GraphSummary
from ldmc.targets.target import Target


def plan(
    target: Target,
    components: Mapping[str, Sequence[GraphSummary]],
    specs: Mapping[str, str] | None = None,
    *,
    load: str = "",
) -> Plan:
    """Predict what `components` take on `target`.

    components: name -> the graphs of its parts, in running order (see `graphs.part_graphs`); as they are when the
        engine gets them. specs: name -> the passes that made them, for the report. load: as in a target; empty for
        the target's.

    Raises:
        PassError: a graph does not tell the size of everything.
    """
    found = assess(target, components, specs, load=load)
    return found if found.fits else replace(found, remedies=remedies(target, components, found))
