"""Seconds and peak memory of one stage of work, measured from outside the pass."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ldmc.runtime.memory import peak_rss_bytes, reset_peak

__all__ = ["Reading", "measured", "reset_peak"]


@dataclass
class Reading:
    """seconds: wall time. peak_rss_bytes: most resident memory of this process meanwhile; None where unknown.

    The peak is that of the stage alone where the kernel lets the mark be reset, else of the process so far.
    """

    seconds: float = 0.0
    peak_rss_bytes: int | None = None


@contextlib.contextmanager
def measured() -> Iterator[Reading]:
    """Measure the body of the `with`; the reading is filled in when it ends."""
    reading = Reading()
    reset_peak()
    start = time.perf_counter()
    try:
        yield reading
    finally:
        reading.seconds = time.perf_counter() - start
        reading.peak_rss_bytes = peak_rss_bytes()
