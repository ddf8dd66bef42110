"""Embedding: recorded as the exact command, and refused where torchtrtc could not tell tensors apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ldmc.compiler import emit
from ldmc.compiler.pipeline import checked_pipeline
from ldmc.errors import PassError, SpecError
from ldmc.ir import Chain, Component, Engines, Form, TensorSpec
from ldmc.passes.base import Context
from ldmc.passes.embed import Embed
from ldmc.runtime.finish.embed import argv
from ldmc.targets.reader import load_target

LATENT = TensorSpec("input_0", "float16", (1, 3, 8, 8))
NOISE = TensorSpec("output_0", "float16", (1, 3, 8, 8))
# torchtrtc's options, from https://docs.pytorch.org/TensorRT/tutorials/torchtrtc.html; less those for compiling.
TORCHTRTC_FLAGS = {"--embed-engine", "--device-type"}
DEVICE_TYPES = {"gpu", "dla"}


def part(name: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Component:
    return Component(name, Form.ONNX, None, inputs, outputs)


def pending(source: Component) -> Component:
    return source.evolve(form=Form.ENGINE, payload=Engines(source))


def embedded(component: Component, target: str = "jetson-nano") -> tuple[Component, list[str]]:
    remarks: list[str] = []
    return Embed().run(component, Context(load_target(target), remarks.append)), remarks


def test_engines_are_marked_and_nothing_else_changes() -> None:
    before = pending(part("unet", (LATENT,), (NOISE,)))
    after, remarks = embedded(before)
    assert after == before.evolve(payload=replace(before.payload, embed=True))
    assert remarks == ["1 engine to embed on the device: python3 -m runtime finish"]


def test_the_command_is_one_that_torchtrtc_takes() -> None:
    command = argv({"file": "unet/model.engine"})
    assert command[:3] == ["torchtrtc", "unet/model.engine", "unet/model.ts"]
    for word in command[3:]:
        flag, _, value = word.partition("=")
        assert flag in TORCHTRTC_FLAGS
        assert flag != "--device-type" or value in DEVICE_TYPES


def test_an_engine_that_is_built_here_waits_to_be_embedded() -> None:
    report = {
        "part": "unet", "module": "tensorrt_rtx", "tensorrt": "1.7.1.116", "compute_capability": "8.6", "layers": 9,
        "engine_layers": 1, "weights_bytes": 10, "activation_bytes": 20, "seconds": 3.5, "peak_rss_bytes": 40,
    }  # fmt: skip
    source = part("unet", (LATENT,), (NOISE,))
    built = source.evolve(form=Form.ENGINE, payload=Engines(source, (Path("x.engine"),), reports=(report,)))
    target = load_target("rtx-3070")
    assert emit.finish_steps(built, target) == []
    [step] = emit.finish_steps(embedded(built)[0], target)
    assert "embed_argv" not in step  # the device makes its own command
    assert (step["part"], step["status"], step["embed"], step["ladder"]) == ("unet", "done", True, [])
    assert step["engine"]["tensorrt"] == "1.7.1.116" and "seconds" not in step["engine"]


@pytest.mark.parametrize("name", ["conv_in/Conv", "down_blocks.0.resnets.1/Add", "a.b_1", "time-embedding"])
def test_what_crosses_between_parts_has_no_number(name: str) -> None:
    crossing = TensorSpec(name, "float16", (1, 32, 8, 8))
    chain = Chain((part("unet.0", (LATENT,), (crossing,)), part("unet.1", (crossing,), (NOISE,))))
    source = Component("unet", Form.PARTS, chain, (LATENT,), (NOISE,))
    with pytest.raises(PassError, match="unet.0 cannot be embedded") as caught:
        embedded(pending(source))
    assert repr(name) in caught.value.message
    assert "not partitioned" in caught.value.fix


def test_a_target_without_tensorrt_is_refused() -> None:
    assert Embed().objection(load_target("cpu")) == "target 'cpu' runs onnxruntime-cpu, not TensorRT"
    assert not Embed().objection(load_target("rtx-3070"))


@pytest.mark.parametrize(
    ("target", "spec", "words"),
    [
        ("cpu", "fp16,onnx,trt,embed", "'cpu' runs onnxruntime-cpu, not TensorRT"),
        ("jetson-nano", "fp16,onnx,partition{parts=2},trt,embed", "cannot take what 'partition' gives"),
    ],
)
def test_what_cannot_be_embedded_is_refused_before_any_work(target: str, spec: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        checked_pipeline(spec, load_target(target))
    assert words in caught.value.message
