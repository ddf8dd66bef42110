"""Finding the first node that leaves fp16, and the least that must stay fp32 so that none does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from diffusers import DDIMScheduler, LDMPipeline, UNet2DModel, VQModel

from ldmc.compiler import overflow
from ldmc.compiler.overflow import Overflow, cure, find_overflow, find_overflow_in_parts
from tests.checkpoints import read_state, replace_state
from tests.conftest import Outcome

# ---- the first node


def saved(
    folder: Path, body: str, kinds: str = "", inputs: str = "float16[4] x", output: str = "float16[4] y"
) -> Path:
    """A graph whose values have the types `kinds`, as a file."""
    value_info = f"<{kinds}>" if kinds else ""
    text = f'<ir_version: 8, opset_import: ["" : 18]> g ({inputs}) => ({output}) {value_info} {{ {body} }}'
    model = ir.from_onnx_text(text)
    for node in model.graph:
        node.name = f"block.{node.outputs[0].name}/{node.op_type}"
    path = folder / "model.onnx"
    ir.save(model, path)
    return path


DOUBLED = (
    "a = Add (x, x)\n b = Add (a, a)\n c = Add (b, b)\n y = Sub (c, b)",
    "float16[4] a, float16[4] b, float16[4] c",
)


def test_the_first_of_many_is_named(tmp_path: Path) -> None:
    file = saved(tmp_path, *DOUBLED)
    x = np.array([1, -20000, 0, 3], dtype="float16")
    assert find_overflow("unet", file, [x]) == Overflow("unet", "block.b/Add")
    assert find_overflow("unet", file, [x * 2]) == Overflow("unet", "block.a/Add")
    assert find_overflow("unet", file, [x]).module == "block.b"


def test_a_healthy_graph_has_none(tmp_path: Path) -> None:
    x = np.array([1, -8000, 0, 3], dtype="float16")
    assert find_overflow("unet", saved(tmp_path, *DOUBLED), [x]) is None


def test_the_graphs_own_output_is_looked_at(tmp_path: Path) -> None:
    file = saved(tmp_path, "y = Add (x, x)")
    assert find_overflow("unet", file, [np.full(4, 40000, "float16")]) == Overflow("unet", "block.y/Add")


@pytest.mark.parametrize(
    ("body", "x"),
    [("a = Div (x, x)\n y = Neg (a)", 0.0), ("a = Sqrt (x)\n y = Neg (a)", -1.0)],
    ids=["0/0", "sqrt(-1)"],
)
def test_not_a_number_is_found_like_infinity(tmp_path: Path, body: str, x: float) -> None:
    file = saved(tmp_path, body, "float16[4] a")
    assert find_overflow("unet", file, [np.full(4, x, "float16")]).node.startswith("block.a/")


def test_what_is_large_in_fp32_is_no_overflow_until_it_is_cast(tmp_path: Path) -> None:
    body = "w = Cast <to = 1> (x)\n a = Mul (w, w)\n s = Sqrt (a)\n y = Cast <to = 10> (s)"
    kinds = "float[4] w, float[4] a, float[4] s"
    x = np.full(4, 30000, "float16")
    assert find_overflow("unet", saved(tmp_path, body, kinds), [x]) is None
    leaving = body.replace("y = Cast <to = 10> (s)", "y = Cast <to = 10> (a)")
    assert find_overflow("unet", saved(tmp_path, leaving, kinds), [x]) == Overflow("unet", "block.y/Cast")


def test_integer_inputs_are_given_in_order(tmp_path: Path) -> None:
    body = "t16 = Cast <to = 10> (t)\n y = Mul (x, t16)"
    file = saved(tmp_path, body, "float16[1] t16", "float16[4] x, int64[1] t")
    x = np.full(4, 100, "float16")
    assert find_overflow("unet", file, [x, np.array([600])]) is None
    assert find_overflow("unet", file, [x, np.array([700])]) == Overflow("unet", "block.y/Mul")


def test_a_few_values_at_a_time_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overflow, "_CHUNK_BYTES", 1)
    file = saved(tmp_path, *DOUBLED)
    assert find_overflow("unet", file, [np.full(4, 10000, "float16")]) == Overflow("unet", "block.c/Add")
    assert find_overflow("unet", file, [np.full(4, 8000, "float16")]) is None


# ---- graphs that run in order


def test_the_first_node_of_a_chain(tmp_path: Path) -> None:
    """The second graph reads what the first gives, and an input of its own."""
    kinds = "float16[4] a"
    files = []
    for name, body, inputs in [
        ("first", "a = Add (x, x)\n y = Add (a, a)", "float16[4] x"),
        ("second", "a = Mul (y, z)\n o = Neg (a)", "float16[4] z, float16[4] y"),
    ]:
        (tmp_path / name).mkdir()
        output = f"float16[4] {'y' if name == 'first' else 'o'}"
        files.append(saved(tmp_path / name, body, kinds, inputs, output))
    x, z = np.full(4, 100, "float16"), np.full(4, 200, "float16")
    assert find_overflow_in_parts("unet", files, {"x": x, "z": z / 2}) is None
    assert find_overflow_in_parts("unet", files, {"x": x, "z": z}) == Overflow("unet", "block.a/Mul")
    assert find_overflow_in_parts("unet", files, {"x": x * 200, "z": z}) == Overflow("unet", "block.y/Add")


# ---- what to keep


def trial(
    needed: str, nodes: dict[str, str], tried: list[tuple[str, ...]]
) -> Callable[[tuple[str, ...]], Overflow | None]:
    """Nothing overflows once `needed` is kept; until then the node that `nodes` has for the last one kept does."""

    def retry(keep: tuple[str, ...]) -> Overflow | None:
        tried.append(keep)
        if needed in keep:
            return None
        return Overflow("unet", nodes[keep[-1]])

    return retry


def test_the_block_around_the_node_is_tried_first() -> None:
    tried: list[tuple[str, ...]] = []
    found = Overflow("unet", "up_blocks.3.resnets.1.conv2/Conv")
    keep = cure(found, ("norm",), trial("unet/up_blocks.3.resnets.1", {}, tried))
    assert keep == ("norm", "unet/up_blocks.3.resnets.1")
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("node", "kept"),
    [
        ("mid_block.attentions.0/MatMul", "unet/mid_block.attentions.0"),
        ("mid_block.attentions.0.to_q+to_k+to_v/MatMul", "unet/mid_block.attentions.0"),
        ("mid_block.resnets.0/Add_2", "unet/mid_block.resnets.0"),
        ("mid_block.resnets.0.norm1/Cast_2", "unet/mid_block.resnets.0"),
        ("conv_out/Conv", "unet/conv_out"),
    ],
)
def test_the_smallest_block_of_a_node(node: str, kept: str) -> None:
    assert cure(Overflow("unet", node), ("norm",), lambda keep: None) == ("norm", kept)


def test_wider_and_wider_and_the_narrower_is_dropped() -> None:
    tried: list[tuple[str, ...]] = []
    nodes = {"unet/up_blocks.3.resnets.1": "up_blocks.3.resnets.1/Cast_2"}
    found = Overflow("unet", "up_blocks.3.resnets.1.conv2/Conv")
    keep = cure(found, ("norm", "timestep"), trial("unet/up_blocks.3", nodes, tried))
    assert keep == ("norm", "timestep", "unet/up_blocks.3")
    assert [attempt[-1] for attempt in tried] == ["unet/up_blocks.3.resnets.1", "unet/up_blocks.3"]


def test_two_places_are_both_kept() -> None:
    nodes = {"unet/mid_block.resnets.0": "up_blocks.0.resnets.0.conv1/Conv"}
    found = Overflow("unet", "mid_block.resnets.0.conv1/Conv")
    keep = cure(found, (), trial("unet/up_blocks.0.resnets.0", nodes, []))
    assert keep == ("unet/mid_block.resnets.0", "unet/up_blocks.0.resnets.0")


def test_it_gives_up_where_nothing_helps() -> None:
    found = Overflow("unet", "conv_out/Conv")
    assert cure(found, (), lambda keep: found) is None
    assert cure(Overflow("unet", "Add_7"), (), lambda keep: Overflow("unet", "Add_7")) is None


def test_it_gives_up_after_some_tries() -> None:
    tried = []

    def retry(keep: tuple[str, ...]) -> Overflow:
        tried.append(keep)
        return Overflow("unet", f"up_blocks.{len(tried)}.conv/Conv")

    assert cure(Overflow("unet", "up_blocks.0.conv/Conv"), (), retry) is None
    assert len(tried) == 8


# ---- on a model, from the command line


def save_micro_model(folder: Path) -> None:
    """One level, 8 channels: builds in a few seconds."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
        add_attention=False,
    )
    vqvae = VQModel(
        block_out_channels=(8,),
        norm_num_groups=4,
        latent_channels=3,
        sample_size=8,
        num_vq_embeddings=16,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
    torch.nn.init.normal_(vqvae.quantize.embedding.weight)
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False)
    LDMPipeline(vqvae=vqvae, unet=unet, scheduler=scheduler).save_pretrained(folder)


