"""What JSON of a certain sort holds, said once, and the first place where some JSON does not.

    STAGE = Record({"component": Text(), "nodes": Whole(0)}, {"why": Maybe(Text())})
    first_fault(STAGE, {"component": "unet", "nodes": -1})   ->   Fault("nodes", -1, "a whole number from 0")

Keys that a record does not name are not looked at. Numbers are finite (see `documents.read_json`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

_LONGEST = 60  # characters of a value in a message


@dataclass(frozen=True)
class Fault:
    """place: as in `levels[2].name`, "" for the whole. wanted: what the value there is not. missing: a key it lacks."""

    place: str
    value: Any
    wanted: str
    missing: str = ""

    def __str__(self) -> str:
        """`levels[2].name is 7, expected a text`, or `levels[2] lacks the key name`."""
        if self.missing:
            return f"{self.place or 'it'} lacks the key {self.missing}"
        return f"{self.place or 'it'} is {shown(self.value)}, expected {self.wanted}"


class Kind(Protocol):
    """What a value must be."""

    def fault(self, value: Any, place: str) -> Fault | None:
        """The first thing that is wrong with `value`."""


@dataclass(frozen=True)
class Anything:
    """What is looked at elsewhere, or not at all."""

    def fault(self, value: Any, place: str) -> Fault | None:
        return None


@dataclass(frozen=True)
class Whole:
    """An integer; a bool is none."""

    least: int | None = None
    most: int | None = None

    def fault(self, value: Any, place: str) -> Fault | None:
        if type(value) is int and _is_within(value, self.least, self.most):
            return None
        return Fault(place, value, f"a whole number{_range(self.least, self.most)}")


@dataclass(frozen=True)
class Number:
    """An integer or a float, finite."""

    least: float | None = None
    most: float | None = None

    def fault(self, value: Any, place: str) -> Fault | None:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and -math.inf < value < math.inf and _is_within(value, self.least, self.most):
            return None
        return Fault(place, value, f"a number{_range(self.least, self.most)}")


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def fault(self, value: Any, place: str) -> Fault | None:
        return None if isinstance(value, bool) else Fault(place, value, "true or false")


@dataclass(frozen=True)
class Text:
    """A text; one of `words`, where there are any."""

    words: tuple[str, ...] = ()

    def fault(self, value: Any, place: str) -> Fault | None:
        if isinstance(value, str) and (not self.words or value in self.words):
            return None
        return Fault(place, value, f"one of {', '.join(self.words)}" if self.words else "a text")


@dataclass(frozen=True)
class Maybe:
    """That, or null."""

    kind: Kind

    def fault(self, value: Any, place: str) -> Fault | None:
        found = None if value is None else self.kind.fault(value, place)
        return replace(found, wanted=f"{found.wanted} or null") if found and found.place == place else found


@dataclass(frozen=True)
class Either:
    """A list where there is one, else the other kind: diffusers takes one number for all blocks, or one for each."""

    single: Kind
    many: Items

    def fault(self, value: Any, place: str) -> Fault | None:
        if isinstance(value, list):
            return self.many.fault(value, place)
        found = self.single.fault(value, place)
        return found and Fault(place, value, f"{found.wanted}, or a list")


@dataclass(frozen=True)
class Items:
    """A list, each member of a kind."""

    kind: Kind
    least: int = 0
    most: int | None = None

    def fault(self, value: Any, place: str) -> Fault | None:
        if not isinstance(value, list) or not _is_within(len(value), self.least, self.most):
            bound = f"{self.least} or more" if self.most is None else f"{self.least} to {self.most}"
            return Fault(place, value, f"a list of {bound} members" if self.least or self.most else "a list")
        found = (self.kind.fault(item, f"{place}[{index}]") for index, item in enumerate(value))
        return next((fault for fault in found if fault is not None), None)


@dataclass(frozen=True)
class Table:
    """An object of any keys, each value of a kind."""

    kind: Kind

    def fault(self, value: Any, place: str) -> Fault | None:
        if not isinstance(value, dict):
            return Fault(place, value, "an object")
        found = (self.kind.fault(item, inside(place, key)) for key, item in value.items())
        return next((fault for fault in found if fault is not None), None)


@dataclass(frozen=True)
class Record:
    """An object with keys of certain kinds. optional: those that may be missing."""

    required: Mapping[str, Kind] = field(default_factory=dict)
    optional: Mapping[str, Kind] = field(default_factory=dict)

    def fault(self, value: Any, place: str) -> Fault | None:
        if not isinstance(value, dict):
            return Fault(place, value, "an object")
        for key in self.required:
            if key not in value:
                return Fault(place, value, f"an object with {key}", missing=key)
        kinds = {**self.required, **self.optional}
        found = (kind.fault(value[key], inside(place, key)) for key, kind in kinds.items() if key in value)
        return next((fault for fault in found if fault is not None), None)


def first_fault(kind: Kind, value: Any) -> Fault | None:
    """The first place where `value` is not of that kind; None where it is."""
    return kind.fault(value, "")


def inside(place: str, key: str) -> str:
    """The name of a key within `place`."""
    return f"{place}.{key}" if place else key


def shown(value: Any) -> str:
    """A value as JSON, cut where it is long."""
    try:
        text = json.dumps(value, default=str)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _is_within(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def _range(least: float | None, most: float | None) -> str:
    if least is None and most is None:
        return ""
    if most is None:
        return f" from {least:,}"
    return f" up to {most:,}" if least is None else f" from {least:,} to {most:,}"
