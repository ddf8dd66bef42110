"""The power monitor of a Jetson, a TI INA3221, read from sysfs: what `tegrastats` reads too.

    /sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/   rail_name_0, in_power0_input (mW)           JetPack 4
    /sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/   in1_label, in1_input (mV), curr1_input (mA)  JetPack 5 and 6

It is asked before `tegrastats`: the figures are the same, and it needs no second process, which on four slow cores
would be part of what is measured.

Source: https://docs.kernel.org/hwmon/ina3221.html; NVIDIA's ina3221x.c of L4T 32.
"""

import glob
import os

from . import rails
from .. import memory
from .reading import MeterProblem, NotHere, Reading, number_or_none, read_text, text_or_none, timed

CHANNELS = 3


class INA3221(object):
    """Every INA3221 under `root`. Raises MeterProblem where there is none, or none of the whole module."""

    title = "INA3221"
    interval_seconds = 0.1
    is_counter = False
    paces_itself = False

    def __init__(self, root, find):
        self._root = root
        self._channels = _nano_channels(root)
        self._channels.update(_hwmon_channels(root))
        if not self._channels:
            raise NotHere("there is no INA3221 in /sys/bus/i2c/drivers")
        self._whole = rails.whole_module(self._channels)
        if self._whole is None:
            raise MeterProblem(rails.missing("INA3221", self._channels))
        self.title = "INA3221, %s" % self._whole

    def open(self, interval_seconds):
        """Nothing is kept open: each reading is a fresh one of the chip."""

    def read(self):
        """Reading: all rails, one after the other. Raises MeterProblem where one cannot be read."""
        at, watts = timed(lambda: {label: read_watts(paths) for label, paths in self._channels.items()})
        known = memory.meminfo(self._root)
        used = known["MemTotal"] - known["MemAvailable"] if {"MemTotal", "MemAvailable"} <= set(known) else None
        return Reading(at, watts[self._whole], watts, used)

    def close(self):
        """Nothing is open."""


def read_watts(paths):
    """Watts of one channel: a file in mW, or two in mV and mA. Raises MeterProblem."""
    try:
        values = [int(read_text(path)) for path in paths]
    except (OSError, ValueError) as problem:
        raise MeterProblem("INA3221 cannot be read: %s" % problem)
    return values[0] / 1e3 if len(values) == 1 else values[0] * values[1] / 1e6


def _nano_channels(root):
    """label -> [path of in_powerN_input]."""
    found = {}
    for folder in sorted(glob.glob(os.path.join(root, "sys/bus/i2c/drivers/ina3221x/*/iio:device*"))):
        for channel in range(CHANNELS):
            path = os.path.join(folder, "in_power%d_input" % channel)
            # A kernel that names no rail is the Nano's, whose order is documented.
            label = text_or_none(os.path.join(folder, "rail_name_%d" % channel)) or rails.NANO[channel]
            if number_or_none(path) is not None:
                found[label] = [path]
    return found


def _hwmon_channels(root):
    """label -> [path of inN_input, path of currN_input]."""
    found = {}
    for folder in sorted(glob.glob(os.path.join(root, "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"))):
        for channel in range(1, CHANNELS + 1):  # beyond them are sums of shunt voltages, no rails
            label = text_or_none(os.path.join(folder, "in%d_label" % channel))
            paths = [os.path.join(folder, name % channel) for name in ("in%d_input", "curr%d_input")]
            if label and label != "NC" and all(number_or_none(path) is not None for path in paths):
                found[label] = paths
    return found
