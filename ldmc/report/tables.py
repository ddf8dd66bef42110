"""Tables as the page shows them: cells with what they sort by, and the reason where there is no number.

Level        Total s   Power W
eager        1.17      no value (1)
(1) power: RAPL's counter is readable by root only
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """text: what is read. value: what a column sorts by; None sorts last. note: number of the reason, 0 for none."""

    text: str
    value: float | str | None = None
    note: int = 0
    kind: str = ""
    span: int = 1


@dataclass(frozen=True)
class Column:
    """numeric: stands to the right."""

    title: str
    unit: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """notes: reasons, numbered from 1, for the cells that have none but that. ident: unique on the page."""

    ident: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass
class Notes:
    """Reasons under a table, each said once."""

    said: list[str] = field(default_factory=list)

    def number(self, reason: str) -> int:
        """The number of a reason, from 1."""
        if reason not in self.said:
            self.said.append(reason)
        return self.said.index(reason) + 1


def text(value: object) -> Cell:
    """A cell that sorts as it reads."""
    return Cell(str(value), str(value))


def figure(shown: str, value: float | None) -> Cell:
    """A cell that sorts by its number."""
    return Cell(shown, value)


def absent(notes: Notes, reason: str) -> Cell:
    """A cell without a number: it points at its reason."""
    return Cell("no value", None, notes.number(reason), "absent")


def pairs(ident: str, caption: str, heads: tuple[str, str], rows: Sequence[tuple[str, str]]) -> Table:
    """Two columns of text."""
    columns = tuple(Column(head, numeric=False) for head in heads)
    return Table(ident, caption, columns, tuple((text(a), text(b)) for a, b in rows))
