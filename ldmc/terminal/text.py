"""Text from files on its way to the terminal: shown, never obeyed.

    Terminal    the console that every command prints to: control characters are written out (ESC as \\x1b), whatever
                prints them; words between colons stay words, and are no emoji
    escape      rich's: square brackets of a name are no markup; for every name within a marked-up line
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any, Literal

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.text import Text

from ldmc.runtime.speech import printable

__all__ = ["Terminal", "escape"]


class Terminal(Console):
    """A console on which nothing that is printed can do more than be seen."""

    def __init__(
        self,
        *,
        file: IO[str] | None = None,
        stderr: bool = False,
        width: int | None = None,
        force_terminal: bool | None = None,
        color_system: Literal["auto", "standard", "256", "truecolor"] = "auto",
    ) -> None:
        """See `Console`; here a word between colons is no picture."""
        super().__init__(
            file=file,
            stderr=stderr,
            width=width,
            force_terminal=force_terminal,
            color_system=color_system,
            emoji=False,
        )

    def render_str(self, text: str, **how: Any) -> Text:
        """See `Console.render_str`; here what is laid out is already as wide as it will be shown."""
        return super().render_str(printable(text), **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `Console.render`; what comes as Text passes no `render_str`. The console's own codes are kept."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
