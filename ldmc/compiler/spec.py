"""The spec grammar: what users type after `--passes`.

    fp16{keep=[norm,quantiser]},onnx{opset=18},fold

    pipeline := pass ("," pass)*
    pass     := NAME [ "{" [ option ("," option)* ] "}" ]
    option   := NAME "=" value
    value    := "[" [ value ("," value)* ] "]" | pass | ATOM
    NAME     := a letter, then letters, digits, "_", "-"
    ATOM     := letters, digits and any of . _ - + * / :

A value with braces is a pass of its own, so specs nest. Every error points at its character.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Callable
from dataclasses import Field, dataclass, fields
from typing import Any, Union, get_args, get_origin, get_type_hints

from ldmc.errors import SpecError, UsageError
from ldmc.passes import TABLE, pass_class
from ldmc.passes.base import Pass

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_ATOM = re.compile(r"[A-Za-z0-9._+*/:-]+")


@dataclass(frozen=True)
class Placed:
    """A pass and where in the text it was written, so that later checks can point at it."""

    pass_: Pass
    position: int


def parse_pipeline(text: str) -> list[Placed]:
    """All passes of `text`, in order.

    Raises:
        SpecError: the text does not parse, or names a pass, option or value that does not exist.
    """
    parser = _Parser(text)
    placed = parser.separated(parser.placed_pass, end="")
    if not placed:
        raise parser.error("the pipeline is empty", 0, fix="name at least one pass, e.g. onnx,fold")
    return placed


def parse_pass(text: str) -> Pass:
    """Exactly one pass: the inverse of `str(pass)`."""
    placed = parse_pipeline(text)
    if len(placed) != 1:
        raise SpecError("expected one pass", text=text, position=placed[1].position)
    return placed[0].pass_


def format_pipeline(passes: list[Pass]) -> str:
    """The canonical text of a pipeline."""
    return ",".join(str(p) for p in passes)


class _Parser:
    """Recursive descent over one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def error(self, message: str, position: int | None = None, *, fix: str = "") -> SpecError:
        return SpecError(message, text=self.text, position=self.at if position is None else position, fix=fix)

    def skip_space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def take(self, literal: str) -> bool:
        self.skip_space()
        if not self.text.startswith(literal, self.at):
            return False
        self.at += len(literal)
        return True

    def match(self, pattern: re.Pattern[str], what: str) -> tuple[str, int]:
        self.skip_space()
        found = pattern.match(self.text, self.at)
        if not found:
            seen = repr(self.text[self.at]) if self.at < len(self.text) else "the end"
            raise self.error(f"expected {what}, found {seen}")
        start, self.at = self.at, found.end()
        return found.group(), start

    def separated(self, item: Callable[[], Any], *, end: str) -> list[Any]:
        """`item ("," item)*` up to `end`; an empty list where `end` comes at once."""
        items: list[Any] = []
        self.skip_space()
        if self.at == len(self.text) if not end else self.take(end):
            return items
        while True:
            items.append(item())
            self.skip_space()
            if self.at == len(self.text) if not end else self.take(end):
                return items
            if not self.take(","):
                seen = repr(self.text[self.at]) if self.at < len(self.text) else "the end"
                raise self.error(
                    f"expected ',' or {end!r}, found {seen}" if end else f"expected ',', found {seen}"
                )

    def placed_pass(self) -> Placed:
        name, position = self.match(_NAME, "a pass name")
        return Placed(self.finish_pass(name, position), position)

    def finish_pass(self, name: str, position: int) -> Pass:
        try:
            cls = pass_class(name)
        except UsageError as error:
            raise self.error(error.message, position, fix=error.fix) from error
        if not self.take("{"):
            return cls()
        options: dict[str, Any] = {}
        for key, value in self.separated(lambda: self.option(cls, options), end="}"):
            options[key] = value
        try:
            return cls(**options)
        except ValueError as error:
            raise self.error(f"{name}: {error}", position) from error

    def option(self, cls: type[Pass], seen: dict[str, Any]) -> tuple[str, Any]:
        key, position = self.match(_NAME, "an option name")
        known = {f.name: f for f in fields(cls)}
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}? " if near else ""
            options = ", ".join(known) or "none"
            raise self.error(
                f"pass {cls.name!r} has no option {key!r}", position, fix=f"{hint}options are {options}"
            )
        if key in seen:
            raise self.error(f"option {key!r} is given twice", position)
        seen[key] = None
        if not self.take("="):
            raise self.error(f"expected '=' after {key!r}")
        self.skip_space()
        start = self.at
        return key, self.convert(self.value(), known[key], cls, start)

    def value(self) -> Any:
        if self.take("["):
            return tuple(self.separated(self.value, end="]"))
        atom, position = self.match(_ATOM, "a value")
        if self.text.startswith("{", self.at):
            return self.finish_pass(atom, position)
        return atom

    def convert(self, value: Any, option: Field[Any], cls: type[Pass], position: int) -> Any:
        """`value` as the type that the option's annotation asks for."""
        wanted = get_type_hints(cls)[option.name]
        try:
            return _convert(value, wanted)
        except ValueError as error:
            raise self.error(f"option {option.name!r} of {cls.name!r}: {error}", position) from error


def _convert(value: Any, wanted: Any) -> Any:
    if isinstance(wanted, types.UnionType) or get_origin(wanted) is Union:  # X | None: None is never typed
        wanted = next(t for t in get_args(wanted) if t is not type(None))
    if get_origin(wanted) is tuple:
        items = value if isinstance(value, tuple) else (value,)
        return tuple(_convert(item, get_args(wanted)[0]) for item in items)
    if isinstance(value, tuple):
        raise ValueError("expected one value, not a list")
    if wanted is Pass:
        return _as_pass(value)
    if isinstance(value, Pass):
        raise ValueError(f"expected {wanted.__name__}, not a pass")
    if wanted is bool:
        if value not in ("true", "false"):
            raise ValueError(f"expected true or false, not {value!r}")
        return value == "true"
    if wanted is str:
        return value
    try:
        return wanted(value)
    except ValueError as error:
        raise ValueError(f"expected {_ARTICLES[wanted]}, not {value!r}") from error


_ARTICLES = {int: "a whole number", float: "a number"}


def _as_pass(value: Any) -> Pass:
    if isinstance(value, Pass):
        return value
    if value not in TABLE:
        raise ValueError(f"expected a pass, not {value!r}")
    return pass_class(value)()
