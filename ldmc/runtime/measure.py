"""Times a bundle: load, first picture, then percentiles of denoising, decoding and both."""

import math
import time

from . import memory
from .errors import InputProblem

PHASES = ("denoise", "decode", "total")


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
        self._options = {"steps": steps, "seed": seed, "batch": batch}
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


def bench(open_pipeline, steps=20, runs=5, warmup=1, seed=0, batch=1, threads=None, on_run=None):
    """Loads a bundle and draws `warmup` + `runs` times: see Drawings.

    Args: threads: only recorded; set it where the pipeline is opened.
    Returns: dict of
        load_seconds, first_seconds: float; the very first drawing, warm-up or not.
        denoise, decode, total: see `summary`.
        open_seconds: mean of what of the total went into opening components again; 0 where all are held.
        runs, steps, warmup, batch: int. threads: int or None (one per core).
        peak_rss_bytes: most physical memory of this process so far. private_bytes_after_load: unshared, unmapped
            memory after loading. Both None where the system does not say.
    """
    drawings = Drawings(open_pipeline, steps, runs, warmup, seed, batch).run(on_run)
    timings = drawings.timings
    result = {"load_seconds": drawings.load_seconds, "first_seconds": timings[0]["total_seconds"]}
    for phase in PHASES:
        result[phase] = summary([timing[phase + "_seconds"] for timing in timings[warmup:]])
    opened = [timing["open_seconds"] for timing in timings[warmup:]]
    result["open_seconds"] = sum(opened) / len(opened)
    result.update(runs=runs, steps=steps, warmup=warmup, batch=batch, threads=threads)
    result.update(peak_rss_bytes=memory.peak_rss_bytes(), private_bytes_after_load=drawings.private_bytes)
    return result


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


def percentile(values, percent):
    """The value below which `percent` of the values lie, linear between neighbours (numpy's default)."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100.0
    low = int(math.floor(place))
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
