"""The commands that make a bundle again, check it, and finish it on its device."""

from __future__ import annotations

import shlex
from typing import Any

from ldmc.report.inputs import Bundle


def commands(bundle: Bundle) -> list[tuple[str, str]]:
    """(what it does, command) for everything that can be done again with a bundle."""
    label = shlex.quote(bundle.label)
    found = [("Build it again", build_command(bundle)), ("Check it against PyTorch", f"ldmc verify {label}")]
    if any(step.get("status") == "pending" for step in bundle.manifest.finish.get("steps", ())):
        found.append(("Finish it on the device, inside the bundle's folder", "python3 -m runtime finish"))
    return [*found, ("Measure it", f"ldmc bench {label}")]


def build_command(bundle: Bundle) -> str:
    """`ldmc build` with the target, passes, model and weights of this bundle."""
    data = bundle.manifest.data
    words = ["ldmc", "build", "--target", data["target"]]
    asked = {name: asked_for(data, name) for name in data["pipeline"]}
    specs = set(asked.values())
    if len(specs) == 1:  # else they are the target's own: one spec on the command line is for all components
        words += ["--passes", specs.pop()]
    model = data["source"]["model"]
    words += ["--model", f"./{model}" if data["source"]["kind"] == "folder" else model]
    weights = data["source"]["weights"]
    if weights["kind"] == "placeholder":
        words += ["--random-weights", str(weights["seed"] or 0)]
    return shlex.join([*words, "-o", bundle.label])


def asked_for(data: dict[str, Any], component: str) -> str:
    """The component's passes, less those that nobody asked for."""
    inserted = {_name(entry["spec"]) for entry in data.get("insertions", ()) if entry["component"] == component}
    return ",".join(spec for spec in split(data["pipeline"][component]) if _name(spec) not in inserted)


def split(pipeline: str) -> list[str]:
    """`fp16{keep=[a,b]},onnx` -> `fp16{keep=[a,b]}`, `onnx`: commas within brackets belong to a pass."""
    specs, depth, start = [], 0, 0
    for index, letter in enumerate(pipeline):
        depth += (letter in "{[") - (letter in "}]")
        if letter == "," and depth == 0:
            specs.append(pipeline[start:index])
            start = index + 1
    return [*specs, pipeline[start:]]


def _name(spec: str) -> str:
    return spec.partition("{")[0]
