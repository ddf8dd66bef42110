"""What a build is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ldmc.compiler.frontend import ModelRequest


@dataclass(frozen=True)
class BuildRequest:
    """What to build.

    passes: one spec for all components, or None for the target's default.
    output: folder of the bundle, or None for NAME.TARGET.ldmc here.
    strict: insert nothing that was not asked for, and refuse what does not fit.
    allow_over_budget: go on where the target's memory is predicted to be too small.
    """

    target: str
    model: ModelRequest = field(default_factory=ModelRequest)
    passes: str | None = None
    output: Path | None = None
    force: bool = False
    keep_intermediates: bool = False
    strict: bool = False
    allow_over_budget: bool = False
