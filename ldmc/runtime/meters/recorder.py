"""Reads a meter in the background and integrates what it read over the time asked for.

    with Recorder(meter) as recorder:
        start = time.monotonic()
        ...
        energy = recorder.energy(start, time.monotonic())      # Energy, or None and recorder.why

Watts are integrated by the trapezoid rule, interpolated at both ends; a counter of joules by its difference, which is
exact but for the ends. There is no number without a reading before and after: None, and `why`.
"""

import bisect
import threading
import time

from .reading import MeterProblem

FIRST_READING_SECONDS = 5.0  # a child process on a slow device takes up to one to start
MOST_FAILURES = 3  # in a row: one reading over I2C may fail
LEAST_GAP_SECONDS = 3.0
GAP_INTERVALS = 10
PAUSE_SECONDS = 0.01


class Energy(object):
    """`joules` over a span of time, `mean_watts`, and `samples`: how many readings lay within it."""

    def __init__(self, joules, mean_watts, samples):
        self.joules = joules
        self.mean_watts = mean_watts
        self.samples = samples


class Recorder(object):
    """Reads a meter in a thread of its own, from `start` to `stop`.

    Args: meter: see `reading`. interval_seconds: between readings; the meter's own by default.
    Attributes:
        meter, interval_seconds.
        why: one sentence for the last question that had no answer; "" where all is well.
    """

    def __init__(self, meter, interval_seconds=None):
        self.meter = meter
        self.interval_seconds = interval_seconds or meter.interval_seconds
        self.why = ""
        self._readings = []
        self._ended_why = ""  # why the thread ended before it was asked to
        self._stop = threading.Event()
        self._thread = None

    def start(self):
        """Opens the meter, and returns when there is a first reading, or a reason why there is none in `why`."""
        self._thread = threading.Thread(target=self._run, name="meter")
        self._thread.daemon = True
        self._thread.start()
        if not self._wait_until(lambda: self._readings, FIRST_READING_SECONDS + self.interval_seconds):
            self.why = self._ended_why or "%s gave no reading in %.0f s" % (
                self.meter.title, FIRST_READING_SECONDS + self.interval_seconds)
        return self

    def stop(self):
        """Ends the thread and closes the meter, after one more reading, so that what was just done can be asked for."""
        if self._thread is None:
            return
        self._wait_for(time.monotonic())
        self._stop.set()
        self._thread.join(FIRST_READING_SECONDS + self.interval_seconds)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def energy(self, start, end):
        """Energy from `start` to `end` (time.monotonic() seconds); None where it is not known, with the reason in
        `why`. Waits for the reading after `end`."""
        self._wait_for(end)
        readings = list(self._readings)
        self.why = self._why_not(readings, start, end)
        if self.why:
            return None
        times = [reading.at for reading in readings]
        joules = self._joules(times, [reading.value for reading in readings], start, end)
        if self.meter.is_counter and joules <= 0:  # as some virtual machines show one
            self.why = "the counter of %s did not move in the %.2f s of the work" % (self.meter.title, end - start)
            return None
        within = bisect.bisect_right(times, end) - bisect.bisect_left(times, start)
        return Energy(joules, joules / (end - start), within)

    def rails(self, start, end):
        """Mean watts of each rail from `start` to `end`: those that every reading has. {} where not known."""
        self._wait_for(end)
        readings = list(self._readings)
        self.why = self._why_not(readings, start, end)
        if self.why:
            return {}
        times = [reading.at for reading in readings]
        names = set(readings[0].rails).intersection(*[reading.rails for reading in readings])
        return {name: self._joules(times, [reading.rails[name] for reading in readings], start, end) / (end - start)
                for name in names}

    def peak_used_bytes(self, start, end):
        """Most memory in use on the device, all programs together, from `start` to `end`; None where not known."""
        known = [reading.used_bytes for reading in list(self._readings)
                 if start <= reading.at <= end and reading.used_bytes is not None]
        return max(known) if known else None

    def _joules(self, times, values, start, end):
        if self.meter.is_counter:
            return _value_at(times, values, end) - _value_at(times, values, start)
        return _trapezoid(times, values, start, end)

    def _why_not(self, readings, start, end):
        """Why there is no energy for this time; "" where there is."""
        title = self.meter.title
        if not end > start:
            return "no time passed between %.3f and %.3f s" % (start, end)
        if not readings:
            return self._ended_why or "%s gave no reading" % title
        first, last = readings[0].at, readings[-1].at
        if start < first:
            return "%s was first read %.2f s after the work began" % (title, first - start)
        if end > last:
            return self._ended_why or "%s was last read %.2f s before the work ended" % (title, end - last)
        if self.meter.is_counter:  # what passes between two of its readings is counted all the same
            return ""
        gap = _longest_gap([reading.at for reading in readings], start, end)
        if gap > max(LEAST_GAP_SECONDS, GAP_INTERVALS * self.interval_seconds):
            return "%s gave no reading for %.1f s of the work" % (title, gap)
        return ""

    def _wait_for(self, instant):
        """Until there is a reading at or after `instant`, or none will come."""
        enough = 3 * self.interval_seconds + 1
        self._wait_until(lambda: self._readings and self._readings[-1].at >= instant,
                         max(0.0, instant - time.monotonic()) + enough)

    def _wait_until(self, holds, seconds):
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end or self._thread is None or not self._thread.is_alive():
                return bool(holds())
            time.sleep(PAUSE_SECONDS)
        return True

    def _run(self):
        """The thread. Whatever goes wrong in it ends as a sentence in `why`, never as silence."""
        try:
            self.meter.open(self.interval_seconds)
            try:
                self._record()
            finally:
                self.meter.close()
        except MeterProblem as problem:
            self._ended_why = str(problem)
        except Exception as problem:  # a fault of this program: the work that is measured must not fail of it
            self._ended_why = "%s failed: %s: %s" % (self.meter.title, type(problem).__name__, problem)

    def _record(self):
        failures = 0
        while not self._stop.is_set():
            try:
                reading = self.meter.read()
            except MeterProblem:
                failures += 1
                if failures == MOST_FAILURES or self.meter.paces_itself:
                    raise
                reading = None
            if reading is not None:
                failures = 0
                self._readings.append(reading)
            if not self.meter.paces_itself:
                self._stop.wait(self.interval_seconds)


def _value_at(times, values, instant):
    """Linear between the readings around `instant`."""
    right = bisect.bisect_left(times, instant)
    if times[right] == instant:
        return values[right]
    share = (instant - times[right - 1]) / (times[right] - times[right - 1])
    return values[right - 1] + share * (values[right] - values[right - 1])


def _trapezoid(times, values, start, end):
    left, right = bisect.bisect_right(times, start), bisect.bisect_left(times, end)
    points = [(start, _value_at(times, values, start))]
    points += zip(times[left:right], values[left:right])
    points.append((end, _value_at(times, values, end)))
    return sum((later[0] - earlier[0]) * (later[1] + earlier[1]) / 2 for earlier, later in zip(points, points[1:]))


def _longest_gap(times, start, end):
    """Seconds between two readings next to each other that reach into the time asked for."""
    around = times[max(0, bisect.bisect_right(times, start) - 1):bisect.bisect_left(times, end) + 1]
    return max([later - earlier for earlier, later in zip(around, around[1:])] or [0.0])
