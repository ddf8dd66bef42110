"""Writing a lowered component into a bundle, in whatever form it ended, and its section of the manifest.

ONNX          unet/model.onnx                 + unet/model.onnx.data
PARTS         unet/0.onnx, unet/1.onnx, ...   + unet/model.onnx.data    one weights file, finer parts included
TORCHSCRIPT   unet/model.ts
AOTI          unet/model.pt2
ENGINE        unet/0.engine, ... if they were built here; else what the device builds them from
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ldmc.artifacts.bundle import BundleWriter
from ldmc.compiler.graph import summarise
from ldmc.compiler.progress import ignore_bytes
from ldmc.ir import Chain, Component, Engines, Form, Stats
from ldmc.passes import torchscript
from ldmc.targets.builder_memory import build_peak_bytes
from ldmc.targets.target import Target

Advance = Callable[[int], None]
# What the manifest keeps of an engine's report: the rest is time and memory of one build.
_REPORTED = (
    "part",
    "module",
    "tensorrt",
    "compute_capability",
    "layers",
    "engine_layers",
    "weights_bytes",
    "activation_bytes",
)


def weight_bytes(component: Component) -> int:
    """Bytes that `write` will write of weights and engines, for a progress bar."""
    if component.form is Form.ENGINE:
        engines: Engines = component.payload
        return sum(file.stat().st_size for file in engines.files) or weight_bytes(engines.source)
    if component.form is Form.TORCHSCRIPT:
        parameters = component.payload.network.module.parameters()
        return sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    if component.form is Form.AOTI:
        return component.payload.file.stat().st_size  # type: ignore[no-any-return]
    seen: dict[int, int] = {}
    for part in _graphs(component):
        for value in part.payload.graph.initializers.values():
            if value.const_value is not None:
                seen[id(value.const_value)] = value.const_value.nbytes
    return sum(seen.values())


def write(component: Component, bundle: BundleWriter, advance: Advance) -> list[dict[str, Any]]:
    """Write `component`; its parts as the manifest lists them."""
    if component.form is Form.TORCHSCRIPT:
        return [_write_script(component, bundle, advance)]
    if component.form is Form.AOTI:
        return [_write_package(component, bundle, advance)]
    if component.form is Form.ENGINE:
        return _write_engines(component, bundle, advance)
    return _write_graphs(component, bundle, advance)


def write_intermediate(component: Component, bundle: BundleWriter, folder: str) -> None:
    """Keep the graphs of `component` as they are after a stage, in `folder` of the bundle; only ONNX can be kept."""
    if component.form in (Form.ONNX, Form.PARTS):
        graphs = {f"{folder}/{_graph_name(component, part)}": part.payload for part in _graphs(component)}
        bundle.add_onnx_parts(graphs, f"{folder}/model.onnx.data", "intermediate", ignore_bytes)


def manifest_entry(component: Component, parts: list[dict[str, Any]], stats: Stats) -> dict[str, Any]:
    """The manifest's section of one component."""
    engines = {"engine": _engine_reports(component.payload)} if component.form is Form.ENGINE else {}
    return {
        **engines,
        "form": str(component.form),
        "parts": parts,
        "inputs": [spec.to_json() for spec in component.inputs],
        "outputs": [spec.to_json() for spec in component.outputs],
        "stats": stats.to_json(),
    }


def _engine_reports(engines: Engines) -> list[dict[str, Any]]:
    """What TensorRT said of each engine built here, less what differs from build to build."""
    return [{key: report[key] for key in _REPORTED} for report in engines.reports]


def finish_steps(component: Component, target: Target) -> list[dict[str, Any]]:
    """What the device has left to do for `component`: see `ldmc.runtime.finish`."""
    if component.form is not Form.ENGINE:
        return []
    engines: Engines = component.payload
    if engines.files and not engines.embed:
        return []
    steps = []
    for number, part in enumerate(_parts(engines.source)):
        built = engines.reports[number] if engines.files else None
        step = _embed_step(built) if built else _build_step(engines, part, component, target)
        step |= {"component": component.name, "part": part.name, "embed": engines.embed}
        steps.append(step)
    return steps


