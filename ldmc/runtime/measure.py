"""Draws with a bundle again and again, and says how long it took: medians and percentiles."""

import math
import time

from . import memory, stopping
from .errors import InputProblem

PHASES = ("denoise", "decode", "total")
LEAST_RUNS = 3  # of fewer, nobody can say how far they spread
WIDE_SPREAD = 0.1  # from here on a median is not to be trusted to the digits that are shown
FEW_RUNS = "how far runs spread takes at least %d of them" % LEAST_RUNS


class Drawings(object):
    """A bundle that is opened and draws `warmup` + `runs` times, each the same picture.

    Args:
        open_pipeline: called once without arguments; gives a Pipeline, which is closed at the end.
        steps, seed, batch: of every drawing.
        runs: drawings that are measured, from 1. warmup: drawings before them that are not.
    Attributes, as far as the work has come:
        load_seconds: of open_pipeline. private_bytes: unshared, unmapped memory after it. None before, and where the
            system does not say.
        timings: of every drawing, as `Pipeline.generate_timed` gives them. image: the last drawing.
    Raises: InputProblem for counts that do not fit.
    """

    def __init__(self, open_pipeline, steps=20, runs=5, warmup=1, seed=0, batch=1):
        for name, value, least in (("runs", runs, 1), ("warmup", warmup, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputProblem("%s is %r, expected an integer from %d" % (name, value, least))
        self._open_pipeline = open_pipeline
        self._options = {"steps": steps, "seed": seed, "batch": batch, "on_step": _check}
        self.count = warmup + runs
        self.load_seconds = self.private_bytes = self.image = None
        self.timings = []

    def run(self, on_run=None):
        """Does it. on_run: called as on_run(done, of) after each drawing."""
        start = time.perf_counter()
        pipeline = self._open_pipeline()
        self.load_seconds = time.perf_counter() - start
        self.private_bytes = memory.private_bytes()
        try:
            for done in range(1, self.count + 1):
                self.image, timing = pipeline.generate_timed(**self._options)
                self.timings.append(timing)
                if on_run is not None:
                    on_run(done, self.count)
        finally:
            pipeline.close()
        return self


def _check(_done, _of):
    """After each step: whether a stop was asked for."""
    stopping.check()


def summary(seconds):
    """p50, p90, p99, least, mean and number of a list of seconds, as a dict."""
    return {
        "p50_seconds": percentile(seconds, 50),
        "p90_seconds": percentile(seconds, 90),
        "p99_seconds": percentile(seconds, 99),
        "min_seconds": min(seconds),
        "mean_seconds": sum(seconds) / len(seconds),
        "n": len(seconds),
    }


def spread(seconds):
    """Interquartile range over median: how far the middle half of the runs lies apart, which a single run that was held
    up does not change. None for fewer than LEAST_RUNS."""
    if len(seconds) < LEAST_RUNS:
        return None
    return (percentile(seconds, 75) - percentile(seconds, 25)) / percentile(seconds, 50)


def percentile(values, percent):
    """The value below which `percent` of the values lie, linear between neighbours (numpy's default)."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100.0
    low = int(math.floor(place))
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
