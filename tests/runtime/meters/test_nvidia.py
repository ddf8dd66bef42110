"""NVIDIA's cards: the library through ctypes, against a double in C, and the program nvidia-smi."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ldmc.runtime.meters import MeterProblem, Recorder, nvidia_smi
from ldmc.runtime.meters.nvidia_smi import NvidiaSmi
from ldmc.runtime.meters.nvml import NVML
from ldmc.runtime.meters.nvml_library import Gpu
from ldmc.runtime.meters.watch import GpuMemory
from tests.runtime.meters.machines import read_all
from tests.runtime.meters.scripted import wait_for_readings

SOURCE = Path(__file__).parents[2] / "doubles" / "nvml.c"
NAME = "NVIDIA GeForce RTX 3070 Laptop GPU"
MIB = 1 << 20


def compile_nvml(path, *options):
    """libnvidia-ml's double, compiled at `path`; skips where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc or gcc) to make the libnvidia-ml double with")
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(path), str(SOURCE), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return str(path)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return compile_nvml(tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1")


@pytest.fixture
def gpu(library):
    found = Gpu(0, library)
    yield found
    found.close()


def test_what_a_card_says(gpu, monkeypatch):
    monkeypatch.setenv("NVML_DOUBLE_WATTS", "101.43")
    assert gpu.name == NAME
    assert gpu.power_watts() == pytest.approx(101.43)
    assert gpu.used_bytes() == 1232 * MIB
    start, before, began = time.monotonic(), gpu.energy_joules(), time.monotonic()
    time.sleep(0.05)
    ended, after, end = time.monotonic(), gpu.energy_joules(), time.monotonic()
    millijoule = 1e-3  # as the counter counts
    assert 101.43 * (ended - began) - millijoule <= after - before <= 101.43 * (end - start) + millijoule


@pytest.mark.parametrize("processes, expected", [
    ("77:100 4242:1200 99:1", 1200 * MIB),
    (" ".join("%d:5" % pid for pid in range(4230, 4250)), 5 * MIB),
    ("4242:300 4242:30", 330 * MIB),  # compute and MPS
    ("77:100", None),
    ("4242:-1", None),                # the driver does not tell
    ("", None),
])
@pytest.mark.parametrize("version", ["v2", "v1"])
def test_memory_of_a_process(library, tmp_path, monkeypatch, processes, expected, version):
    if version == "v1":
        library = compile_nvml(tmp_path / "libold.so", "-DOLD_PROCESSES")
    monkeypatch.setenv("NVML_DOUBLE_PROCESSES", processes)
    gpu = Gpu(0, library)
    assert gpu.process_bytes(4242) == expected
    gpu.close()


def test_the_energy_counter_is_taken_where_there_is_one(library, monkeypatch):
    monkeypatch.setenv("NVML_DOUBLE_WATTS", "80")
    meter = NVML("/", None, library=library)
    assert meter.is_counter and meter.title == f"NVML, {NAME}"
    with Recorder(meter, interval_seconds=0.005) as recorder:
        start = time.monotonic()
        wait_for_readings(recorder, 20)
        end = time.monotonic()
        energy = recorder.energy(start, end)
        assert energy.mean_watts == pytest.approx(80, rel=0.5)  # each end lies between two of twenty readings
        assert recorder.peak_used_bytes(start, end) == 1232 * MIB


def test_without_it_power_is_integrated(library, monkeypatch):
    monkeypatch.setenv("NVML_DOUBLE_ENERGY", "none")
    monkeypatch.setenv("NVML_DOUBLE_WATTS", "66.81")
    meter = NVML("/", None, library=library)
    assert not meter.is_counter
    with Recorder(meter, interval_seconds=0.005) as recorder:
        start = time.monotonic()
        wait_for_readings(recorder, 2)
        assert recorder.energy(start, time.monotonic()).mean_watts == pytest.approx(66.81)


def test_a_card_that_tells_neither_is_refused(library, monkeypatch):
    monkeypatch.setenv("NVML_DOUBLE_ENERGY", "none")
    monkeypatch.setenv("NVML_DOUBLE_WATTS", "none")
    with pytest.raises(MeterProblem, match=r"NVML's nvmlDeviceGetPowerUsage failed: Not Supported \(error 3\)"):
        NVML("/", None, library=library)


def test_what_the_library_refuses_is_said_in_its_words(library, monkeypatch):
    with pytest.raises(MeterProblem, match="there is no NVIDIA GPU 3: NVML knows 1"):
        Gpu(3, library)
    monkeypatch.setenv("NVML_DOUBLE_INIT", "9")
    with pytest.raises(MeterProblem, match=r"NVML's nvmlInit_v2 failed: Driver Not Loaded \(error 9\)"):
        Gpu(0, library)


def test_a_machine_without_the_library():
    with pytest.raises(MeterProblem, match=r"there is no NVIDIA driver here \(libnvidia-ml-gone.so\)"):
        Gpu(0, "libnvidia-ml-gone.so")


def test_a_library_that_is_something_else():
    with pytest.raises(MeterProblem, match="has no nvmlDeviceGetCount_v2: the driver is too old"):
        Gpu(0, "libc.so.6")


USE = """
import json, os, sys
from ldmc.runtime.meters import choose
from ldmc.runtime.meters.watch import GpuMemory
from ldmc.runtime.meters.nvml_library import Gpu
from ldmc.runtime.meters import MeterProblem
meter, why = choose("nvml", find=lambda name: None)
meter.open(0.1)
watts = meter.read().value
meter.close()
memory = GpuMemory(find=lambda name: None)
memory.bytes_of(os.getpid())
memory.close()
try:
    Gpu(1)
except MeterProblem:
    pass
print(json.dumps([meter.title, why]))
"""


def test_the_library_is_found_as_the_driver_installs_it_and_is_left_as_it_was(library, tmp_path):
    report = tmp_path / "report"
    environment = {**os.environ, "LD_LIBRARY_PATH": os.path.dirname(library), "NVML_DOUBLE_REPORT": str(report)}
    done = subprocess.run([sys.executable, "-c", USE], env=environment, capture_output=True, text=True)
    assert json.loads(done.stdout) == [f"NVML, {NAME}", None], done.stderr
    assert report.read_text() == "0 0\n"  # every nvmlInit has its nvmlShutdown, and nothing was refused


def test_how_far_a_cards_memory_rose(library, monkeypatch):
    memory = GpuMemory(find=lambda name: None, library=library)
    assert memory.name == NAME and memory.rise_bytes() == 0
    monkeypatch.setenv("NVML_DOUBLE_USED_MIB", "2000")
    assert memory.rise_bytes() == 768 * MIB
    memory.close()


LINES = ["1232 MiB, 101.43 W\n", "1233 MiB, 102.00 W\n", "[N/A], 99 W\n"]


def test_nvidia_smi(tools):
    tools.prints("nvidia-smi", LINES)
    found = read_all(NvidiaSmi("/", tools.find), 3)
    assert [reading.value for reading in found] == [101.43, 102.0, 99.0]
    assert [reading.used_bytes for reading in found] == [1232 * MIB, 1233 * MIB, None]
    assert tools.arguments("nvidia-smi") == (
        "--query-gpu=memory.used,power.draw --format=csv,noheader -i 0 -lms 250")


def test_nvidia_smi_without_units(tools):
    tools.prints("nvidia-smi", ["1232, 101.43\n"])
    assert read_all(NvidiaSmi("/", tools.find), 1)[0].value == 101.43


@pytest.mark.parametrize("power", ["[N/A]", "[Not Supported]", "[Unknown Error]", "N/A"])
def test_nvidia_smi_of_a_card_that_does_not_tell(tools, power):
    tools.prints("nvidia-smi", [f"1232 MiB, {power}\n"])
    with pytest.raises(MeterProblem) as caught:
        read_all(NvidiaSmi("/", tools.find), 1)
    assert str(caught.value) == f"nvidia-smi says of this card's power: {power}"


def test_nvidia_smi_without_a_driver(tools):
    words = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    tools.prints("nvidia-smi", [words + "\n"], then="sys.exit(9)")
    with pytest.raises(MeterProblem) as caught:
        read_all(NvidiaSmi("/", tools.find), 1)
    assert str(caught.value) == f"nvidia-smi ended (exit code 9): {words}"


@pytest.mark.parametrize("lines, expected", [
    (["123, 4 MiB\n", "4242, 1201 MiB\n"], 1201 * MIB),
    (["4242, 1201 MiB\n", "4242, 99 MiB\n"], 1300 * MIB),  # on two cards
    (["4242, [N/A]\n"], None),
    (["No devices were found\n"], None),
    ([], None),
])
def test_memory_of_a_process_by_nvidia_smi(tools, lines, expected):
    tools.prints("nvidia-smi", lines, then="")
    memory = GpuMemory(find=tools.find, library="libnvidia-ml-gone.so")
    assert memory.bytes_of(4242) == expected and memory.name == "" and memory.rise_bytes() == 0
    assert tools.arguments("nvidia-smi") == "--query-compute-apps=pid,used_memory --format=csv,noheader"
    memory.close()
    assert nvidia_smi.process_bytes("/gone/nvidia-smi", 4242) is None


def test_memory_without_library_and_program_says_what_is_missing():
    with pytest.raises(MeterProblem, match="there is no NVIDIA driver here"):
        GpuMemory(find=lambda name: None, library="libnvidia-ml-gone.so")
