"""From a module and its weights to a package of machine code: what it computes, what it says, and who is refused."""

from __future__ import annotations

import os
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ldmc.compiler.pipeline import checked_pipeline
from ldmc.compiler.spec import parse_pass, parse_pipeline
from ldmc.compiler.stage import snapshot
from ldmc.compiler.verify import snr_db
from ldmc.errors import PassError, SpecError
from ldmc.ir import Component, Form, TensorSpec
from ldmc.passes import aoti
from ldmc.passes.aoti import Aoti
from ldmc.passes.base import Context
from ldmc.targets.reader import load_target, target_names
from tests.passes.modules import NOISE, TIMESTEP, Block, block, component_of, eager, lowered, noise

TINY = [TensorSpec("input_0", "float32", (1, 4))]


@dataclass(frozen=True)
class Compiled:
    """A component after the pass. remarks: what it said. left: the files in its folder."""

    component: Component
    remarks: list[str]
    left: list[str]


def compiled(component: Component, step: Aoti, scratch: Path) -> Compiled:
    remarks: list[str] = []
    after = step.run(component, Context(load_target("cpu"), remarks.append, scratch))
    return Compiled(after, remarks, sorted(path.name for path in scratch.iterdir()))


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """`Block` in half precision, with every option other than by default; read-only by agreement."""
    cpu = lowered(block(), "fp16{keep=[norm]}")
    return compiled(cpu, Aoti(freeze=False, max_autotune=True), tmp_path_factory.mktemp("aoti"))


def call(component: Component, *arrays: np.ndarray) -> np.ndarray:
    loader = torch._C._aoti.AOTIModelPackageLoader(str(component.payload.file), "model", False, 1, -1)
    (output,) = loader.run([torch.from_numpy(array) for array in arrays])
    return output.numpy()


def test_the_package_computes_what_pytorch_does_in_half_precision_with_islands_in_float(half: Compiled) -> None:
    latent, t = noise(1, 3, 8, 8, dtype="float16"), np.array([701])
    output = call(half.component, latent, t)
    assert output.dtype == np.float16
    assert 45 < snr_db(eager(Block, latent.astype("float32"), t), output) < 90  # not float in disguise
    assert half.component.payload.ops["aten.to.dtype"] >= 2 * 3  # around each of 3 normalisations


def test_attention_is_left_to_pytorchs_fused_operator(half: Compiled) -> None:
    assert half.component.payload.ops["aten.scaled_dot_product_attention"] == 1


def test_inputs_outputs_and_statistics(half: Compiled) -> None:
    component, stats = half.component, snapshot(half.component).stats
    assert component.form is Form.AOTI
    assert [spec.name for spec in (*component.inputs, *component.outputs)] == ["input_0", "input_1", "output_0"]
    assert (component.inputs[1], component.outputs[0].shape) == (TIMESTEP, NOISE.shape)
    assert stats.ops["aten.conv2d"] == 6
    assert stats.nodes == sum(stats.ops.values())
    assert stats.params == sum(p.numel() for p in Block().parameters())
    assert stats.bytes < 2.1 * stats.params + 1000  # half of them, but for norms


def test_it_says_what_it_runs_on(half: Compiled) -> None:
    needs = half.component.payload.compiled
    assert torch.__version__.startswith(needs["torch"])
    assert (needs["device"], needs["machine"]) == ("cpu", os.uname().machine)
    assert needs["capability"] == torch.backends.cpu.get_cpu_capability()
    assert needs["capability"] in half.remarks[0] and needs["torch"] in half.remarks[0]
    assert "minutes a call" in half.remarks[1]


def test_only_the_package_is_left(half: Compiled) -> None:
    assert half.left == ["model.pt2"]


def test_the_package_names_no_file_of_this_machine(half: Compiled) -> None:
    with zipfile.ZipFile(half.component.payload.file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert any(name.endswith(".so") for name in contents)
    places = [Path(torch.__file__).parent, half.component.payload.file.parent, Path(sys.prefix)]
    for name, content in contents.items():
        assert not any(str(place).encode() in content for place in places), name


def test_the_fake_network_is_not_filled(half: Compiled) -> None:
    kinds = {type(parameter.data).__name__ for parameter in half.component.payload.network.module.parameters()}
    assert kinds == {"FakeTensor"}


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if bool(x[0, 1] > 0) else -x


def test_what_cannot_be_exported_is_an_error_of_the_pass() -> None:
    output = TensorSpec("output_0", "float32", (1, 4))
    with pytest.raises(PassError, match="pass 'aoti' failed on unet: ") as caught:
        lowered(component_of(Branching, TINY, [output]), "aoti")
    assert "data-dependent" in caught.value.message


@pytest.mark.parametrize("text", ["aoti", "aoti{freeze=false}", "aoti{freeze=false,max_autotune=true}"])
def test_the_options_are_read_and_written(text: str) -> None:
    assert str(parse_pass(text)) == text


def test_the_options_reach_the_compiler() -> None:
    usual, other = (step._settings("cpu") for step in (Aoti(), Aoti(freeze=False, max_autotune=True)))
    assert (usual["freezing"], usual["max_autotune"]) == (True, False)
    assert (other["freezing"], other["max_autotune"]) == (False, True)
    assert usual["cpp.dynamic_threads"]  # else --threads would be what this machine has
    assert other["autotune_num_choices_displayed"] == 0  # its tables would go to stderr
    assert "cpp.dynamic_threads" not in Aoti()._settings("cuda")


def test_it_is_for_targets_that_are_this_machine() -> None:
    taken = [name for name in target_names() if not Aoti().objection(load_target(name))]
    assert taken == ["cpu", "cuda"]


@pytest.mark.parametrize("name", ["jetson-nano", "android", "rtx-3070"])
def test_a_device_of_its_own_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(SpecError, match=f"target '{name}' is a device of its own; on that device, give --target cpu"):
        checked_pipeline("fp16,aoti", load_target(name))


def test_its_form_is_checked() -> None:
    with pytest.raises(SpecError, match="pass 'aoti' takes torch form and would be given onnx"):
        checked_pipeline("onnx,aoti", load_target("cpu"))
    assert [str(step) for step in checked_pipeline("fp16,aoti", load_target("cuda"))] == ["fp16", "aoti"]
    assert parse_pipeline("fp16,aoti")[1].pass_ == Aoti()


def test_without_a_gpu_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aoti.nvidia, "compute_capability", lambda: None)
    lacking = Aoti().lacks(load_target("cuda"))
    assert "no NVIDIA GPU answers here" in lacking and "--target cpu" in lacking
    assert Aoti().lacks(load_target("cpu")) == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="this PyTorch has a GPU")
def test_with_a_gpu_that_pytorch_cannot_use_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aoti.nvidia, "compute_capability", lambda: "9.0")
    assert "finds no GPU, though the driver has one" in Aoti().lacks(load_target("cuda"))


def test_without_a_compiler_everything_is_refused() -> None:
    from torch._inductor import config

    with config.patch({"cpp.cxx": (None, "no-such-compiler")}):
        assert "there is no no-such-compiler here" in Aoti().lacks(load_target("cpu"))
