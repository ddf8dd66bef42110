"""Reading a target: a TOML file that says what a device is. A wrong file names the key, the value and what is allowed.

extends = "jetson-nano"        every key of that target, and what this file says instead; or a .toml beside this one
[memory]
system_mib = 400

A file that extends another and gives no name of its own is named after itself: it is another device.
"""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ldmc.errors import UsageError
from ldmc.runtime.files import read_regular
from ldmc.targets.checks import Missing, Problem, Unknown, nearest, one_of, problems
from ldmc.targets.target import Target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST = 60  # characters of a value in a message
_MOST_BYTES, _MOST_DEPTH, _MOST_LAYERS = 2**20, 8, 16  # of a file, of tables in tables, of files that extend each other
_LARGEST = 10**15  # of a number, either way: more MiB, GFLOPS or watts than there are
_Record = TypeVar("_Record")
_Path = tuple[str, ...]


def target_names() -> list[str]:
    """Names of the targets that come with ldmc, sorted."""
    files = resources.files("ldmc.targets").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def load_target(name: str) -> Target:
    """The target of that name, or of that TOML file if `name` ends in `.toml`.

    Raises:
        UsageError: no such target or file, not TOML, or a key that is missing, unknown or wrong.
    """
    layers = _layers(name, ())
    target = _record(Target, layers.data, layers, ())
    for problem in problems(target):
        if isinstance(problem, Missing):
            raise _missing(layers, problem)
        if isinstance(problem, Unknown):
            raise _unknown(layers, problem)
        raise _wrong(layers, problem)
    return target


@dataclass(frozen=True)
class _Layers:
    """A file over what it extends. where: the file. files: which of them says each key."""

    where: str
    data: dict[str, Any]
    files: dict[_Path, str]

    def file(self, path: _Path) -> str:
        """The file that says the key, or the nearest table around it that any says."""
        while path and path not in self.files:
            path = path[:-1]
        return self.files.get(path, self.where)


def _layers(name: str, seen: _Path) -> _Layers:
    """The file of that name, read and laid over those it extends."""
    content, where, identity = _content(name)
    if identity in seen:
        raise UsageError(f"{where} extends itself, by way of others or not", fix="mend `extends`")
    if len(seen) > _MOST_LAYERS:
        raise UsageError(f"{where} is extended by {len(seen)} files, one over another", fix="extend fewer")
    data = _parsed(content, where)
    base = data.pop("extends", None)
    if base is not None and name.endswith(".toml"):
        data.setdefault("name", Path(where).stem)
    own = _Layers(where, data, {path: where for path in _paths(data, ())})
    if base is None:
        return own
    if not isinstance(base, str):
        raise _wrong(own, Problem(("extends",), base, "a text: the name of a target, or a .toml file"))
    try:
        below = _layers(_beside(where, base), (*seen, identity))
    except _NoSuch as error:
        raise UsageError(f"{where}: extends = {_shown(base)}: {error.message}", fix=error.fix) from error
    return _Layers(where, _overlaid(below.data, data), {**below.files, **own.files})


def _parsed(content: bytes, where: str) -> dict[str, Any]:
    """The keys of a file."""
    try:
        data: dict[str, Any] = tomllib.loads(content.decode("utf-8"))
    except ValueError as error:  # no UTF-8, no TOML, or a number of thousands of digits
        raise UsageError(f"{where} is not TOML: {error}", fix="mend the file") from error
    except RecursionError as error:
        raise UsageError(f"{where}: its lists lie too deep within each other", fix="mend the file") from error
    inside: list[Any] = [data]
    for _ in range(_MOST_DEPTH):
        inside = [value for table in inside for value in table.values() if isinstance(value, dict)]
    if inside:
        raise UsageError(f"{where}: its tables lie more than {_MOST_DEPTH} deep", fix="mend the file")
    return data


class _NoSuch(UsageError):
    """There is no target or file of that name."""


def _beside(where: str, base: str) -> str:
    """What `extends` means in the file `where`: a path is relative to that file."""
    return str(Path(where).parent / base) if base.endswith(".toml") else base


