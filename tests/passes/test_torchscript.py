"""From a module and its weights to a frozen script that computes what PyTorch does, and what cannot be traced."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ldmc.compiler.stage import snapshot
from ldmc.compiler.verify import snr_db
from ldmc.errors import PassError
from ldmc.ir import Component, Form, TensorSpec
from ldmc.passes.base import Context
from ldmc.passes.modules import hollow, with_weights
from ldmc.passes.torchscript import TorchScript, save
from ldmc.targets.reader import load_target
from tests.passes.modules import (
    LATENT,
    NOISE,
    TIMESTEP,
    Block,
    DictWeights,
    block,
    component_of,
    eager,
    lowered,
    micro_condition_unet,
    noise,
    without_weights,
)

VECTOR_IN, VECTOR_OUT = TensorSpec("input_0", "float32", (1, 4)), TensorSpec("output_0", "float32", (1, 4))


@pytest.fixture(scope="module")
def script() -> Component:
    return lowered(block(), "torchscript")


@pytest.fixture(scope="module")
def half_script() -> Component:
    return lowered(block(), "fp16,torchscript")


def call(component: Component, *arrays: Any) -> Any:
    """The script after a round through its file, as another process would have it."""
    buffer = io.BytesIO()
    torch.jit.save(component.payload.module, buffer)
    buffer.seek(0)
    loaded = torch.jit.load(buffer)
    with torch.inference_mode():
        return loaded(*map(torch.from_numpy, arrays)).numpy()


def kinds(component: Component) -> Counter[str]:
    return Counter(node.kind() for node in component.payload.module.inlined_graph.nodes())


def test_the_script_computes_what_pytorch_does(script: Component) -> None:
    latent, t = noise(1, 3, 8, 8), np.array([701])
    assert script.form is Form.TORCHSCRIPT
    np.testing.assert_allclose(call(script, latent, t), eager(Block, latent, t), atol=1e-6)


def test_the_script_is_frozen(script: Component) -> None:
    assert not list(script.payload.module.parameters())
    assert not list(script.payload.module.children())


def test_in_half_precision_with_islands_in_float(half_script: Component) -> None:
    latent, t = noise(1, 3, 8, 8, dtype="float16"), np.array([701])
    output = call(half_script, latent, t)
    assert output.dtype == np.float16
    wanted = eager(Block, latent.astype("float32"), t)
    assert 45 < snr_db(wanted, output) < 90  # not float in disguise
    dtypes = {str(p.dtype) for p in half_script.payload.network.module.parameters()}
    assert dtypes == {"torch.float16", "torch.float32"}


def test_what_is_traced_in_half_is_what_is_traced_in_float_and_casts(
    script: Component, half_script: Component
) -> None:
    """Computing in float while tracing leaves no mark on the graph."""
    casts = ("aten::to", "prim::Constant", "prim::ListConstruct")
    left, right = ({k: n for k, n in kinds(c).items() if k not in casts} for c in (script, half_script))
    assert left == right
    # two around each of 3 normalisations; the timestep's embedding comes down from float
    assert kinds(half_script)["aten::to"] - kinds(script)["aten::to"] == 7


def test_attention_is_written_out_unless_fused_is_asked_for(script: Component) -> None:
    fused = lowered(block(), "torchscript{fused=true}")
    assert kinds(fused)["aten::scaled_dot_product_attention"] == 1
    assert kinds(script)["aten::scaled_dot_product_attention"] == 0
    assert kinds(script)["aten::baddbmm"] == 1
    latent, t = noise(1, 3, 8, 8), np.array([3])
    np.testing.assert_allclose(call(fused, latent, t), call(script, latent, t), atol=1e-6)


def test_a_softmax_kept_in_float_stays_so(half_script: Component) -> None:
    kept = lowered(block(), "fp16{keep=[norm,softmax,timestep]},torchscript")
    assert kinds(kept)["aten::baddbmm"] == 0
    # up before the softmax, down after it
    assert kinds(kept)["aten::to"] == kinds(half_script)["aten::to"] + 2


def test_a_text_conditioned_unet() -> None:
    latent = TensorSpec("input_0", "float32", (1, 4, 8, 8))
    context = TensorSpec("input_2", "float32", (1, 77, 16))
    output = TensorSpec("output_0", "float32", (1, 4, 8, 8))
    component = lowered(
        component_of(micro_condition_unet, [latent, TIMESTEP, context], [output]), "torchscript"
    )
    assert kinds(component)["aten::scaled_dot_product_attention"] == 0
    arrays = noise(1, 4, 8, 8), np.array([17]), noise(1, 77, 16, seed=1)
    np.testing.assert_allclose(call(component, *arrays), eager(micro_condition_unet, *arrays), atol=5e-6)


def test_the_report_counts_operators_and_declared_weights(script: Component) -> None:
    stats = snapshot(script).stats
    assert stats.ops["aten::_convolution"] == 6
    assert stats.ops["aten::group_norm"] == 3
    assert "prim::Constant" not in stats.ops
    assert stats.nodes == sum(stats.ops.values())
    assert stats.params == sum(p.numel() for p in Block().parameters())
    assert stats.bytes == 4 * stats.params


def test_a_remark_says_how_near_it_is_and_that_half_is_slow_on_a_cpu() -> None:
    def remarks(component: Component, target: str) -> list[str]:
        said: list[str] = []
        TorchScript().run(component, Context(load_target(target), said.append))
        return said

    assert remarks(block(), "cpu") == ["largest difference from eager PyTorch on noise: 0"]
    half = lowered(block(), "fp16")
    assert any("minutes a call" in remark for remark in remarks(half, "cpu"))
    assert not any("minutes a call" in remark for remark in remarks(half, "jetson-nano"))


class Branching(nn.Module):
    """Goes one way for the noise it is traced on, and the other way for other noise."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if bool(x[0, 1] > 0) else -x


