"""What `ldmc diff A B` may compare, and how a reference is read.

    face.onnx                   an ONNX file
    face.cpu.ldmc               a bundle: the final graph of each of its components
    face.cpu.ldmc:unet          one component of it
    face.cpu.ldmc:fold          every component after its stage `fold`; `03-fold`, `03` or `3` name one report
    face.cpu.ldmc:unet:fold     one component after one stage; `unet/fold` is the same

Stages come from the bundle's reports, so that graphs which no longer exist as files can still be compared.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldmc.artifacts.documents import read_json
from ldmc.artifacts.kinds import Anything, Maybe, Record, Table, Text, first_fault
from ldmc.artifacts.manifest import read_stages
from ldmc.compiler.diff import GraphDiff, diff_graphs
from ldmc.compiler.summary import GraphSummary
from ldmc.errors import BundleError, UsageError
from ldmc.runtime.errors import BundleProblem
from ldmc.runtime.manifest import MANIFEST_NAME, REBUILD, Manifest, check_files, read_manifest

_REPORT = Record({"component": Text(), "pass": Text()}, {"form": Text(), "graph": Maybe(Table(Anything()))})
BARE = ""  # the component name of a plain ONNX file, which does not say whose graph it is


@dataclass(frozen=True)
class Comparison:
    """Two references, and component name -> what differs. The name is "" between two plain files."""

    a: str
    b: str
    diffs: Mapping[str, GraphDiff]

    @property
    def equal(self) -> bool:
        return all(diff.equal for diff in self.diffs.values())


@dataclass(frozen=True)
class _Stage:
    """One report of a bundle. graph: None for forms that have none (TORCH) and for pending stages."""

    component: str
    name: str
    spec: str
    form: str
    graph: Mapping[str, Any] | None

    @property
    def number(self) -> str:
        return self.name.partition("-")[0]

    def matches(self, selector: str) -> bool:
        """True for `03-fold`, `fold`, `fold{max_growth=2}` as it was run, `03` and `3`."""
        if selector.isdecimal():
            return self.number.isdecimal() and int(selector) == int(self.number)
        return selector in (self.name, self.name.partition("-")[2], self.spec)


def compare(a: str, b: str) -> Comparison:
    """Resolve two references, pair their components, and diff each pair.

    Components pair by name; one graph pairs with one graph whatever their names; a plain ONNX file pairs with
    the one component that has its inputs and outputs. Two whole bundles compare in every component of either.
    Raises UsageError where a reference does not resolve or nothing pairs, BundleError where one is damaged.
    """
    graphs_a, graphs_b = resolve(a), resolve(b)
    names = [*graphs_a, *(name for name in graphs_b if name not in graphs_a)]
    if len(graphs_a) == len(graphs_b) == 1:
        (name_a, graph_a), (name_b, graph_b) = *graphs_a.items(), *graphs_b.items()
        return Comparison(a, b, {name_b or name_a: diff_graphs(graph_a, graph_b)})
    if BARE in graphs_a:
        name = _owner(a, graphs_a[BARE], b, graphs_b)
        return Comparison(a, b, {name: diff_graphs(graphs_a[BARE], graphs_b[name])})
    if BARE in graphs_b:
        name = _owner(b, graphs_b[BARE], a, graphs_a)
        return Comparison(a, b, {name: diff_graphs(graphs_a[name], graphs_b[BARE])})
    if _split(a)[1] or _split(b)[1]:
        names = [name for name in names if name in graphs_a and name in graphs_b]
    if not names:
        raise UsageError(
            f"{a} and {b} have no component in common: {_listed(graphs_a)} and {_listed(graphs_b)}",
            fix="name one component on each side, e.g. BUNDLE:unet",
        )
    empty = GraphSummary()
    return Comparison(a, b, {n: diff_graphs(graphs_a.get(n, empty), graphs_b.get(n, empty)) for n in names})


def resolve(reference: str) -> dict[str, GraphSummary]:
    """Component name -> graph of what `reference` names; the name is "" for a plain ONNX file.

    Raises UsageError where the path, component or stage does not exist, saying what does; BundleError where
    the bundle's own records cannot be read.
    """
    path, selector = _split(reference)
    if path.is_dir():
        return _resolve_bundle(path, selector)
    if selector:
        raise UsageError(
            f"{path} is a file and has no stages: {reference}", fix=f"give {path} alone, or a bundle"
        )
    if not path.is_file():
        near = difflib.get_close_matches(path.name, _neighbours(path), n=1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "give an ONNX file or a bundle"
        raise UsageError(f"{path}: no such file or bundle", fix=hint)
    return {BARE: _load(path)}


def _split(reference: str) -> tuple[Path, str]:
    """Path and selector: the longest part before a colon (or all of it) that exists is the path."""
    path, selector = reference, ""
    while not Path(path).exists() and ":" in path:
        path, _, rest = path.rpartition(":")
        selector = f"{rest}:{selector}" if selector else rest
    return (Path(path), selector) if Path(path).exists() else (Path(reference), "")


def _neighbours(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []


def _load(path: Path) -> GraphSummary:
    # onnx takes most of a second to import, and reports do not need it.
    from ldmc.compiler.graph import load_summary

    return load_summary(path)


def _resolve_bundle(bundle: Path, selector: str) -> dict[str, GraphSummary]:
    manifest = _read_manifest(bundle)
    components = manifest.components
    stages = list(_stages(manifest))
    component, _, wanted = selector.replace("/", ":").partition(":")
    if component not in components:
        component, wanted = "", selector
    if wanted:
        return _at_stage(
            bundle, component, wanted, [s for s in stages if component in ("", s.component)], components
        )
    return {name: _final(bundle, name, stages, manifest) for name in components if component in ("", name)}


def _at_stage(
    bundle: Path, component: str, wanted: str, stages: list[_Stage], components: Iterable[str]
) -> dict[str, GraphSummary]:
    found = [stage for stage in stages if stage.matches(wanted)]
    if not found:
        names = [stage.name for stage in stages] + [stage.name.partition("-")[2] for stage in stages]
        near = difflib.get_close_matches(wanted, [*names, *components], n=1)
        available = ", ".join(f"{stage.component}:{stage.name}" for stage in stages) or "none"
        raise UsageError(
            f"{bundle} has no component or stage {wanted!r}{f' of {component}' if component else ''}; "
            f"components: {_listed(components)}; stages: {available}",
            fix=f"did you mean {bundle}:{near[0]}?"
            if near
            else f"give one of these, e.g. {_example(bundle, stages)}",
        )
    graphs: dict[str, GraphSummary] = {}
    for stage in found:
        if stage.component in graphs:
            names = [other.name for other in found if other.component == stage.component]
            raise UsageError(
                f"{bundle} has {len(names)} stages {wanted!r} of {stage.component}: {_listed(names)}",
                fix=f"name one, e.g. {bundle}:{names[-1]}",
            )
        graphs[stage.component] = _stage_graph(bundle, stage, stages)
    return graphs


def _stage_graph(bundle: Path, stage: _Stage, stages: list[_Stage]) -> GraphSummary:
    if stage.graph is None:
        usable = [other for other in stages if other.graph is not None]
        raise UsageError(
            f"{bundle}: stage {stage.name} of {stage.component} is in form {stage.form} and has no graph",
            fix=f"give a stage that has one, e.g. {_example(bundle, usable)}"
            if usable
            else "build with the pass onnx",
        )
    return _from_report(bundle, stage)


def _from_report(bundle: Path, stage: _Stage) -> GraphSummary:
    try:
        return GraphSummary.from_json(stage.graph or {})
    except ValueError as error:
        raise _damaged(bundle / "reports" / stage.component / f"{stage.name}.json", str(error)) from error


def _final(bundle: Path, name: str, stages: list[_Stage], manifest: Manifest) -> GraphSummary:
    """The graph that runs: of the component's last stage, or of its file where that stage kept none."""
    own = [stage for stage in stages if stage.component == name]
    if own and own[-1].graph is not None:
        return _from_report(bundle, own[-1])
    part, form = manifest.components[name].parts[0], manifest.components[name].form
    if form != "onnx" or part.form != "onnx":
        raise UsageError(
            f"{bundle}: {name} has no graph to compare (form {form})",
            fix="name an earlier stage, e.g. BUNDLE:fold",
        )
    return _load(Path(manifest.listed_path(part.file)))


