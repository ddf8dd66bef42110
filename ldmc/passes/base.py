"""What a pass is: a frozen dataclass whose fields are its options.

    Fp16(keep=("norm", "quantiser"))   <->   fp16{keep=[norm,quantiser]}

`compiler.spec` parses the right side into the left; `str` prints the left as the right, leaving
out options that have their default, so `parse(str(p)) == p`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from ldmc.ir import Component, Form
from ldmc.targets.target import Target


def _silent(_: str) -> None:
    """Drop a remark."""


@dataclass(frozen=True)
class Context:
    """What a pass may know beside its component.

    target: what is compiled for. remark: tells the driver something worth knowing.
    scratch: an empty folder for this stage's files, on the disk of the bundle; gone when the bundle is complete.
    """

    target: Target
    remark: Callable[[str], None] = field(default=_silent)
    scratch: Path | None = None


@dataclass(frozen=True)
class Pass(ABC):
    """One lowering step. Subclasses add their options as fields, all with defaults.

    name: what users type. requires: forms it takes. produces: the form it gives, or None for the form it took.
    runs_on: `host`, or `device` for a step that is recorded as pending.
    tools: importable packages it needs on the machine that runs it.
    excludes: passes that may not come before it.
    faces_target: whether it takes only what the target's parser reads: repairs are put before the first such pass.
    summary: one line for `ldmc passes`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    requires: ClassVar[tuple[Form, ...]]
    produces: ClassVar[Form | None]
    runs_on: ClassVar[str] = "host"
    tools: ClassVar[tuple[str, ...]] = ()
    excludes: ClassVar[tuple[str, ...]] = ()
    faces_target: ClassVar[bool] = False

    def objection(self, target: Target) -> str:
        """Why this pass, with these options, cannot serve `target`; empty where it can."""
        return ""

    def lacks(self, target: Target) -> str:
        """What this machine lacks to run this pass for `target`, and how to get it; empty where it lacks nothing.

        Asked before a build starts; what only looks at a pipeline does not ask.
        """
        return ""

    def refusal(self, form: Form) -> str:
        """Why this pass, with these options, cannot take a component in `form`; empty where it can."""
        return ""

    def gives(self, form: Form) -> Form:
        """The form this pass gives for a component in `form`."""
        return self.produces or form

    @abstractmethod
    def run(self, component: Component, context: Context) -> Component:
        """The component after this pass. Must keep names and order of inputs and outputs.

        Raises:
            PassError: the pass cannot do its work on this component.
        """

    def __str__(self) -> str:
        given = [
            f"{f.name}={_format(getattr(self, f.name))}"
            for f in fields(self)
            if getattr(self, f.name) != f.default
        ]
        return f"{self.name}{{{','.join(given)}}}" if given else self.name


def _format(value: Any) -> str:
    """One option value in the spec grammar."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{','.join(_format(item) for item in value)}]"
    return str(value)
