"""Asks NVIDIA's driver what it is and which GPUs it has: `python -m ldmc.targets.nvidia`, one JSON object.

    {"version": "12.6", "devices": [{"name": "NVIDIA GeForce RTX 3070", "compute_capability": "8.6"}], "error": ""}

A process of its own, because a driver that does not fit its kernel can hang or crash. Functions and numbers are those
of the CUDA Driver API (`cuda.h`).
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


class _Refused(Exception):
    """The driver answered with an error."""


def probe(library: str = _LIBRARY) -> dict[str, Any]:
    """What the driver says. version: of CUDA, the newest it serves; empty where it cannot be loaded."""
    found: dict[str, Any] = {"version": "", "devices": [], "error": ""}
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return {**found, "error": f"{library} cannot be loaded"}
    try:
        number = _integer(driver, "cuDriverGetVersion")
        found["version"] = f"{number // 1000}.{number % 1000 // 10}"
        _call(driver, "cuInit", 0)
        found["devices"] = [_device(driver, k) for k in range(_integer(driver, "cuDeviceGetCount"))]
    except _Refused as refusal:
        found["error"] = str(refusal)
    return found


def compute_capability() -> str | None:
    """Of the first GPU, such as `8.6`; None where there is no driver or no GPU."""
    devices = probe()["devices"]
    return str(devices[0]["compute_capability"]) if devices else None


def _device(driver: ctypes.CDLL, index: int) -> dict[str, str]:
    handle = _integer(driver, "cuDeviceGet", index)
    name = ctypes.create_string_buffer(256)
    _call(driver, "cuDeviceGetName", name, len(name), handle)
    major, minor = (_integer(driver, "cuDeviceGetAttribute", which, handle) for which in (_MAJOR, _MINOR))
    return {"name": name.value.decode(errors="replace"), "compute_capability": f"{major}.{minor}"}


def _integer(driver: ctypes.CDLL, function: str, *arguments: int) -> int:
    """A function of the driver that writes an int through its first argument."""
    value = ctypes.c_int()
    _call(driver, function, ctypes.byref(value), *arguments)
    return value.value


def _call(driver: ctypes.CDLL, function: str, *arguments: Any) -> None:
    try:
        status = getattr(driver, function)(*arguments)
    except AttributeError as error:
        raise _Refused(f"it has no {function}") from error
    if status:
        said = "there is no GPU" if status == _NO_DEVICE else f"error {status}"
        raise _Refused(f"{function}: {said}")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(probe()))
