"""What a report is made of, told apart by what is in it, and checked before anything is drawn.

faces.cpu.ldmc/   folder with a manifest            -> Bundle
bench.json        {"kind": "ldmc-bench", ...}       -> a result of bench
verify.json       {"ok", "components"} or {"stages" | "blocks"}   -> a result of verify
build.json        {"bundle", "stages", "write"}     -> seconds and memory of a build, for the bundle it names
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ldmc.artifacts.manifest import read_whole_manifest
from ldmc.compiler.levels.read import check_result, wrong
from ldmc.errors import BundleError, UsageError
from ldmc.compiler.references import MOST_REPORT_BYTES
from ldmc.runtime.checks.strict_json import read_json
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
    memory, timeline = (_optional(manifest, f"reports/{name}") for name in ("memory.json", "timeline.json"))
    return Bundle(path.resolve().name, manifest, stages, memory, timeline)


def _stage(manifest: Manifest, entry: Json) -> Json:
    """A stage's report, less its graph, with the manifest's word on whether it is done."""
    for key in ("report", "status"):
        if key not in entry:
            raise BundleError(f"{manifest.path} has a stage without the key {key}", fix=REBUILD)
    file = _listed(manifest, entry["report"])
    report = _damaged_unless_object(file)
    for key in ("component", "stage", "pass", "before", "after"):
        if key not in report:
            raise BundleError(f"{file} lacks the key {key}", fix=REBUILD)
    return {**{key: value for key, value in report.items() if key != "graph"}, "status": entry["status"]}


def _optional(manifest: Manifest, relative: str) -> Json | None:
    if relative not in manifest.listed:
        return None
    file = _listed(manifest, relative)
    return _damaged_unless_object(file) if os.path.lexists(file) else None


def _listed(manifest: Manifest, relative: str) -> Path:
    try:
        return Path(manifest.listed_path(relative))
    except BundleProblem as problem:
        raise BundleError(problem.message, fix=problem.fix) from problem


def _damaged_unless_object(file: Path) -> Json:
    try:
        content, _ = read_json(str(file), MOST_REPORT_BYTES, REBUILD)
    except BundleProblem as problem:
        raise BundleError(problem.message, fix=problem.fix) from problem
    if not isinstance(content, dict):
        raise BundleError(f"{file} holds {type(content).__name__} where an object is expected", fix=REBUILD)
    return content


def _read_json(path: Path) -> Json:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UsageError(
            f"{path} does not exist", fix="give the folder of a bundle, or a result's JSON file"
        ) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}", fix="check its permissions") from error
    except (ValueError, RecursionError) as error:
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
        _check_lists(given)
        inputs.checks.append(given)
    elif isinstance(data.get("error"), dict):
        message = data["error"].get("message", "no message")
        raise UsageError(f"{given.label} holds the error of a command that failed: {message}", fix="run it again")
    else:
        raise UsageError(f"{given.label} is no result of ldmc: it has {_keys_of(data)}", fix=_KINDS)


def _keys_of(data: Json) -> str:
    keys = sorted(map(str, data))
    return "the keys " + ", ".join(keys[:6]) if keys else "no keys"


def _attach(build: Given, inputs: Inputs) -> None:
    """Give the record of a build to the bundle it made."""
    name = Path(str(build.data["bundle"])).name
    for index, bundle in enumerate(inputs.bundles):
        if bundle.label == name:
            inputs.bundles[index] = replace(bundle, build=build.data)
            return
    raise UsageError(f"{build.label} is the build of {name}, which is not in this report", fix=f"give {name}, too")


def _check_lists(given: Given) -> None:
    """Hold a result of verify to its shape."""
    if not isinstance(given.data.get("components", {}), dict):
        raise wrong(given.label, "components", given.data["components"], "an object")
    for name in ("stages", "blocks"):
        rows = given.data.get(name) or []
        if not isinstance(rows, list) or not all(isinstance(row, dict) and "component" in row for row in rows):
            raise wrong(given.label, name, rows, "a list of objects with component")
