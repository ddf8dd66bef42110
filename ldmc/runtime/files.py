"""Files that are whole or not there: written beside their place, flushed to the disk, then renamed."""

import contextlib
import io
import os
import threading

from .leftovers import temporary

_MARK = ".part-"


@contextlib.contextmanager
def replacing(path):
    """Opens a binary stream whose content takes the place of `path` when the `with` block ends.

    Where the block raises, or the disk is full, `path` stays as it was and nothing else is left. Raises OSError.
    """
    path = str(path)
    # Of this thread alone: of two that write one file at the same time, the last to end has the file, whole.
    part = "%s%s%d-%d" % (path, _MARK, os.getpid(), threading.get_ident())
    with temporary(part):
        try:
            with io.open(part, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())  # a board that loses its power must not keep a file of zeros
            os.replace(part, path)
        finally:
            if os.path.exists(part):
                os.remove(part)


def write_whole(path, content):
    """Writes `content` (bytes, or text as UTF-8) to `path`, whole or not at all. Raises OSError."""
    with replacing(path) as stream:
        stream.write(content if isinstance(content, bytes) else content.encode("utf-8"))


def drop_unfinished(folder):
    """Removes what processes that were killed while `replacing` left in `folder`; none may be at it now."""
    for name in os.listdir(folder):
        if _MARK in name:
            os.remove(os.path.join(folder, name))


def flush(path):
    """Has the system put a file, or a folder's list of names, onto the disk now: before a rename that stands for it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
