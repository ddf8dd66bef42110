"""Whether a bundle's engines run on this machine: asked before anything slow is done with them."""

from __future__ import annotations

from pathlib import Path

from ldmc.errors import BundleError
from ldmc.runtime import BundleProblem, load
from ldmc.runtime.manifest import Manifest


def require_runnable(bundle: Path, manifest: Manifest) -> None:
    """Refuse engines that do not run on this machine before the reference is computed.

    Raises:
        BundleError: they do not; why, and that the files are as they must be.
    """
    if all(component.form != "engine" for component in manifest.components.values()):
        return
    try:
        load(str(bundle), cache=False).close()
    except BundleProblem as problem:
        raise BundleError(
            f"{len(manifest.files)} files have the size and SHA-256 of the manifest, "
            f"but outputs cannot be compared here: {problem.message}",
            fix=problem.fix,
        ) from problem
