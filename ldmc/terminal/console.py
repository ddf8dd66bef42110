"""The console that all commands print to: what bundles, graphs and results hold cannot steer the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment


class PrintableConsole(Console):
    """A console that spells out control characters and escape sequences of texts; its own are not texts."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See rich: all that is printed goes through here, table cells and titles too."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def printable(text: str) -> str:
    """`text` as a terminal may be given it: see `ldmc.runtime.speech`.

    That is only imported, and numpy with it, for a text that needs it.
    """
    if text.replace("\n", "").isprintable():
        return text
    from ldmc.runtime import speech

    return str(speech.printable(text))
