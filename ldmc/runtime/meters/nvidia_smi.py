"""NVIDIA's `nvidia-smi`, where its library cannot be opened: one line for each reading.

    1232 MiB, 101.43 W
    1232 MiB, [N/A]             a card that does not tell

Source: `nvidia-smi --help-query-gpu`
"""

import re
import subprocess

from .child import Lines
from .reading import MeterProblem, NotHere, Reading

FIELDS = "memory.used,power.draw"
NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*(MiB|W)?$")
MIB = 1 << 20
ANSWER_SECONDS = 20.0  # the first call after a start loads the driver


class NvidiaSmi(object):
    """`nvidia-smi`, as a child process, of card `index`. find: name of a command -> its path, or None."""

    title = "nvidia-smi"
    interval_seconds = 0.25
    is_counter = False
    paces_itself = True

    def __init__(self, root, find, index=0):
        self._path = find("nvidia-smi")
        self._index = index
        self._lines = None
        if self._path is None:
            raise NotHere("there is no nvidia-smi on PATH")

    def open(self, interval_seconds):
        """Starts it."""
        self._lines = Lines([self._path, "--query-gpu=" + FIELDS, "--format=csv,noheader", "-i", "%d" % self._index,
                             "-lms", "%d" % max(1, round(interval_seconds * 1000))])

    def read(self):
        """The next line's Reading; None where none came yet. Raises MeterProblem where it has no power to tell."""
        found = self._lines.next()
        if found is None:
            return None
        at, line = found
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != len(FIELDS.split(",")):
            return None  # a warning; where it is the last word, the end of the program comes with it
        used_mib, watts = [number_of(field) for field in fields]
        if watts is None:
            raise MeterProblem("nvidia-smi says of this card's power: %s" % fields[1])
        return Reading(at, watts, used_bytes=None if used_mib is None else int(used_mib * MIB))

    def close(self):
        """Ends it."""
        if self._lines is not None:
            self._lines.close()


def number_of(field):
    """101.43 of `101.43 W` and of `101.43`; None of `[N/A]`, `[Not Supported]`, `[Unknown Error]`."""
    match = NUMBER.match(field)
    return float(match.group(1)) if match else None


def process_bytes(path, pid):
    """Memory that process `pid` has on all cards, by the program nvidia-smi at `path`; None where it is not told."""
    command = [path, "--query-compute-apps=pid,used_memory", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=ANSWER_SECONDS).stdout.decode("utf-8", "replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    rows = [[field.strip() for field in line.split(",")] for line in said.splitlines()]
    used = [number_of(row[1]) for row in rows if len(row) == 2 and row[0] == str(pid)]
    return int(sum(used) * MIB) if used and None not in used else None
