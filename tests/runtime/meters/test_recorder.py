"""Integration of readings, and what a recorder says where there is nothing to integrate."""

import threading
import time

import pytest

from ldmc.runtime.meters import MeterProblem, Recorder
from tests.runtime.meters.scripted import LiveMeter, Reading, ScriptedMeter, readings, wait_for_readings


def recorded(found, **options):
    """A recorder that has read `found` and has ended."""
    meter = ScriptedMeter(found, **options)
    recorder = Recorder(meter).start()
    while meter._readings and recorder._thread.is_alive():
        time.sleep(0.001)
    recorder._stop.set()
    recorder._thread.join()
    return recorder


STEADY = [(0.0, 10.0), (1.0, 10.0), (2.0, 10.0), (3.0, 10.0)]
RISING = [(0.0, 0.0), (1.0, 10.0), (3.0, 30.0)]
SPIKE = [(0.0, 0.0), (1.0, 0.0), (2.0, 100.0), (3.0, 0.0)]


@pytest.mark.parametrize("pairs, start, end, joules", [
    (STEADY, 0.0, 3.0, 30.0),
    (STEADY, 0.25, 2.75, 25.0),
    (STEADY, 1.25, 1.75, 5.0),         # between two readings
    (RISING, 0.0, 3.0, 45.0),          # 10 W a second: 5 t^2
    (RISING, 0.5, 2.5, 30.0),
    (RISING, 1.5, 1.7, 3.2),
    (SPIKE, 0.0, 3.0, 100.0),
    (SPIKE, 1.5, 2.0, 37.5),           # 50 W at the start
    (SPIKE, 1.0, 1.5, 12.5),
])
def test_power_is_integrated_by_the_trapezoid_rule_with_both_ends_interpolated(pairs, start, end, joules):
    energy = recorded(readings(*pairs)).energy(start, end)
    assert energy.joules == pytest.approx(joules)
    assert energy.mean_watts == pytest.approx(joules / (end - start))
    assert energy.samples == sum(start <= at <= end for at, _ in pairs)


@pytest.mark.parametrize("start, end, joules", [(0.0, 10.0, 100.0), (1.0, 10.0, 60.0), (0.5, 5.5, 50.0)])
def test_a_counter_is_exact_between_its_readings(start, end, joules):
    counted = readings((0.0, 0.0), (1.0, 40.0), (10.0, 100.0))
    assert recorded(counted, is_counter=True).energy(start, end).joules == pytest.approx(joules)


def test_a_counter_that_stands_still_is_no_energy():
    """As some virtual machines show one: no number, never zero."""
    recorder = recorded(readings((0.0, 5.0), (10.0, 5.0)), is_counter=True)
    assert recorder.energy(1.0, 9.0) is None
    assert recorder.why == "the counter of a scripted meter did not move in the 8.00 s of the work"


def test_a_counter_may_be_silent_for_long_and_power_may_not():
    pairs = [(0.0, 10.0), (1.0, 20.0), (9.0, 30.0)]
    assert recorded(readings(*pairs), is_counter=True).energy(0.5, 8.0) is not None
    recorder = recorded(readings(*pairs))
    assert recorder.energy(0.5, 8.0) is None
    assert recorder.why == "a scripted meter gave no reading for 8.0 s of the work"
    assert recorder.energy(0.0, 1.0).joules == 15 and recorder.why == ""


def test_rails_have_a_mean_each():
    recorder = recorded(readings((0.0, 5.0), (1.0, 5.0), (2.0, 5.0), gpu=[0.0, 2.0, 0.0], cpu=[1.0, 1.0, 1.0]))
    assert recorder.rails(0.0, 2.0) == {"gpu": 1.0, "cpu": 1.0}
    assert recorder.rails(0.0, 9.0) == {} and "last read" in recorder.why


