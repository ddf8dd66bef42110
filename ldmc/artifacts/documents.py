"""Reading JSON that others may have written, as `ldmc.runtime.checks.strict_json` does, with the host's errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ldmc.runtime.checks.strict_json import parse_json
from ldmc.runtime.files import read_regular

MOST_BYTES = 256 * 2**20  # the reports of a graph with a hundred thousand nodes have a tenth


def read_json(path: Path) -> Any:
    """The JSON in a file.

    Raises:
        OSError: it cannot be read; its strerror is a phrase. ValueError: it is not JSON, with the reason.
    """
    try:
        return parse_json(read_regular(path, MOST_BYTES).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from error
