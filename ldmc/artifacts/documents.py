"""Reading JSON that others may have written: regular files of bounded size, and one meaning each.

Refused are, beside what is no JSON: keys that stand twice, NaN and infinities, numbers that no float holds, and lists
within lists without end.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ldmc.runtime.files import read_regular

MOST_BYTES = 256 * 2**20  # the reports of a graph with a hundred thousand nodes have a tenth
_MOST_DIGITS = 300


def read_json(path: Path) -> Any:
    """The JSON in a file.

    Raises:
        OSError: it cannot be read; its strerror is a phrase. ValueError: it is no JSON, with the reason.
    """
    content = read_regular(path, MOST_BYTES)
    try:
        return json.loads(
            content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite,
            parse_int=_integer,
        )  # fmt: skip
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is no UTF-8") from error
    except RecursionError as error:
        raise ValueError("its lists and objects lie too deep within each other") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {json.dumps(twice[:60])} stands twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:30]} is too large")
    return value


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)
