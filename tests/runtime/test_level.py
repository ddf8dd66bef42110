"""The columns of one level, from timings and a recorder."""

import pytest

from ldmc.runtime.level import MEMORY, POWER, level_record
from ldmc.runtime.measure import FEW_RUNS
from ldmc.runtime.meters import Energy


class FixedRecorder(object):
    """40 W at all times, in readings every 0.1 s; or nothing, with a reason."""

    interval_seconds = 0.1

    class meter(object):
        title = "a fixed meter"

    def __init__(self, watts=40.0, why="", samples_per_second=10):
        self.watts, self.why, self.samples_per_second = watts, why, samples_per_second
        self.asked = []

    def energy(self, start, end):
        self.asked.append((start, end))
        if self.why:
            return None
        return Energy(self.watts * (end - start), self.watts, int((end - start) * self.samples_per_second))


def drawing(start, denoise, decode):
    return {"denoise_seconds": denoise, "decode_seconds": decode, "total_seconds": denoise + decode,
            "open_seconds": 0.0, "start_monotonic_seconds": start, "end_monotonic_seconds": start + denoise + decode}


DRAWINGS = [drawing(100, 8, 1), drawing(110, 1, 0.5), drawing(120, 3, 0.5)]


def test_a_level_has_all_columns():
    recorder = FixedRecorder()
    memory = {"peak_rss_bytes": 1, "peak_pss_bytes": 2, "private_bytes_after_load": 3, "peak_gpu_bytes": 4}
    level = level_record(DRAWINGS, 1, memory, recorder, idle_watts=10.0)
    assert recorder.asked == [(110, 111.5), (120, 123.5)]  # the warm-up is not measured
    assert level["first_seconds"] == 9 and level["warmup_seconds"] == [9]
    assert level["denoise"] == {"p50_seconds": 2, "p90_seconds": 2.8, "p99_seconds": 2.98, "min_seconds": 1,
                                "mean_seconds": 2, "n": 2}
    assert level["total"]["mean_seconds"] == 2.5 and level["decode"]["n"] == 2
    assert level["run_seconds"] == [[1, 0.5, 1.5], [3, 0.5, 3.5]]
    assert {name: level[name] for name in MEMORY} == memory
    assert {name: level[name] for name in POWER} == {
        "power_watts": 40, "power_net_watts": 30, "energy_joules": 100, "energy_net_joules": 75}
    assert level["absent"] == {"spread": FEW_RUNS}


def test_how_far_runs_spread():
    level = level_record([drawing(100, 8, 1)] + [drawing(110, total, 0) for total in (1, 2, 3, 4, 50)], 1)
    assert level["spread"] == (4 - 2) / 3  # neither the warm-up nor one long run counts
    assert "spread" not in level["absent"]


def test_without_a_meter_there_is_the_callers_reason_and_no_number():
    level = level_record(DRAWINGS, 1, {"peak_rss_bytes": 1}, absent={
        "power_watts": "RAPL can be read by root only", "peak_gpu_bytes": "it runs on the processor"})
    assert [level[name] for name in POWER] == [None] * 4
    assert level["absent"] == dict(
        {name: "RAPL can be read by root only" for name in POWER}, spread=FEW_RUNS,
        peak_gpu_bytes="it runs on the processor",
        peak_pss_bytes="this system does not say", private_bytes_after_load="this system does not say")


@pytest.mark.parametrize("recorder, idle, missing, words", [
    (FixedRecorder(why="tegrastats ended"), 10, POWER, "tegrastats ended"),
    (FixedRecorder(samples_per_second=0.4), 10, POWER, "a fixed meter gave 1 readings in the 5.00 s of drawing"),
    (FixedRecorder(), None, POWER[1::2], "idle power was not measured before"),
    (FixedRecorder(), 40.5, POWER[1::2], "40.00 W while drawing is not above the 40.50 W of idling"),
])
def test_what_is_not_known_is_none_and_says_why(recorder, idle, missing, words):
    level = level_record(DRAWINGS, 1, dict.fromkeys(MEMORY, 1), recorder, idle)
    assert level["absent"].pop("spread") == FEW_RUNS
    assert {name for name in POWER if level[name] is None} == set(missing) == set(level["absent"])
    assert all(words in why for why in level["absent"].values())


def test_a_level_that_was_stopped_in_its_warm_up_has_none():
    level = level_record(DRAWINGS[:1], 2, None, FixedRecorder())
    assert level["warmup_seconds"] == [9] and level["run_seconds"] == [] and level["total"] is None
    assert level["absent"]["total"] == level["absent"]["power_watts"] == "there was no drawing"
    assert level_record([], 2)["absent"]["first_seconds"] == "there was no drawing"
