"""Opening a bundle that is to be verified; where this machine cannot run it, the error says what was verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ldmc.errors import BundleError
from ldmc.runtime import BundleProblem, load
from ldmc.runtime.manifest import Manifest


def open_here(bundle: Path, manifest: Manifest, cache: bool) -> Any:
    """The bundle's pipeline, whose files were checked.

    Raises:
        BundleError: its engines do not run on this machine. BundleProblem: anything else that is wrong.
    """
    try:
        return load(str(bundle), cache=cache)
    except BundleProblem as problem:
        if all(component.form != "engine" for component in manifest.components.values()):
            raise
        raise BundleError(
            f"{len(manifest.files)} files have the size and SHA-256 of the manifest, "
            f"but outputs cannot be compared here: {problem.message}",
            fix=problem.fix,
        ) from problem
