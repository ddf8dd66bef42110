"""What this machine is, and whether it is the one that the bundle was compiled for.

Facts are read under a root folder, so that a test can give a machine of its own:

    proc/meminfo  proc/swaps  proc/*/comm  etc/nv_tegra_release  (and proc/sys/kernel/arch where the root is not /)
"""

import glob
import io
import json
import os
import platform
import re

from .. import memory
from ..errors import BundleProblem
from ..versions import fits, problem_of
from . import process

MIB = 1 << 20
# `# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, ...`: L4T 32.7.1
TEGRA_RELEASE = re.compile(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)")
DESKTOPS = ("Xorg", "gdm3", "gnome-shell", "lightdm", "sddm", "Xwayland")
DESKTOP_ADVICE = "stop the desktop: `sudo systemctl isolate multi-user.target` frees about 1 GB"
ZRAM_ADVICE = "turn zram off, which keeps swapped pages in this same memory: `sudo systemctl disable nvzramconfig`, " \
    "then reboot, and give a swap file on disk instead"
SWAP_ADVICE = "add a swap file for what other programs hold: `sudo fallocate -l 4G /swapfile && sudo chmod 600 " \
    "/swapfile && sudo mkswap /swapfile && sudo swapon /swapfile` (it does not back GPU memory)"


class Check(object):
    """One line of the report: `name`, `found` (text), `problem` ("" where all is well) and `fix`."""

    def __init__(self, name, found, problem="", fix=""):
        self.name = name
        self.found = found
        self.problem = problem
        self.fix = fix


class Machine(object):
    """This machine.

    Attributes: `root`, `arch`, `l4t` ("" where it is no Jetson), `libraries` (see `probe.probe`).
    """

    def __init__(self, root, libraries):
        self.root = root
        self.arch = _first_line(root, "proc/sys/kernel/arch") if root != "/" else platform.machine()
        self.l4t = l4t_version(_first_line(root, "etc/nv_tegra_release"))
        self.libraries = libraries

    @property
    def available_bytes(self):
        """Memory that a build can have now; None where the system does not say."""
        return memory.available_bytes(self.root)

    @property
    def total_bytes(self):
        """All memory there is; 0 where the system does not say."""
        return memory.meminfo(self.root).get("MemTotal", 0)

    def advice(self):
        """How to have more memory here: a list of sentences."""
        found = []
        if self._desktop():
            found.append(DESKTOP_ADVICE)
        if "zram" in _text(self.root, "proc/swaps"):
            found.append(ZRAM_ADVICE)
        elif not memory.meminfo(self.root).get("SwapTotal"):
            found.append(SWAP_ADVICE)
        return found

    def _desktop(self):
        for path in glob.glob(os.path.join(self.root, "proc", "[0-9]*", "comm")):
            if _first_line("/", path) in DESKTOPS:
                return True
        return False


def ask_libraries(module, working_path):
    """What `probe.probe` finds, from a child process. Raises BundleProblem where the child dies."""
    result, log = working_path("probe.json"), working_path("probe.log")
    ended = process.run([process.package_name(), "finish-helper", "probe", module, result], log)
    if ended.code != 0:
        said = process.tail(log, 1)
        message = "asking %s and CUDA for their versions failed (exit code %d): %s" % (
            module, ended.code, said[0] if said else "no output")
        raise BundleProblem(message, "check that `python3 -c 'import %s'` works" % module)
    with io.open(result, encoding="utf-8") as stream:
        return json.load(stream)


def check_machine(machine, wanted, module):
    """Compares the machine with the manifest's `finish.device`.

    Args: wanted: dict of arch, l4t, tensorrt, compute_capability; what is missing or empty is not checked.
    Returns: list of Check.
    """
    checks = [_same("architecture", machine.arch, wanted.get("arch"), "copy the bundle to the device and run it there")]
    if wanted.get("l4t"):
        checks.append(_check_l4t(machine.l4t, wanted["l4t"]))
    checks.append(_check_tensorrt(machine.libraries, wanted.get("tensorrt") or "", module))
    capability = machine.libraries.get("compute_capability") or ""
    check = _same("GPU", capability, wanted.get("compute_capability"), "run it on the device the bundle is for")
    if check.problem and not capability:
        check.problem = "CUDA says no compute capability: %s" % machine.libraries["problems"].get("compute_capability")
        check.fix = "on a Jetson, install the package cuda-cudart of its JetPack"
    check.found = "compute capability %s" % (capability or "unknown")
    checks.append(check)
    return checks


def l4t_version(line):
    """`32.7.1` from the first line of /etc/nv_tegra_release; "" where it is another."""
    match = TEGRA_RELEASE.match(line)
    return "%s.%s" % match.groups() if match else ""


def _check_l4t(found, wanted):
    if not found:
        return Check("L4T", "none", "this is no Jetson: there is no /etc/nv_tegra_release; the bundle is for L4T %s"
                     % wanted, "copy the bundle to the device and run it there")
    if (found + ".").startswith(wanted + "."):
        return Check("L4T", found)
    return Check("L4T", found, "the bundle is for L4T %s and this is %s" % (wanted, found),
                 "build the bundle for this board, or flash the JetPack of L4T %s" % wanted)


def _check_tensorrt(libraries, wanted, module):
    found = libraries.get("tensorrt") or ""
    if not found:
        why = libraries["problems"].get("tensorrt")
        return Check("TensorRT", "none", "the Python module %s cannot be imported: %s" % (module, why),
                     "on a Jetson: sudo apt install python3-libnvinfer")
    if problem_of(wanted) and wanted:
        return Check("TensorRT", found, "the bundle does not say which TensorRT it is for: %s" % problem_of(wanted),
                     "build the bundle again")
    if wanted and not fits(found, wanted):
        return Check("TensorRT", found, "the bundle is for TensorRT %s and this is %s" % (wanted, found),
                     "build the bundle again for this version: its graphs are made for the other's parser")
    return Check("TensorRT", found)


def _same(name, found, wanted, fix):
    if not wanted or found == wanted:
        return Check(name, found)
    return Check(name, found, "the bundle is for %s and this is %s" % (wanted, found or "unknown"), fix)


def _first_line(root, path):
    return (_text(root, path).splitlines() or [""])[0].strip()


def _text(root, path):
    try:
        with io.open(os.path.join(root, path), encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except (OSError, ValueError):
        return ""
