"""A child process that may take all the memory there is: watched, first to be killed, and never left behind."""

import ctypes
import os
import signal
import subprocess
import sys
import time

from .. import memory

FIRST_TICK_SECONDS = 0.01  # some children are killed within a tick; theirs is then the only reading
TICK_SECONDS = 0.2
KILLED = -signal.SIGKILL
DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG
MOST_KILLABLE = b"1000"  # oom_score_adj


class Ended(object):
    """How a child ended: `code` (as subprocess gives it: -9 for SIGKILL), `seconds`, `peak_rss_bytes`,
    `least_available_bytes` (of the whole system's memory, meanwhile); None where the system does not say."""

    def __init__(self, code, seconds, peak_rss_bytes, least_available_bytes):
        self.code = code
        self.seconds = seconds
        self.peak_rss_bytes = peak_rss_bytes
        self.least_available_bytes = least_available_bytes

    @property
    def was_killed(self):
        """By SIGKILL, as the system does when memory is out; 137 is what a shell makes of it."""
        return self.code in (KILLED, 128 + signal.SIGKILL)

    @property
    def crashed(self):
        """By any other signal: allocation failures in C++ often end so."""
        return self.code < 0 and not self.was_killed


def run(arguments, log_path, on_tick=None):
    """Runs a module of this package in a new Python until it ends.

    Args:
        arguments: what follows `python3 -B -m`. log_path: gets what it writes. on_tick: called with the seconds so far.
    Returns: Ended. When this process is interrupted, the child is killed first.
    """
    start = time.monotonic()
    with open(log_path, "wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-B", "-m"] + arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            cwd=package_folder(), start_new_session=True, preexec_fn=_Preparation())
    try:
        return _watch(child, start, on_tick)
    finally:
        if child.poll() is None:
            _kill(child)


def package_name():
    """What this runtime is called where it runs: `runtime` inside a bundle, `ldmc.runtime` elsewhere."""
    return __name__[:-len(".finish.process")]


def package_folder():
    """The folder from which `python3 -m` finds this runtime."""
    folder = os.path.abspath(__file__)
    for _ in range(len(__name__.split("."))):
        folder = os.path.dirname(folder)
    return folder


def tail(log_path, lines=12):
    """The last lines of a log that say something."""
    with open(log_path, "rb") as stream:
        text = stream.read()[-20000:].decode("utf-8", "replace")
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]


class _Preparation(object):
    """Done in the child before Python starts there. All is looked up beforehand: after a fork, little is safe."""

    def __init__(self):
        self._prctl = getattr(ctypes.CDLL(None), "prctl", None)

    def __call__(self):
        if self._prctl is not None:
            self._prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        try:
            handle = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
            os.write(handle, MOST_KILLABLE)
            os.close(handle)
        except OSError:  # not Linux, or not allowed: then the kernel chooses
            pass


def _watch(child, start, on_tick):
    peak, least, tick = None, None, FIRST_TICK_SECONDS
    while True:
        try:
            child.wait(timeout=tick)
        except subprocess.TimeoutExpired:
            tick = min(2 * tick, TICK_SECONDS)
            peak = _most(peak, memory.peak_rss_bytes_of(child.pid))
            least = _least(least, memory.available_bytes())
            if on_tick is not None:
                on_tick(time.monotonic() - start)
            continue
        return Ended(child.returncode, time.monotonic() - start, peak, least)


def _kill(child):
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except OSError:  # it ended meanwhile
        pass
    child.wait()


def _most(one, other):
    return max([value for value in (one, other) if value is not None] or [None])


def _least(one, other):
    return min([value for value in (one, other) if value is not None] or [None])