def _owner(file: str, graph: GraphSummary, bundle: str, graphs: Mapping[str, GraphSummary]) -> str:
    """The one component with the inputs and outputs of `graph`: by name and shape, then by dtype."""
    alike = [name for name, other in graphs.items() if _interface(other) == _interface(graph)]
    exact = [
        name for name in alike if (graphs[name].inputs, graphs[name].outputs) == (graph.inputs, graph.outputs)
    ]
    found = exact if len(exact) == 1 else alike
    if len(found) != 1:
        state = "more than one component has" if found else "no component has"
        raise UsageError(
            f"{state} the inputs and outputs of {file} in {bundle}: {_listed(found or graphs)}",
            fix=f"name one, e.g. {bundle}:{next(iter(graphs))}",
        )
    return found[0]


def _interface(graph: GraphSummary) -> list[tuple[str, tuple[int, ...]]]:
    return [(spec.name, spec.shape) for spec in (*graph.inputs, *graph.outputs)]


def _stages(manifest: Manifest) -> Iterator[_Stage]:
    """The stages that have a report, in the order in which they ran."""
    for record in read_stages(manifest):
        path = Path(manifest.listed_path(record["report"]))
        report = _read_json(path)
        fault = first_fault(_REPORT, report)
        if fault is not None:
            raise _damaged(path, str(fault))
        yield _Stage(report["component"], path.stem, report["pass"], report.get("form", "?"), report.get("graph"))


def _read_manifest(bundle: Path) -> Manifest:
    """The manifest, checked by the format's own reader."""
    if not (bundle / MANIFEST_NAME).exists():
        raise UsageError(
            f"{bundle} is a folder and no bundle: it has no {MANIFEST_NAME}", fix="give a bundle or a file"
        )
    try:
        manifest = read_manifest(bundle)
        check_files(manifest.root, manifest)  # reports are compared, and must tell of the files that are there
    except BundleProblem as error:
        raise BundleError(error.message, fix=error.fix) from error
    return manifest


def _read_json(path: Path) -> Any:
    try:
        return read_json(path)
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise BundleError(f"{path} is not JSON: {error}", fix=REBUILD) from error


def _damaged(path: Path, reason: str) -> BundleError:
    return BundleError(f"{path} cannot be read: {reason}", fix="build the bundle again")


def _example(bundle: Path, stages: list[_Stage]) -> str:
    return f"{bundle}:{stages[-1].component}:{stages[-1].name}" if stages else str(bundle)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(name or "(a plain file)" for name in names) or "none"
