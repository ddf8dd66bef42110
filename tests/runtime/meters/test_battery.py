"""Batteries: signs, units and chargers, in sysfs and by termux-battery-status."""

import json
import time

import pytest

from ldmc.runtime.meters import MeterProblem
from ldmc.runtime.meters import termux
from ldmc.runtime.meters.battery import Battery, amperes, volts
from ldmc.runtime.meters.termux import TermuxBattery
from tests.runtime.meters.machines import battery, read_all, write


def watts(root):
    return read_all(Battery(str(root), None), 1)[0].value


@pytest.mark.parametrize("files, expected", [
    ({}, 2.0),
    ({"current_now": 500000}, 2.0),                                   # the sign is the maker's
    ({"current_now": -850, "voltage_now": 3900000}, 3.315),            # Samsung: mA
    ({"current_now": 4100, "voltage_now": 3900}, 15.99),               # mA and mV
    ({"current_now": -23000}, 0.092),
    ({"status": "discharging"}, 2.0),
    ({"current_now": None, "power_now": 12500000}, 12.5),              # many laptops: uW
    ({"voltage_now": 15400000, "current_now": 1000000}, 15.4),
])
def test_what_it_gives(tmp_path, files, expected):
    assert watts(battery(tmp_path, **files)) == pytest.approx(expected)


@pytest.mark.parametrize("files, words", [
    ({"status": "Charging"}, r"the battery is not what powers this device now \(Charging\): unplug it"),
    ({"status": "Full"}, r"\(Full\): unplug it"),
    ({"status": "Not charging"}, r"\(Not charging\): unplug it"),
    ({"status": None}, "does not say whether it is being charged"),
    ({"current_now": None}, "current_now cannot be read"),
    ({"voltage_now": None}, "voltage_now cannot be read"),
    ({"current_now": 0}, "no current flows"),
    ({"voltage_now": 40}, "a voltage of 40, which is none"),
])
def test_no_number_and_why(tmp_path, files, words):
    meter = Battery(str(battery(tmp_path, **files)), None)
    with pytest.raises(MeterProblem, match=words):
        meter.read()


def test_a_charger_that_is_too_weak_counts_as_one(tmp_path):
    """The battery discharges, but what the device draws is more than what comes out of it."""
    battery(tmp_path)
    write(tmp_path, "sys/class/power_supply/usb/type", "USB")
    online = write(tmp_path, "sys/class/power_supply/usb/online", 1)
    with pytest.raises(MeterProblem, match="Discharging, usb is connected"):
        watts(tmp_path)
    online.write_text("0\n")
    assert watts(tmp_path) == 2.0


def test_the_battery_of_a_mouse_is_none(tmp_path):
    battery(tmp_path, name="hidpp_battery_0", scope="Device", current_now=1)
    with pytest.raises(MeterProblem, match="there is no battery in"):
        Battery(str(tmp_path), None)
    assert Battery(str(battery(tmp_path, name="qcom-battery")), None).title == "battery (qcom-battery)"


@pytest.mark.parametrize("number, expected", [
    (20000, 0.02), (-691537, 0.691537), (8000000, 8.0), (10000, 10.0), (950, 0.95), (-20, 0.02)])
def test_units_of_current(number, expected):
    assert amperes(number) == pytest.approx(expected)


@pytest.mark.parametrize("number, expected", [(3912000, 3.912), (3912, 3.912), (4, 4.0), (17400000, 17.4)])
def test_units_of_voltage(number, expected):
    assert volts(number) == pytest.approx(expected)


NEW = {"present": True, "technology": "Li-ion", "health": "GOOD", "plugged": "UNPLUGGED", "status": "DISCHARGING",
       "temperature": 29.3, "voltage": 3912, "current": -823000, "current_average": None, "percentage": 73,
       "level": 73, "scale": 100, "charge_counter": 2711000, "cycle": 301}


def answers(tools, **changes):
    """termux-battery-status that says NEW but for `changes`; None leaves a key out."""
    said = {key: value for key, value in {**NEW, **changes}.items() if value is not None}
    tools.prints("termux-battery-status", [json.dumps(said, indent=2) + "\n"], then="")
    return TermuxBattery("/", tools.find)


@pytest.mark.parametrize("changes, expected", [
    ({}, 0.823 * 3.912),
    ({"current": 1240}, 1.24 * 3.912),           # a phone that gives mA, over 1 A: left as it is
    ({"current": -823, "voltage": 3.912}, 0.823 * 3.912),
    ({"plugged": None}, 0.823 * 3.912),
])
def test_termux(tools, changes, expected):
    assert read_all(answers(tools, **changes), 1)[0].value == pytest.approx(expected)


@pytest.mark.parametrize("changes, words", [
    ({"voltage": None}, "gives no voltage: update the app Termux:API"),
    ({"voltage": -1000}, "gives no voltage"),
    ({"current": None}, "gives no current on this phone"),
    ({"current": "unknown"}, "gives no current on this phone"),
    ({"status": "CHARGING", "plugged": "PLUGGED_USB"}, r"\(CHARGING, PLUGGED_USB\): unplug it"),
    ({"plugged": "PLUGGED_AC"}, r"\(DISCHARGING, PLUGGED_AC\): unplug it"),
    ({"status": None}, "does not say whether it is being charged"),
])
def test_termux_has_no_number_and_says_why(tools, changes, words):
    with pytest.raises(MeterProblem, match=words):
        answers(tools, **changes).read()


@pytest.mark.parametrize("source, words", [
    ("print('Termux:API is not yet available on Google Play')", "said: Termux:API is not yet available"),
    ("", "said: nothing"),
    ("print('[1]')", r"said: \[1\]"),
])
def test_termux_that_says_something_else(tools, source, words):
    tools.add("termux-battery-status", source)
    with pytest.raises(MeterProblem, match=words):
        TermuxBattery("/", tools.find).read()


def test_termux_without_its_app_waits_for_ever_and_we_do_not(tools, monkeypatch):
    monkeypatch.setattr(termux, "ANSWER_SECONDS", 0.3)
    tools.add("termux-battery-status", "sleep 60; echo {}", interpreter="/bin/sh")  # the shell's child has the pipe
    start = time.monotonic()
    with pytest.raises(MeterProblem, match="did not answer in 0 s: install the app Termux:API"):
        TermuxBattery("/", tools.find).read()
    assert time.monotonic() - start < 60  # as long as the program takes
