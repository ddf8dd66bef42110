"""Where checkpoints were last seen on this machine: in the user's cache folder, not in bundles, which are published.

    SHA-256 of a checkpoint's configuration and weights   ->   ~/.cache/ldmc/checkpoints/SHA256.json: {"folders": [...]}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldmc.runtime.checks.cache_folder import default_cache_folder
from ldmc.runtime.files import write_whole


MOST_FOLDERS = 8  # of one checkpoint: copies of it


def remember(source: Mapping[str, Any], folder: Path) -> None:
    """Keep `folder` as a place of the checkpoint that `source`, a manifest's section of that name, describes.

    Raises:
        OSError: the cache folder cannot be written.
    """
    record, place = _record(source), folder.resolve()
    others = [other for other in _folders(record) if other != place]
    record.parent.mkdir(parents=True, exist_ok=True)
    kept = [str(one) for one in (place, *others)][:MOST_FOLDERS]
    write_whole(record, json.dumps({"folders": kept}) + "\n")


def last_seen(source: Mapping[str, Any]) -> Path | None:
    """Where the checkpoint of `source` was last compiled here: the newest place that is there, else the newest.

    None where no place is known.
    """
    folders = _folders(_record(source))
    return next((folder for folder in folders if folder.is_dir()), folders[0] if folders else None)


def _folders(record: Path) -> list[Path]:
    """The newest first; none where there is no record, or it is not one of ours."""
    try:
        folders = json.loads(record.read_text(encoding="utf-8"))["folders"]
        found = [Path(folder) for folder in folders] if isinstance(folders, list) else []
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [folder for folder in found if folder.is_absolute()]


def _record(source: Mapping[str, Any]) -> Path:
    hashes = [source["config_sha256"], *(file["sha256"] for file in source["weights"]["files"])]
    name = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
    return Path(default_cache_folder()) / "checkpoints" / f"{name}.json"
