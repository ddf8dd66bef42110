"""The checkpoint that a bundle was made from, found again and held to be the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ldmc.compiler.frontend import ModelRequest, Opened, open_model, read_program
from ldmc.errors import VerificationError
from ldmc.ir import Program

_FIX = "name the original checkpoint with --model"


def open_original(source: Mapping[str, Any], model: str | None) -> tuple[Opened, Program]:
    """The model that `source`, the manifest's section of that name, tells of.

    model: where it is, if not where the build found it.

    Raises:
        ModelError: it cannot be read. VerificationError: it is another one.
    """
    request = ModelRequest(model or source["model"], source["weights"]["seed"])
    opened = open_model(request, _ignore)
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


def _ignore(_: str) -> None:
    """Warnings about weights were given when the bundle was built."""
