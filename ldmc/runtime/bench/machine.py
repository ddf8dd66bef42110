"""What machine this is, in the words of a table and of a result file."""

import os
import platform
import subprocess
import sys

from .. import memory
from ..meters.reading import text_or_none

GETPROP_SECONDS = 5.0


def describe(root, find, gpu=""):
    """The sections `device` and `machine` of a result.

    Args: root: where /proc is looked for. find: name of a command -> its path, or None. gpu: name of the card; "".
    Returns: (how a table calls it, dict of system, cpu, cores, memory_bytes, gpu).
    """
    cores = _cores()
    cpu = cpu_name(root)
    machine = {
        "system": "%s %s %s" % (platform.system(), platform.release(), platform.machine()),
        "cpu": cpu,
        "cores": cores,
        "memory_bytes": memory.meminfo(root).get("MemTotal"),
        "gpu": gpu or None,
    }
    board = text_or_none(os.path.join(root, "proc/device-tree/model")) or _phone(find)
    device = (board or "").strip("\0") or "%s, %d cores" % (cpu, cores)
    return (device if not gpu else "%s, %s" % (gpu, device)), machine


def cpu_name(root):
    """`AMD EPYC 9R14`; the architecture where /proc/cpuinfo names none, as on most ARM boards."""
    for line in (text_or_none(os.path.join(root, "proc/cpuinfo")) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Hardware") and value.strip():
            return " ".join(value.split())
    return platform.machine()


def packages(manifest):
    """name -> version of what made the bundle and of what runs it here: only what has been imported."""
    found = {"ldmc": (manifest.data.get("toolchain") or {}).get("ldmc"), "python": platform.python_version()}
    for name in ("numpy", "onnxruntime", "tensorrt", "tensorrt_rtx", "torch"):
        if name in sys.modules:
            found[name] = getattr(sys.modules[name], "__version__", None)
    return {name: version for name, version in found.items() if version}


def _cores():
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not Linux
        return os.cpu_count()


def _phone(find):
    """`samsung SM-S901B` on Android; None elsewhere."""
    path = find("getprop")
    if path is None:
        return None
    words = []
    for key in ("ro.product.manufacturer", "ro.product.model"):
        try:
            done = subprocess.run([path, key], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, timeout=GETPROP_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            return None
        words.append(done.stdout.decode("utf-8", "replace").strip())
    return " ".join(word for word in words if word) or None
