"""One `finish` at a time: two would build one engine twice, and neither would have the memory."""

import contextlib
import os

from ..errors import BundleProblem


@contextlib.contextmanager
def locked(path):
    """Holds the lock `path` (a file, made where it is not there). The system frees it when the process dies.

    Raises: BundleProblem where another process holds it.
    """
    import fcntl
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(handle, 32).decode("ascii", "replace").strip()
            raise BundleProblem("another finish is at work on this bundle: process %s" % (owner or "unknown"),
                                "wait for it, or end it: what it has built is kept")
        os.ftruncate(handle, 0)
        os.write(handle, b"%d\n" % os.getpid())
        yield
    finally:
        os.close(handle)
