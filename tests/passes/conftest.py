"""What several tests of passes look at; each graph is exported once, and given out as copies."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from ldmc.compiler.frontend import ModelRequest, open_model, read_program
from ldmc.compiler.lower import Lowering
from ldmc.compiler.spec import parse_pipeline
from ldmc.ir import Component
from tests.passes.modules import block, copied, lowered, target, without_weights


@pytest.fixture(scope="session")
def exported() -> Callable[[int], Component]:
    """`Block` in ONNX form by opset."""

    @cache
    def export(opset: int) -> Component:
        return lowered(block(), f"onnx{{opset={opset}}}")

    return lambda opset: copied(export(opset))


@pytest.fixture(scope="session")
def tiny_stages(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Component]]:
    """The tiny model after each of fp16, onnx and fold, by component. Its weights raise when they are read."""
    return _stages(tiny_model, "fp16,onnx,fold", tmp_path_factory.mktemp("scratch"), without_weights)


@pytest.fixture(scope="session")
def tiny_fp32(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Component]]:
    """The tiny model in single precision after each of onnx and fold, by component, with its weights."""
    return _stages(tiny_model, "onnx,fold", tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="session")
def tiny_fp16(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Component]]:
    """The tiny model after each of fp16, onnx and fold, by component, with its weights."""
    return _stages(tiny_model, "fp16,onnx,fold", tmp_path_factory.mktemp("scratch"))


def _stages(
    model: Path, spec: str, scratch: Path, prepare: Callable[[Component], Component] = lambda given: given
) -> dict[str, list[Component]]:
    """Each component after each pass of `spec`, as copies."""
    request = ModelRequest(str(model))
    program = read_program(open_model(request, print), request)
    steps = [placed.pass_ for placed in parse_pipeline(spec)]
    stages: dict[str, list[Component]] = {}
    for component in program.components:
        found = stages[component.name] = []
        lowering = Lowering(prepare(component), target(), scratch)
        for step in steps:
            lowering.run(step)
            found.append(copied(lowering.component))
    return stages
