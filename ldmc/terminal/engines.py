"""The engines of a bundle, as `ldmc inspect` shows them."""

from __future__ import annotations

from typing import Any

_MIB = 2**20


def engine_lines(name: str, manifest: dict[str, Any]) -> list[str]:
    """The engines of a component: what TensorRT said of those that are built, and which the device has to build."""
    lines = []
    for engine in manifest["components"][name].get("engine", ()):
        said = [f"{engine['layers']} layers"]
        for word, key in (("weights", "weights_bytes"), ("activations", "activation_bytes")):
            if engine[key] is not None:
                said.append(f"{word} {engine[key] / _MIB:.1f} MiB")
        by = f"{engine['module']} {engine['tensorrt']}, compute capability {engine['compute_capability']}"
        lines.append(f"engine  {engine['part']}: {', '.join(said)} ({by})")
    steps = [step for step in manifest.get("finish", {}).get("steps", ()) if step["component"] == name]
    waiting = [step["part"] for step in steps if step["status"] == "pending"]
    if waiting:
        lines.append(f"pending {', '.join(waiting)}: built on the device by `python3 -m runtime finish`")
    return lines
