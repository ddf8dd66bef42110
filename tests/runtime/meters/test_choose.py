"""Which meter is taken, and the sentence where there is none."""

import pytest

from ldmc.runtime.meters import choose, tegrastats
from tests.runtime.meters.machines import battery, nano, orin, package, write
from tests.runtime.meters.test_tegrastats import AGX, NANO


def nothing(name):
    """`find` of a machine without programs."""
    return None


@pytest.mark.parametrize("power", ["tegrastats", ""])
@pytest.mark.parametrize("board, title", [(nano, "INA3221, POM_5V_IN"), (orin, "INA3221, VDD_IN")])
def test_a_jetsons_chip_is_read_before_its_program(tmp_path, tools, power, board, title):
    tools.prints("tegrastats", [NANO + "\n"])
    meter, why = choose(power, str(board(tmp_path)), tools.find)
    assert (meter.title, why) == (title, None)


def test_its_program_where_the_chip_cannot_be_read(tmp_path, tools):
    write(tmp_path, "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input", "")
    tools.prints("tegrastats", [NANO + "\n"])
    meter, why = choose("tegrastats", str(tmp_path), tools.find)
    assert (meter.title, why) == ("tegrastats, POM_5V_IN", None)


def test_a_processor(tmp_path):
    package(tmp_path)
    battery(tmp_path)
    assert choose("rapl", str(tmp_path), nothing)[0].title == "RAPL, package-0"
    assert choose("", str(tmp_path), nothing)[0].title == "RAPL, package-0"
    assert choose("battery", str(tmp_path), nothing)[0].title == "battery (battery)"


def test_a_card_is_not_taken_where_none_is_asked_for(tmp_path, tools):
    tools.prints("nvidia-smi", ["1232 MiB, 101.43 W\n"])
    assert choose("", str(tmp_path), tools.find)[0] is None


def test_a_phone_whose_files_are_closed(tmp_path, tools):
    battery(tmp_path, status=None)
    tools.prints("termux-battery-status", [
        '{"status": "DISCHARGING", "plugged": "UNPLUGGED", "current": -500000, "voltage": 4000}\n'], then="")
    assert choose("battery", str(tmp_path), tools.find)[0].title == "battery (termux-battery-status)"


@pytest.mark.parametrize("power, words", [
    ("tegrastats", "there is no INA3221 in /sys/bus/i2c/drivers; there is no tegrastats on PATH"),
    ("rapl", "there is no RAPL counter in /sys/class/powercap"),
    ("battery", "there is no battery in /sys/class/power_supply; there is no termux-battery-status on PATH"),
    ("", "nothing here measures power: no rails of a Jetson, no battery, and there is no RAPL counter in "
         "/sys/class/powercap"),
])
def test_nothing_here(tmp_path, power, words):
    assert choose(power, str(tmp_path), nothing) == (None, words)


def test_what_is_here_and_cannot_be_read_is_the_reason(tmp_path):
    battery(tmp_path, status="Charging")
    words = "the battery is not what powers this device now (Charging): unplug it"
    assert choose("", str(tmp_path), nothing) == (None, words)
    assert choose("battery", str(tmp_path), nothing) == (None, words)


def test_a_program_that_says_nothing_is_given_up(tmp_path, tools, monkeypatch):
    from ldmc.runtime import meters
    monkeypatch.setattr(meters, "FIRST_READING_SECONDS", 0.3)
    tools.prints("tegrastats", [])
    assert choose("tegrastats", str(tmp_path), tools.find) == (None, "tegrastats gave no reading in 0 s")


def test_a_program_without_the_rail_is_the_reason(tmp_path, tools):
    tools.prints("tegrastats", [AGX + "\n"] * tegrastats.MOST_WITHOUT)
    assert "no rail of the whole module" in choose("tegrastats", str(tmp_path), tools.find)[1]


def test_here():
    """Whatever this machine is: one of the two, and the meter can be read."""
    meter, why = choose()
    assert (meter is None) == bool(why)
