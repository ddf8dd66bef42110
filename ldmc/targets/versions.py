"""Versions and what is asked of them: `8.2.1.8` fits `>=8.2,<8.3`, and `10.3.0` does not.

A constraint is one or more of `>= <= == != > <` with a version of numbers, joined by commas. That is what the runtime
on a device can compare with Python 3.6 and nothing installed.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from itertools import zip_longest

_TERM = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+)*)\s*")
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def is_constraint(text: str) -> bool:
    """Whether `text` is a version constraint."""
    return all(_TERM.fullmatch(term) for term in text.split(","))


def fits(version: str, constraint: str) -> bool:
    """Whether `version` is one that `constraint` asks for. Parts after the numbers (`+cpu`, `rc1`) do not count."""
    return all(_holds(version, term) for term in constraint.split(","))


def _holds(version: str, term: str) -> bool:
    found = _TERM.fullmatch(term)
    if found is None:
        raise ValueError(f"{term!r} is no version constraint")
    sign, wanted = found.groups()
    return _COMPARE[sign](_order(version, wanted), 0)


def _order(a: str, b: str) -> int:
    """-1, 0 or 1: `a` is older, the same or newer; missing parts count as 0."""
    for one, other in zip_longest(_numbers(a), _numbers(b), fillvalue=0):
        if one != other:
            return 1 if one > other else -1
    return 0


def _numbers(version: str) -> list[int]:
    found = re.match(r"\d+(?:\.\d+)*", version)
    return [int(part) for part in found.group().split(".")] if found else []
