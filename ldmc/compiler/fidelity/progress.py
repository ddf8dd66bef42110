"""How an examination says what it is doing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Progress(Protocol):
    """Where it is shown: `ldmc.terminal.RichProgress`."""

    def stage(self, title: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        """Something that takes a while begins, of `total` steps; the function given is told of steps done."""
        ...
