"""Reading what a bench wrote: a file, or what the reference project published (`paper:rtx-3070`)."""

from __future__ import annotations

import difflib
import json
from importlib import resources
from pathlib import Path
from typing import Any

from ldmc.errors import LdmcError, UsageError
from ldmc.runtime.result import KIND, SCHEMA_VERSION

PAPER = "paper:"
PAPER_DEVICES = ("rtx-3070", "jetson-nano", "android")
_NEEDED = ("device", "machine", "packages", "model", "settings", "power", "levels")
_NEEDED_OF_LEVEL = ("name", "title", "status", "total", "absent")


def read_result(name: str) -> dict[str, Any]:
    """The result in file `name`, or of the paper.

    Raises:
        UsageError: there is no such file or device. LdmcError: the file is no result, or of a newer schema.
    """
    if name.startswith(PAPER):
        return _paper(name[len(PAPER) :])
    path = Path(name)
    if not path.is_file():
        papers = ", ".join(PAPER + device for device in PAPER_DEVICES)
        raise UsageError(f"there is no file {name}", fix=f"give a result of `ldmc bench -o FILE`, or one of {papers}")
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise LdmcError(f"{name} cannot be read as JSON: {error}", fix="measure again") from error
    return checked(found, name)


def checked(found: Any, name: str) -> dict[str, Any]:
    """`found`, where it is a result of a bench. name: what it is called in a message."""
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise LdmcError(f"{name} is no result of `ldmc bench`: its kind is not {KIND!r}", fix="give another file")
    version = found.get("schema_version")
    if version != SCHEMA_VERSION:
        raise LdmcError(f"{name} is of schema {version}, this ldmc reads {SCHEMA_VERSION}", fix="use a newer ldmc")
    missing = [key for key in _NEEDED if key not in found]
    if not missing and not (isinstance(found["levels"], list) and found["levels"]):
        missing = ["levels"]
    if not missing:
        missing = [
            f"levels[{place}].{key}"
            for place, level in enumerate(found["levels"])
            for key in _NEEDED_OF_LEVEL
            if key not in level
        ]
    if missing:
        raise LdmcError(f"{name} lacks {', '.join(missing)}", fix="measure again")
    return found


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
