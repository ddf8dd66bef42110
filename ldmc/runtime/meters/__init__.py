"""Meters: how much power a device draws, read where the device says so, and the energy of the work between.

    meter, why = choose("tegrastats")       # by the target's `power`; "" takes what this machine has
    with Recorder(meter) as recorder: ...   # see `recorder`

| power      | read from, in this order                          | covers               |
|------------|---------------------------------------------------|----------------------|
| tegrastats | INA3221 in sysfs, then the command `tegrastats`   | the whole module     |
| nvml       | libnvidia-ml, then the command `nvidia-smi`       | the graphics card    |
| rapl       | /sys/class/powercap                               | the processor        |
| battery    | /sys/class/power_supply, `termux-battery-status`  | the whole device     |

No meter, no number: None and a sentence that says why.
"""

import importlib
import shutil
import time

from .reading import MeterProblem, NotHere, Reading
from .recorder import FIRST_READING_SECONDS, Energy, Recorder

__all__ = ["Energy", "MeterProblem", "Reading", "Recorder", "choose"]

# What each of them needs is in its module, which is imported only where it is wanted.
KINDS = {
    "tegrastats": (("ina3221", "INA3221"), ("tegrastats", "Tegrastats")),
    "nvml": (("nvml", "NVML"), ("nvidia_smi", "NvidiaSmi")),
    "rapl": (("rapl", "RAPL"),),
    "battery": (("battery", "Battery"), ("termux", "TermuxBattery")),
}
# Without a target's word: whatever sees the processor at work. Not `nvml`, which would measure a card that idles.
ANY = ("tegrastats", "rapl", "battery")


def choose(power="", root="/", find=shutil.which):
    """The meter to use here.

    Args:
        power: the target's `power`: "tegrastats", "nvml", "rapl", "battery"; "" for what this machine has.
        root: where /sys and /proc are looked for. find: name of a command -> its path, or None.
    Returns: (meter, None): one that has just been read; or (None, why): one sentence.
    """
    problems = []
    for kind in (power,) if power else ANY:
        for module, name in KINDS[kind]:
            try:
                meter = getattr(importlib.import_module("." + module, __name__), name)(root, find)
                _try(meter)
            except MeterProblem as problem:
                problems.append(problem)
            else:
                return meter, None
    return None, _why_none(power, problems)


def _why_none(power, problems):
    """One sentence. What is here and cannot be read says more than what is not here."""
    unreadable = [str(problem) for problem in problems if not isinstance(problem, NotHere)]
    if unreadable or power:
        return "; ".join(unreadable or [str(problem) for problem in problems])
    rapl = [str(problem) for problem in problems if "RAPL" in str(problem)]
    return "nothing here measures power: no rails of a Jetson, no battery, and %s" % " ".join(rapl)


def _try(meter):
    """Reads it once. Raises MeterProblem where it gives nothing."""
    end = time.monotonic() + FIRST_READING_SECONDS
    meter.open(meter.interval_seconds)
    try:
        while meter.read() is None:
            if time.monotonic() > end:
                raise MeterProblem("%s gave no reading in %.0f s" % (meter.title, FIRST_READING_SECONDS))
    finally:
        meter.close()
