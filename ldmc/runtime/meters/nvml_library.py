"""NVIDIA's management library through ctypes, as far as it is used here. No pynvml.

    gpu = Gpu(0)
    gpu.power_watts(), gpu.energy_joules(), gpu.used_bytes(), gpu.process_bytes(pid)

Every call is checked: what the library refuses is a MeterProblem with its own words. The process list is asked in its
second version: the first has no struct fields for MIG, and the third's struct has 24 bytes in some drivers and 32 in
others (R535 before 535.98), with the same name.

Source: https://docs.nvidia.com/deploy/nvml-api/
"""

import ctypes

from .reading import MeterProblem, NotHere

NAME = "libnvidia-ml.so.1"
SUCCESS, NOT_SUPPORTED, INSUFFICIENT_SIZE = 0, 3, 7  # nvmlReturn_t
NAME_BYTES = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE
NOT_AVAILABLE = 2 ** 64 - 1  # NVML_VALUE_NOT_AVAILABLE
DESCRIBE = "nvmlErrorString"
MOST_TRIES = 5
SPARE = 8  # processes that may start between asking how many there are and asking which

_UINT, _ULL, _HANDLE = ctypes.c_uint, ctypes.c_ulonglong, ctypes.c_void_p
_UINT_P, _ULL_P = ctypes.POINTER(_UINT), ctypes.POINTER(_ULL)


class _Memory(ctypes.Structure):
    """nvmlMemory_t"""
    _fields_ = [("total", _ULL), ("free", _ULL), ("used", _ULL)]


class _Process1(ctypes.Structure):
    """nvmlProcessInfo_v1_t: 16 bytes"""
    _fields_ = [("pid", _UINT), ("used", _ULL)]


class _Process2(ctypes.Structure):
    """nvmlProcessInfo_v2_t: 24 bytes"""
    _fields_ = [("pid", _UINT), ("used", _ULL), ("gpu_instance", _UINT), ("compute_instance", _UINT)]


_ARGUMENTS = {
    "nvmlInit_v2": (),
    "nvmlShutdown": (),
    DESCRIBE: (ctypes.c_int,),
    "nvmlDeviceGetCount_v2": (_UINT_P,),
    "nvmlDeviceGetHandleByIndex_v2": (_UINT, ctypes.POINTER(_HANDLE)),
    "nvmlDeviceGetName": (_HANDLE, ctypes.c_char_p, _UINT),
    "nvmlDeviceGetPowerUsage": (_HANDLE, _UINT_P),
    "nvmlDeviceGetTotalEnergyConsumption": (_HANDLE, _ULL_P),
    "nvmlDeviceGetMemoryInfo": (_HANDLE, ctypes.POINTER(_Memory)),
}
_PROCESSES = (("nvmlDeviceGetComputeRunningProcesses_v2", _Process2),
              ("nvmlDeviceGetComputeRunningProcesses", _Process1))
# Not in every driver; without it there is another way.
_OPTIONAL = ("nvmlDeviceGetTotalEnergyConsumption",)


class Gpu(object):
    """One graphics card. Close it.

    Args: index: in the order of PCI buses, as nvidia-smi counts. library: name or path of libnvidia-ml.
    Raises: MeterProblem where there is no library, no driver or no such card.
    """

    def __init__(self, index=0, library=NAME):
        self._library = _open(library)
        self._call("nvmlInit_v2")
        try:
            count, handle = _UINT(), _HANDLE()
            self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
            if index >= count.value:
                raise MeterProblem("there is no NVIDIA GPU %d: NVML knows %d" % (index, count.value))
            self._call("nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(handle))
            self._handle = handle
            name = ctypes.create_string_buffer(NAME_BYTES)
            self._call("nvmlDeviceGetName", handle, name, NAME_BYTES)
        except MeterProblem:
            self.close()
            raise
        self.name = name.value.decode("utf-8", "replace")

    def power_watts(self):
        """What the card draws: of the last second's mean since Ampere. Raises MeterProblem."""
        milliwatts = _UINT()
        self._call("nvmlDeviceGetPowerUsage", self._handle, ctypes.byref(milliwatts))
        return milliwatts.value / 1e3

    def energy_joules(self):
        """Since the driver was loaded; None where this card or driver does not count (before Volta)."""
        millijoules = _ULL()
        if getattr(self._library, "nvmlDeviceGetTotalEnergyConsumption", None) is None:
            return None
        try:
            self._call("nvmlDeviceGetTotalEnergyConsumption", self._handle, ctypes.byref(millijoules))
        except NotSupported:
            return None
        return millijoules.value / 1e3

    def used_bytes(self):
        """Of the card's memory, by all programs together."""
        memory = _Memory()
        self._call("nvmlDeviceGetMemoryInfo", self._handle, ctypes.byref(memory))
        return memory.used

    def process_bytes(self, pid):
        """What process `pid` has of the card's memory; None where it is not on the card, or the driver does not tell
        (Windows; a container, where numbers of processes are others)."""
        function, struct = _process_function(self._library)
        count, found = _UINT(0), None  # with no room, it says how many there are
        for _ in range(MOST_TRIES):
            status = getattr(self._library, function)(self._handle, ctypes.byref(count), found)
            if status != INSUFFICIENT_SIZE:
                break
            count = _UINT(count.value + SPARE)
            found = (struct * count.value)()
        if status != SUCCESS:
            self._refused(function, status)
        if found is None:
            return None
        used = [entry.used for entry in found[:count.value] if entry.pid == pid and entry.used != NOT_AVAILABLE]
        return sum(used) if used else None

    def close(self):
        """Ends the use of the library."""
        self._library.nvmlShutdown()

    def _call(self, name, *arguments):
        status = getattr(self._library, name)(*arguments)
        if status != SUCCESS:
            self._refused(name, status)

    def _refused(self, name, status):
        said = (getattr(self._library, DESCRIBE)(status) or b"unknown error").decode("utf-8", "replace")
        kind = NotSupported if status == NOT_SUPPORTED else MeterProblem
        raise kind("NVML's %s failed: %s (error %d)" % (name, said, status))


class NotSupported(MeterProblem):
    """This card or driver does not have it."""


def _process_function(library):
    for name, struct in _PROCESSES:
        if getattr(library, name, None) is not None:
            return name, struct
    raise MeterProblem("NVML has no %s" % _PROCESSES[0][0])


def _open(name):
    try:
        library = ctypes.CDLL(name)
    except OSError:
        raise NotHere("there is no NVIDIA driver here (%s)" % name)
    for function, arguments in sorted(_ARGUMENTS.items()):
        found = getattr(library, function, None)
        if found is None:
            if function in _OPTIONAL:
                continue
            raise MeterProblem("%s has no %s: the driver is too old" % (name, function))
        found.argtypes = arguments
        found.restype = ctypes.c_char_p if function == DESCRIBE else ctypes.c_int
    for function, _ in _PROCESSES:
        found = getattr(library, function, None)
        if found is not None:
            found.argtypes, found.restype = (_HANDLE, _UINT_P, ctypes.c_void_p), ctypes.c_int
    return library
