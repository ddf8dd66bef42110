"""What a meter is, and what one reading of it is.

A meter has
    title               what it reads, for people: `RAPL, package-0`
    interval_seconds    how often it is worth reading
    is_counter          whether `value` is joules counted so far (exact between two readings) or watts at one instant
    paces_itself        whether `read` waits for the next reading (a child process), or answers at once (a file)
    open(interval_seconds), read() -> Reading or None where none has come yet, close()

`open` and `read` raise MeterProblem, one sentence: what cannot be read, where, and what would help.
"""

import io
import time


class MeterProblem(Exception):
    """A meter cannot be read; the text is the reason that stands where the number would."""


class NotHere(MeterProblem):
    """There is no such meter here at all."""


class Reading(object):
    """One reading.

    Args:
        at: time.monotonic() seconds, which is one clock for all processes of a Linux machine.
        value: watts, or joules counted so far where it is a counter; of everything the meter covers.
        rails: name -> the same of each part that is known apart; parts may overlap, and need not sum to the whole.
        used_bytes: memory in use on the device, all programs together; None where the meter does not say.
    """

    __slots__ = ("at", "value", "rails", "used_bytes")

    def __init__(self, at, value, rails=None, used_bytes=None):
        self.at = at
        self.value = value
        self.rails = rails or {}
        self.used_bytes = used_bytes


def timed(read):
    """(instant, what `read()` gave): the middle of the time that it took."""
    start = time.monotonic()
    found = read()
    return (start + time.monotonic()) / 2, found


def read_text(path):
    """A small file of the kernel's, stripped. Raises OSError."""
    with io.open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read().strip()


def text_or_none(path):
    """The same, or None where it cannot be read."""
    try:
        return read_text(path)
    except OSError:
        return None


def number_or_none(path):
    """A whole number in a file; None where there is none."""
    text = text_or_none(path)
    try:
        return int(text)
    except (TypeError, ValueError):
        return None
