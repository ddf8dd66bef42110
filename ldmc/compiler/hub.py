"""Fetching a checkpoint from a Hugging Face hub: only the files that compiling needs."""

from __future__ import annotations

import re
from pathlib import Path

from ldmc.errors import ModelError

_HUB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")
_FOLDERS = ("unet", "vqvae", "vae")
_CONFIGS = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    *(f"{folder}/config.json" for folder in _FOLDERS),
]


def is_hub_id(text: str) -> bool:
    """Whether `text` has the form `owner/name`."""
    return _HUB_ID.fullmatch(text) is not None


def fetch(model: str, *, with_weights: bool) -> Path:
    """Folder of the snapshot of `model` in the local cache, downloaded where needed.

    with_weights: fetch the weight files too, not the configuration alone.
    `HF_HOME`, `HF_ENDPOINT`, `HF_HUB_OFFLINE` and `HF_TOKEN` are honoured by huggingface_hub.

    Raises:
        ModelError: the hub does not have the model, refuses it, or cannot be reached and nothing is cached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        folder = snapshot_download(model, allow_patterns=_CONFIGS)
        patterns = _weight_patterns(model) if with_weights else []
        return Path(snapshot_download(model, allow_patterns=patterns) if patterns else folder)
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"the hub has no model {model!r}, or it is private", fix="check the id, or set HF_TOKEN"
        ) from error
    except HFValidationError as error:
        raise ModelError(
            f"{model!r} is not a hub id: {error}", fix="a hub id looks like owner/name"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{model!r} is not in the local cache and the hub cannot be reached",
            fix="connect, set HF_ENDPOINT to a mirror, or give a local folder with --model",
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"{model!r} cannot be fetched: {error}", fix="check the connection, or give a local folder"
        ) from error


def _weight_patterns(model: str) -> list[str]:
    """One set of weights per component: a repository may hold the same in several formats, of gigabytes each.

    Empty where the hub cannot say what it has: then whatever is in the cache must do.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    from ldmc.compiler.weights import preferred_patterns

    try:
        # Not list_repo_files: without a network that one tries for half a minute.
        paths = [file.rfilename for file in HfApi().model_info(model, revision="main").siblings or []]
    except RepositoryNotFoundError:
        raise
    except Exception:  # no network: the errors are those of whatever HTTP library this huggingface_hub uses
        return []
    patterns = []
    for folder in _FOLDERS:
        names = [path.removeprefix(f"{folder}/") for path in paths if path.startswith(f"{folder}/")]
        patterns += [f"{folder}/{pattern}" for pattern in preferred_patterns(names)]
    return patterns
