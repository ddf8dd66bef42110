"""RAPL counters: packages and their parts, wrapping, and who may read them."""

import os
import time

import pytest

from ldmc.runtime.meters import MeterProblem, Recorder
from ldmc.runtime.meters.rapl import RAPL
from tests.runtime.meters.machines import package, write
from tests.runtime.meters.scripted import wait_for_readings


def opened(root):
    meter = RAPL(str(root), None)
    meter.open(0.01)
    return meter


def test_joules_are_those_since_it_was_opened(tmp_path):
    counter = package(tmp_path, energy_uj=5000000)
    meter = opened(tmp_path)
    assert meter.read().value == 0
    counter.write_text("7500000\n")
    assert meter.read().value == 2.5
    assert meter.title == "RAPL, package-0" and meter.is_counter


def test_the_counter_wraps(tmp_path):
    counter = package(tmp_path, energy_uj=9000000, range_uj=10000000)
    meter = opened(tmp_path)
    for now, joules in [(9900000, 0.9), (100000, 1.1), (9000000, 10.0), (500000, 11.5)]:
        counter.write_text(str(now))
        assert meter.read().value == pytest.approx(joules)


def test_a_counter_that_goes_back_and_has_no_range_is_a_sentence(tmp_path):
    counter = package(tmp_path, range_uj="unknown")
    meter = opened(tmp_path)
    counter.write_text("5")
    with pytest.raises(MeterProblem, match="energy_uj went back from 1000000 to 5 and does not say where it wraps"):
        meter.read()


def test_packages_are_summed_and_their_parts_are_not(tmp_path):
    counters = [package(tmp_path, number=0), package(tmp_path, number=1), package(tmp_path, number=2, name="psys")]
    for part, name in [("0:0", "core"), ("0:1", "uncore"), ("1:0", "dram")]:
        folder = f"sys/class/powercap/intel-rapl:{part}"
        write(tmp_path, f"{folder}/name", name)
        counters.append(write(tmp_path, f"{folder}/energy_uj", 1000000))
    package(tmp_path / "mmio", number=0)
    (tmp_path / "mmio/sys/class/powercap/intel-rapl:0").rename(tmp_path / "sys/class/powercap/intel-rapl-mmio:0")
    meter = opened(tmp_path)
    for counter, joules in zip(counters, [10, 20, 50, 4, 1, 3]):
        counter.write_text(str(1000000 + joules * 1000000))
    reading = meter.read()
    assert reading.value == 30
    assert reading.rails == {"package-0": 10, "package-1": 20, "psys": 50, "package-0/core": 4, "package-0/uncore": 1,
                             "package-1/dram": 3}
    assert meter.title == "RAPL, package-0 + package-1"


def test_mean_power_over_the_work_with_a_wrap_in_it(tmp_path):
    counter = package(tmp_path, energy_uj=9000000, range_uj=10000000)
    with Recorder(RAPL(str(tmp_path), None), interval_seconds=0.005) as recorder:
        start = time.monotonic()
        wait_for_readings(recorder)
        counter.write_text("1000000")
        wait_for_readings(recorder)
        end = time.monotonic()
        energy = recorder.energy(start, end)
        assert energy.joules == pytest.approx(2.0)
        assert recorder.rails(start, end) == {"package-0": pytest.approx(2.0 / (end - start))}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_counter_of_roots_says_so(tmp_path):
    package(tmp_path).chmod(0)
    with pytest.raises(MeterProblem, match="energy_uj is readable by root only: run as root, or sudo chmod a"):
        RAPL(str(tmp_path), None)


def test_a_counter_that_is_refused_says_so_to_root_too(tmp_path, monkeypatch):
    path = package(tmp_path)
    from ldmc.runtime.meters import rapl

    def refuse(asked):
        raise PermissionError(13, "Permission denied", asked)

    monkeypatch.setattr(rapl, "read_text", refuse)
    with pytest.raises(MeterProblem) as caught:
        RAPL(str(tmp_path), None)
    assert str(caught.value) == (
        f"RAPL's counter {path} is readable by root only: run as root, or sudo chmod a+r {path}")


@pytest.mark.parametrize("flags, words", [
    ("flags\t\t: fpu vme hypervisor lahf_lm", "this is a virtual machine, which has no RAPL counter"),
    ("flags\t\t: fpu vme lahf_lm", "there is no RAPL counter in /sys/class/powercap"),
    ("", "there is no RAPL counter in /sys/class/powercap"),
])
def test_a_machine_without_one(tmp_path, flags, words):
    write(tmp_path, "proc/cpuinfo", f"processor\t: 0\n{flags}")
    with pytest.raises(MeterProblem) as caught:
        RAPL(str(tmp_path), None)
    assert str(caught.value) == words
