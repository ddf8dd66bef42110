"""Files that are whole or not there: written beside their place, flushed to the disk, then renamed.

And files that are read: only regular ones, so that a pipe without a writer or an endless device hangs nobody.
"""

import contextlib
import errno
import io
import os
import stat
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


def read_regular(path, most_bytes):
    """The content of a regular file of at most `most_bytes`, as bytes. Raises: OSError, see `open_regular`."""
    with open_regular(path, most_bytes) as stream:
        content = stream.read(most_bytes + 1)
    _check_size(len(content), most_bytes, str(path))  # it may have grown
    return content


def open_regular(path, most_bytes):
    """A regular file of at most `most_bytes`, as a binary stream.

    Raises: OSError, whose strerror is a phrase, where it cannot be read, is something else (a pipe, a device, a socket,
    a folder) or is larger.
    """
    path = str(path)
    stream = io.open(_open_regular(path), "rb")
    try:
        _check_size(os.fstat(stream.fileno()).st_size, most_bytes, path)
    except OSError:
        stream.close()
        raise
    return stream


def require_regular(path):
    """Refuses what `read_regular` refuses, less its size: for readers that open files themselves. Raises: OSError."""
    os.close(_open_regular(str(path)))


def _open_regular(path):
    """An open descriptor. Looked at before it is opened, as opening a device may do something, and once more after."""
    try:
        _check_kind(os.stat(path), path)
        # no waiting for a writer, should it have become a pipe meanwhile
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError:  # a NUL, or half a surrogate pair
        raise OSError(errno.EINVAL, "no file can have that name", path)
    try:
        _check_kind(os.fstat(handle), path)
    except OSError:
        os.close(handle)
        raise
    return handle


def _check_size(size, most_bytes, path):
    if size > most_bytes:
        raise OSError(errno.EFBIG, "it has %d bytes, at most %d are read" % (size, most_bytes), path)


def _check_kind(found, path):
    if stat.S_ISREG(found.st_mode):
        return
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"))
    what = next((word for is_kind, word in kinds if is_kind(found.st_mode)), "a device")
    raise OSError(errno.EINVAL, "it is %s, expected a regular file" % what, path)


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
