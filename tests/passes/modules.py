"""What the tests of passes are made of: small modules as components, lowered, and run on ONNX Runtime.

component_of(build, [TensorSpec(...)], [TensorSpec(...)])    a module without weights, and its weights
lowered(component, "fp16,onnx,fold")                         through the driver's own loop
run(model, *arrays)                                          node by node, as the graph says
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ldmc.compiler.lower import Lowering
from ldmc.compiler.spec import parse_pipeline
from ldmc.ir import Component, Form, Network, TensorSpec
from ldmc.targets.reader import load_target
from ldmc.targets.target import Target

LATENT = TensorSpec("input_0", "float32", (1, 3, 8, 8))
TIMESTEP = TensorSpec("input_1", "int64", (1,))
NOISE = TensorSpec("output_0", "float32", (1, 3, 8, 8))


@dataclass(frozen=True)
class DictWeights:
    """Weights in memory, given in uneven chunks."""

    state: Mapping[str, Any]

    def chunks(self, key: str) -> Iterator[Any]:
        flat = self.state[key].reshape(-1)
        yield from (flat[start : start + 1000] for start in range(0, flat.size, 1000))


@dataclass(frozen=True)
class NoWeights:
    """Weights that must not be read."""

    def chunks(self, key: str) -> Iterator[Any]:
        raise AssertionError(f"weight {key} was read")


class Wrapped(nn.Module):
    """As ldmc wraps every network: the network proper is the child `net`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: torch.Tensor) -> Any:
        output = self.net(*inputs)
        return output if isinstance(output, torch.Tensor) else output[0]


def component_of(
    build: Callable[[], nn.Module], inputs: list[TensorSpec], outputs: list[TensorSpec], name: str = "unet"
) -> Component:
    """The module that `build` makes, as a TORCH component; its weights are those `build` gives after seed 0."""
    torch.manual_seed(0)
    state = {key: value.detach().numpy() for key, value in build().state_dict().items()}
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        module = Wrapped(build().eval())
    return Component(
        name, Form.TORCH, Network(module, mode, DictWeights(state)), tuple(inputs), tuple(outputs)
    )


def eager(build: Callable[[], nn.Module], *arrays: Any) -> Any:
    """What PyTorch gives for the same module and weights as `component_of`."""
    torch.manual_seed(0)
    module = Wrapped(build().eval())
    with torch.inference_mode():
        return module(*map(torch.from_numpy, arrays)).numpy()


def without_weights(component: Component) -> Component:
    """The same component, whose weights raise when they are read."""
    return component.evolve(payload=replace(component.payload, weights=NoWeights()))


def target(*fp32_islands: str) -> Target:
    """The cpu target; with other islands where they are given."""
    cpu = load_target("cpu")
    return replace(cpu, fp32_islands=fp32_islands) if fp32_islands else cpu


def lowered(component: Component, spec: str, on: Target | None = None) -> Component:
    """`component` after all passes of `spec`, held to frozen inputs and outputs as in a build."""
    steps = [placed.pass_ for placed in parse_pipeline(spec)]
    with tempfile.TemporaryDirectory() as scratch:
        lowering = Lowering(component, on or target(), Path(scratch))
        for step in steps:
            lowering.run(step)
    return lowering.component


def run(model: ir.Model | onnx.ModelProto, *arrays: Any) -> list[Any]:
    """All outputs of `model` on ONNX Runtime with every optimisation off."""
    import onnxruntime

    proto = model if isinstance(model, onnx.ModelProto) else ir.to_proto(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    values: list[Any] = session.run(None, dict(zip(names, arrays, strict=True)))
    return values


def run_exactly(model: ir.Model, *arrays: Any) -> list[Any]:
    """All outputs by onnx's own evaluator: ONNX Runtime skips a cast down that is followed by one up."""
    feeds = {value.name or "": array for value, array in zip(model.graph.inputs, arrays, strict=True)}
    with np.errstate(over="ignore", invalid="ignore"):
        values: Any = ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)
    return list(values)


def counts(model: ir.Model) -> dict[str, int]:
    """Operator type -> how many nodes."""
    found: dict[str, int] = {}
    for node in model.graph:
        found[node.op_type] = found.get(node.op_type, 0) + 1
    return found


def noise(*shape: int, dtype: str = "float32", seed: int = 0) -> Any:
    """Gaussian noise that float16 can represent."""
    return np.random.RandomState(seed).standard_normal(shape).astype("float16").astype(dtype)


def micro_unet() -> UNet2DModel:
    """One level with a resnet and an attention each way: exports in a second. Latent 3x8x8."""
    return UNet2DModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8,),
        down_block_types=("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",),
        attention_head_dim=4,
        norm_num_groups=4,
        add_attention=False,
    )


def micro_condition_unet() -> UNet2DConditionModel:
    """Stable Diffusion's kind of UNet: cross-attention on a text context. Latent 4x8x8, context 77x16."""
    return UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    )


class Block(nn.Module):
    """Every kind of layer a UNet has, once: what the exporter treats differently from opset to opset."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, 8, 3, padding=1)
        self.time_proj = Timesteps(8, True, 0)
        self.time_embedding = TimestepEmbedding(8, 16)
        self.down = Downsample2D(8, use_conv=True, name="op")
        self.resnet = ResnetBlock2D(in_channels=8, temb_channels=16, groups=4)
        self.attn = Attention(8, heads=2, dim_head=4, bias=True, norm_num_groups=4, residual_connection=True)
        self.up = Upsample2D(8, use_conv=True)
        self.conv_out = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, latent: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        embedding = self.time_embedding(self.time_proj(t))
        hidden = self.down(self.conv_in(latent))
        hidden = self.attn(self.resnet(hidden, embedding))
        output: torch.Tensor = self.conv_out(self.up(hidden))
        return output


def block() -> Component:
    """`Block` as a component. Latent 3x8x8."""
    return component_of(Block, [LATENT, TIMESTEP], [NOISE])


def copied(component: Component) -> Component:
    """The same with a graph of its own: `fold` uses up the one it is given."""
    if component.form is not Form.ONNX:
        return component
    return component.evolve(payload=component.payload.clone())
