"""How long work reports what it is doing, and the reporter that shows nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from ldmc.compiler.meter import Reading
from ldmc.compiler.stage import StageRecord


@dataclass(frozen=True)
class Written:
    """What writing a component took."""

    bytes: int
    reading: Reading


class Steps(Protocol):
    """Reports tasks, each with how much of it is done. Implemented by `ldmc.terminal.RichProgress`."""

    def stage(self, title: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        """Start a task of `total` steps or bytes. Call the returned function with each number of them completed."""
        ...


class Progress(Steps, Protocol):
    """What a build reports."""

    def note(self, message: str) -> None:
        """A decision that was made for the user."""
        ...

    def warn(self, message: str) -> None:
        """A message that the user must not miss."""
        ...

    def component_done(self, name: str, records: list[StageRecord], write: Written) -> None:
        """A component is lowered and written."""
        ...


class Silent:
    """A `Progress` that shows nothing."""

    @contextlib.contextmanager
    def stage(self, title: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """See `Steps`."""
        yield ignore_bytes

    def note(self, message: str) -> None:
        """See `Progress`."""

    def warn(self, message: str) -> None:
        """See `Progress`."""

    def component_done(self, name: str, records: list[StageRecord], write: Written) -> None:
        """See `Progress`."""


def ignore_bytes(count: int) -> None:
    """Progress of a task that nobody watches."""


def ignore_warning(message: str) -> None:
    """A warning about weights, where they do not matter or where it was given before."""
