"""Whether a speedup means what it says: runs that spread widely, or overlap with the baseline's, say so beside it.

    speedup 1.04~    its runs spread by 31%: more than 10% ...
    speedup 1.04~    0.93 to 1.12 between the middle halves of its runs and the baseline's, which overlap ...

The spread is the interquartile range of the runs over their median: half of the runs lie that close together, and one
that a busy machine held up changes little of it. The interval of a speedup is that between the same middle halves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ldmc.runtime.measure import WIDE_SPREAD

MARK = "~"  # beside a speedup


def doubt(level: Mapping[str, Any]) -> str:
    """Why the times of `level`, and its speedup, are not to be read as exact; "" where they may be.

    level: of a result, perhaps of an ldmc that did not say how far runs spread.
    """
    said = []
    spread, low, high = (level.get(key) for key in ("spread", "speedup_low", "speedup_high"))
    if spread is not None and spread > WIDE_SPREAD:
        said.append(f"its runs spread by {spread:.0%} (interquartile range over median), more than {WIDE_SPREAD:.0%}")
    if low is not None and high is not None and low <= 1 <= high:
        said.append(f"the middle half of its runs overlaps the baseline's (speedup {low:.2f} to {high:.2f}), so that "
                    "neither is shown to be faster")  # fmt: skip
    return "; ".join(said)
