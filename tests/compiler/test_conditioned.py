"""UNets that take more than a latent and a timestep: their inputs, their plans, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from ldmc.compiler.lower import Lowering
from ldmc.compiler.networks import UnetComponent, build_decoder, build_unet
from ldmc.compiler.pipeline import checked_pipeline
from ldmc.errors import ModelError
from ldmc.ir import TensorSpec
from ldmc.targets.reader import load_target, target_names
from tests.compiler.unets import SHARED, planned, unet
from tests.passes.modules import component_of, lowered, noise, run

PLAIN: dict[str, Any] = {
    "_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1,
    "block_out_channels": [8, 16], "norm_num_groups": 4, "attention_head_dim": 8,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}  # fmt: skip
TEXT: dict[str, Any] = {
    **PLAIN, "_class_name": "UNet2DConditionModel", "cross_attention_dim": 12, "attention_head_dim": [1, 2],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}  # fmt: skip
SD2 = {**TEXT, "use_linear_projection": True, "upcast_attention": True}
SDXL = {
    **TEXT, "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 34, "transformer_layers_per_block": [1, 2],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
}  # fmt: skip
KINDS = {"scale-shift": {**PLAIN, "resnet_time_scale_shift": "scale_shift"}, "sd2": SD2, "sdxl": SDXL}
CONTEXT = TensorSpec("input_2", "float32", (1, 77, 12))


def inputs_of(config: dict[str, Any]) -> tuple[TensorSpec, ...]:
    return build_unet(SimpleNamespace(unet=config)).inputs  # type: ignore[arg-type]


def test_the_inputs_of_each_kind() -> None:
    latent, timestep = TensorSpec("input_0", "float32", (1, 4, 8, 8)), TensorSpec("input_1", "int64", (1,))
    assert inputs_of(PLAIN) == (latent, timestep)
    assert inputs_of(SD2) == (latent, timestep, CONTEXT)
    pooled, sizes = TensorSpec("input_3", "float32", (1, 10)), TensorSpec("input_4", "float32", (1, 6))
    assert inputs_of(SDXL) == (latent, timestep, CONTEXT, pooled, sizes)


def test_a_unet_of_text_and_sizes_computes_what_diffusers_does() -> None:
    """diffusers called as its pipeline calls it, by names."""

    def build() -> UNet2DConditionModel:
        return UNet2DConditionModel.from_config({k: v for k, v in SDXL.items() if k != "_class_name"})

    specs = list(inputs_of(SDXL))
    component = component_of(build, specs, [TensorSpec("output_0", "float32", (1, 4, 8, 8))])
    network = replace(component.payload, module=UnetComponent(component.payload.module.net))
    component = component.evolve(payload=network)
    latent, context, pooled = noise(1, 4, 8, 8), noise(1, 77, 12, seed=1), noise(1, 10, seed=2)
    sizes = np.array([[1024, 768, 0, 64, 1024, 1024]], "float32")
    torch.manual_seed(0)
    net = build().eval()
    with torch.inference_mode():
        added = {"text_embeds": torch.from_numpy(pooled), "time_ids": torch.from_numpy(sizes)}
        wanted = net(torch.from_numpy(latent), 601, torch.from_numpy(context), added_cond_kwargs=added).sample
    given = run(lowered(component, "onnx,fold").payload, latent, np.array([601]), context, pooled, sizes)[0]
    np.testing.assert_allclose(given, wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_target_plans_each_kind(kind: str, tmp_path: Path) -> None:
    lowering = Lowering(unet(KINDS[kind]), load_target("cpu"), tmp_path)
    for step in checked_pipeline(SHARED, lowering.target):
        lowering.run(step)
    for target in target_names():
        assert planned(lowering.component, target, tmp_path / target).fits, target


@pytest.mark.parametrize(
    ("base", "key", "value"),
    [
        (PLAIN, "num_class_embeds", 10),
        (PLAIN, "class_embed_type", "timestep"),
        (TEXT, "num_class_embeds", 1000),
        (TEXT, "class_embed_type", "projection"),
        (TEXT, "time_cond_proj_dim", 256),
        (TEXT, "encoder_hid_dim", 1024),
        (TEXT, "encoder_hid_dim_type", "text_proj"),
        (TEXT, "addition_embed_type", "text"),
        (TEXT, "addition_embed_type", "image"),
        (TEXT, "attention_type", "gated"),
        (TEXT, "dual_cross_attention", True),
        (TEXT, "cross_attention_dim", [12, 16]),
        (TEXT, "cross_attention_dim", "12"),
        (SDXL, "projection_class_embeddings_input_dim", 24),
        (SDXL, "projection_class_embeddings_input_dim", None),
        (SDXL, "addition_time_embed_dim", None),
    ],
)
def test_a_conditioning_that_is_not_implemented_is_refused_by_its_key(
    base: dict[str, Any], key: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before diffusers is asked to build anything."""
    monkeypatch.setattr("ldmc.compiler.networks.construct", None)
    with pytest.raises(ModelError, match=f"unet/config.json: .*{key} is ") as caught:
        inputs_of({**base, key: value})
    assert repr(value) in caught.value.message and caught.value.fix


