"""Where checkpoints were last seen on this machine: in the user's cache folder, not in bundles, which are published.

    SHA-256 of a checkpoint's configuration and weights   ->   ~/.cache/ldmc/checkpoints/SHA256.json: {"folder": ...}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldmc.runtime.checks.cache_folder import default_cache_folder
from ldmc.runtime.files import write_whole


def remember(source: Mapping[str, Any], folder: Path) -> None:
    """Keep `folder` as the place of the checkpoint that `source`, a manifest's section of that name, tells of.

    Raises:
        OSError: the cache folder cannot be written.
    """
    record = _record(source)
    record.parent.mkdir(parents=True, exist_ok=True)
    write_whole(record, json.dumps({"folder": str(folder.resolve())}) + "\n")


def last_seen(source: Mapping[str, Any]) -> Path | None:
    """Where the checkpoint of `source` was when it was last compiled here; None where that is not known."""
    try:
        folder = Path(json.loads(_record(source).read_text(encoding="utf-8"))["folder"])
    except (OSError, ValueError, KeyError, TypeError):  # none, or not one of ours: both say nothing
        return None
    return folder if folder.is_absolute() else None


def _record(source: Mapping[str, Any]) -> Path:
    hashes = [source["config_sha256"], *(file["sha256"] for file in source["weights"]["files"])]
    name = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
    return Path(default_cache_folder()) / "checkpoints" / f"{name}.json"
