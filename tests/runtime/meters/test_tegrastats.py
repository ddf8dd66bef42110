"""tegrastats: recorded lines of several boards, and the program itself."""

import time

import pytest

from ldmc.runtime.meters import MeterProblem, Recorder
from ldmc.runtime.meters.tegrastats import Tegrastats, memory_of, rails_of
from tests.patience import HANG_SECONDS
from tests.runtime.meters.machines import read_all
from tests.runtime.meters.scripted import wait_for_readings

MIB = 1 << 20
NANO = ("RAM 1923/3964MB (lfb 3x2MB) SWAP 12/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [17%@1428,11%@1428,"
        "21%@1428,12%@1428] EMC_FREQ 2%@1600 GR3D_FREQ 0%@76 APE 25 PLL@20.5C CPU@24.5C PMIC@100C GPU@21C AO@29.5C "
        "thermal@22.25C POM_5V_IN 1750/1628 POM_5V_GPU 0/0 POM_5V_CPU 366/406")
NANO_BUSY = ("RAM 1462/3957MB (lfb 457x4MB) IRAM 0/252kB(lfb 252kB) CPU [43%@1036,44%@1036,36%@1036,34%@1036] EMC_FREQ "
             "6%@1600 GR3D_FREQ 51%@307 NVDEC 192 APE 25 PLL@20.5C CPU@24.5C POM_5V_IN 3353/1616 POM_5V_GPU 450/61 "
             "POM_5V_CPU 613/2")
ORIN = ("11-30-2025 13:26:01 RAM 2461/7620MB (lfb 3x2MB) SWAP 2640/16384MB (cached 181MB) CPU [1%@729,0%@729,off,off] "
        "EMC_FREQ 0%@2133 GR3D_FREQ 0%@[305] NVENC off APE 174 cv0@47.312C cpu@48.843C soc2@47.656C gpu@47.125C "
        "tj@48.843C VDD_IN 5704mW/5704mW VDD_CPU_GPU_CV 831mW/831mW VDD_SOC 1624mW/1624mW")
# A TX2: the whole stands among its parts, and the averages differ.
TX2 = ("RAM 2020/7852MB (lfb 1164x4MB) CPU [9%@345,21%@345] EMC_FREQ 0% GR3D_FREQ 0% MTS fg 1% bg 1% PLL@42.5C GPU@41C "
       "Tdiode@41.25C VDD_SYS_GPU 153/158 VDD_SYS_SOC 536/547 VDD_4V0_WIFI 633/527 VDD_IN 3140/3208 VDD_SYS_CPU "
       "536/590 VDD_SYS_DDR 557/601")
AGX = "RAM 1/30536MB (lfb 1x4MB) VDD_GPU_SOC 2400mW/2400mW VDD_CPU_CV 400mW/400mW VIN_SYS_5V0 3200mW/3200mW"


@pytest.mark.parametrize("line, rails, used_mib, total_mib", [
    (NANO, {"POM_5V_IN": 1.75, "POM_5V_GPU": 0.0, "POM_5V_CPU": 0.366}, 1923, 3964),
    (NANO_BUSY, {"POM_5V_IN": 3.353, "POM_5V_GPU": 0.45, "POM_5V_CPU": 0.613}, 1462, 3957),
    (ORIN, {"VDD_IN": 5.704, "VDD_CPU_GPU_CV": 0.831, "VDD_SOC": 1.624}, 2461, 7620),
    (TX2, {"VDD_SYS_GPU": 0.153, "VDD_SYS_SOC": 0.536, "VDD_4V0_WIFI": 0.633, "VDD_IN": 3.14, "VDD_SYS_CPU": 0.536,
           "VDD_SYS_DDR": 0.557}, 2020, 7852),
])
def test_recorded_lines(line, rails, used_mib, total_mib):
    assert rails_of(line) == rails
    assert memory_of(line) == (used_mib * MIB, total_mib * MIB)


def test_cpu_and_gpu_are_what_their_labels_say_in_any_order():
    """The reference project took the second rail of a Nano for the CPU's; it is the GPU's."""
    shuffled = "RAM 1/2MB POM_5V_CPU 613/2 POM_5V_IN 3353/1616 POM_5V_GPU 450/61"
    assert rails_of(shuffled) == rails_of(NANO_BUSY)
    assert rails_of(shuffled)["POM_5V_GPU"] == 0.45


@pytest.mark.parametrize("line, rails", [
    ("POM_5V_IN 1750mW/1628mW", {"POM_5V_IN": 1.75}),
    ("VDD_IN 5704/5704mW VDD_SOC 16", {"VDD_IN": 5.704}),
    ("VDD_IN 5704mW/57", {"VDD_IN": 5.704}),
    ("VDD_IN 5704mW/5704m", {}),
    ("VDD_IN 5704mW/", {}),
    ("RAM 2461/7620MB", {}),
    ("", {}),
])
def test_variations(line, rails):
    assert rails_of(line) == rails
    assert memory_of("no memory here") is None


