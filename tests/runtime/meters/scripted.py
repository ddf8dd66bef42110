"""A meter that plays readings back, at the times a test gives them."""

import time

from ldmc.runtime.meters import MeterProblem, Reading
from tests.patience import HANG_SECONDS


class ScriptedMeter(object):
    """Gives `readings` one after the other, then repeats nothing; a MeterProblem or other exception among them is
    raised. Its times are those of the readings."""

    paces_itself = False

    def __init__(self, readings, is_counter=False, title="a scripted meter", interval_seconds=0.001):
        self.title = title
        self.interval_seconds = interval_seconds
        self.is_counter = is_counter
        self._readings = list(readings)
        self.opened = self.closed = 0

    def open(self, interval_seconds):
        self.opened += 1

    def read(self):
        if not self._readings:
            return None
        found = self._readings.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def close(self):
        self.closed += 1


class LiveMeter(object):
    """Reads `value(seconds since it was opened)` now."""

    paces_itself = False
    is_counter = False
    title = "a live meter"
    interval_seconds = 0.005

    def __init__(self, value):
        self._value = value

    def open(self, interval_seconds):
        self._start = time.monotonic()

    def read(self):
        now = time.monotonic()
        return Reading(now, self._value(now - self._start))

    def close(self):
        pass


def wait_for_readings(recorder, count=1):
    """Until so many more readings were made; each was begun after the last of those that were there."""
    wanted = len(recorder._readings) + count + 1
    deadline = time.monotonic() + HANG_SECONDS
    while len(recorder._readings) < wanted:
        assert time.monotonic() < deadline and recorder._thread.is_alive(), recorder._ended_why
        time.sleep(0.001)


def readings(*pairs, **rails):
    """(at, value) pairs as readings; rails: name -> their values."""
    return [Reading(at, value, {name: values[index] for name, values in rails.items()})
            for index, (at, value) in enumerate(pairs)]


__all__ = ["LiveMeter", "MeterProblem", "Reading", "ScriptedMeter", "readings", "wait_for_readings"]
