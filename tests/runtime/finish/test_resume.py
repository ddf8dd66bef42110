"""What is left of a `finish` that was stopped: everything it built, and a manifest that says where it was."""

from __future__ import annotations

import os
import signal
import time

from tests.patience import HANG_SECONDS
from tests.runtime.device_bundle import read_manifest, steps_of, write_manifest


def wait_for_build(process, started, builds=1):
    """Until the double's builder has begun `builds` times."""
    end = time.monotonic() + HANG_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        if started.exists() and len(started.read_text().splitlines()) >= builds:
            return
        time.sleep(0.02)
    raise AssertionError("no build began")


def stop(device, bundle, tmp_path, number, builds=2):
    """Sends a signal while the `builds`-th engine is being built."""
    started = tmp_path / "started"
    process = device.start_finish(bundle, TRT_DOUBLE_STARTED=str(started), TRT_DOUBLE_SECONDS="3")
    wait_for_build(process, started, builds)
    process.send_signal(number)
    out, err = process.communicate(timeout=HANG_SECONDS)
    return process.returncode, out, err


def workers(bundle):
    """Builds of this bundle that are still running."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                if str(bundle).encode() in stream.read() and int(pid) != os.getpid():
                    found.append(pid)
        except OSError:
            continue
    return found


def test_a_sigkill_loses_only_the_build_it_hit(nano, bundle, tmp_path):
    assert stop(nano, bundle, tmp_path, signal.SIGKILL)[0] == -signal.SIGKILL
    end = time.monotonic() + HANG_SECONDS
    while workers(bundle):  # the child dies with its parent, by the kernel's hand
        assert time.monotonic() < end
        time.sleep(0.02)
    steps = steps_of(bundle)
    assert [steps[name]["status"] for name in ("decoder", "unet.1", "unet.0")] == ["done", "pending", "pending"]
    assert steps["unet.1"]["attempts"] == [{"rung": 0, "outcome": "started"}]
    started = tmp_path / "again"
    done = nano.finish(bundle, TRT_DOUBLE_STARTED=str(started))
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in started.read_text().splitlines()] == ["1.onnx", "0.onnx"]
    assert [attempt["outcome"] for attempt in steps_of(bundle)["unet.1"]["attempts"]] == ["started", "built"]


def test_sigterm_and_ctrl_c_end_it_cleanly(nano, bundle, tmp_path):
    for number, builds in ((signal.SIGTERM, 1), (signal.SIGINT, 2)):
        folder = tmp_path / str(int(number))
        folder.mkdir()
        code, out, err = stop(nano, bundle, folder, number, builds)
        assert code == 130
        assert err.endswith("interrupted; what is built is kept: run `python3 -m runtime finish` again to go on\n")
        assert workers(bundle) == []
        assert not list(bundle.rglob("*.part-*"))
    steps = steps_of(bundle)
    assert [attempt["outcome"] for attempt in steps["decoder"]["attempts"]] == ["interrupted", "built"]
    assert [attempt["outcome"] for attempt in steps["unet.1"]["attempts"]] == ["interrupted"]
    assert nano.finish(bundle).returncode == 0


def test_a_rung_under_which_the_machine_died_twice_is_left(nano, bundle):
    manifest = read_manifest(bundle)
    [decoder] = [step for step in manifest["finish"]["steps"] if step["part"] == "decoder"]
    decoder["attempts"] = [{"rung": 0, "outcome": "started"}]
    write_manifest(bundle, manifest)
    assert nano.finish(bundle, "--only", "decoder").returncode == 0
    assert steps_of(bundle)["decoder"]["attempts"][-1]["rung"] == 0  # a second chance
    decoder["attempts"] = [{"rung": 0, "outcome": "started"}] * 2
    write_manifest(bundle, manifest)
    assert nano.finish(bundle, "--only", "decoder").returncode == 0
    assert steps_of(bundle)["decoder"]["attempts"][-1]["rung"] == 1


def test_who_reads_the_output_may_leave(nano, bundle, tmp_path):
    process = nano.start_finish(bundle)
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=HANG_SECONDS) == 130
    assert nano.finish(bundle).returncode == 0


def test_a_child_is_the_first_to_be_killed(nano, bundle, tmp_path):
    started = tmp_path / "started"
    process = nano.start_finish(bundle, TRT_DOUBLE_STARTED=str(started), TRT_DOUBLE_SECONDS="3")
    wait_for_build(process, started)
    [worker] = [pid for pid in workers(bundle) if int(pid) != process.pid]
    with open(f"/proc/{worker}/oom_score_adj") as stream:
        assert stream.read() == "1000\n"
    process.terminate()
    process.communicate(timeout=HANG_SECONDS)