def test_a_rail_that_some_readings_lack_is_left_out():
    found = [Reading(0.0, 5.0, {"gpu": 1.0, "cpu": 1.0}), Reading(1.0, 5.0, {"cpu": 3.0})]
    assert recorded(found).rails(0.0, 1.0) == {"cpu": 2.0}


def test_memory_is_the_most_that_was_in_use():
    found = [Reading(at, 1.0, used_bytes=used) for at, used in [(0, 100), (1, 300), (2, None), (3, 200)]]
    recorder = recorded(found)
    assert recorder.peak_used_bytes(0, 3) == 300
    assert recorder.peak_used_bytes(2.5, 3) == 200
    assert recorder.peak_used_bytes(1.5, 2.5) is None


@pytest.mark.parametrize("start, end, words", [
    (-1.0, 2.0, "a scripted meter was first read 1.00 s after the work began"),
    (1.0, 5.0, "a scripted meter was last read 2.00 s before the work ended"),
    (1.0, 1.0, "no time passed"),
])
def test_without_a_reading_on_both_sides_there_is_no_number(start, end, words):
    recorder = recorded(readings(*STEADY))
    assert recorder.energy(start, end) is None
    assert words in recorder.why


def test_a_meter_that_cannot_be_read_is_a_sentence():
    recorder = recorded([MeterProblem("the sensor is gone")] * 3)
    assert recorder.why == "the sensor is gone"
    assert recorder.energy(0, 1) is None and recorder.why == "the sensor is gone"
    assert recorder.meter.closed == 1


def test_a_meter_that_fails_in_the_middle_is_a_sentence():
    recorder = recorded(readings(*STEADY) + [MeterProblem("i2c: no answer")] * 3)
    assert recorder.energy(0.0, 3.0).joules == 30
    assert recorder.energy(0.0, 3.5) is None and recorder.why == "i2c: no answer"


def test_one_reading_that_fails_does_no_harm():
    found = readings(*STEADY)
    recorder = recorded([found[0], MeterProblem("once"), MeterProblem("twice")] + found[1:])
    assert recorder.energy(0.0, 3.0).joules == 30


def test_a_fault_of_the_meter_itself_is_a_sentence_too():
    recorder = recorded([ZeroDivisionError("division by zero")])
    assert recorder.why == "a scripted meter failed: ZeroDivisionError: division by zero"


def test_a_meter_that_does_not_open_is_a_sentence():
    class Closed(ScriptedMeter):
        def open(self, interval_seconds):
            raise MeterProblem("in use by another program")

    with Recorder(Closed([])) as recorder:
        assert recorder.why == "in use by another program"


def test_what_was_just_done_can_be_asked_for():
    with Recorder(LiveMeter(lambda seconds: 7.0)) as recorder:
        start = time.monotonic()
        wait_for_readings(recorder, 2)
        end = time.monotonic()
        energy = recorder.energy(start, end)
        assert energy.mean_watts == pytest.approx(7.0) and energy.samples >= 2
    assert energy.joules == pytest.approx(7.0 * (end - start))


def test_after_the_end_all_of_it_can_be_asked_for():
    with Recorder(LiveMeter(lambda seconds: 3.0)) as recorder:
        start = time.monotonic()
        wait_for_readings(recorder)
        end = time.monotonic()
    assert not [thread for thread in threading.enumerate() if thread.name == "meter"]
    assert recorder.energy(start, end).mean_watts == pytest.approx(3.0)


def test_a_load_that_comes_and_goes_is_found():
    watts = [10.0]
    with Recorder(LiveMeter(lambda _seconds: watts[0])) as recorder:
        start = time.monotonic()
        wait_for_readings(recorder)
        watts[0] = 30.0
        wait_for_readings(recorder, 3)
        watts[0] = 10.0
        wait_for_readings(recorder)
        end = time.monotonic()
        energy = recorder.energy(start, end)
    high = [reading.at for reading in recorder._readings if reading.value == 30.0]
    assert energy.joules >= 10.0 * (end - start) + 20.0 * (high[-1] - high[0]) * 0.999