@pytest.mark.parametrize("line, title, watts", [
    (NANO, "tegrastats, POM_5V_IN", 1.75), (ORIN, "tegrastats, VDD_IN", 5.704), (TX2, "tegrastats, VDD_IN", 3.14)])
def test_the_program_is_read_line_by_line(tools, line, title, watts):
    tools.prints("tegrastats", [line + "\n"] * 3)
    meter = Tegrastats("/", tools.find)
    before = time.monotonic()
    found = read_all(meter, 3)
    assert [reading.value for reading in found] == [watts] * 3
    assert before < found[0].at < found[1].at < found[2].at < time.monotonic()
    assert found[0].used_bytes == memory_of(line)[0]
    assert meter.title == title
    assert tools.arguments("tegrastats") == "--interval 250"


def test_lines_that_come_in_pieces_are_put_together(tools):
    tools.prints("tegrastats", [NANO[:40], NANO[40:] + "\n" + NANO_BUSY[:90], NANO_BUSY[90:] + "\n"])
    assert [reading.value for reading in read_all(Tegrastats("/", tools.find), 2)] == [1.75, 3.353]


def test_a_last_line_that_was_cut_off_is_not_read(tools):
    """Of `POM_5V_IN 1750/1628` there is `POM_5V_IN 17` or `POM_5V_IN 1750/16` when it is stopped."""
    tools.prints("tegrastats", [NANO + "\n", NANO_BUSY.replace("3353/1616", "33/1 ")[:-40]], then="")
    with Recorder(Tegrastats("/", tools.find)) as recorder:
        deadline = time.monotonic() + HANG_SECONDS
        while not recorder._ended_why and time.monotonic() < deadline:
            time.sleep(0.01)
    assert [reading.value for reading in recorder._readings] == [1.75]
    assert recorder.energy(0, time.monotonic()) is None
    assert "first read" in recorder.why
    assert recorder.energy(recorder._readings[0].at, time.monotonic()) is None
    assert recorder.why.startswith("tegrastats ended (exit code 0): RAM 1923/3964MB")


def test_a_board_without_a_rail_of_the_whole_has_no_number(tools):
    tools.prints("tegrastats", [AGX + "\n"] * 4)
    with pytest.raises(MeterProblem, match=r"no rail of the whole module \(VDD_IN or POM_5V_IN\), only: VDD_CPU_CV, "
                                           "VDD_GPU_SOC, VIN_SYS_5V0"):
        read_all(Tegrastats("/", tools.find), 1)


def test_a_line_without_the_rail_is_left_out(tools):
    """Now and then; only several in a row are a board that has none."""
    tools.prints("tegrastats", [NANO + "\n", "RAM 1923/3964MB\n", "\n", "RAM 1923/3964MB\n", NANO_BUSY + "\n"] * 3)
    assert [reading.value for reading in read_all(Tegrastats("/", tools.find), 6)] == [1.75, 3.353] * 3


def test_it_is_ended_with_what_it_started(tools, tmp_path):
    pids = tmp_path / "pids"
    tools.add("tegrastats", f"sleep 60 & echo $$ $! > {pids}; while true; do echo '{NANO}'; sleep 0.01; done",
              interpreter="/bin/sh")
    read_all(Tegrastats("/", tools.find), 2)
    deadline = time.monotonic() + HANG_SECONDS
    for pid in map(int, pids.read_text().split()):
        while _runs(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not _runs(pid)


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_it_says_before_it_fails_is_the_reason(tools):
    tools.prints("tegrastats", ["Error: not a Tegra\n"], then="sys.exit(3)")
    with pytest.raises(MeterProblem, match=r"tegrastats ended \(exit code 3\): Error: not a Tegra"):
        read_all(Tegrastats("/", tools.find), 1)


def test_a_program_that_cannot_be_started_is_the_reason(tools):
    tools.add("tegrastats", "", interpreter="/gone")
    with pytest.raises(MeterProblem, match="tegrastats cannot be started: No such file"):
        Tegrastats("/", tools.find).open(0.1)


def test_its_energy_is_that_of_the_lines(tools):
    tools.prints("tegrastats", [NANO + "\n"], every=0.005, for_ever=True)
    with Recorder(Tegrastats("/", tools.find), interval_seconds=0.005) as recorder:
        start = time.monotonic()
        wait_for_readings(recorder, 3)
        end = time.monotonic()
        energy = recorder.energy(start, end)
        assert energy.joules == pytest.approx(1.75 * (end - start))
        assert recorder.rails(start, end)["POM_5V_CPU"] == pytest.approx(0.366)
    assert tools.arguments("tegrastats") == "--interval 5"
