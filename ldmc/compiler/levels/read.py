"""Reading what a bench wrote: a file, or what the reference project published (`paper:rtx-3070`)."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from ldmc.artifacts.documents import read_json
from ldmc.artifacts.kinds import Fault
from ldmc.errors import UsageError
from ldmc.runtime.result import KIND, SCHEMA_VERSION

PAPER = "paper:"
PAPER_DEVICES = ("rtx-3070", "jetson-nano", "android")
_FIX = "give a file that `ldmc bench -o FILE` wrote"
_STATUSES = ("measured", "stopped", "failed")
_TIMES = ("denoise", "decode", "total")
_LARGEST = 1e300
_SCALARS = {
    "model": ("name", "weights", "parameters"), "power": ("meter", "absent", "idle_watts"),
    "settings": ("steps", "runs", "warmup", "batch", "threads", "seed", "torch_device"),
}  # fmt: skip
_NUMBERS = (
    "prepare_seconds", "load_seconds", "first_seconds", "peak_rss_bytes", "peak_pss_bytes", "peak_gpu_bytes",
    "power_watts", "power_net_watts", "energy_joules", "energy_net_joules", "speedup", "speedup_low",
    "speedup_high", "spread", "psnr_db",
)  # fmt: skip


def read_result(name: str) -> dict[str, Any]:
    """The result in file `name`, or of the paper.

    Raises:
        UsageError: there is no such file or device, or the file is no result, or of a newer schema.
    """
    if name.startswith(PAPER):
        return _paper(name[len(PAPER) :])
    path = Path(name)
    if not path.exists():
        papers = ", ".join(PAPER + device for device in PAPER_DEVICES)
        raise UsageError(f"there is no file {name}", fix=f"give a result of `ldmc bench -o FILE`, or one of {papers}")
    try:
        found = read_json(path)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}", fix=_FIX) from error
    except ValueError as error:
        raise UsageError(f"{name} cannot be read as JSON: {error}", fix=_FIX) from error
    if not isinstance(found, dict):
        raise wrong(name, "it", found, "an object")
    check_result(found, name)
    return found


def check_result(data: Mapping[str, Any], label: str) -> None:
    """Hold a result to its schema, as far as tables and pages rely on it. label: what it is called in a message.

    Raises:
        UsageError: it is of a newer schema, or a key is missing or not what it must be.
    """
    if data.get("kind") != KIND:
        raise UsageError(f"{label} is of kind {data.get('kind')!r}, expected {KIND!r}", fix=_FIX)
    version = data.get("schema_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise UsageError(f"{label} has no schema_version (found {version!r})", fix="run `ldmc bench` again")
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"{label} has schema_version {version}; this ldmc reads up to {SCHEMA_VERSION}",
            fix="upgrade ldmc",
        )
    levels = data.get("levels")
    if not isinstance(levels, list) or not levels:
        raise wrong(label, "levels", levels, "a list with at least one level")
    if not isinstance(data.get("device"), str):
        raise wrong(label, "device", data.get("device"), "a string")
    if not isinstance(data.get("interrupted"), (str, type(None))):
        raise wrong(label, "interrupted", data["interrupted"], "a string or null")
    for key in ("model", "machine", "packages", "settings", "power"):
        if not isinstance(data.get(key), dict):
            raise wrong(label, key, data.get(key), "an object")
    for section, keys in _SCALARS.items():
        for key in keys:
            if not isinstance(data[section].get(key), (str, int, float, type(None))):
                raise wrong(label, f"{section}.{key}", data[section][key], "a string, a number or null")
    if not (data["machine"].get("memory_bytes") is None or _is_number(data["machine"]["memory_bytes"])):
        raise wrong(label, "machine.memory_bytes", data["machine"]["memory_bytes"], "a number or null")
    idle = data["power"].get("idle_watts")
    if not (idle is None or _is_number(idle)):
        raise wrong(label, "power.idle_watts", idle, "a number or null")
    for index, level in enumerate(levels):
        _check_level(label, f"levels[{index}]", level)


def _check_level(label: str, place: str, level: Any) -> None:
    if not isinstance(level, dict):
        raise wrong(label, place, level, "an object")
    for key in ("name", "title"):
        if not isinstance(level.get(key), str):
            raise wrong(label, f"{place}.{key}", level.get(key), "a string")
    if level.get("status") not in _STATUSES:
        raise wrong(label, f"{place}.status", level.get("status"), " or ".join(_STATUSES))
    for key in ("why", "kind", "bundle", "target", "engine", "picture_png"):
        if not isinstance(level.get(key), (str, type(None))):
            raise wrong(label, f"{place}.{key}", level[key], "a string or null")
    for key in _NUMBERS:
        if not (level.get(key) is None or _is_number(level[key])):
            raise wrong(label, f"{place}.{key}", level[key], "a number or null")
    for key in _TIMES:
        _check_times(label, f"{place}.{key}", level.get(key))
    if level["status"] == "measured" and level.get("total") is None:
        raise wrong(label, f"{place}.total", None, "the times of a level that was measured")
    for key, width in (("warmup_seconds", 0), ("run_seconds", len(_TIMES))):
        if not _is_table(level.get(key), width):
            raise wrong(label, f"{place}.{key}", level[key], f"a list of {'rows of ' if width else ''}numbers")
    absent = level.get("absent")
    if not isinstance(absent, dict) or not all(isinstance(why, str) for why in absent.values()):
        raise wrong(label, f"{place}.absent", absent, "an object of sentences")


def _check_times(label: str, place: str, times: Any) -> None:
    """`denoise`, `decode` or `total`: null, or at least the median."""
    if times is None:
        return
    if not isinstance(times, dict) or not {"p50_seconds"} <= times.keys():
        raise wrong(label, place, times, "null or an object with p50_seconds")
    for key, value in times.items():
        if not _is_number(value) or value < 0:
            raise wrong(label, f"{place}.{key}", value, "a number from 0")


def _is_table(found: Any, width: int) -> bool:
    """A list of numbers, or of rows of `width` of them; or null."""
    if not isinstance(found, list):
        return found is None
    rows = found if width else [found]
    return all(isinstance(row, list) and len(row) == (width or len(row)) and all(map(_is_number, row)) for row in rows)


def _paper(device: str) -> dict[str, Any]:
    if device not in PAPER_DEVICES:
        near = difflib.get_close_matches(device, PAPER_DEVICES, n=1)
        hint = f"did you mean {PAPER}{near[0]}? " if near else ""
        raise UsageError(
            f"the reference project measured no {device!r}",
            fix=f"{hint}it measured {', '.join(PAPER + known for known in PAPER_DEVICES)}",
        )
    folder = resources.files("ldmc.compiler.levels") / "paper"
    found: dict[str, Any] = json.loads((folder / f"{device}.json").read_text("utf-8"))
    return found


def _is_number(value: Any) -> bool:
    """A number that can be drawn: finite, and not so large that it cannot be one of floating point."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def wrong(label: str, place: str, found: Any, expected: str) -> UsageError:
    """The error of a JSON file whose `place` is not what it must be."""
    return UsageError(f"{label}: {Fault(place, found, expected)}", fix="make the result again")
