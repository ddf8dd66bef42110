"""Numbers as people read them: three significant digits, thousands apart, the unit beside them.

0.0123 s -> 12.3 ms     1234.5 s -> 1,234 s     548287384 bytes -> 523 MiB     999 dB -> identical
"""

from __future__ import annotations

import math

KIB, MIB, GIB = 2**10, 2**20, 2**30
_GIB_FROM = 10 * GIB  # below it sizes of weights and memory read best in MiB, which is also what papers give
IDENTICAL_DB = 999.0  # how results write infinity (see `ldmc.compiler.verify`)
_SMALLEST_PLAIN = 1e-4


def number(value: float) -> str:
    """Three significant digits, never an exponent unless it is tiny: `0.0123`, `1.17`, `93.2`, `1,235`."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if abs(value) < _SMALLEST_PLAIN:
        return f"{value:.1e}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def seconds(value: float) -> str:
    """`850 µs`, `12.3 ms`, `1.17 s`."""
    unit, length = time_unit(value)
    return f"{number(value / length)} {unit}"


def time_unit(most: float) -> tuple[str, float]:
    """The unit in which times up to this one read best, and its length in seconds."""
    for limit, unit, length in ((1e-3, "µs", 1e-6), (1.0, "ms", 1e-3)):
        if 0 < most < limit:
            return unit, length
    return "s", 1.0


def size(value: float) -> str:
    """`523 MiB`, `66.4 MiB`, `12 KiB`, `23.3 GiB`, `256 bytes`."""
    if value >= _GIB_FROM:
        return f"{value / GIB:,.1f} GiB"
    if 0 < value < KIB:
        return f"{value:,.0f} bytes"
    return f"{mib(value)} MiB" if value >= MIB else f"{value / KIB:,.0f} KiB"


def mib(value: float) -> str:
    """Bytes as MiB, without the unit, for columns and axes: `2,256`, `66.4`, `0.0518`."""
    if abs(value) < MIB:
        return number(value / MIB)
    return f"{value / MIB:,.0f}" if value >= 100 * MIB else f"{value / MIB:,.1f}"


def decibels(value: float) -> str:
    """`69.1 dB`; `identical` where there is no error at all."""
    return "identical" if value >= IDENTICAL_DB else f"{value:.1f} dB"


def times(value: float) -> str:
    """`2.31×`."""
    return f"{value:.2f}×"


def percent(before: float, after: float) -> str:
    """The change from one to the other: `−66.9 %`; empty where there is none to speak of."""
    if not before or before == after:
        return ""
    change = 100 * (after - before) / before
    return f"{'+' if change > 0 else '−'}{abs(change):,.1f} %"


def short(text: str, most: int) -> str:
    """`text`, or its beginning and end with an ellipsis between, at most `most` characters."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1].rstrip()}…{text[-tail:].lstrip()}"
