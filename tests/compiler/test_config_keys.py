"""Every key of a checkpoint's configurations is decided on, and what is not supported is refused while it is read."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
import pytest

from ldmc.compiler.checkpoint import PIPELINES, read_checkpoint
from ldmc.compiler.config_keys import INDEX, KEYS
from ldmc.errors import ModelError
from tests.checkpoints import edit_json

UNET = {
    "_class_name": "UNet2DModel",
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [32, 64],
}
CONDITION_UNET = {**UNET, "_class_name": "UNet2DConditionModel", "cross_attention_dim": 32}
KL = {"_class_name": "AutoencoderKL", "latent_channels": 4, "scaling_factor": 0.5}
VQ = {"_class_name": "VQModel", "latent_channels": 4}
DDIM = {"_class_name": "DDIMScheduler", "clip_sample": False, "steps_offset": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An unconditional checkpoint's four files."""
    return write(tmp_path / "model", "LDMPipeline", UNET, KL)


def write(folder: Path, pipeline: str, unet: dict[str, Any], decoder: dict[str, Any], **index: Any) -> Path:
    entries = {"unet": ["diffusers", unet["_class_name"]], "scheduler": ["diffusers", DDIM["_class_name"]]}
    part = "vqvae" if decoder["_class_name"] == "VQModel" else "vae"
    entries[part] = ["diffusers", decoder["_class_name"]]
    files = {
        "model_index.json": {"_class_name": pipeline, **entries, **index},
        "unet/config.json": unet,
        f"{part}/config.json": decoder,
        "scheduler/scheduler_config.json": DDIM,
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("name", KEYS)
def test_every_key_of_a_class_is_decided_on(name: str) -> None:
    keys = KEYS[name]
    parameters = set(inspect.signature(getattr(diffusers, name).__init__).parameters) - {"self"}
    decided = [keys.passed, keys.implemented, set(keys.harmless), set(keys.only)]
    assert set().union(*decided) == parameters
    assert sum(map(len, decided)) == len(parameters)  # each once
    for key, (accepted, _) in keys.only.items():
        default = inspect.signature(getattr(diffusers, name).__init__).parameters[key].default
        assert default in accepted


def test_the_parts_of_a_pipeline_are_those_of_diffusers() -> None:
    compiled = {name: getattr(diffusers, name, None) for name in PIPELINES}
    known = INDEX.implemented | INDEX.harmless.keys()
    for name, cls in compiled.items():
        if cls is not None and "dummy" not in cls.__module__:
            assert set(inspect.signature(cls.__init__).parameters) - {"self"} <= known, name


def test_the_files_as_written_are_read(folder: Path) -> None:
    assert read_checkpoint(folder).pipeline == "LDMPipeline"


# file, changed keys -> parts of the message
REFUSED: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "a label": ("unet", {"num_class_embeds": 10}, ("num_class_embeds is 10", "a class label")),
    "a label's embedding": ("unet", {"class_embed_type": "timestep"}, ("class_embed_type is 'timestep'",)),
    "variance exploding": ("unet", {"time_embedding_type": "fourier"}, ("time_embedding_type is 'fourier'",)),
    "more channels in": ("unet", {"in_channels": 7}, ("in_channels is 7 and out_channels is 4",)),
    "a learned variance": ("unet", {"out_channels": 8}, ("in_channels is 4 and out_channels is 8",)),
    "a key of nobody": ("unet", {"colour": 1}, ("colour is not a key that ldmc knows of UNet2DModel",)),
    "a key of another": ("unet", {"cross_attention_dim": 8}, ("cross_attention_dim is not a key",)),
    "scaling NaN": ("vae", {"scaling_factor": float("nan")}, ("NaN is not a JSON number",)),
    "scaling infinite": ("vae", {"scaling_factor": float("inf")}, ("Infinity is not a JSON number",)),
    "shift infinite": ("vae", {"shift_factor": float("-inf")}, ("-Infinity is not a JSON number",)),
    "mean alone": ("vae", {"latents_mean": [0.0] * 4}, ("latents_std is None, expected 4 numbers",)),
    "mean too short": (
        "vae",
        {"latents_mean": [0.0] * 3, "latents_std": [1.0] * 4},
        ("latents_mean is [0.0, 0.0, 0.0], expected 4 numbers",),
    ),
    "std of zero": (
        "vae",
        {"latents_mean": [0.0] * 4, "latents_std": [1.0, 0.0, 1.0, 1.0]},
        ("latents_std is [1.0, 0.0, 1.0, 1.0]",),
    ),
    "std NaN": (
        "vae",
        {"latents_mean": [0.0] * 4, "latents_std": [1.0, float("nan"), 1.0, 1.0]},
        ("NaN is not a JSON number",),
    ),
    "mean and shift": (
        "vae",
        {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4, "shift_factor": 0.1},
        ("latents_mean and shift_factor are both set",),
    ),
    "upcast of a wrong type": ("vae", {"force_upcast": "yes"}, ("force_upcast is \"yes\"",)),
    "betas NaN": ("scheduler", {"beta_start": float("nan")}, ("NaN is not a JSON number",)),
    "a beta NaN": ("scheduler", {"trained_betas": [0.1, float("nan")]}, ("NaN is not a JSON number",)),
    "another scheduler than the index": (
        "scheduler",
        {"_class_name": "PNDMScheduler"},
        ("_class_name is 'PNDMScheduler', and model_index.json names 'DDIMScheduler'",),
    ),
    "a pipeline of nobody": ("index", {"_class_name": "MyPipeline"}, ("the pipeline is 'MyPipeline'",)),
    "super-resolution": (
        "index",
        {"_class_name": "LDMSuperResolutionPipeline"},
        ("the pipeline is 'LDMSuperResolutionPipeline'",),
    ),
    "a part of nobody": ("index", {"transformer": ["diffusers", "X"]}, ("transformer is not a key",)),
    "another pipeline's unet": (
        "index",
        {"_class_name": "StableDiffusionPipeline"},
        ("_class_name is 'UNet2DModel', and StableDiffusionPipeline denoises with UNet2DConditionModel",),
    ),
}
FILES = {
    "unet": "unet/config.json",
    "vae": "vae/config.json",
    "scheduler": "scheduler/scheduler_config.json",
    "index": "model_index.json",
}


