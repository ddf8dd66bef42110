"""How much memory this process holds and has held. Linux says exactly; elsewhere a part, or None."""

import io
import sys


def peak_rss_bytes():
    """Most physical memory this process ever held, mapped files included; None where the system does not say."""
    peak = _from_status("VmHWM")
    if peak is not None:
        return peak
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def private_bytes():
    """Memory that only this process can give back: not weights mapped from files. None where not known.

    RssAnon, not smaps' Private_*: those also count mapped file pages that no other process happens to map.
    """
    return _from_status("RssAnon")


def available_bytes():
    """What new work can take without swapping (MemAvailable); None where the system does not say."""
    return _kib_entry("/proc/meminfo", "MemAvailable")


def give_back_freed():
    """Returns freed heap memory to the system. glibc keeps it otherwise: 420 MiB after optimising a 1 GiB graph."""
    try:
        import ctypes
        ctypes.CDLL(None).malloc_trim(0)
    except (ImportError, OSError, AttributeError, TypeError):  # another C library: nothing to ask for
        return


def _from_status(key):
    return _kib_entry("/proc/self/status", key)


def _kib_entry(path, key):
    try:
        with io.open(path, encoding="ascii", errors="replace") as stream:
            for line in stream:
                name, _, rest = line.partition(":")
                if name == key:
                    return int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
