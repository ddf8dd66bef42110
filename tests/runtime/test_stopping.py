"""A stop ends the work: where Python drops it, where a library swallows it, where C++ holds on, amid a clean-up."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ldmc.runtime import leftovers, stopping
from tests.patience import HANG_SECONDS
from tests.runtime.old_python import old_python

PACKAGES = Path(stopping.__file__).parents[2]
# Each has `work`; `stop()` is Ctrl-C, as the system sends it.
HEAD = """
import contextlib, ctypes, os, shutil, signal, subprocess, sys, time, weakref
sys.path.insert(0, {packages!r})
from ldmc.runtime import leftovers, stopping

def stop(number=signal.SIGINT):
    os.kill(os.getpid(), number)
    for _ in range(1000):  # in which the handler has its turn
        pass

def say(text):
    os.write(1, (text + "\\n").encode())
"""
TAIL = """
result, stopped = stopping.stoppable(work, stopping.Stopped, lambda: say("last words"))
say("stopped" if stopped else "result %s" % result)
if stopped:
    stopping.end_now()
"""
IN_A_CALLBACK = """
class Thing(object):
    pass

def work():
    thing = Thing()
    reference = weakref.ref(thing, lambda _: stop())
    del thing
    say("dropped")
    try:
        while True:
            time.sleep(0.01)
    finally:
        say("unwound")
"""
SWALLOWED = """
def work():
    with leftovers.temporary_folder("kept-") as folder:
        open(folder + "/file", "w").close()
        say(folder)
        while True:
            try:
                while True:
                    try:
                        stop()
                        time.sleep(0.01)
                    except BaseException:
                        pass
            except BaseException:
                pass
"""
# A mutex that is locked already: C does not come back, and does not keep Python's lock.
IN_C = """
def work():
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL)
    with leftovers.temporary_folder("kept-") as folder:
        open(folder + "/file", "w").close()
        say("%s %d" % (folder, child.pid))
        mutex = ctypes.create_string_buffer(256)
        lock = ctypes.CDLL(None).pthread_mutex_lock
        lock(mutex)
        subprocess.Popen(["sh", "-c", "sleep 0.5; kill -INT %d" % os.getpid()])
        lock(mutex)
"""
AMID_A_CLEAN_UP = """
stopping.AGAIN_SECONDS = 0.01

def work():
    with leftovers.temporary_folder("kept-") as folder:
        say(folder)
        try:
            stop()
        finally:
            time.sleep(600)  # a clean-up that a second stop cuts off
"""
UNDIVIDED = """
def work():
    with stopping.undivided():
        stop()
        say("whole")
    say("not reached")
"""
POLITELY = """
def work():
    with stopping.asked_politely():
        stop()
        say("goes on")
        while True:
            stopping.check()
            time.sleep(0.01)
"""
POLITELY_AT_THE_END = """
def work():
    try:
        with stopping.asked_politely():
            stop()
            time.sleep(0.5)
            say("goes on")
    except stopping.Stopped:
        return "kept"
"""
TWICE = """
def work():
    with stopping.asked_politely():
        stop()
        time.sleep(0.5)
        stop()
        while True:
            time.sleep(0.01)
"""
IGNORED = """
signal.signal(signal.SIGINT, signal.SIG_IGN)

def work():
    stop()
    return "whole"
"""


@pytest.fixture(params=["this Python", "Python 3.6"])
def python(request):
    """Both Pythons, or a skip of the older."""
    return sys.executable if request.param == "this Python" else old_python()


def run(source, python=sys.executable, code=130):
    """What a process says, in lines. `source` has `work`."""
    script = HEAD.format(packages=str(PACKAGES)) + source + TAIL
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == code, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def runs(pid):
    """Whether a process still does: one that nobody has asked for how it ended does not."""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_one_that_python_drops_comes_again(python):
    """In a weakref's callback, where an exception is printed and forgotten; ours is not even printed."""
    if python != sys.executable:  # before 3.8 nobody can keep Python from printing it
        with pytest.raises(AssertionError, match="Exception ignored in"):
            run(IN_A_CALLBACK, python)
        return
    assert run(IN_A_CALLBACK) == ["dropped", "unwound", "stopped"]


def test_where_it_is_swallowed_the_process_ends_all_the_same(python):
    folder, last = run(SWALLOWED, python)
    assert last in ("last words", "stopped") and not os.path.exists(folder)


def test_where_c_holds_on_the_process_ends_all_the_same(python):
    """With its child, and without its temporary folder."""
    said, last = run(IN_C, python)
    folder, child = said.split()
    assert last in ("last words", "stopped") and not os.path.exists(folder)
    assert not runs(int(child))


def test_a_clean_up_that_is_cut_off_is_done_again(python):
    folder, stopped = run(AMID_A_CLEAN_UP, python)
    assert stopped == "stopped" and not os.path.exists(folder)


def test_what_must_not_be_cut_in_two_is_not():
    assert run(UNDIVIDED) == ["whole", "stopped"]


def test_a_polite_one_is_raised_where_it_is_asked_for():
    assert run(POLITELY) == ["goes on", "stopped"]
    assert run(POLITELY_AT_THE_END, code=0) == ["goes on", "result kept"]


def test_a_second_one_is_not_polite():
    assert run(TWICE) == ["stopped"]


def test_an_ignored_signal_stays_ignored():
    assert run(IGNORED, code=0) == ["result whole"]


def test_everything_is_put_back():
    before = signal.getsignal(signal.SIGINT), sys.unraisablehook
    assert stopping.stoppable(lambda: 7, stopping.Stopped, lambda: None) == (7, False)
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == before
    with pytest.raises(ZeroDivisionError):
        stopping.stoppable(lambda: 1 / 0, stopping.Stopped, lambda: None)
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == before


def test_what_is_announced_is_removed_and_what_is_not_empty_stays(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "part").touch()
    announced = [f"{tmp_path / 'deep'}{os.sep}", f"{tmp_path / 'full'}{os.sep}", tmp_path / "deep" / "er",
                 tmp_path / "part", tmp_path / "never made"]
    with leftovers.temporary(announced[0]), leftovers.temporary(announced[1]), leftovers.temporary(announced[2]), \
            leftovers.temporary(announced[3]), leftovers.temporary(announced[4]):
        leftovers.remove(leftovers.descendants())
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full"]
