"""Reading a whole manifest: what the runtime needs, and what only the compiler's commands look at.

The runtime's reader checks the keys that it uses, so that a bundle loads wherever it can. `inspect` and
`verify` need more: where the weights came from, how each component was lowered, what was counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ldmc.errors import BundleError
from ldmc.runtime.errors import BundleProblem
from ldmc.runtime.manifest import REBUILD, Manifest, read_manifest

_STATS = ("nodes", "ops", "params", "bytes", "macs")


def read_whole_manifest(bundle: Path) -> Manifest:
    """The manifest of `bundle`, with every key that the compiler writes.

    Raises:
        BundleError: there is no bundle, its manifest cannot be read, is of a newer schema, or lacks a key.
    """
    try:
        manifest = read_manifest(str(bundle))
    except BundleProblem as problem:
        raise BundleError(problem.message, fix=problem.fix) from problem
    paths = [
        *(f"source.{key}" for key in ("model", "kind", "config_sha256")),
        *(f"source.weights.{key}" for key in ("kind", "seed", "files")),
        *(f"requirements.{key}" for key in ("python", "packages")),
        *(f"pipeline.{name}" for name in manifest.components),
        *(f"components.{name}.stats.{key}" for name in manifest.components for key in _STATS),
    ]
    for path in paths:
        if not _has(manifest.data, path):
            raise BundleError(f"{manifest.path} lacks the key {path}", fix=REBUILD)
    return manifest


def _has(data: Any, path: str) -> bool:
    for key in path.split("."):
        if not isinstance(data, dict) or key not in data:
            return False
        data = data[key]
    return True