def _build_step(engines: Engines, part: Component, component: Component, target: Target) -> dict[str, Any]:
    """An engine that the device builds: how, and the memory that is predicted to take."""
    recipe = engines.recipe[part.name]
    finer = _finer(engines.source).get(part.name, ())
    ladder = [
        {**rung, "finer": [_engine_entry(p, _graph_path(component, p)) for p in finer]}
        if "finer" in rung
        else dict(rung)
        for rung in recipe["ladder"]
        if finer or "finer" not in rung
    ]
    stats = summarise(part.payload).stats
    activation_bytes = (stats.peak_activation_bytes if stats else None) or 0
    peak_bytes = build_peak_bytes(recipe["weights_bytes"], activation_bytes, target)
    return {**recipe, "ladder": ladder, "peak_bytes": peak_bytes, "status": "pending"}


def _embed_step(report: Mapping[str, Any]) -> dict[str, Any]:
    """An engine that is built, and waits to be embedded."""
    built = {key: report[key] for key in _REPORTED}
    return {"ladder": [], "status": "done", "engine": built}


def _write_graphs(component: Component, bundle: BundleWriter, advance: Advance) -> list[dict[str, Any]]:
    graphs = {_graph_path(component, part): part.payload for part in _graphs(component)}
    bundle.add_onnx_parts(graphs, f"{component.name}/model.onnx.data", "graph", advance)
    return [_part_entry(part, "onnx", _graph_path(component, part)) for part in _parts(component)]


def _write_script(component: Component, bundle: BundleWriter, advance: Advance) -> dict[str, Any]:
    relative = f"{component.name}/model.ts"
    size = weight_bytes(component)
    bundle.add_file(relative, "graph", partial(torchscript.save, component.payload.module), 2 * size)
    advance(size)
    return _part_entry(component, "torchscript", relative)


def _write_package(component: Component, bundle: BundleWriter, advance: Advance) -> dict[str, Any]:
    relative = f"{component.name}/model.pt2"
    size = weight_bytes(component)
    bundle.add_file(relative, "graph", partial(_move, component.payload.file))
    advance(size)
    return {**_part_entry(component, "aoti", relative), "compiled": dict(component.payload.compiled)}


def _write_engines(component: Component, bundle: BundleWriter, advance: Advance) -> list[dict[str, Any]]:
    engines: Engines = component.payload
    parts = _parts(engines.source)
    if not engines.files:
        _write_graphs(engines.source, bundle, advance)
        return [_engine_entry(part, _graph_path(component, part)) for part in parts]
    entries = []
    for part, file in zip(parts, engines.files, strict=True):
        relative = _engine_path(_graph_path(component, part))
        bundle.add_file(relative, "engine", partial(_move, file))
        advance((bundle.folder / relative).stat().st_size)
        entries.append(_part_entry(part, "engine", relative))
    return entries


def _move(built: Path, path: Path) -> None:
    """To its place in the bundle, on the same disk."""
    shutil.move(built, path)


def _engine_entry(part: Component, graph: str) -> dict[str, Any]:
    """A part whose engine the device builds from `graph`."""
    return {**_part_entry(part, "engine", _engine_path(graph)), "source": graph}


def _part_entry(part: Component, form: str, file: str) -> dict[str, Any]:
    entry = {
        "name": part.name,
        "form": form,
        "file": file,
        "inputs": [spec.to_json() for spec in part.inputs],
        "outputs": [spec.to_json() for spec in part.outputs],
    }
    # A graph file does not say what of the shared weights file is its own.
    return entry | {"weights_bytes": weight_bytes(part)} if part.form is Form.ONNX else entry


def _parts(component: Component) -> tuple[Component, ...]:
    """The ONNX components that run in order."""
    return component.payload.parts if component.form is Form.PARTS else (component,)


def _finer(component: Component) -> dict[str, tuple[Component, ...]]:
    """Name of a part -> the smaller parts that can stand for it."""
    if component.form is not Form.PARTS:
        return {}
    chain: Chain = component.payload
    return dict(zip((part.name for part in chain.parts), chain.finer, strict=False))


def _graphs(component: Component) -> Iterable[Component]:
    """Every ONNX graph that is written for `component`."""
    return (*_parts(component), *(part for parts in _finer(component).values() for part in parts))


def _graph_path(component: Component, part: Component) -> str:
    """unet -> unet/model.onnx, unet.0 -> unet/0.onnx, unet.0.1 -> unet/0.1.onnx"""
    return f"{component.name}/{_graph_name(component, part)}"


def _graph_name(component: Component, part: Component) -> str:
    return f"{part.name.removeprefix(component.name).removeprefix('.') or 'model'}.onnx"


def _engine_path(graph: str) -> str:
    return graph.removesuffix(".onnx") + ".engine"
