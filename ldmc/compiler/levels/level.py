"""What can be measured: the levels of the reference project, and any bundle.

    eager          PyTorch as diffusers runs it, fp32: the baseline
    eager-fp16     weights and inputs in half precision
    jit, jit-fp16  the same two, traced by torch.jit.trace
    onnxruntime    exported at opset 13, simplified, in a session of ONNX Runtime's own making

How the reference project made them: "Diffusion Model Inference on Edge Computing Devices", section on optimisation.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldmc.artifacts.manifest import read_whole_manifest
from ldmc.errors import UsageError
from ldmc.runtime.manifest import Manifest, check_files
from ldmc.runtime.result import describe_bundle
from ldmc.targets import nvidia

BASELINES = {
    "eager": "PyTorch eager, fp32",
    "eager-fp16": "PyTorch eager, fp16",
    "jit": "TorchScript, fp32",
    "jit-fp16": "TorchScript, fp16",
    "onnxruntime": "ONNX Runtime, fp32",
}


@dataclass(frozen=True)
class Level:
    """One level. name: unique in a result. bundle, manifest: None for a level of the reference project."""

    name: str
    title: str
    bundle: Path | None = None
    manifest: Manifest | None = None

    def describe(self) -> dict[str, Any]:
        """What a result says of it before anything is measured."""
        if self.manifest is None:
            engine = "onnxruntime" if self.name == "onnxruntime" else "torch"
            return {"name": self.name, "title": self.title, "kind": "baseline", "bundle": None, "target": None,
                    "engine": engine, "pipeline": None}
        return {"name": self.name, "title": self.title, **describe_bundle(self.manifest)}


def parse_baselines(text: str) -> list[str]:
    """`eager,jit` -> ["eager", "jit"]; `all` is every one, `none` none.

    Raises:
        UsageError: a name is none of them, or stands there twice.
    """
    if text == "all":
        return list(BASELINES)
    names = [] if text == "none" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in BASELINES:
            near = difflib.get_close_matches(name, BASELINES, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError(f"--baseline has no level {name!r}", fix=f"{hint}levels are {', '.join(BASELINES)}; "
                             "or all, or none")
        if names.count(name) > 1:
            raise UsageError(f"--baseline names {name!r} {names.count(name)} times", fix="name it once")
    return names


def levels_of(bundles: Sequence[Path], baselines: Sequence[str]) -> list[Level]:
    """The levels to measure, those of the reference project first.

    Raises:
        UsageError: there is nothing to measure, a bundle is named twice, or two are of different models.
        BundleError, BundleProblem: a bundle cannot be read, or a file of it is missing or of another size.
    """
    levels = [Level(name, BASELINES[name]) for name in baselines]
    first: Manifest | None = None
    for bundle in bundles:
        manifest = read_whole_manifest(bundle)
        check_files(manifest.root, manifest)
        name = bundle.resolve().name
        if any(level.name == name for level in levels):
            raise UsageError(f"two bundles are called {name}", fix="rename one, so that a table can tell them apart")
        if first is not None and _identity(manifest) != _identity(first):
            raise UsageError(
                f"{bundle} is of {_model(manifest)}, {bundles[0]} of {_model(first)}: pictures cannot be compared",
                fix="bench bundles of one model at a time, and put the results together with `ldmc compare`",
            )
        first = first or manifest
        levels.append(Level(name, _title(manifest, name), bundle, manifest))
    return levels


def default_device(levels: Sequence[Level]) -> str:
    """PyTorch's device for its levels: the GPU where a bundle is for an NVIDIA card and this machine has one."""
    for_card = any(level.manifest is not None and level.manifest.power == "nvml" for level in levels)
    return "cuda" if for_card and nvidia.compute_capability() is not None else "cpu"


def gpu_of(device: str) -> str | None:
    """The name of the GPU that PyTorch calls `device`, as the driver says it; None for the CPU.

    Raises:
        UsageError: `device` is neither cpu nor a GPU that is here.
    """
    kind, _, index = device.partition(":")
    if device == "cpu":
        return None
    if kind != "cuda" or (index and not index.isdigit()):
        raise UsageError(f"--device is {device!r}", fix="give cpu, cuda, or cuda:1 for the second GPU")
    found = nvidia.probe()
    if int(index or 0) >= len(found["devices"]):
        count = len(found["devices"])
        why = found["error"] or f"this machine has {count} NVIDIA GPU{'' if count == 1 else 's'}"
        raise UsageError(f"--device is {device}, and no such GPU answers: {why}", fix="leave it out, or give cpu")
    return str(found["devices"][int(index or 0)]["name"])


def _identity(manifest: Manifest) -> tuple[Any, ...]:
    weights = manifest.data["source"]["weights"]
    hashes = tuple(file["sha256"] for file in weights["files"])
    return manifest.data["source"]["config_sha256"], weights["kind"], weights["seed"], hashes


def _model(manifest: Manifest) -> str:
    source = manifest.data["source"]
    seed = source["weights"]["seed"]
    return f"{source['model']}" + (f" with random weights, seed {seed}" if seed is not None else "")


def _title(manifest: Manifest, name: str) -> str:
    """`digits-ldm.cpu.ldmc: onnx,fold`, or with both pipelines where they differ."""
    pipelines = [manifest.data["pipeline"][component] for component in ("unet", "decoder")]
    return f"{name}: {' / '.join(dict.fromkeys(pipelines))}"
