"""Damage to JSON and TOML documents: by structure (keys dropped, doubled, of another kind) and by text."""

from __future__ import annotations

import copy
import json
import random
import string
from collections.abc import Iterator
from typing import Any

from benchmarks.mutations.values import hostile, nudged

_TWIN = "\x00twin:"
_DEPTHS = (50, 2000, 100_000)


def damaged_json(rng: random.Random, data: Any) -> bytes:
    """`data` as JSON with one to three faults in it."""
    if rng.random() < 0.12:
        return damaged_bytes(rng, json.dumps(data, indent=1).encode())
    data = copy.deepcopy(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = _damage(rng, data)
    # a key that stands twice is written under a name of its own first
    return json.dumps(data, indent=1).replace(json.dumps(_TWIN)[1:-1], "").encode("utf-8", "surrogatepass")


def damaged_toml(rng: random.Random, data: dict[str, Any]) -> bytes:
    """`data` as TOML with one to three faults in it."""
    data = copy.deepcopy(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        changed = _damage(rng, data)
        data = changed if isinstance(changed, dict) else data
    text = "\n".join(_toml(data, ())).encode("utf-8", "replace")
    return damaged_bytes(rng, text) if rng.random() < 0.12 else text


def damaged_bytes(rng: random.Random, content: bytes) -> bytes:
    """`content` cut, flipped, repeated, emptied, or with bytes put between."""
    found = bytearray(content)
    place = rng.randrange(len(found) + 1)
    kind = rng.randrange(8)
    if kind == 0:
        del found[place:]
    elif kind == 1 and found:
        for _ in range(rng.choice((1, 3, 30))):
            found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        found[place:place] = rng.randbytes(rng.choice((1, 8, 64)))
    elif kind == 3:
        found[place:place] = rng.choice((b"\x1b[31m", b"\x00", b"\xff\xfe", b"NaN", b"\xef\xbb\xbf", b"1e999", b'"'))
    elif kind == 4:
        found = bytearray(rng.choice((b"", b"\n", b"[]", b"{}", b"null", b"NaN", b'"x"', b"\x80", b"1" * 5000)))
    elif kind == 5:
        depth = rng.choice(_DEPTHS)
        found = bytearray(rng.choice((b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth)))
    elif kind == 6:
        found = found + found
    else:
        found[place : place + 16] = bytes(16)
    return bytes(found)


def _places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in `data`; of a long list its first members."""
    yield path
    inside = data.items() if isinstance(data, dict) else enumerate(data[:6]) if isinstance(data, list) else ()
    for key, value in inside:
        yield from _places(value, (*path, key))


def _damage(rng: random.Random, data: Any) -> Any:
    places = list(_places(data))
    # half of the time near the top, where most of what is read lies
    path = rng.choice([p for p in places if len(p) <= 3] if rng.random() < 0.5 else places)
    if not path:
        return hostile(rng) if rng.random() < 0.2 else _damage(rng, data) if len(places) > 1 else hostile(rng)
    holder = data
    for key in path[:-1]:
        holder = holder[key]
    key = path[-1]
    kind = rng.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        holder[key] = nudged(rng, holder[key])
    elif kind == 2 and isinstance(holder, dict):
        holder[_TWIN + key] = rng.choice((copy.deepcopy(holder[key]), hostile(rng)))
    elif kind == 3 and isinstance(holder, dict):
        name = hostile(rng)
        holder[name if isinstance(name, str) else "".join(rng.choices(string.ascii_letters, k=5))] = holder.pop(key)
    elif kind == 4 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(rng.choice(holder)) if rng.random() < 0.5 else hostile(rng))
    elif kind == 5:  # the value of another place
        other: Any = data
        for step in rng.choice(places):
            other = other[step]
        holder[key] = copy.deepcopy(other)
    else:
        holder[key] = hostile(rng)
    return data


def _toml(table: dict[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """The lines of a table: its values first, then the tables in it."""
    for key, value in table.items():
        if not isinstance(value, dict):
            yield f"{_toml_key(key)} = {_toml_value(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            yield f"[{'.'.join(map(_toml_key, (*path, key)))}]"
            yield from _toml(value, (*path, key))


def _toml_key(key: str) -> str:
    return json.dumps(key.replace(_TWIN, ""))


def _toml_value(value: Any) -> str:
    if isinstance(value, (bool, str)) or value is None:
        return json.dumps(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(str(k))} = {_toml_value(v)}" for k, v in value.items()) + "}"
    return repr(value)
