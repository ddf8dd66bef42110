"""The battery of a phone through Termux's `termux-battery-status`, where Android gives its files to no program.

    {"status": "DISCHARGING", "plugged": "UNPLUGGED", "voltage": 3912, "current": -823000, ...}

`voltage` is in mV, and older versions of the app Termux:API do not give it; `current` is in uA by Android's word. On
phones that give mA, the app multiplies what is below 1000 by 1000, and leaves what is above: `battery.amperes` reads
both.

Source: github.com/termux/termux-api, BatteryStatusAPI.java
"""

import json
import subprocess

from .battery import amperes, check_discharging, volts
from .child import kill_group
from .reading import MeterProblem, NotHere, Reading, timed

COMMAND = "termux-battery-status"
ANSWER_SECONDS = 10.0
UNPLUGGED = "UNPLUGGED"


class TermuxBattery(object):
    """`termux-battery-status`, called for each reading. find: name of a command -> its path, or None."""

    title = "battery (%s)" % COMMAND
    interval_seconds = 1.0  # a call takes about half a second, and the phone's own figure is as old
    is_counter = False
    paces_itself = False

    def __init__(self, root, find):
        self._path = find(COMMAND)
        if self._path is None:
            raise NotHere("there is no %s on PATH" % COMMAND)

    def open(self, interval_seconds):
        """Nothing is kept open."""

    def read(self):
        """Reading: watts out of the battery. Raises MeterProblem."""
        at, status = timed(self._ask)
        plugged = status.get("plugged")
        check_discharging(status.get("status"), None if plugged in (None, UNPLUGGED) else plugged)
        current, voltage = status.get("current"), status.get("voltage")
        if not _is_number(current):
            raise MeterProblem("%s gives no current on this phone" % COMMAND)
        if not _is_number(voltage) or voltage <= 0:
            raise MeterProblem("%s gives no voltage: update the app Termux:API" % COMMAND)
        return Reading(at, amperes(current) * volts(voltage))

    def close(self):
        """Nothing is open."""

    def _ask(self):
        """The JSON object. Without the app, the command waits for ever."""
        try:
            process = subprocess.Popen([self._path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as problem:
            raise MeterProblem("%s cannot be started: %s" % (COMMAND, problem.strerror or problem))
        try:
            said = process.communicate(timeout=ANSWER_SECONDS)[0].decode("utf-8", "replace").strip()
        except subprocess.TimeoutExpired:
            kill_group(process)
            raise MeterProblem("%s did not answer in %.0f s: install the app Termux:API and open it once" % (
                COMMAND, ANSWER_SECONDS))
        try:
            status = json.loads(said)
        except ValueError:
            status = None
        if not isinstance(status, dict):
            raise MeterProblem("%s said: %s" % (COMMAND, said[:200] or "nothing"))
        return status


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)