def _content(name: str) -> tuple[bytes, str, str]:
    """The bytes of a target's file, what to call it, and what it is by whichever path it is reached."""
    if name.endswith(".toml"):
        path = Path(name)
        if not path.exists():
            message = f"there is no target file {name}"
            raise _NoSuch(message, fix=f"targets that come with ldmc: {', '.join(target_names())}")
        try:
            return read_regular(path, _MOST_BYTES), name, str(path.resolve())
        except OSError as error:
            raise UsageError(f"cannot read {name}: {error.strerror}", fix="mend its permissions") from error
    known = target_names()
    if name not in known:
        near = nearest(name, known)
        hint = f"did you mean {near!r}? " if near else ""
        listed = ", ".join(known)
        raise _NoSuch(
            f"unknown target {name!r}", fix=f"{hint}targets are {listed}, or the path of a .toml file"
        )
    return (resources.files("ldmc.targets") / f"{name}.toml").read_bytes(), f"{name}.toml", name


def _paths(table: Mapping[str, Any], above: _Path) -> list[_Path]:
    """Every key of a table, the keys of tables in it included."""
    found = []
    for key, value in table.items():
        found.append((*above, key))
        found += _paths(value, (*above, key)) if isinstance(value, dict) else []
    return found


def _overlaid(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over`, table by table."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _overlaid(base[key], value) if both else value
    return merged


def _record(cls: type[_Record], data: Mapping[str, Any], layers: _Layers, above: _Path) -> _Record:
    """`data` as a `cls`, key by key."""
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    for key in data:
        if key not in known:
            raise _unknown(layers, Unknown((*above, key), data[key], tuple(known)))
    values = {}
    for key, spec in known.items():
        if key in data:
            values[key] = _value(hints[key], data[key], layers, (*above, key))
        elif spec.default is MISSING and spec.default_factory is MISSING:
            raise _missing(layers, Missing((*above, key), _kind(hints[key])))
    return cls(**values)


def _value(hint: Any, value: Any, layers: _Layers, path: _Path) -> Any:
    """`value` as `hint` says it must be."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):  # a table that may be left out
        return _value(arguments[0], value, layers, path)
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return _record(hint, value, layers, path)
    if origin is Literal:
        if value not in arguments:
            raise _wrong(layers, one_of(path, value, _words(hint)))
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], item, layers, path) for item in value)
    if origin is dict and isinstance(value, dict):
        return {k: _value(arguments[1], v, layers, (*path, k)) for k, v in value.items()}
    whole = isinstance(value, int) and not isinstance(value, bool)
    if (whole or isinstance(value, float)) and not -_LARGEST <= value <= _LARGEST:
        raise _wrong(layers, Problem(path, value, f"{_kind(hint)} of at most {_LARGEST:,}"))
    if (hint is float and whole) or (isinstance(hint, type) and type(value) is hint):
        return hint(value)
    raise _wrong(layers, Problem(path, value, _kind(hint)))


def _kind(hint: Any) -> str:
    """What a value of that kind is called."""
    if get_origin(hint) is Literal:
        return f"one of {', '.join(_words(hint))}"
    if hint in _KINDS:
        return _KINDS[hint]
    return f"a list, each {_kind(get_args(hint)[0])}" if get_origin(hint) is tuple else "a table"


def _words(literal: Any) -> list[str]:
    """The values a Literal allows, as a message shows them."""
    return [word or "an empty text" for word in get_args(literal)]


def _unknown(layers: _Layers, unknown: Unknown) -> UsageError:
    above, known = unknown.path[:-1], ", ".join(unknown.known)
    near = nearest(unknown.path[-1], unknown.known)
    hint = f"did you mean '{_key((*above, near))}'? " if near else ""
    inside = f"keys of [{_key(above)}]" if above else "keys"
    message = f"{layers.file(unknown.path)}: unknown key '{_key(unknown.path)}' = {_shown(unknown.value)}"
    return UsageError(message, fix=f"{hint}{inside} are {known}")


def _missing(layers: _Layers, missing: Missing) -> UsageError:
    message = f"{layers.file(missing.path)}: key '{_key(missing.path)}' is missing"
    return UsageError(message, fix=f"add it; it is {missing.wanted}")


def _wrong(layers: _Layers, problem: Problem) -> UsageError:
    hint = f"did you mean {_shown(problem.near)}? " if problem.near else ""
    message = f"{layers.file(problem.path)}: {_key(problem.path)} = {_shown(problem.value)}"
    return UsageError(f"{message} is not allowed", fix=f"{hint}it must be {problem.wanted}")


def _key(path: _Path) -> str:
    """A key as TOML writes it: `memory.libraries_mib."CUDA context"`."""
    return ".".join(part if _BARE.fullmatch(part) else json.dumps(part) for part in path)


def _shown(value: object) -> str:
    """A value much as TOML writes it."""
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
    except ValueError:  # a number of thousands of digits
        text = type(value).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
