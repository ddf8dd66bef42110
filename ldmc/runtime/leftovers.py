"""What must be gone when the process ends, whatever ends it: temporary files and folders, and child processes."""

import contextlib
import os
import shutil
import signal
import tempfile
import time

TERM_SECONDS = 0.3  # for a child to clean up after itself, as compilers do
TRIES = 20  # at a folder in which somebody still writes
_known = []  # paths, in the order in which they were announced


@contextlib.contextmanager
def temporary(path):
    """While the `with` block lasts, `path` (a file or a folder, there or not yet) must not outlive the process. Making
    and removing it is the caller's. Where `path` ends in a separator, it is a folder that stays if it is not empty."""
    path = str(path)
    _known.append(path)
    try:
        yield path
    except BaseException:
        if not os.path.lexists(path):  # else its removal was cut off: a stop may come amid a clean-up
            _known.remove(path)
        raise
    _known.remove(path)


@contextlib.contextmanager
def temporary_folder(prefix):
    """An empty folder among the system's temporary ones, gone when the `with` block ends."""
    path = os.path.join(tempfile.gettempdir(), prefix + os.urandom(8).hex())
    with temporary(path):
        try:
            os.mkdir(path, 0o700)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def forget():
    """For a forked process: what its parent knows is its parent's."""
    del _known[:]


def remove(before):
    """Ends the processes that descend from this one, those of `before` excepted, and removes what was announced."""
    end_descendants(before)
    for path in reversed(list(_known)):
        _remove_path(path)


def end_descendants(before=()):
    """Asks child processes, and theirs, to end, and then kills them."""
    for number, seconds in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, TERM_SECONDS)):
        left = descendants() - set(before)
        for pid in left:
            with contextlib.suppress(OSError):  # it ended meanwhile
                os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while left and time.monotonic() < deadline:
            time.sleep(0.01)
            left = descendants() - set(before)
        if not left:
            return


def descendants():
    """Numbers of the running processes that descend from this one; none where the system has no /proc."""
    children = {}
    try:
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return set()
    for pid in numbers:
        with contextlib.suppress(OSError, ValueError, IndexError):  # it ended meanwhile
            with open("/proc/%d/stat" % pid, "rb") as stream:
                state, parent = stream.read().rpartition(b")")[2].split()[:2]  # the name before may hold anything
            if state not in (b"Z", b"X"):
                children.setdefault(int(parent), []).append(pid)
    found, new = set(), [os.getpid()]
    while new:
        new = [child for pid in new for child in children.get(pid, ()) if child not in found]
        found.update(new)
    return found


def _remove_path(path):
    for _ in range(TRIES):
        with contextlib.suppress(OSError):
            if path.endswith(os.sep):
                os.rmdir(path)
                return
            if not os.path.lexists(path):
                return
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.remove(path)
        if path.endswith(os.sep):
            return
        time.sleep(0.01)
