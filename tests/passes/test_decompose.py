"""What the exporter is spared: the graph is the same with and without, and what has to be decomposed still is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ldmc.compiler.frontend import ModelRequest, open_model, read_program
from ldmc.compiler.graph import summarise
from ldmc.ir import Component, TensorSpec
from ldmc.passes import onnx
from ldmc.passes.base import Context
from ldmc.passes.decompose import spare_decomposition
from ldmc.passes.fold import Fold
from ldmc.passes.fp16 import Fp16
from ldmc.targets.reader import load_target
from tests.passes.modules import TIMESTEP, component_of, micro_condition_unet, noise, run

TABLE = torch.export.default_decompositions()


def traced(function: object, *inputs: torch.Tensor) -> torch.export.ExportedProgram:
    class Module(torch.nn.Module):
        def forward(self, *values: torch.Tensor) -> torch.Tensor:
            return function(*values)  # type: ignore[operator]

    return torch.export.export(Module(), inputs, strict=False)


def targets(program: torch.export.ExportedProgram) -> list[str]:
    """Operators by name, less what only asserts."""
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    return [name for name in names if "_assert" not in name]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("number", [0, 1], ids=["unet", "decoder"])
def test_the_folded_graph_is_the_same(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, number: int, half: bool
) -> None:
    request = ModelRequest(str(tiny_model))
    spared, whole = spared_and_not(
        lambda: read_program(open_model(request, print), request).components[number], half, monkeypatch
    )
    assert summarise(spared).to_json() == summarise(whole).to_json()


def test_a_text_conditioned_unet_has_the_same_operators_and_computes_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A side that is written out in one is -1 in the shape of the other."""
    models = spared_and_not(text_conditioned, False, monkeypatch)
    nodes = [[(node.name, node.op, node.types) for node in summarise(model).nodes] for model in models]
    assert nodes[0] == nodes[1]
    arrays = noise(1, 4, 8, 8), np.array([17]), noise(1, 77, 16, seed=1)
    np.testing.assert_array_equal(*(run(model, *arrays)[0] for model in models))


def spared_and_not(build: Callable[[], Component], half: bool, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The folded graph without and with PyTorch's decomposition."""
    context, found = Context(load_target("cpu")), []
    for spare in (spare_decomposition, lambda _program: None):
        monkeypatch.setattr(onnx, "spare_decomposition", spare)
        component = build()
        for step in ([Fp16()] if half else []) + [onnx.Onnx(), Fold()]:
            component = step.run(component, context)
        found.append(component.payload)
    return found


def text_conditioned() -> Component:
    latent = [TensorSpec(name, "float32", (1, 4, 8, 8)) for name in ("input_0", "output_0")]
    context = TensorSpec("input_2", "float32", (1, 77, 16))
    return component_of(micro_condition_unet, [latent[0], TIMESTEP, context], latent[1:])


def test_what_only_casts_and_reshapes_is_rewritten_in_place() -> None:
    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(x.to(torch.float16).to(torch.float16), 0.1, False).reshape(-1, 2)

    program = traced(network, torch.zeros(4))
    spare_decomposition(program)
    decomposed = program.run_decompositions({})
    assert decomposed is program
    assert targets(decomposed) == ["aten._to_copy.default", "aten.clone.default", "aten.view.default"]
    assert torch.equal(decomposed.module()(torch.arange(4.0)), torch.tensor([[0.0, 1.0], [2.0, 3.0]]).half())


@pytest.mark.parametrize("axis", [(), (1,), (-1,)])
@pytest.mark.parametrize("chunks", [1, 2, 4])
def test_chunks_are_split_as_pytorch_decomposes_them(chunks: int, axis: tuple[int, ...]) -> None:
    """9 sides in 4 chunks are three pieces."""
    x = torch.arange(81.0).reshape(9, 9)
    programs = [traced(lambda x: x.chunk(chunks, *axis)[0] + 1, x) for _ in range(2)]
    spare_decomposition(programs[0])
    spared, whole = (program.run_decompositions(dict(TABLE)) for program in programs)
    assert spared is programs[0]
    splits = [
        [node.args[1:] for node in program.graph.nodes if str(node.target).startswith("aten.split")]
        for program in (spared, whole)
    ]
    assert splits[0] == splits[1] and len(splits[0]) == 1
    assert torch.equal(spared.module()(x), x.chunk(chunks, *axis)[0] + 1)


def test_an_operator_of_the_table_is_decomposed() -> None:
    program = traced(lambda x: torch.nn.functional.hardswish(x), torch.zeros(4))
    spare_decomposition(program)
    table = dict(TABLE) | {
        torch.ops.aten.hardswish.default: torch._decomp.decomposition_table[torch.ops.aten.hardswish.default]
    }
    assert "aten.hardswish.default" not in targets(program.run_decompositions(table))


def test_what_writes_into_its_input_is_made_functional() -> None:
    program = traced(lambda x: (x + 1).mul_(2), torch.zeros(4))
    assert "aten.mul_.Tensor" in targets(program)
    spare_decomposition(program)
    assert targets(program.run_decompositions({})) == ["aten.add.Tensor", "aten.mul.Tensor"]


def test_dropout_that_drops_is_left_to_pytorch() -> None:
    program = traced(lambda x: torch.nn.functional.dropout(x, 0.5, True), torch.zeros(4))
    spare_decomposition(program)
    assert "aten.dropout.default" not in targets(program.run_decompositions(dict(TABLE)))
