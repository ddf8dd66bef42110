"""One process at a time, and who it is where another one has to wait: locks that the system frees when a process dies.

    finish     a file that holds the number of its process and the time; another `finish` is refused at once
    a cache    a component's folder, in which no file is left; who waits gives up after PATIENCE_SECONDS

A process that is stopped, or works for hours, holds a lock all the same: so nobody waits for ever, or without a word.
"""

import contextlib
import io
import os
import stat
import time

from .errors import BundleProblem

PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.05


@contextlib.contextmanager
def locked_file(path):
    """Holds the lock `path` (a file, made where it is not there).

    Raises: BundleProblem where another process holds it, or the path is no file of one's own.
    """
    import fcntl
    handle = _open_lock(path)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner, _, since = os.read(handle, 80).decode("ascii", "replace").strip().partition("\n")
            raise BundleProblem("another finish is at work on this bundle: process %s%s" % (
                owner or "unknown", ", since %s" % since if since else ""),
                "wait for it, or end it: what it has built is kept")
        os.ftruncate(handle, 0)
        os.write(handle, ("%d\n%s\n" % (os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S"))).encode("ascii"))
        yield
    finally:
        os.close(handle)


def _open_lock(path):
    """A descriptor of a regular file that is no link: what it holds is overwritten."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return handle
        os.close(handle)
        reason = "it is no regular file"
    except OSError as problem:
        reason = problem.strerror or str(problem)
    raise BundleProblem("the lock %s cannot be opened: %s" % (path, reason), "remove it")


@contextlib.contextmanager
def locked_folder(folder, patience=PATIENCE_SECONDS, clock=time.monotonic, sleep=time.sleep):
    """Waits until no other process holds the lock on `folder`. Gives False where the system has no such locks.

    Raises: BundleProblem where another process holds it for longer than `patience` seconds, naming it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield _wait(fcntl, handle, folder, clock() + patience, patience, clock, sleep)
    finally:
        os.close(handle)


def _wait(fcntl, handle, folder, deadline, patience, clock, sleep):
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if clock() >= deadline:
                raise BundleProblem("%s holds the lock on %s, and has not let go of it for %.0f s" % (
                    _holder(os.fstat(handle)), folder, patience), "wait for it, or end it")
            sleep(_POLL_SECONDS)
        except OSError:  # a network filesystem without locks
            return False


def _holder(found):
    """The process that holds the lock on a file, with its start, as far as Linux tells."""
    place = "%02x:%02x:%d" % (os.major(found.st_dev), os.minor(found.st_dev), found.st_ino)
    try:
        with io.open("/proc/locks", encoding="ascii", errors="replace") as stream:
            rows = [line.split() for line in stream]
    except OSError:
        rows = []
    # 1: FLOCK  ADVISORY  WRITE 4711 08:01:131090 0 EOF; who waits has "->" before FLOCK
    numbers = [row[4] for row in rows if len(row) > 5 and row[1] == "FLOCK" and row[5] == place]
    if not numbers or not numbers[0].isdigit():
        return "another process"
    try:
        started = time.localtime(os.stat("/proc/%s" % numbers[0]).st_mtime)
        with io.open("/proc/%s/comm" % numbers[0], encoding="utf-8", errors="replace") as stream:
            name = stream.read().strip()
    except OSError:  # of another container, or gone by now
        return "process %s" % numbers[0]
    return "process %s (%s, since %s)" % (numbers[0], name, time.strftime("%Y-%m-%d %H:%M:%S", started))
