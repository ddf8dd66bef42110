"""Lines of a program that prints a reading at a time: started, read as they come, and never left behind."""

import os
import select
import signal
import subprocess
import time

from .reading import MeterProblem

WAIT_SECONDS = 0.2  # how long a read waits, so that whoever reads can be stopped
MOST_BYTES = 1 << 16  # without a line end: this is no program that prints lines
KEPT = 300


class Lines(object):
    """The lines that `command` (a list of str) prints. Raises MeterProblem where it cannot be started."""

    def __init__(self, command):
        self._name = os.path.basename(command[0])
        self._rest = b""
        self._said = ""
        self._waiting = []
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
                start_new_session=True)
        except OSError as problem:
            raise MeterProblem("%s cannot be started: %s" % (self._name, problem.strerror or problem))

    def next(self):
        """(instant, line): the next whole line and when it came, time.monotonic(); None where none came for a moment.

        A line counts when its end is there: what a program leaves behind when it is stopped may be half a number.
        Raises: MeterProblem where the program has ended, with what it said last.
        """
        if not self._waiting:
            self._fill()
        return self._waiting.pop(0) if self._waiting else None

    def close(self):
        """Ends the program."""
        kill_group(self._process)

    def _fill(self):
        descriptor = self._process.stdout.fileno()
        if not select.select([descriptor], [], [], WAIT_SECONDS)[0]:
            return
        data = os.read(descriptor, MOST_BYTES)
        now = time.monotonic()
        if not data:
            raise MeterProblem("%s ended (exit code %d)%s" % (
                self._name, self._process.wait(), ": " + self._said if self._said else ""))
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MOST_BYTES:
            raise MeterProblem("%s printed %d bytes without an end of line" % (self._name, len(self._rest)))
        for line in lines:
            text = line.decode("utf-8", "replace").strip()
            if text:
                self._said = text[:KEPT]
                self._waiting.append((now, text))


def kill_group(process):
    """Ends a child that was started in a session of its own, and what it started: both only read."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:  # it has ended
        pass
    process.wait()
    process.stdout.close()
