"""The small functions of `finish`, each by itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ldmc.runtime.finish import plan
from ldmc.runtime.finish.compare import snr_db
from ldmc.runtime.finish.machine import Machine, l4t_version
from tests.runtime.device_bundle import FULL_LADDER

MIB = 1 << 20


@pytest.mark.parametrize("line, version", [
    ("# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64", "32.7.1"),
    ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64", "36.4.3"),
    ("# R32 (beta)", ""), ("", ""),
])
def test_l4t_of_the_release_file(line, version):
    assert l4t_version(line) == version


@pytest.mark.parametrize("outcomes, rung", [
    ([], 0), ([(0, "killed")], 1), ([(0, "started")], 0), ([(0, "started")] * 2, 1), ([(0, "interrupted")] * 3, 0),
    ([(0, "crashed"), (1, "out of memory")], 2), ([(0, "skipped"), (1, "killed"), (2, "failed")], None),
])
def test_the_next_rung(outcomes, rung):
    attempts = [{"rung": number, "outcome": outcome} for number, outcome in outcomes]
    assert plan.next_rung({"ladder": FULL_LADDER, "attempts": attempts}) == rung


def test_predicted_peaks_follow_the_workspace():
    step = {"ladder": [*FULL_LADDER, {"fallback": "onnxruntime-cuda"}], "peak_bytes": 100 * MIB}
    assert [plan.peak_bytes(step, rung) for rung in range(4)] == [100 * MIB, 93 * MIB, 93 * MIB, None]
    assert not plan.fits(step, 0, 99 * MIB) and plan.fits(step, 1, 99 * MIB) and plan.fits(step, 3, 1)
    assert plan.fits({"ladder": FULL_LADDER}, 0, 1)  # without a prediction nothing is passed over


def test_signal_to_noise():
    array = np.array([3.0, -4.0])
    assert snr_db(array, array) == 200.0
    assert snr_db(array, array * 1.1) == pytest.approx(20.0)
    assert snr_db(array, array * 0) == 0.0
    assert snr_db(array, array * math.nan) == -200.0 and snr_db(array, array * math.inf) == -200.0
    assert snr_db(array * 0, array) == -200.0


def test_a_machine_that_tells_nothing(tmp_path):
    machine = Machine(str(tmp_path), {"problems": {}})
    assert (machine.arch, machine.l4t, machine.available_bytes, machine.total_bytes) == ("", "", None, 0)
    assert plan.check_memory([{"ladder": FULL_LADDER, "peak_bytes": MIB}], machine).problem == ""


def test_advice_is_of_what_is_there(tmp_path):
    (tmp_path / "proc" / "9").mkdir(parents=True)
    (tmp_path / "proc" / "9" / "comm").write_text("bash\n")
    (tmp_path / "proc" / "meminfo").write_text("MemAvailable: 10 kB\nSwapTotal: 10 kB\n")
    machine = Machine(str(tmp_path), {"problems": {}})
    assert machine.advice() == []
    (tmp_path / "proc" / "9" / "comm").write_text("gnome-shell\n")
    assert "systemctl isolate multi-user.target" in machine.advice()[0]
