"""Opening a bundle that is to be verified: its engines where they run, else the graphs that they are built from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ldmc.errors import BundleError
from ldmc.runtime import BundleProblem, load
from ldmc.runtime.backends import check_bundle as check_engines
from ldmc.runtime.checks.opening import Vouched
from ldmc.runtime.manifest import Manifest

_GRAPHS_ONLY = "the engines do not run here, so the ONNX graphs that they are built from were compared, on this CPU"


def check_bundle(manifest: Manifest, trust: bool) -> None:
    """Check all files of a bundle that is to be run: as listed, no others, and none that would run a stranger's code.

    trust: native code and scripts that were not made here may run.

    Raises:
        BundleProblem: exit code 5 where a file is not as listed.
    """
    vouched = Vouched(manifest, trust)
    vouched.require_all()
    vouched.check_whole()


def check_here(manifest: Manifest) -> None:
    """Refuse, before any work, a bundle whose files were checked and of which nothing runs on this machine.

    Raises: as `open_here`.
    """
    try:
        check_engines(manifest)
    except BundleProblem as problem:
        if not _has_engines(manifest):
            raise
        try:
            check_engines(manifest.of_sources())
        except BundleProblem:
            raise _not_comparable(manifest, problem) from problem


def open_here(bundle: Path, manifest: Manifest, cache: bool, trust: bool) -> Any:
    """The bundle's pipeline, whose files were checked; `remarks` says where graphs stand for engines.

    Raises:
        BundleError: its engines do not run on this machine, and it does not carry their graphs.
        BundleProblem: anything else that is wrong.
    """
    try:
        return load(str(bundle), cache=cache, trust=trust)
    except BundleProblem as problem:
        if not _has_engines(manifest):
            raise
        try:
            pipeline = load(str(bundle), cache=cache, sources=True, trust=trust)
        except BundleProblem:
            raise _not_comparable(manifest, problem) from problem
        pipeline.remarks.append(_GRAPHS_ONLY)
        return pipeline


def _has_engines(manifest: Manifest) -> bool:
    return any(component.form == "engine" for component in manifest.components.values())


def _not_comparable(manifest: Manifest, problem: BundleProblem) -> BundleError:
    return BundleError(
        f"{len(manifest.files)} files have the size and SHA-256 of the manifest, "
        f"but outputs cannot be compared here: {problem.message}",
        fix=problem.fix,
    )
