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

import shutil

from .reading import MeterProblem, Reading
from .recorder import Energy, Recorder

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
    return None, "no meter is known"
