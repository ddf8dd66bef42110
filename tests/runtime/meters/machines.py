"""Fake machines: trees of files under a root, and programs on PATH."""

import sys


def write(root, path, text):
    """A file of the machine; its path, to be changed later."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")
    return file


def nano(root, whole_mw=4200, gpu_mw=1500, cpu_mw=900, labels=True):
    """A Jetson Nano's INA3221, as L4T 32 shows it."""
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    for channel, (label, power) in enumerate(
            [("POM_5V_IN", whole_mw), ("POM_5V_GPU", gpu_mw), ("POM_5V_CPU", cpu_mw)]):
        write(root, f"{folder}/in_power{channel}_input", power)
        if labels:
            write(root, f"{folder}/rail_name_{channel}", label)
    write(root, "proc/meminfo", "MemTotal: 4051000 kB\nMemAvailable: 3051000 kB")
    write(root, "proc/device-tree/model", "NVIDIA Jetson Nano Developer Kit\0")
    return root


def orin(root):
    """A Jetson Orin Nano's INA3221, as L4T 36 shows it."""
    folder = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    for channel, (label, millivolts, milliamperes) in enumerate(
            [("VDD_IN", 5000, 1140), ("VDD_CPU_GPU_CV", 4990, 166), ("VDD_SOC", 5010, 324)], 1):
        write(root, f"{folder}/in{channel}_label", label)
        write(root, f"{folder}/in{channel}_input", millivolts)
        write(root, f"{folder}/curr{channel}_input", milliamperes)
    write(root, f"{folder}/in7_label", "sum of shunt voltages")
    write(root, f"{folder}/in7_input", 1)
    return root


def package(root, energy_uj=1000000, range_uj=262143328850, number=0, name=None):
    """One package's RAPL counter; the path of energy_uj."""
    folder = f"sys/class/powercap/intel-rapl:{number}"
    write(root, f"{folder}/name", name or f"package-{number}")
    write(root, f"{folder}/max_energy_range_uj", range_uj)
    return write(root, f"{folder}/energy_uj", energy_uj)


def battery(root, name="battery", **files):
    """A battery that discharges with 0.5 A at 4 V, but for `files`; None leaves one out."""
    found = {"type": "Battery", "status": "Discharging", "current_now": -500000, "voltage_now": 4000000, **files}
    for key, value in found.items():
        if value is not None:
            write(root, f"sys/class/power_supply/{name}/{key}", value)
    return root


class Tools:
    """Programs of the test's own; `find` knows these and no other."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def add(self, name, source, interpreter=sys.executable):
        """A program. source: Python, unless another interpreter is named."""
        path = self.folder / name
        path.write_text(f"#!{interpreter}\n{source}\n")
        path.chmod(0o755)
        return path

    def prints(self, name, lines, then="time.sleep(60)", every=0.01, for_ever=False):
        """A program that notes its arguments in NAME.arguments, and prints `lines`, one every `every` seconds, once or
        again and again."""
        return self.add(name, f"""
import itertools, sys, time
open({str(self.folder / (name + '.arguments'))!r}, "w").write(" ".join(sys.argv[1:]))
for line in {"itertools.cycle" if for_ever else "iter"}({list(lines)!r}):
    sys.stdout.write(line)
    sys.stdout.flush()
    time.sleep({every})
{then}
""")

    def arguments(self, name):
        """What it was last called with."""
        return (self.folder / (name + ".arguments")).read_text()

    def find(self, name):
        """As shutil.which."""
        path = self.folder / name
        return str(path) if path.exists() else None


def read_all(meter, count, wait_reads=200):
    """`count` readings of a meter, opened and closed."""
    found = []
    meter.open(meter.interval_seconds)
    try:
        for _ in range(wait_reads):
            reading = meter.read()
            if reading is not None:
                found.append(reading)
            if len(found) == count:
                return found
    finally:
        meter.close()
    raise AssertionError(f"only {len(found)} readings came")
