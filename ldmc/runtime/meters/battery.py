"""The battery of a phone or laptop: what it gives while nothing charges it.

    /sys/class/power_supply/battery/   type `Battery`, status, current_now, voltage_now (or power_now, in uW)

By the kernel's word current_now is in microamperes and voltage_now in microvolts; the sign of the current, and on some
phones its unit (Samsung: mA), are otherwise. The sign is not looked at: what counts is that the battery discharges. The
unit is told by the number: see `amperes` and `volts`.

While a charger is connected the battery's current is not what the device draws: there is no number then.

Source: https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-class-power
"""

import glob
import os

from .reading import MeterProblem, NotHere, Reading, number_or_none, text_or_none, timed

# A device that computes draws 20 mA to 10 A. In microamperes that is 20 000 and more, in milliamperes 10 000 and less.
MOST_MILLIAMPERES = 10000
LEAST_VOLTS, MOST_VOLTS = 2.5, 30.0  # one cell that is nearly empty, seven in a laptop
CHARGING = "the battery is not what powers this device now (%s): unplug it"


class Battery(object):
    """The first battery under `root` that powers the device. Raises MeterProblem."""

    interval_seconds = 0.5
    is_counter = False
    paces_itself = False

    def __init__(self, root, find):
        self._root = root
        self._folder = _battery(root)
        self.title = "battery (%s)" % os.path.basename(self._folder)

    def open(self, interval_seconds):
        """Nothing is kept open."""

    def read(self):
        """Reading: watts out of the battery. Raises MeterProblem where it charges, or does not say."""
        at, watts = timed(self._watts)
        return Reading(at, watts)

    def close(self):
        """Nothing is open."""

    def _watts(self):
        check_discharging(text_or_none(os.path.join(self._folder, "status")), _charger(self._root))
        current, voltage, power = [number_or_none(os.path.join(self._folder, name))
                                   for name in ("current_now", "voltage_now", "power_now")]
        if current is not None and voltage is not None:
            return amperes(current) * volts(voltage)
        if power:
            return abs(power) / 1e6
        raise MeterProblem("%s cannot be read: this system gives it to no program, or has none" % os.path.join(
            self._folder, "current_now" if current is None else "voltage_now"))


def check_discharging(status, charger=None):
    """Raises MeterProblem unless the battery alone powers the device. status: as sysfs and Termux spell it."""
    if status is None:
        raise MeterProblem("the battery does not say whether it is being charged")
    if charger or status.lower() != "discharging":
        raise MeterProblem(CHARGING % ("%s, %s" % (status, charger) if charger else status))


def amperes(number):
    """A current of either sign, in mA where it is so small that in uA nothing could run on it, else in uA.

    Raises MeterProblem for 0, which phones give that do not measure it.
    """
    size = abs(number)
    if size == 0:
        raise MeterProblem("the battery says that no current flows, so it does not measure it")
    return size / 1e3 if size <= MOST_MILLIAMPERES else size / 1e6


def volts(number):
    """A voltage in uV, mV or V, whichever a battery can have. Raises MeterProblem where none is."""
    for unit in (1e6, 1e3, 1.0):
        if LEAST_VOLTS <= number / unit <= MOST_VOLTS:
            return number / unit
    raise MeterProblem("the battery says a voltage of %s, which is none of a battery in uV, mV or V" % number)


def _battery(root):
    """Its folder. A `scope` of Device is a mouse's or a pen's."""
    for folder in sorted(glob.glob(os.path.join(root, "sys/class/power_supply/*"))):
        if text_or_none(os.path.join(folder, "type")) == "Battery":
            if text_or_none(os.path.join(folder, "scope")) != "Device":
                return folder
    raise NotHere("there is no battery in /sys/class/power_supply")


def _charger(root):
    """The name of a supply that is connected; None where none is."""
    for folder in sorted(glob.glob(os.path.join(root, "sys/class/power_supply/*"))):
        kind = text_or_none(os.path.join(folder, "type"))
        if kind != "Battery" and number_or_none(os.path.join(folder, "online")):
            return "%s is connected" % os.path.basename(folder)
    return None
