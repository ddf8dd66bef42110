"""A checkpoint is drawn, and verified, with its own scheduler, its own latent statistics and its own fp32 layers.

The pictures are compared with a loop of this file over diffusers' classes, which shares nothing with ldmc.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, LDMPipeline, PNDMScheduler, UNet2DModel

from ldmc.compiler.verify import verify_bundle
from ldmc.runtime import load
from tests.checkpoints import copy_model, edit_json
from tests.conftest import Outcome, build_bundle

STEPS = 6
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
MEAN, STD = [-1.5, 1.75, -1.25], [8.0, 6.0, 6.5]


@pytest.fixture(scope="module")
def pndm_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with the scheduler that Stable Diffusion 1.5 is published with."""
    folder = copy_model(tiny_model, tmp_path_factory.mktemp("models") / "pndm")
    PNDMScheduler(skip_prk_steps=True, steps_offset=1, **BETAS).save_pretrained(folder / "scheduler")
    edit_json(folder / "model_index.json", {"scheduler": ["diffusers", "PNDMScheduler"]})
    return folder


@pytest.fixture(scope="module")
def pndm_bundle(pndm_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bundle(pndm_model, tmp_path_factory.mktemp("bundles") / "pndm.cpu.ldmc", "onnx,fold")


@pytest.fixture(scope="module")
def kl_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Euler as SDXL is published with, and a VAE whose latents are normalised by channel, as Playground 2.5's."""
    torch.manual_seed(1)
    vae = AutoencoderKL(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=3,
        sample_size=16,
        scaling_factor=0.5,
        latents_mean=MEAN,
        latents_std=STD,
    )
    unet = UNet2DModel.from_pretrained(tiny_model / "unet")
    scheduler = EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1, **BETAS)
    folder = tmp_path_factory.mktemp("models") / "kl"
    LDMPipeline(vqvae=vae, unet=unet, scheduler=scheduler).save_pretrained(folder)
    (folder / "vqvae").rename(folder / "vae")
    index = json.loads((folder / "model_index.json").read_text())
    index["vae"] = index.pop("vqvae")
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def kl_bundle_fp16(kl_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bundle(kl_model, tmp_path_factory.mktemp("bundles") / "kl.cpu.ldmc", "fp16,onnx,fold")


def noise_of(seed: int) -> Any:
    return np.random.RandomState(seed).standard_normal((1, 3, 8, 8)).astype("float32")


@torch.inference_mode()
def eager(model: Path, noise: Any) -> Any:
    """The picture by diffusers alone: float, [H, W, 3], 0 to 255 before rounding."""
    classes = json.loads((model / "model_index.json").read_text())
    folder = "vqvae" if "vqvae" in classes else "vae"
    unet = UNet2DModel.from_pretrained(model / "unet").eval()
    decoder = getattr(diffusers, classes[folder][1]).from_pretrained(model / folder).eval()
    scheduler = getattr(diffusers, classes["scheduler"][1]).from_pretrained(model / "scheduler")
    scheduler.set_timesteps(STEPS)
    sample = torch.from_numpy(noise) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        output = unet(scheduler.scale_model_input(sample, t), t).sample
        sample = scheduler.step(output, t, sample).prev_sample
    if folder == "vae":
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        sample = sample * std / decoder.config.scaling_factor + mean
    else:
        sample = sample / decoder.config.scaling_factor
    image = decoder.decode(sample).sample
    return ((image / 2 + 0.5).clamp(0, 1) * 255)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(("which", "most"), [("pndm", 0.6), ("kl", 6.0)])
def test_the_picture_is_that_of_the_checkpoint_s_own_scheduler(
    which: str, most: float, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(f"{which}_model")
    bundle = request.getfixturevalue("pndm_bundle" if which == "pndm" else "kl_bundle_fp16")
    noise = noise_of(3)
    with load(bundle) as pipeline:
        picture = pipeline.generate(steps=STEPS, latent=noise)
    expected = eager(model, noise)
    assert expected.std() > 3  # a flat picture would agree with anything
    # fp32 differs by rounding to whole numbers; fp16's unet in the loop by a few more, out of 255
    assert np.abs(picture - expected).max() <= most


def test_verify_agrees(pndm_bundle: Path, kl_bundle_fp16: Path) -> None:
    for bundle in (pndm_bundle, kl_bundle_fp16):
        report = verify_bundle(bundle, steps=STEPS, cache=False)
        assert report.ok, report.complaint()


def test_verify_notices_a_bundle_that_is_sampled_otherwise(pndm_bundle: Path, tmp_path: Path) -> None:
    """As 0.1.0 did: every scheduler became DDIM with DDIM's defaults, and the reference was made from the same."""
    copy = tmp_path / "ddim.ldmc"
    shutil.copytree(pndm_bundle, copy)
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["scheduler"] = {"type": "ddim", **BETAS, "steps_offset": 1, "clip_sample": True}
    path.write_text(json.dumps(manifest))
    report = verify_bundle(copy, steps=STEPS, cache=False)
    assert not report.ok
    assert "image: PSNR" in report.complaint() and "unet" not in report.complaint()


def test_a_bundle_without_the_latent_statistics_would_be_noticed(kl_model: Path) -> None:
    """The reference has them from diffusers and not from the compiler."""
    from ldmc.compiler.checkpoint import read_checkpoint
    from ldmc.compiler.eager import EagerDecoder
    from ldmc.compiler.networks import DecoderComponent, LatentScaling, latent_scaling

    vae = AutoencoderKL.from_pretrained(kl_model / "vae").eval()
    decoder = read_checkpoint(kl_model).decoder
    latent = torch.from_numpy(noise_of(4))
    with torch.inference_mode():
        expected = EagerDecoder(vae, dict(decoder))(latent)
        compiled = DecoderComponent(vae, latent_scaling(decoder))(latent)
        without = DecoderComponent(vae, LatentScaling(0.5))(latent)
        by_hand = vae.decode(
            latent * torch.tensor(STD).view(1, 3, 1, 1) / 0.5 + torch.tensor(MEAN).view(1, 3, 1, 1)
        )
    torch.testing.assert_close(expected, by_hand.sample)
    torch.testing.assert_close(compiled, expected)
    assert (without - expected).abs().max() > 0.1


# ---- force_upcast


def dtypes_of_layers(bundle: Path) -> set[str]:
    """dtypes of the decoder's convolution weights."""
    import onnx

    proto = onnx.load(str(bundle / "decoder" / "model.onnx"), load_external_data=False)
    types = {tensor.name: onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in proto.graph.initializer}
    names = {name for node in proto.graph.node if node.op_type == "Conv" for name in node.input[1:2]}
    return {types[name] for name in names if name in types}


def test_a_decoder_that_says_force_upcast_stays_in_fp32(kl_bundle_fp16: Path) -> None:
    assert dtypes_of_layers(kl_bundle_fp16) == {"FLOAT"}
    manifest = json.loads((kl_bundle_fp16 / "manifest.json").read_text())
    assert manifest["components"]["decoder"]["inputs"][0]["dtype"] == "float16"
    report = json.loads(next((kl_bundle_fp16 / "reports" / "decoder").glob("*-fp16.json")).read_text())
    assert any("force_upcast" in remark for remark in report["remarks"])


def test_keep_has_the_last_word(kl_model: Path, tmp_path: Path, ldmc: Callable[..., Outcome]) -> None:
    bundle = tmp_path / "half.ldmc"
    passes = "fp16{keep=[norm,quantiser,timestep]},onnx"
    outcome = ldmc("build", "--target", "cpu", "--model", kl_model, "--passes", passes, "-o", bundle)
    assert outcome.code == 0, outcome.err
    assert dtypes_of_layers(bundle) == {"FLOAT16"}
