"""Running a component in whatever form a pass gave it, and the files of a bundle.

TORCH         the module with its weights in memory, eager; half precision computes in float and rounds
TORCHSCRIPT   the script, its executor's own passes off
ONNX, PARTS   written to a folder, weights streamed; ONNX Runtime, one part at a time, its optimisations off
bundle        by its own runtime

Optimisations are off because ONNX Runtime's would undo or anticipate what a pass did, and the error would be told of
the wrong one. The bundle's own row has what its runtime adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ldmc.artifacts.graphs import save, store
from ldmc.compiler.fidelity.calls import Call
from ldmc.compiler.fidelity.graph import open_session
from ldmc.compiler.progress import ignore_bytes
from ldmc.ir import Component, Form
from ldmc.runtime import backends
from ldmc.runtime.checks.opening import Vouched
from ldmc.runtime.manifest import Manifest


def outputs_of(component: Component, calls: Sequence[Call], folder: Path) -> list[Any]:
    """What `component` gives on `calls`, in float32; `folder` is for the files it takes."""
    if component.form is Form.TORCH:
        return _of_module(component, calls)
    if component.form is Form.TORCHSCRIPT:
        return _of_script(component, calls)
    parts = component.payload.parts if component.form is Form.PARTS else (component,)
    return _of_graphs(component, parts, calls, folder)


def outputs_of_bundle(manifest: Manifest, name: str, calls: Sequence[Call], trust: bool) -> list[Any]:
    """What the bundle's own files give on `calls`, by its runtime. trust: see `ldmc.runtime.load`.

    Raises:
        BundleProblem: its engine does not run here.
    """
    entry = manifest.components[name]
    options = backends.OpenOptions(cache=False, vouched=Vouched(manifest, trust))
    engine = backends.open_component(manifest, entry, options, [])
    try:
        return [engine.run(list(call.inputs))[0].astype(np.float32) for call in calls]
    finally:
        engine.close()


def _of_module(component: Component, calls: Sequence[Call]) -> list[Any]:
    import torch

    from ldmc.passes.half import computing
    from ldmc.passes.modules import with_weights

    module = with_weights(component.payload, component.name)
    with torch.no_grad(), computing(module):
        return [module(*_tensors(component, call)).float().numpy() for call in calls]


def _of_script(component: Component, calls: Sequence[Call]) -> list[Any]:
    import torch

    from ldmc.passes.half import computing

    script, network = component.payload.module, component.payload.network
    unoptimised = torch.jit.optimized_execution(False)  # type: ignore[attr-defined]
    with torch.no_grad(), computing(network.module), unoptimised:
        return [script(*_tensors(component, call)).float().numpy() for call in calls]


def _tensors(component: Component, call: Call) -> list[Any]:
    import torch

    return [torch.from_numpy(array) for array in call.cast_to(component)]


def _of_graphs(
    component: Component, parts: Sequence[Component], calls: Sequence[Call], folder: Path
) -> list[Any]:
    stored = store((part.payload for part in parts), folder, "model.onnx.data", ignore_bytes)
    names = [spec.name for spec in component.inputs]
    values = [dict(zip(names, call.cast_to(component), strict=True)) for call in calls]
    for number, part in enumerate(parts):
        file = folder / f"{number}.onnx"
        save(part.payload, stored, file)
        session = open_session(str(file), folder)
        reads, gives = [spec.name for spec in part.inputs], [spec.name for spec in part.outputs]
        for there in values:
            given = session.run(gives, {name: there[name] for name in reads})
            there.update(zip(gives, given, strict=True))
    return [there[component.outputs[0].name].astype(np.float32) for there in values]
