"""Values and texts that no file should hold: extreme, of another kind, or meant for the terminal or the page."""

from __future__ import annotations

import random
from typing import Any

SCRIPT = "<script>alert(7)</script>"
ESCAPE = "\x1b]0;owned\x07\x1b[31mred\x1b[0m"
_DEEP = 400
TEXTS = (
    "", " ", "x" * 3000, ESCAPE, "\x9b31m", "bell\x07\b\x00", "a\rb", "one\nfix:   two", "[bold red]loud[/bold red]",
    "[/]", "[/nope]", "[link=file:///etc/passwd]x[/link]", "\\[", SCRIPT, '"><img src=x onerror=alert(7)>', "]]>",
    "$x$", "%s%d", "{0}{x}", "../../../etc/passwd", "/etc/passwd", "C:\\x", "a/../../b", ".", "\u202egnp.exe",
    "\u2066x", "\ufeff", "\ud800", "\U0001f600" * 9, "e\u0301\u0301\u0301", "\u0661\u0662", "nan", "1e999", "0x10",
    "float32", "fp16,onnx", "unet", "None",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 7, 255, 1000, 10**5, 10**6, 10**8, 2**31, 2**31 - 1, -(2**31), 2**63, 2**64, -(2**63), 10**30, 0.5,
    -0.5, 1e-300, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 3.0000001, 10**400,
)  # fmt: skip


def deep(depth: int = _DEEP) -> Any:
    """Lists within lists."""
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


def hostile(rng: random.Random) -> Any:
    """One value: a text, a number, or something of another kind."""
    kind = rng.randrange(10)
    if kind < 4:
        return rng.choice(TEXTS)
    if kind < 7:
        return rng.choice(NUMBERS)
    return rng.choice(
        [None, True, False, [], {}, [[]], [None], {"": None}, deep(), [-1] * 4, [2**40] * 4, [1, "1", None], ["x"] * 3,
         {"a": {"b": []}}, [0] * 2000, {ESCAPE: ESCAPE}, [1.5, 2.5], [float("nan")], [True, False]]
    )  # fmt: skip


def nudged(rng: random.Random, value: Any) -> Any:
    """A value near `value`: of its kind, and not what it was."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return rng.choice([value + 1, value - 1, -value, value * 1000, value * 10**9, value / 3, str(value)])
    if isinstance(value, str):
        return rng.choice([value + rng.choice(TEXTS), value[:-1], value.upper(), value + value, value[::-1]])
    if isinstance(value, list):
        many = value * 50 if len(value) < 99 else []
        return rng.choice([value[:-1], value + value, value[::-1], [*value, None], many])
    return hostile(rng)