@pytest.mark.parametrize(("file", "changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_supported_is_refused_while_it_is_read(
    folder: Path, file: str, changes: dict[str, Any], message: tuple[str, ...]
) -> None:
    edit_json(folder / FILES[file], changes)
    with pytest.raises(ModelError) as caught:
        read_checkpoint(folder)
    for part in message:
        assert part in caught.value.message
    assert caught.value.fix and caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("key", "value", "needs"),
    [
        ("time_cond_proj_dim", 256, "the guidance scale as an input"),
        ("addition_embed_type", "image", "further conditions"),
        ("encoder_hid_dim_type", "text_proj", "a projected condition"),
        ("class_embed_type", "projection", "a class label"),
    ],
)
def test_conditions_that_are_not_implemented_are_refused(
    tmp_path: Path, key: str, value: Any, needs: str
) -> None:
    model = write(tmp_path / "model", "StableDiffusionPipeline", {**CONDITION_UNET, key: value}, KL)
    with pytest.raises(ModelError) as caught:
        read_checkpoint(model)
    assert f"{key} is {value!r}" in caught.value.message and needs in caught.value.message


def test_a_vq_model_has_no_latents_mean(tmp_path: Path) -> None:
    mean = {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
    model = write(tmp_path / "model", "LDMPipeline", UNET, {**VQ, **mean})
    with pytest.raises(ModelError, match="latents_mean is not a key that ldmc knows of VQModel"):
        read_checkpoint(model)


# ---- what diffusers corrects in silence


def test_old_stable_diffusion_is_corrected_as_diffusers_does(tmp_path: Path) -> None:
    unet = {**CONDITION_UNET, "sample_size": 32, "_diffusers_version": "0.6.0"}
    model = write(tmp_path / "model", "StableDiffusionPipeline", unet, KL)
    edit_json(model / FILES["scheduler"], {"steps_offset": 0}, drop=("clip_sample",))
    checkpoint = read_checkpoint(model)
    assert checkpoint.unet["sample_size"] == 64
    assert (checkpoint.scheduler["steps_offset"], checkpoint.scheduler["clip_sample"]) == (1, False)
    assert len(checkpoint.notes) == 3
    assert "the UNet's sample_size is 32; 64 is taken" in checkpoint.notes[2]


@pytest.mark.parametrize(("version", "side"), [("0.9.0", 32), ("0.21.4", 32), ("0.8.1", 96)])
def test_what_diffusers_leaves_alone_is_left_alone(tmp_path: Path, version: str, side: int) -> None:
    unet = {**CONDITION_UNET, "sample_size": side, "_diffusers_version": version}
    checkpoint = read_checkpoint(write(tmp_path / "model", "StableDiffusionPipeline", unet, KL))
    assert checkpoint.unet["sample_size"] == side and checkpoint.notes == ()


def test_other_pipelines_are_taken_at_their_word(folder: Path) -> None:
    edit_json(folder / FILES["scheduler"], {"steps_offset": 0, "clip_sample": True})
    checkpoint = read_checkpoint(folder)
    assert (checkpoint.scheduler["steps_offset"], checkpoint.scheduler["clip_sample"]) == (0, True)
    assert checkpoint.notes == ()
