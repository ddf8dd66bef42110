"""What a report is made of, told apart by what is in it, and checked before anything is drawn.

faces.cpu.ldmc/   folder with a manifest            -> Bundle
bench.json        {"kind": "ldmc-bench", ...}       -> a result of bench
verify.json       {"ok", "components"} or {"stages" | "blocks"}   -> a result of verify
build.json        {"bundle", "stages", "write"}     -> seconds and memory of a build, for the bundle it names
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ldmc.artifacts.manifest import read_whole_manifest
from ldmc.artifacts.documents import read_json
from ldmc.artifacts.kinds import Kind, first_fault
from ldmc.compiler.levels.read import check_result
from ldmc.errors import BundleError, UsageError
from ldmc.report.records import BUILD, CHECK, MEMORY, STAGE, TIMELINE
from ldmc.runtime.errors import BundleProblem
from ldmc.runtime.manifest import REBUILD, Manifest

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Bundle:
    """A bundle as it lies on disk, less its graphs and weights.

    label: how the page calls it. stages: the reports of its stages, in running order. memory, timeline: the plan's;
    None in a bundle that has none. build: `ldmc build --json`, where it was given.
    """

    label: str
    manifest: Manifest
    stages: tuple[Json, ...]
    memory: Json | None
    timeline: Json | None
    build: Json | None = None


@dataclass(frozen=True)
class Given:
    """One JSON result. label: the file's name, or what it is of."""

    label: str
    data: Json


@dataclass
class Inputs:
    """Everything a report is made of, by kind and in the order given."""

    bundles: list[Bundle] = field(default_factory=list)
    results: list[Given] = field(default_factory=list)
    checks: list[Given] = field(default_factory=list)
    builds: list[Given] = field(default_factory=list)


def read_inputs(given: Iterable[Path | Json]) -> Inputs:
    """Read bundles and results; what is already read is given as it is.

    Raises:
        UsageError: a path or its content is not what a report is made of. BundleError: a bundle is damaged or newer.
    """
    inputs = Inputs()
    for item in given:
        if not isinstance(item, Path):
            _sort(Given("of this run", item), inputs)
        elif item.is_dir():
            inputs.bundles.append(read_bundle(item))
        else:
            _sort(Given(item.name, _read_json(item)), inputs)
    for build in inputs.builds:
        _attach(build, inputs)
    if not (inputs.bundles or inputs.results or inputs.checks):
        raise UsageError(
            "a report needs a bundle or a result", fix="give the folder of a bundle, or a result's JSON file"
        )
    return inputs


def read_bundle(path: Path) -> Bundle:
    """Manifest and reports of the bundle at `path`.

    Raises:
        BundleError: it is no bundle, is of a newer schema, or a report of it cannot be read.
    """
    manifest = read_whole_manifest(path)
    stages = tuple(_stage(manifest, entry) for entry in manifest.data.get("stages", ()))
    memory = _optional(manifest, "reports/memory.json", MEMORY)
    timeline = _optional(manifest, "reports/timeline.json", TIMELINE)
    return Bundle(path.resolve().name, manifest, stages, memory, timeline)


def _stage(manifest: Manifest, entry: Json) -> Json:
    """A stage's report, less its graph, with the manifest's word on whether it is done."""
    report = _record(_listed(manifest, entry["report"]), STAGE)
    return {**{key: value for key, value in report.items() if key != "graph"}, "status": entry["status"]}


def _optional(manifest: Manifest, relative: str, kind: Kind) -> Json | None:
    if relative not in manifest.listed:
        return None
    file = _listed(manifest, relative)
    return _record(file, kind) if os.path.lexists(file) else None


def _listed(manifest: Manifest, relative: str) -> Path:
    try:
        return Path(manifest.listed_path(relative))
    except BundleProblem as problem:
        raise BundleError(problem.message, fix=problem.fix) from problem


def _record(file: Path, kind: Kind) -> Json:
    """A JSON file of a bundle."""
    try:
        content: Json = read_json(file)
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror or error}", fix=REBUILD) from error
    except ValueError as error:
        raise BundleError(f"{file} is not JSON: {error}", fix=REBUILD) from error
    fault = first_fault(kind, content)
    if fault is not None:
        raise BundleError(f"{file}: {fault}", fix=REBUILD)
    return content


def _read_json(path: Path) -> Json:
    try:
        content = read_json(path)
    except FileNotFoundError as error:
        raise UsageError(
            f"{path} does not exist", fix="give the folder of a bundle, or a result's JSON file"
        ) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}", fix="check its permissions") from error
    except ValueError as error:
        raise UsageError(
            f"{path} is not JSON: {error}",
            fix="give a file written by `ldmc bench`, `verify` or `build` with --json",
        ) from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds {type(content).__name__} where an object is expected", fix=_KINDS)
    return content


_KINDS = "give a bundle, or the JSON of `ldmc bench`, `ldmc verify` or `ldmc build`"


def _sort(given: Given, inputs: Inputs) -> None:
    """Put a result where its keys say it belongs."""
    data = given.data
    if "kind" in data:
        check_result(data, given.label)
        inputs.results.append(given)
    elif {"bundle", "stages", "write"} <= data.keys():
        inputs.builds.append(given)
    elif {"ok", "components"} <= data.keys() or data.keys() & {"stages", "blocks"}:
        _hold(given, CHECK)
        inputs.checks.append(given)
    elif isinstance(data.get("error"), dict):
        message = data["error"].get("message", "no message")
        raise UsageError(f"{given.label} holds the error of a command that failed: {message}", fix="run it again")
    else:
        raise UsageError(f"{given.label} is no result of ldmc: it has {_keys_of(data)}", fix=_KINDS)


def _hold(given: Given, kind: Kind) -> None:
    """Hold a result to its shape."""
    fault = first_fault(kind, given.data)
    if fault is not None:
        raise UsageError(f"{given.label}: {fault}", fix="make the result again")


def _keys_of(data: Json) -> str:
    keys = sorted(map(str, data))
    return "the keys " + ", ".join(keys[:6]) if keys else "no keys"


def _attach(build: Given, inputs: Inputs) -> None:
    """Give the record of a build to the bundle it made."""
    name = Path(str(build.data["bundle"])).name
    for index, bundle in enumerate(inputs.bundles):
        if bundle.label == name:
            _hold(build, BUILD)
            inputs.bundles[index] = replace(bundle, build=build.data)
            return
    raise UsageError(f"{build.label} is the build of {name}, which is not in this report", fix=f"give {name}, too")
