"""The checkpoint that a bundle was made from, found again and held to be the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ldmc.compiler.frontend import PRESETS, ModelRequest, Opened, open_model, read_program
from ldmc.compiler.hub import is_hub_id
from ldmc.compiler.places import last_seen
from ldmc.compiler.progress import ignore_warning
from ldmc.errors import UsageError, VerificationError
from ldmc.ir import Program

_FIX = "name the original checkpoint with --model"


def open_original(source: Mapping[str, Any], model: str | None) -> tuple[Opened, Program]:
    """The model that `source`, the manifest's section of that name, tells of.

    model: where it is, if not where the build found it.

    Raises:
        UsageError: its place is not known here. ModelError: it cannot be read. VerificationError: it is another one.
    """
    request = ModelRequest(model or place_of(source), source["weights"]["seed"])
    opened = open_model(request, ignore_warning)  # the build gave them
    program = read_program(opened, request)
    if program.source["config_sha256"] != source["config_sha256"]:
        raise VerificationError(
            f"{request.model} has another configuration than the bundle was made from "
            f"(SHA-256 {program.source['config_sha256'][:12]}, bundle {source['config_sha256'][:12]})",
            fix=_FIX,
        )
    hashes = [[file["sha256"] for file in part["weights"]["files"]] for part in (program.source, source)]
    if hashes[0] != hashes[1]:
        raise VerificationError(f"{request.model} has other weights than the bundle was made from", fix=_FIX)
    return opened, program


def place_of(source: Mapping[str, Any]) -> str:
    """What to open to have the model of `source` again: a preset, a hub id, or the folder where it was last seen.

    The manifest names a folder and says nothing of where it is: bundles are published.

    Raises:
        UsageError: it is a folder that is not known on this machine, or not there any more.
    """
    name, kind = source["model"], source["kind"]
    if (kind == "preset" and name in PRESETS) or (kind == "hub" and is_hub_id(name)):
        return str(name)
    folder = last_seen(source)
    if folder is None:
        raise UsageError(
            f"where the checkpoint {name!r} lies, of which the bundle was made, is not known on this machine", fix=_FIX
        )
    if not folder.is_dir():
        raise UsageError(
            f"the checkpoint {name!r}, of which the bundle was made, is no longer in {folder}", fix=_FIX
        )
    return str(folder)