@pytest.fixture(scope="module")
def micro_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "micro-ldm"
    save_micro_model(folder)
    return folder


def scaled(model: Path, folder: Path, keys: str, factor: float) -> Path:
    """A copy of `model` with the UNet's weights that start with `keys` multiplied."""
    shutil.copytree(model, folder)
    state = read_state(folder / "unet")
    changed = {key: value * factor if key.startswith(keys) else value for key, value in state.items()}
    assert any((changed[key] != state[key]).any() for key in state)
    replace_state(folder / "unet", changed)
    return folder


def built(ldmc: Callable[..., Outcome], model: Path, output: Path, passes: str) -> Outcome:
    return ldmc(
        "build", "--target", "cpu", "--model", model, "--passes", passes, "--verify", "--json", "-o", output
    )


def test_an_overflow_is_named_with_what_cures_it_and_that_does(
    micro_model: Path, tmp_path: Path, ldmc: Callable[..., Outcome]
) -> None:
    model = scaled(micro_model, tmp_path / "hot", "up_blocks.0.resnets.0.conv1", 1e5)
    reference = UNet2DModel.from_pretrained(model / "unet")
    with torch.inference_mode():
        assert reference(torch.randn(1, 3, 8, 8), 999).sample.isfinite().all()

    first = built(ldmc, model, tmp_path / "a.ldmc", "fp16,onnx,fold")
    assert first.code == 5, first.err
    error: dict[str, Any] = first.json["error"]
    assert error["code"] == "verification"
    assert error["message"].startswith("unet: node up_blocks.0.resnets.0.conv1/Conv overflows fp16")
    spec = error["fix"].rpartition(": ")[2]
    assert spec == "fp16{keep=[norm,quantiser,timestep,unet/up_blocks.0.resnets.0]}"
    assert not (tmp_path / "a.ldmc").exists()

    second = built(ldmc, model, tmp_path / "b.ldmc", f"{spec},onnx,fold")
    assert second.code == 0, second.err
    assert second.json["verify"]["ok"] is True
    assert second.json["verify"]["overflow"] == ""


