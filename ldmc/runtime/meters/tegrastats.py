"""NVIDIA's `tegrastats` on a Jetson: one line for each reading, in either form.

    RAM 1923/3964MB (lfb 3x2MB) ... POM_5V_IN 1750/1628 POM_5V_GPU 0/0 POM_5V_CPU 366/406           Nano
    11-30-2025 13:26:01 RAM 2461/7620MB (lfb 3x2MB) ... VDD_IN 5704mW/5704mW VDD_SOC 1624mW/1624mW  JetPack 5 and 6

A rail is `LABEL now/average` in milliwatts, with or without the unit; `now` is read, the average is since the start.
"""

import re

from . import rails
from .child import Lines
from .reading import MeterProblem, NotHere, Reading

# Not `RAM 1923/3964MB` or `IRAM 0/252kB`, whose unit is another.
RAIL = re.compile(r"(?:^|\s)([A-Za-z][A-Za-z0-9_]*)\s+(\d+)(?:mW)?/(\d+)(?:mW)?(?=\s|$)")
MEMORY = re.compile(r"(?:^|\s)RAM\s+(\d+)/(\d+)([kMG]?)B(?=\s|$)")
UNITS = {"": 1, "k": 1 << 10, "M": 1 << 20, "G": 1 << 30}
MOST_WITHOUT = 3  # lines in a row


class Tegrastats(object):
    """The program `tegrastats`, as a child process. find: name of a command -> its path, or None."""

    title = "tegrastats"
    interval_seconds = 0.25
    is_counter = False
    paces_itself = True

    def __init__(self, root, find):
        self._path = find("tegrastats")
        if self._path is None:
            raise NotHere("there is no tegrastats on PATH")
        self._lines = None
        self._without = 0

    def open(self, interval_seconds):
        """Starts it."""
        self._lines = Lines([self._path, "--interval", "%d" % max(1, round(interval_seconds * 1000))])
        self._without = 0

    def read(self):
        """The next line's Reading; None where none came yet. Raises MeterProblem where it ended, or has no total."""
        found = self._lines.next()
        if found is None:
            return None
        at, line = found
        watts, used_bytes = rails_of(line), memory_of(line)
        label = rails.whole_module(watts)
        if label is None:
            self._without += 1
            if self._without == MOST_WITHOUT:
                raise MeterProblem(rails.missing("tegrastats", watts))
            return None
        self._without = 0
        self.title = "tegrastats, %s" % label
        return Reading(at, watts[label], watts, used_bytes and used_bytes[0])

    def close(self):
        """Ends it."""
        if self._lines is not None:
            self._lines.close()


def rails_of(line):
    """label -> watts, now, of one line."""
    return {label: int(now) / 1000.0 for label, now, _ in RAIL.findall(line)}


def memory_of(line):
    """(used, total) bytes of the module's memory, which CPU and GPU share; None where the line has none."""
    match = MEMORY.search(line)
    if match is None:
        return None
    return int(match.group(1)) * UNITS[match.group(3)], int(match.group(2)) * UNITS[match.group(3)]
