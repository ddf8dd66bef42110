"""Which CPU is this? An optimised graph holds layouts that suit one kind of CPU only."""

import io
import platform

# x86 names its features "flags"; ARM "Features", with numbers for the maker and the core.
_FIELDS = ("model name", "flags", "Features", "CPU implementer", "CPU part")


def cpu_identity():
    """Machine, CPU model and its sorted instruction-set flags, as a dict of str that is equal for equal CPUs."""
    identity = {"machine": platform.machine()}
    try:
        with io.open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if not line.strip():
                    break  # the first processor speaks for all
                name, _, value = line.partition(":")
                if name.strip() in _FIELDS:
                    identity[name.strip()] = " ".join(sorted(value.split()))
    except OSError:
        identity["processor"] = platform.processor()
    return identity