@pytest.mark.parametrize(
    ("config", "key", "name"),
    [
        (PLAIN, "down_block_types", "DownEncoderBlock2D"),
        (PLAIN, "up_block_types", "KUpBlock2D"),
        (PLAIN, "down_block_types", "CrossAttnDownBlock2D"),
        (TEXT, "down_block_types", "KCrossAttnDownBlock2D"),
        (TEXT, "up_block_types", "a block that nobody has"),
    ],
)
def test_a_block_that_does_not_lower_is_refused_by_its_name(config: dict[str, Any], key: str, name: str) -> None:
    with pytest.raises(ModelError, match=f"unet/config.json: {key} has '{name}'") as caught:
        inputs_of({**config, key: [config[key][0], name]})
    assert config[key][0] in caught.value.fix


def test_a_decoder_of_a_unets_blocks_is_refused() -> None:
    decoder = {"_class_name": "AutoencoderKL", "up_block_types": ["UpDecoderBlock2D", "UpBlock2D"]}
    with pytest.raises(ModelError, match="vae/config.json: up_block_types has 'UpBlock2D'") as caught:
        build_decoder(SimpleNamespace(decoder=decoder, decoder_folder="vae"))  # type: ignore[arg-type]
    assert caught.value.fix == "supported are UpDecoderBlock2D, AttnUpDecoderBlock2D"


@pytest.mark.parametrize("value", [None, "default"])
def test_what_diffusers_writes_for_no_conditioning_is_none(value: str | None) -> None:
    empty = {"num_class_embeds": None, "class_embed_type": None, "time_cond_proj_dim": None, "attention_type": value}
    assert len(inputs_of({**TEXT, **empty, "dual_cross_attention": False, "cross_attention_dim": [12, 12]})) == 3


def write_model(folder: Path, pipeline: str, config: dict[str, Any]) -> Path:
    """A folder in diffusers layout without weights."""
    decoder = {
        "_class_name": "AutoencoderKL", "block_out_channels": [8, 8], "latent_channels": 4, "layers_per_block": 1,
        "norm_num_groups": 4, "sample_size": 16, "scaling_factor": 0.5,
        "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
    }  # fmt: skip
    files = {
        "model_index.json": {
            "_class_name": pipeline, "unet": ["diffusers", config["_class_name"]],
            "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "DDIMScheduler"],
        },
        "unet/config.json": config,
        "vae/config.json": decoder,
        "scheduler/scheduler_config.json": {"_class_name": "DDIMScheduler", "clip_sample": False},
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("pipeline", "config"), [("StableDiffusionPipeline", SD2), ("StableDiffusionXLPipeline", SDXL)]
)
def test_a_bundle_that_nothing_could_draw_with_is_refused_before_any_work(
    pipeline: str, config: dict[str, Any], ldmc: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "model", pipeline, config)
    monkeypatch.setattr("ldmc.compiler.driver.read_program", None)
    done = ldmc("build", "--target", "cpu", "--model", model, "--random-weights", "-o", tmp_path / "x.ldmc")
    assert done.code == 1
    assert f"model is of {pipeline}, whose UNet takes a text context" in " ".join(done.err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_its_memory_can_be_planned(ldmc: Callable, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "StableDiffusionXLPipeline", SDXL)
    done = ldmc("plan", "--target", "jetson-nano", "--model", model, "--json")
    assert (done.code, done.json["fits"]) == (0, True), done.err
    assert done.json["pipeline"]["unet"].endswith("opset,trt")
