"""What the page is put together from: tiles with one figure, cards with a chart or the reason there is none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """One figure at the top. kind: good, bad or nothing. filled: share of a meter, 0 to 1; None for no meter."""

    label: str
    value: str
    note: str = ""
    kind: str = ""
    filled: float | None = None


@dataclass(frozen=True)
class Card:
    """A chart with its words. legend: (colour, meaning). why: in place of a drawing."""

    title: str
    svg: str = ""
    caption: str = ""
    legend: tuple[tuple[str, str], ...] = ()
    why: str = ""
