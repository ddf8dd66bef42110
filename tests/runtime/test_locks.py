"""Locks: one holder at a time, named to whoever waits, and nobody waits for ever."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ldmc.runtime import load
from ldmc.runtime.backends import graph_cache
from ldmc.runtime.errors import BundleProblem
from ldmc.runtime.locks import locked_file, locked_folder

HOLD = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(handle, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder():
    """Has another process hold the lock on a path; stops it, so that it never lets go of it by itself."""
    processes = []

    def hold(path):
        process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, universal_newlines=True)
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        os.kill(process.pid, signal.SIGSTOP)
        return process

    yield hold
    for process in processes:
        process.kill()
        process.communicate()


class _Clock(object):
    """Time that passes only in sleep."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_a_folder_is_locked_for_others_and_free_again(tmp_path):
    for _ in range(2):
        with locked_folder(str(tmp_path)) as held:
            assert held
            with pytest.raises(BundleProblem):
                with locked_folder(str(tmp_path), patience=0.0):
                    pass
    assert os.listdir(str(tmp_path)) == []


def test_who_waits_gives_up_and_names_the_holder(tmp_path, holder):
    process, clock = holder(tmp_path), _Clock()
    with pytest.raises(BundleProblem) as given_up:
        with locked_folder(str(tmp_path), 60.0, clock, clock.sleep):
            pass
    assert 60.0 <= clock.now < 61.0
    said = r"process %d \(python.*, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\) holds the lock on %s, and has not let go"
    assert re.match(said % (process.pid, re.escape(str(tmp_path))), given_up.value.message)
    assert given_up.value.fix


def test_the_lock_of_a_dead_process_is_free(tmp_path, holder):
    process = holder(tmp_path)
    process.kill()
    process.wait()
    with locked_folder(str(tmp_path), patience=0.0) as held:
        assert held


def test_a_bundle_loads_without_its_cache_while_another_process_holds_it(bundle, holder, monkeypatch):
    process = holder(bundle / "unet")
    real = graph_cache.locked_folder
    monkeypatch.setattr(graph_cache, "locked_folder", lambda folder: real(folder, 0.0))
    with load(bundle) as pipeline:
        remarks = list(pipeline.remarks)
    assert len(remarks) == 1 and "process %d " % process.pid in remarks[0] and "loading takes longer" in remarks[0]
    assert not [path for path in (bundle / "unet").iterdir() if path.is_dir()]


def test_finish_s_lock_says_who_and_since_when(tmp_path):
    path = tmp_path / "lock"
    with locked_file(str(path)):
        assert re.match(r"%d\n\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n" % os.getpid(), path.read_text())
        with pytest.raises(BundleProblem, match=r"process %d, since \d{4}-" % os.getpid()):
            with locked_file(str(path)):
                pass
    with locked_file(str(path)):
        pass


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_lock_that_is_no_file_is_refused_and_overwrites_nothing(kind, tmp_path):
    path, precious = tmp_path / "lock", tmp_path / "precious"
    precious.write_text("kept")
    {"link": lambda: path.symlink_to(precious), "pipe": lambda: os.mkfifo(str(path)), "folder": path.mkdir}[kind]()
    with pytest.raises(BundleProblem, match="cannot be opened"):
        with locked_file(str(path)):
            pass
    assert Path(str(precious)).read_text() == "kept"