class Drawing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)


@pytest.mark.parametrize("build", [Branching, Drawing])
def test_what_a_trace_cannot_follow_is_an_error_with_figures(build: type[nn.Module]) -> None:
    with pytest.raises(
        PassError, match=r"unet: the trace differs from eager PyTorch by up to \d.*SNR"
    ) as caught:
        lowered(component_of(build, [VECTOR_IN], [VECTOR_OUT]), "torchscript")
    assert "decides by values" in caught.value.fix


class Shared(nn.Module):
    """One weight under two names, and a buffer that is saved."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("offset", torch.arange(4.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.second(self.first(x)) + self.offset
        return output


def test_a_shared_weight_is_in_memory_once_and_a_saved_buffer_is_a_weight() -> None:
    component = component_of(Shared, [VECTOR_IN], [VECTOR_OUT])
    module = with_weights(component.payload, "unet")
    assert module.net.second.weight is module.net.first.weight
    x = noise(1, 4)
    np.testing.assert_allclose(
        call(lowered(component, "torchscript"), x), eager(Shared, x), rtol=1e-6, atol=1e-6
    )


class Unsaved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset", torch.arange(4.0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = x + self.offset
        return output


def test_a_buffer_that_is_not_saved_is_an_error() -> None:
    with pytest.raises(PassError, match="unet: net.offset is neither in the checkpoint nor computed"):
        lowered(component_of(Unsaved, [VECTOR_IN], [VECTOR_OUT]), "torchscript")


def test_a_weight_that_half_cannot_hold_is_an_error_with_the_keep_that_cures_it() -> None:
    component = component_of(lambda: nn.Linear(4, 4), [VECTOR_IN], [VECTOR_OUT])
    state = {"weight": np.full((4, 4), 1e6, "float32"), "bias": np.zeros(4, "float32")}
    large = component.evolve(payload=replace(component.payload, weights=DictWeights(state)))
    with pytest.raises(PassError, match="weight holds 1e.06, more than float16 can represent"):
        lowered(large, "fp16,torchscript")


def test_a_hollow_module_reads_no_weight_and_holds_none() -> None:
    component = without_weights(lowered(block(), "fp16"))
    module = hollow(component.payload, "unet")
    stored = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in module.parameters()}
    assert all(size <= 4 for size in stored.values())
    declared = {name: (p.shape, p.dtype) for name, p in component.payload.module.named_parameters()}
    assert {name: (p.shape, p.dtype) for name, p in module.named_parameters()} == declared


def test_a_saved_script_names_no_file_of_this_machine(script: Component, tmp_path: Path) -> None:
    """And is the same script, which PyTorch loads by itself."""
    file = tmp_path / "model.ts"
    save(script.payload.module, file)
    assert [path.name for path in tmp_path.iterdir()] == ["model.ts"]
    with zipfile.ZipFile(file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert any(name.endswith(".py") for name in contents)
    places = [Path(torch.__file__).parent, Path(__file__).parents[1], Path.home()]
    for name, content in contents.items():
        assert not any(str(place).encode() in content for place in places), name
    inputs = torch.from_numpy(noise(1, 3, 8, 8)), torch.tensor([17])
    plain = io.BytesIO()
    torch.jit.save(script.payload.module, plain)
    plain.seek(0)
    with torch.inference_mode():
        assert torch.equal(torch.jit.load(str(file))(*inputs), torch.jit.load(plain)(*inputs))


def test_inputs_and_outputs_stay(script: Component, half_script: Component) -> None:
    assert (script.inputs, script.outputs) == ((LATENT, TIMESTEP), (NOISE,))
    assert half_script.inputs == (replace(LATENT, dtype="float16"), TIMESTEP)