@pytest.mark.parametrize(
    "module",
    [
        "mid_block.resnets.0.conv1",
        "conv_in",  # so small that it is written into the graph file, where onnx_ir wraps the error
    ],
)
def test_a_weight_beyond_fp16_fails_the_build_itself(
    module: str, micro_model: Path, tmp_path: Path, ldmc: Callable[..., Outcome]
) -> None:
    model = scaled(micro_model, tmp_path / "hot", f"{module}.weight", 3e6)
    outcome = built(ldmc, model, tmp_path / "a.ldmc", "fp16,onnx,fold")
    assert outcome.code == 1
    assert f"{module}.weight holds" in outcome.json["error"]["message"]
    assert outcome.json["error"]["fix"].endswith(f"fp16{{keep=[norm,quantiser,timestep,unet/{module}]}}")
    assert not list(tmp_path.glob("*.ldmc"))


def test_what_cannot_be_cured_says_to_leave_fp16_out(
    micro_model: Path, tmp_path: Path, ldmc: Callable[..., Outcome]
) -> None:
    """The output itself is beyond fp16: no island helps."""
    model = scaled(micro_model, tmp_path / "hot", "conv_out.weight", 2e5)
    outcome = built(ldmc, model, tmp_path / "a.ldmc", "fp16,onnx,fold")
    assert outcome.code == 5
    assert outcome.json["error"]["message"].startswith("unet: node conv_out/Conv")
    assert outcome.json["error"]["fix"].startswith("build without fp16")
