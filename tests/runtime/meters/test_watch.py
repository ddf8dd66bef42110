"""The most memory of a process over time, and where the kernel says it."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from ldmc.runtime import memory
from ldmc.runtime.meters import MeterProblem
from ldmc.runtime.meters.watch import Watch
from tests.patience import HANG_SECONDS
from tests.runtime.meters.machines import write

MIB = 1 << 20
GROWS = """
import sys, time
print("ready", flush=True)
sys.stdin.readline()
block = b"x" * (64 << 20)
print("has it", flush=True)
sys.stdin.readline()
del block
print("done", flush=True)
sys.stdin.readline()
"""


def test_a_peak_of_another_process_that_it_gave_back():
    child = subprocess.Popen([sys.executable, "-c", GROWS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        child.stdout.readline()
        before = memory.pss_bytes_of(child.pid)
        if before is None:
            pytest.skip("this system has no /proc/PID/smaps")
        with Watch(child.pid, interval_seconds=0.02) as watch:
            child.stdin.write("go\n")
            child.stdin.flush()
            assert child.stdout.readline() == "has it\n"
            deadline = time.monotonic() + HANG_SECONDS
            while (watch.peak_pss_bytes or 0) - before < 60 * MIB and time.monotonic() < deadline:
                time.sleep(0.01)
            child.stdin.write("give it back\n")
            child.stdin.flush()
            assert child.stdout.readline() == "done\n"
        assert 60 * MIB < watch.peak_pss_bytes - before < 80 * MIB
        assert memory.pss_bytes_of(child.pid) - before < 20 * MIB
    finally:
        child.kill()
        child.communicate()
    assert watch.why == {"peak_gpu_bytes": "no graphics card is used"}


class _Card(object):
    def __init__(self, *found, rise=0):
        self.found = list(found)
        self.rise = rise

    def rise_bytes(self):
        return self.rise

    def bytes_of(self, pid):
        value = self.found.pop(0) if len(self.found) > 1 else self.found[0]
        if isinstance(value, Exception):
            raise value
        return value


@pytest.mark.parametrize("found, rise, peak, why", [
    ([None, 5, 9, 7, None], 0, 9, None),
    ([None, 5, None], 700, 5, None),   # others came and went
    ([None], 700, 700, None),          # in a container
    ([None], -3, None, "the driver does not say what a process has"),
    ([None], 0, None, "the driver does not say what a process has"),
    ([MeterProblem("GPU is lost")], 0, None, "GPU is lost"),
    ([3, MeterProblem("GPU is lost")], 0, 3, None),
    ([ZeroDivisionError("oh")], 0, None, "ZeroDivisionError: oh"),
])
def test_a_peak_on_a_card(found, rise, peak, why):
    card = _Card(*found, rise=rise)
    with Watch(os.getpid(), card, interval_seconds=0.001) as watch:
        deadline = time.monotonic() + HANG_SECONDS
        while len(card.found) > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert watch.peak_gpu_bytes == peak
    assert watch.why.get("peak_gpu_bytes") == why


def test_a_process_that_has_ended_has_no_share():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with Watch(child.pid) as watch:
        pass
    assert watch.peak_pss_bytes is None and "smaps" in watch.why["peak_pss_bytes"]


def test_the_machines_memory_is_how_far_it_rose(monkeypatch):
    available = [900, 700, 400, 600]

    def meminfo():
        return {"MemTotal": 1000, "MemAvailable": available.pop(0) if len(available) > 1 else available[0]}

    monkeypatch.setattr(memory, "meminfo", meminfo)
    with Watch(os.getpid(), interval_seconds=0.001) as watch:
        deadline = time.monotonic() + HANG_SECONDS
        while len(available) > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert watch.peak_system_bytes == 500
    monkeypatch.setattr(memory, "meminfo", lambda: {"MemTotal": 1000})
    with Watch(os.getpid()) as watch:
        pass
    assert watch.peak_system_bytes is None and "meminfo" in watch.why["peak_system_bytes"]


ROLLUP = """55d0c0000000-7ffd00000000 ---p 00000000 00:00 0    [rollup]
Rss:                9000 kB
Pss:                4321 kB
Pss_Anon:           4000 kB
"""
SMAPS = """55d0c0000000-55d0c0100000 r-xp 00000000 08:01 42   /usr/bin/python3.6
Size:               1024 kB
Rss:                 900 kB
Pss:                 450 kB
7f00c0000000-7f00c0100000 rw-p 00000000 00:00 0
Size:               1024 kB
Pss:                  50 kB
"""


def test_the_share_is_read_from_the_summary_or_summed(tmp_path):
    write(tmp_path, "proc/42/smaps", SMAPS)
    assert memory.pss_bytes_of(42, str(tmp_path)) == 500 * 1024  # Linux 4.9, of a Jetson Nano
    write(tmp_path, "proc/42/smaps_rollup", ROLLUP)
    assert memory.pss_bytes_of(42, str(tmp_path)) == 4321 * 1024
    assert memory.pss_bytes_of(43, str(tmp_path)) is None


@pytest.mark.parametrize("groups, files, expected", [
    ("0::/box/lean", {"box/lean/memory.peak": 7, "memory.peak": 9}, 7),
    ("0::/", {"memory.peak": 9}, 9),                                       # a container of cgroup v2
    ("0::/box", {"memory.peak": 9}, 9),                                    # one that sees only its own
    ("9:memory:/box", {"memory/box/memory.max_usage_in_bytes": 5, "memory/memory.max_usage_in_bytes": 8}, 5),
    ("9:memory:/\n0::/", {"memory/memory.max_usage_in_bytes": 8}, 8),
    ("0::/box", {"box/memory.current": 3}, None),                          # before Linux 5.19
])
def test_the_peak_of_a_group(tmp_path, groups, files, expected):
    write(tmp_path, "proc/42/cgroup", groups)
    for path, value in files.items():
        write(tmp_path, f"sys/fs/cgroup/{path}", value)
    assert memory.cgroup_peak_bytes(42, str(tmp_path)) == expected


def test_the_mark_of_a_process_can_be_reset():
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this system does not reset a process's mark (/proc/self/clear_refs)")
    block = np.ones(128 * MIB, np.uint8)
    del block
    before = memory.peak_rss_bytes()
    memory.reset_peak()
    assert memory.peak_rss_bytes() < before - 100 * MIB
