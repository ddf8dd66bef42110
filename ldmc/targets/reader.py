"""Reading a target: a TOML file that says what a device is. A wrong file names the key, the value and what is allowed.

extends = "jetson-nano"        every key of that target, and what this file says instead
[memory]
system_mib = 400
"""

from __future__ import annotations

import difflib
import sys
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ldmc.errors import UsageError
from ldmc.ir import COMPONENTS
from ldmc.targets.target import ISLANDS, Target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_Record = TypeVar("_Record")


def target_names() -> list[str]:
    """Names of the targets that come with ldmc, sorted."""
    files = resources.files("ldmc.targets").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def load_target(name: str) -> Target:
    """The target of that name, or of that TOML file if `name` ends in `.toml`.

    Raises:
        UsageError: no such target or file, not TOML, or a key that is missing, unknown or wrong.
    """
    where = name if name.endswith(".toml") else f"{name}.toml"
    target = _record(Target, _tables(name, ()), where, "")
    for island in target.fp32_islands:
        if "/" not in island and island not in ISLANDS:
            raise _wrong(where, "fp32_islands", island, f"{', '.join(ISLANDS)}, or COMPONENT/module.path")
    for component in target.pipelines:
        if component not in COMPONENTS:
            raise _wrong(where, "pipelines", component, ", ".join(COMPONENTS))
    for key, table in (("pipelines", target.pipelines), ("requirements", target.requirements)):
        for needed in COMPONENTS if key == "pipelines" else ("python",):
            if needed not in table:
                raise UsageError(f"{where}: key '{key}.{needed}' is missing", fix="add it; it is a text")
    return target


def _tables(name: str, seen: tuple[str, ...]) -> dict[str, Any]:
    """The file's tables, over those of what it extends."""
    if name in seen:
        raise UsageError(f"{name} extends itself: {' -> '.join((*seen, name))}", fix="mend `extends`")
    content, where = _content(name)
    try:
        data: dict[str, Any] = tomllib.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{where} is not TOML: {error}", fix="mend the file") from error
    base = data.pop("extends", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise UsageError(
            f"{where}: extends = {base!r} is not a text", fix="give a target's name or .toml file"
        )
    if base.endswith(".toml"):
        base = str(Path(where).parent / base)
    return _overlaid(_tables(base, (*seen, name)), data)


def _overlaid(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over`, table by table."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _overlaid(base[key], value) if both else value
    return merged


def _content(name: str) -> tuple[bytes, str]:
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UsageError(
                f"there is no target file {name}", fix=f"targets that come with ldmc: {_listed()}"
            )
        return path.read_bytes(), name
    if name not in target_names():
        near = difflib.get_close_matches(name, target_names(), n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"unknown target {name!r}", fix=f"{hint}targets are {_listed()}, or the path of a .toml file"
        )
    return (resources.files("ldmc.targets") / f"{name}.toml").read_bytes(), f"{name}.toml"


def _listed() -> str:
    return ", ".join(target_names())


def _record(cls: type[_Record], data: Mapping[str, Any], where: str, place: str) -> _Record:
    """`data` as a `cls`, key by key."""
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    for key in data:
        if key not in known:
            raise UsageError(f"{where}: unknown key '{place}{key}'", fix=f"keys are {', '.join(known)}")
    values = {}
    for key, spec in known.items():
        if key in data:
            values[key] = _value(hints[key], data[key], where, place + key)
        elif spec.default is MISSING and spec.default_factory is MISSING:
            raise UsageError(
                f"{where}: key '{place}{key}' is missing", fix=f"add it; it is {_kind(hints[key])}"
            )
    return cls(**values)


def _value(hint: Any, value: Any, where: str, key: str) -> Any:
    """`value` as `hint` says it must be."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):  # a table that may be left out
        return _value(arguments[0], value, where, key)
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return _record(hint, value, where, f"{key}.")
    if origin is Literal:
        if value not in arguments:
            raise _wrong(where, key, value, ", ".join(map(str, arguments)))
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], item, where, key) for item in value)
    if origin is dict and isinstance(value, dict):
        return {k: _value(arguments[1], v, where, f"{key}.{k}") for k, v in value.items()}
    whole = isinstance(value, int) and not isinstance(value, bool)
    if (hint is float and whole) or (isinstance(hint, type) and type(value) is hint):
        return hint(value)
    raise UsageError(f"{where}: {key} = {value!r} is not {_kind(hint)}", fix="mend the value")


def _kind(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if hint in _KINDS:
        return _KINDS[hint]
    return "a list" if get_origin(hint) is tuple else "a table"


def _wrong(where: str, key: str, value: object, allowed: str) -> UsageError:
    return UsageError(f"{where}: {key} holds {value!r}", fix=f"allowed are {allowed}")
