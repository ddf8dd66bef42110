"""How much memory this process holds and has held. Linux says exactly; elsewhere a part, or None."""

import io
import os
import sys

# A process's own limit: cgroup v2, then v1; {} is its group, which is / where a container sees only its own.
CGROUP_LIMITS = ("/sys/fs/cgroup{}/memory.max", "/sys/fs/cgroup/memory{}/memory.limit_in_bytes")
CGROUP_PEAKS = ("sys/fs/cgroup{}/memory.peak", "sys/fs/cgroup/memory{}/memory.max_usage_in_bytes")

# malloc.h of glibc
M_MMAP_THRESHOLD = -3
LARGE_BLOCK_BYTES = 2 ** 20


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


def peak_rss_bytes_of(process):
    """The same of another process, by its number; None where the system does not say or it has ended."""
    return _kib_entry("/proc/%d/status" % process, "VmHWM")


def reset_peak():
    """Sets the kernel's mark of the most physical memory of this process to now (proc(5): clear_refs, Linux 4.0)."""
    try:
        with io.open("/proc/self/clear_refs", "w", encoding="ascii") as stream:
            stream.write(u"5")
    except OSError:  # not Linux, or not allowed: the mark stays that of the process so far
        pass


def pss_bytes_of(process, root="/"):
    """Physical memory of a process, what it shares divided by those it shares with; None where not known.

    Args: process: its number. root: where /proc is looked for.
    """
    folder = os.path.join(root, "proc", str(process))
    total = _kib_entry(os.path.join(folder, "smaps_rollup"), "Pss")
    if total is not None:
        return total
    sizes = []  # before Linux 4.14, as on a Jetson Nano: of each mapping
    try:
        with io.open(os.path.join(folder, "smaps"), encoding="utf-8", errors="replace") as stream:
            sizes = [int(line.split()[1]) * 1024 for line in stream if line.startswith("Pss:")]
    except (OSError, ValueError, IndexError):
        return None
    return sum(sizes) if sizes else None


def cgroup_peak_bytes(process="self", root="/"):
    """Most memory that the group of a process ever held, its page cache and all its processes together; the whole
    machine's where that is the group. None where not known (before Linux 5.19 with cgroup v2).

    Args: process: its number. root: where /proc and /sys are looked for.
    """
    groups = _groups(os.path.join(root, "proc", str(process), "cgroup"))
    for group in sorted(groups, key=len, reverse=True):  # its own before the root, which is all a container sees
        for path in CGROUP_PEAKS:
            peak = _number(os.path.join(root, path.format(group)))
            if peak is not None:
                return peak
    return None


def available_bytes(root="/"):
    """Memory that new programs can have without the system swapping; None where it does not say.

    Args: root: where /proc is looked for.
    """
    return meminfo(root).get("MemAvailable")


def meminfo(root="/"):
    """/proc/meminfo as a dict of bytes; empty where there is none."""
    found = {}
    try:
        with io.open(os.path.join(root, "proc", "meminfo"), encoding="ascii", errors="replace") as stream:
            for line in stream:
                name, _, rest = line.partition(":")
                if rest.split()[1:] == ["kB"]:
                    found[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError):
        return found
    return found


def private_bytes():
    """Memory that only this process can give back: not weights mapped from files. None where not known.

    RssAnon, not smaps' Private_*: those also count mapped file pages that no other process happens to map.
    """
    return _from_status("RssAnon")


def limit_bytes():
    """The most memory this process can ever hold: the machine's, or its container's; None where not known."""
    limits = [_kib_entry("/proc/meminfo", "MemTotal")]
    limits += [_number(path.format(group)) for path in CGROUP_LIMITS for group in _groups()]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def give_back_freed():
    """Returns freed heap memory to the system. glibc keeps it otherwise: 420 MiB after optimising a 1 GiB graph."""
    try:
        import ctypes
        ctypes.CDLL(None).malloc_trim(0)
    except (ImportError, OSError, AttributeError, TypeError):  # another C library: nothing to ask for
        return


def map_large_blocks():
    """Has the C library ask the system for each block of 1 MiB and more, and give it back when it is freed.

    glibc raises that limit to 32 MiB as such blocks are freed, and then keeps what it has: 385 MiB for the full
    decoder, of which 225 are ever in use at one time. Elsewhere nothing is done: bionic and musl map large blocks.
    """
    try:
        import ctypes
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
    except (ImportError, OSError, AttributeError, TypeError):  # another C library: nothing to ask for
        return


def _from_status(key):
    return _kib_entry("/proc/self/status", key)


def _groups(path="/proc/self/cgroup"):
    """The memory groups a process is in, from the mounted root: "" is the root itself."""
    try:
        with io.open(path, encoding="utf-8", errors="replace") as stream:
            return _memory_groups(stream)
    except OSError:
        return [""]


def _memory_groups(lines):
    """Paths of lines such as `0::/group` (cgroup v2) and `9:memory:/group` (v1), and the root."""
    groups = {""}
    for line in lines:
        controllers, _, path = line.strip().partition(":")[2].partition(":")
        if not controllers or "memory" in controllers.split(","):
            groups.add(path.rstrip("/"))
    return sorted(groups)


def _number(path):
    try:
        with io.open(path, encoding="ascii", errors="replace") as stream:
            return int(stream.read())
    except (OSError, ValueError):  # not there, or "max"
        return None


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
