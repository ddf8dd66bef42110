"""Reading a whole manifest: what the runtime needs, and what only the compiler's commands look at.

The runtime's reader checks the keys that it uses, so that a bundle loads wherever it can. `inspect` and
`verify` need more: where the weights came from, how each component was lowered, what was counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ldmc.artifacts.kinds import Items, Maybe, Record, Table, Text, Whole, first_fault
from ldmc.errors import BundleError
from ldmc.runtime.errors import BundleProblem
from ldmc.runtime.manifest import REBUILD, Manifest, read_manifest

_TEXT, _BYTES, _COUNT = Text(), Whole(0, 10**18), Whole(0, 10**24)
_STATS = ("nodes", "ops", "params", "bytes", "macs")
# Of a graph; None where shapes are not known.
STATS = Record(
    {"nodes": _COUNT, "ops": Table(_COUNT), "params": _COUNT, "bytes": _BYTES},
    {"macs": Maybe(_COUNT), "peak_activation_bytes": Maybe(_BYTES)},
)
_FILE = Record({"path": _TEXT, "bytes": _BYTES}, {"sha256": _TEXT, "role": _TEXT})
_ENGINE = Record(
    dict.fromkeys(("part", "module", "tensorrt", "compute_capability"), _TEXT),
    {"layers": Maybe(_COUNT), "weights_bytes": Maybe(_BYTES), "activation_bytes": Maybe(_BYTES)},
)
_STAGES = Items(
    Record(
        {"component": _TEXT, "pass": _TEXT, "status": _TEXT, "report": _TEXT},
        {"nodes_before": Maybe(_COUNT), "nodes_after": Maybe(_COUNT)},
    )
)
_WHOLE = Record(
    {
        "source": Record(
            {
                "model": _TEXT,
                "kind": _TEXT,
                "config_sha256": _TEXT,
                "weights": Record({"kind": _TEXT, "seed": Maybe(Whole()), "files": Items(_FILE)}),
            }
        ),
        "requirements": Record({"python": _TEXT, "packages": Table(_TEXT)}),
        "pipeline": Table(_TEXT),
        "components": Table(Record({"stats": STATS}, {"engine": Items(_ENGINE)})),
        "files": Items(_FILE),
    },
    {
        "insertions": Maybe(Items(Record({"component": _TEXT, "spec": _TEXT, "reason": _TEXT}))),
        "finish": Maybe(
            Record({}, {"steps": Items(Record({"component": _TEXT, "part": _TEXT, "status": _TEXT}))})
        ),
        "toolchain": Maybe(Table(Maybe(_TEXT))),
        "load": _TEXT,
    },
)


def read_whole_manifest(bundle: Path) -> Manifest:
    """The manifest of `bundle`, with every key that the compiler writes.

    Raises:
        BundleError: there is no bundle, its manifest cannot be read, is of a newer schema, lacks a key, or has one of
            a wrong kind.
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
    fault = first_fault(_WHOLE, manifest.data)
    if fault is not None:
        raise BundleError(f"{manifest.path}: {fault}", fix=REBUILD)
    read_stages(manifest)
    return manifest


def read_stages(manifest: Manifest) -> list[dict[str, Any]]:
    """The manifest's records of its stages, in running order: each names a report within the bundle.

    Raises:
        BundleError: one is not what it must be.
    """
    stages: list[dict[str, Any]] = manifest.data.get("stages", [])
    fault = first_fault(Record({}, {"stages": _STAGES}), manifest.data)
    if fault is not None:
        raise BundleError(f"{manifest.path}: {fault}", fix=REBUILD)
    for stage in stages:
        try:
            manifest.file_path(stage["report"])
        except BundleProblem as problem:
            raise BundleError(problem.message, fix=problem.fix) from problem
    return stages


def _has(data: Any, path: str) -> bool:
    for key in path.split("."):
        if not isinstance(data, dict) or key not in data:
            return False
        data = data[key]
    return True
