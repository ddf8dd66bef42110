"""RAPL: the energy counters of x86 processors, through Linux's powercap (Intel since 2011, AMD since 2017).

    /sys/class/powercap/intel-rapl:0/      name `package-0`, energy_uj, max_energy_range_uj
    /sys/class/powercap/intel-rapl:0:0/    `core`, `uncore`, `dram`: parts, shown as rails and never added
    /sys/class/powercap/intel-rapl:1/      `psys`, where there is one: the platform around it, a rail too

The figure is the sum of the packages: the same thing on every machine, where `psys` is on few, and each board decides
what it covers. Memory (`dram`) lies outside the package and is not in it.

Since Linux 5.10 the counters are root's alone (CVE-2020-8694). Virtual machines have none. A counter wraps after some
minutes of full load; `read` adds what it wrapped at.

Source: https://docs.kernel.org/power/powercap/powercap.html
"""

import glob
import os

from .reading import MeterProblem, NotHere, Reading, number_or_none, read_text, text_or_none, timed


class RAPL(object):
    """The counters under `root`. Raises MeterProblem where there are none, or they cannot be read."""

    interval_seconds = 0.05
    is_counter = True
    paces_itself = False

    def __init__(self, root, find):
        zones = _zones(root)
        self._packages = sorted(label for label in zones if label.startswith("package") and "/" not in label)
        if not self._packages:
            raise NotHere(_why_none(root))
        for label in self._packages:
            _read_counter(zones[label].path)
        self._zones = {label: zone for label, zone in zones.items()
                       if label in self._packages or number_or_none(zone.path) is not None}
        self.title = "RAPL, %s" % " + ".join(self._packages)

    def open(self, interval_seconds):
        """Starts all counters at 0 J."""
        for zone in self._zones.values():
            zone.last_microjoules, zone.sum_microjoules = _read_counter(zone.path), 0

    def read(self):
        """Reading: joules since `open`. Raises MeterProblem."""
        at, joules = timed(lambda: {label: zone.joules() for label, zone in self._zones.items()})
        return Reading(at, sum(joules[label] for label in self._packages), joules)

    def close(self):
        """Nothing is open."""


class _Zone(object):
    """One counter: `path` of its energy_uj, and `range_microjoules`, where it wraps."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "energy_uj")
        self.range_microjoules = number_or_none(os.path.join(folder, "max_energy_range_uj")) or 0
        self.last_microjoules = self.sum_microjoules = 0

    def joules(self):
        """Since the counter was started."""
        now = _read_counter(self.path)
        step = now - self.last_microjoules
        if step < 0:
            if not self.range_microjoules:
                raise MeterProblem("%s went back from %d to %d and does not say where it wraps" % (
                    self.path, self.last_microjoules, now))
            step += self.range_microjoules
        self.last_microjoules = now
        self.sum_microjoules += step
        return self.sum_microjoules / 1e6


def _zones(root):
    """label -> _Zone; a part's label is `package-0/core`. Not `intel-rapl-mmio:`, the same packages once more."""
    folders = sorted(glob.glob(os.path.join(root, "sys/class/powercap/intel-rapl:*")))
    names = {os.path.basename(folder): text_or_none(os.path.join(folder, "name")) for folder in folders}
    found = {}
    for folder in folders:
        own = os.path.basename(folder)
        above = own.rpartition(":")[0]
        label = names[own] or own
        if above in names:
            label = "%s/%s" % (names[above] or above, label)
        found[label] = _Zone(folder)
    return found


def _read_counter(path):
    try:
        return int(read_text(path))
    except PermissionError:
        raise MeterProblem("RAPL's counter %s is readable by root only: run as root, or sudo chmod a+r %s" % (
            path, path))
    except (OSError, ValueError) as problem:
        raise MeterProblem("RAPL's counter cannot be read: %s" % problem)


def _why_none(root):
    cpu = text_or_none(os.path.join(root, "proc/cpuinfo")) or ""
    flags = [line for line in cpu.splitlines() if line.startswith("flags")]
    if flags and "hypervisor" in flags[0].split():
        return "this is a virtual machine, which has no RAPL counter"
    return "there is no RAPL counter in /sys/class/powercap"
