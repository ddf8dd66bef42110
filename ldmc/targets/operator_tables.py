"""Which ONNX operators each version of TensorRT's parser reads: one JSON file per version, and its source inside.

{"source": ..., "opset_min": 7, "opset_max": 13, "ops": {"Abs": {"supported": true, "types": ["FP32", ...],
 "restrictions": ""}, ...}}
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from ldmc.runtime.versions import release

_PREFIX = "tensorrt-"


def operator_versions() -> list[str]:
    """Versions of TensorRT that there is a table of, oldest first."""
    names = (file.name for file in (resources.files("ldmc.targets") / "operators").iterdir())
    found = [n.removeprefix(_PREFIX).removesuffix(".json") for n in names if n.endswith(".json")]
    return sorted(found, key=release)


def read_operators(version: str) -> dict[str, Any]:
    """The table of that version; `version` is one of `operator_versions()`."""
    file = resources.files("ldmc.targets") / "operators" / f"{_PREFIX}{version}.json"
    table: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return table
