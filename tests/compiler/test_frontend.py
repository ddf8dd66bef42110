"""From what was typed after `--model` to a Program: which source wins, and what a broken one says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ldmc.compiler import frontend, hub
from ldmc.compiler.checkpoint import read_checkpoint
from ldmc.compiler.frontend import DEFAULT_MODEL, PRESETS, ModelRequest, Opened, open_model, read_program
from ldmc.errors import LdmcError, ModelError, UsageError
from ldmc.ir import Form
from tests import checkpoints
from tests.checkpoints import COMPONENTS, copy_model, drop_weights, edit_json

THREE_WAYS = ("--model DIR", "--model owner/name", "--random-weights")


def unreachable(model: str, *, with_weights: bool) -> Path:
    raise ModelError(f"{model!r} is not in the local cache and the hub cannot be reached", fix="connect")


def serving(folder: Path) -> Callable[..., Path]:
    def fetch(model: str, *, with_weights: bool) -> Path:
        return folder

    return fetch


@pytest.fixture
def bare(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model without its weights."""
    folder = copy_model(tiny_model, tmp_path / "bare-ldm")
    for name in COMPONENTS:
        drop_weights(folder / name)
    return folder


# Which source wins.


def test_a_folder(tiny_model: Path) -> None:
    opened = open_model(ModelRequest(str(tiny_model)), pytest.fail)
    assert (opened.name, opened.kind) == ("tiny-ldm", "folder")
    assert opened.weights is not None
    assert [file.parent.name for files in opened.weights.values() for file in files] == ["unet", "vqvae"]


def test_a_folder_named_by_a_relative_path_has_its_own_name(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_model)
    assert open_model(ModelRequest("."), pytest.fail).name == "tiny-ldm"
    assert open_model(ModelRequest("../tiny-ldm/"), pytest.fail).name == "tiny-ldm"


def test_a_preset_comes_before_a_folder_of_its_name(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_model(tiny_model, tmp_path / DEFAULT_MODEL)
    monkeypatch.chdir(tmp_path)
    opened = open_model(ModelRequest(DEFAULT_MODEL, random_seed=0), pytest.fail)
    assert opened.kind == "preset"
    assert opened.checkpoint.unet["sample_size"] == 64


def test_a_folder_comes_before_a_hub_id(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner").mkdir()
    copy_model(tiny_model, tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "fetch", pytest.fail)
    assert open_model(ModelRequest("owner/name"), pytest.fail).kind == "folder"


def test_a_hub_id(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch", serving(tiny_model))
    opened = open_model(ModelRequest("owner/some-name"), pytest.fail)
    assert (opened.name, opened.kind) == ("some-name", "hub")
    assert opened.weights is not None


def test_the_presets_are_whole_and_the_default_is_one() -> None:
    assert DEFAULT_MODEL in PRESETS
    for name in PRESETS:
        opened = open_model(ModelRequest(name, random_seed=0), pytest.fail)
        assert (opened.kind, opened.weights) == ("preset", None)
        assert len(opened.checkpoint.config_sha256) == 64


@pytest.mark.parametrize(
    ("model", "fix"),
    [
        ("ldm-celebahq256", "did you mean 'ldm-celebahq-256'? presets are"),
        ("no-such-thing", "presets are ldm-celebahq-256"),
        ("/no/such/folder", "presets are"),
        ("no/such/folder", "presets are"),
        ("https://example.org/owner/name", "presets are"),
    ],
)
def test_a_model_that_is_nothing(model: str, fix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch", pytest.fail)
    with pytest.raises(UsageError) as caught:
        open_model(ModelRequest(model), pytest.fail)
    assert caught.value.message == f"unknown model {model!r}: no preset, no folder, no hub id"
    assert fix in caught.value.fix


# Weights: real, placeholder, none.


def test_no_model_takes_the_presets_weights_from_the_hub(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []

    def fetch(model: str, *, with_weights: bool) -> Path:
        asked.append((model, with_weights))
        return tiny_model

    monkeypatch.setattr(hub, "fetch", fetch)
    opened = open_model(ModelRequest(), pytest.fail)
    assert asked == [(PRESETS[DEFAULT_MODEL], True)]
    assert (opened.name, opened.kind) == (DEFAULT_MODEL, "preset")
    assert opened.weights is not None
    assert opened.checkpoint.unet["sample_size"] == 64  # the configuration is the package's own


def _half(folder: Path) -> Path:
    checkpoints.write_safetensors(folder / "unet", {})
    return folder


@pytest.mark.parametrize("hub_has", ["unreachable", "no weights", "half of the weights"])
def test_no_model_and_no_weights_goes_on_under_a_loud_warning(
    hub_has: str, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetches = {
        "unreachable": unreachable,
        "no weights": serving(bare),
        "half of the weights": serving(_half(bare)),
    }
    if hub_has == "no weights":
        drop_weights(bare / "unet")
    monkeypatch.setattr(hub, "fetch", fetches[hub_has])
    warnings: list[str] = []
    opened = open_model(ModelRequest(), warnings.append)
    assert (opened.kind, opened.weights) == ("preset", None)
    assert len(warnings) == 1
    assert "PLACEHOLDER WEIGHTS" in warnings[0]
    assert "pictures are noise" in warnings[0]
    assert "--model DIR" in warnings[0]
    with pytest.raises(ModelError, match="no weights for ldm-celebahq-256") as caught:
        open_model(ModelRequest(require_weights=True), pytest.fail)
    assert caught.value.exit_code == 1
    for way in THREE_WAYS:
        assert way in caught.value.fix


def test_asked_for_placeholder_weights_need_no_hub_and_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch", pytest.fail)
    assert open_model(ModelRequest(random_seed=5), pytest.fail).weights is None
    assert open_model(ModelRequest(DEFAULT_MODEL, random_seed=5), pytest.fail).weights is None


def test_placeholder_weights_of_a_hub_model_fetch_its_configuration_alone(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(model: str, *, with_weights: bool) -> Path:
        asked.append(with_weights)
        return bare

    monkeypatch.setattr(hub, "fetch", fetch)
    assert open_model(ModelRequest("owner/name", random_seed=1), pytest.fail).weights is None
    assert asked == [False]


@pytest.mark.parametrize("named", ["folder", "hub id", "preset"])
def test_a_named_model_without_weights_names_the_three_ways(
    named: str, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "fetch", serving(bare))
    model = {"folder": str(bare), "hub id": "owner/name", "preset": DEFAULT_MODEL}[named]
    with pytest.raises(ModelError) as caught:
        open_model(ModelRequest(model), pytest.fail)
    assert caught.value.message == f"model {model!r} has no weights"
    for way in THREE_WAYS:
        assert way in caught.value.fix


def test_a_named_preset_whose_hub_cannot_be_reached_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch", unreachable)
    with pytest.raises(ModelError, match="the hub cannot be reached"):
        open_model(ModelRequest(DEFAULT_MODEL), pytest.fail)


def test_weights_of_one_component_alone_say_which_is_without(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy_model(tiny_model, tmp_path / "half-ldm")
    drop_weights(folder / "vqvae")
    with pytest.raises(ModelError, match="vqvae has no weights, the other component has") as caught:
        open_model(ModelRequest(str(folder)), pytest.fail)
    for way in THREE_WAYS:
        assert way in caught.value.fix


# The program.


def program_of(folder: Path, seed: int | None = None) -> Any:
    request = ModelRequest(str(folder), seed)
    return read_program(open_model(request, pytest.fail), request)


def test_the_program_of_the_tiny_model(tiny_model: Path) -> None:
    program = program_of(tiny_model)
    unet, decoder = program.components
    assert (unet.name, unet.form, decoder.name, decoder.form) == ("unet", Form.TORCH, "decoder", Form.TORCH)
    assert [str(spec.to_json()) for spec in (*unet.inputs, *unet.outputs)] == [
        str({"name": "input_0", "dtype": "float32", "shape": [1, 3, 8, 8]}),
        str({"name": "input_1", "dtype": "int64", "shape": [1]}),
        str({"name": "output_0", "dtype": "float32", "shape": [1, 3, 8, 8]}),
    ]
    assert (decoder.inputs[0].shape, decoder.outputs[0].shape) == ((1, 3, 8, 8), (1, 3, 16, 16))
    assert program.scheduler["type"] == "ddim"
    weights = program.source["weights"]
    assert (weights["kind"], weights["seed"]) == ("checkpoint", None)
    assert [file["path"] for file in weights["files"]] == [
        "unet/diffusion_pytorch_model.safetensors",
        "vqvae/diffusion_pytorch_model.safetensors",
    ]


def test_the_parameters_of_the_program_are_fake(tiny_model: Path) -> None:
    from torch._subclasses.fake_tensor import FakeTensor

    for component in program_of(tiny_model).components:
        for name, parameter in component.payload.module.named_parameters():
            assert isinstance(parameter, FakeTensor) or isinstance(parameter.data, FakeTensor), name


def test_the_config_hash_sees_every_configuration_file(tiny_model: Path, tmp_path: Path) -> None:
    before = read_checkpoint(tiny_model).config_sha256
    assert read_checkpoint(copy_model(tiny_model, tmp_path / "same")).config_sha256 == before
    files = ["model_index.json", "unet/config.json", "vqvae/config.json", "scheduler/scheduler_config.json"]
    hashes = {before}
    for number, file in enumerate(files):
        folder = copy_model(tiny_model, tmp_path / str(number))
        edit_json(folder / file, {"_note": "x"})
        hashes.add(read_checkpoint(folder).config_sha256)
    assert len(hashes) == len(files) + 1


def test_a_vae_is_a_decoder_too(tiny_model: Path, tmp_path: Path) -> None:
    """AutoencoderKL under vae/, with placeholder weights: scaling factor and all."""
    from diffusers import AutoencoderKL

    folder = copy_model(tiny_model, tmp_path / "kl-ldm")
    index = json.loads((folder / "model_index.json").read_text())
    index["vae"] = ["diffusers", "AutoencoderKL"]
    del index["vqvae"]
    (folder / "model_index.json").write_text(json.dumps(index))
    AutoencoderKL(
        block_out_channels=(32, 32), latent_channels=3, sample_size=16, scaling_factor=0.25,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).save_pretrained(folder / "vae")  # fmt: skip
    _, decoder = program_of(folder).components
    assert decoder.outputs[0].shape == (1, 3, 16, 16)
    assert decoder.payload.module.scaling.scale == 0.25
    assert any(
        name.startswith("net.post_quant_conv") for name, _ in decoder.payload.module.named_parameters()
    )
    assert not any(".encoder." in name for name, _ in decoder.payload.module.named_parameters())


# Configurations that are not what they should be: file -> change -> message.
BROKEN: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "index missing": ("model_index.json", None, ("model_index.json is missing",)),
    "unet missing": ("unet/config.json", None, ("unet/config.json is missing",)),
    "decoder missing": ("vqvae/config.json", None, ("vqvae/config.json is missing",)),
    "scheduler missing": ("scheduler/scheduler_config.json", None, ("scheduler_config.json is missing",)),
    "not JSON": ("unet/config.json", "{'a': 1}", ("unet/config.json is not JSON", "line 1 column 2")),
    "empty file": ("vqvae/config.json", "", ("vqvae/config.json is not JSON",)),
    "no text": ("unet/config.json", b"\xff\xfe\x00", ("unet/config.json is not JSON",)),
    "a list": ("scheduler/scheduler_config.json", "[]", ("scheduler_config.json holds a JSON list, not an object",)),
    "no class": ("unet/config.json", {"_class_name": None}, ("unet/config.json: _class_name is None",)),
    "another class": ("unet/config.json", {"_class_name": "UNet1DModel"}, ("_class_name is 'UNet1DModel'",)),
    "another decoder": ("vqvae/config.json", {"_class_name": "AsymmetricAutoencoderKL"}, ("_class_name is 'Asymm",)),
    "unknown block": (
        "unet/config.json", {"down_block_types": ["DownBlock2D", "FancyBlock2D"]}, ("UNet2DModel", "FancyBlock2D"),
    ),
    "blocks that do not match": ("unet/config.json", {"block_out_channels": [32]}, ("unet/config.json", "a list of 1")),
    "groups that do not divide": ("unet/config.json", {"norm_num_groups": 5}, ("multiples of norm_num_groups, 5",)),
    "a channel of no number": ("unet/config.json", {"in_channels": "three"}, ('in_channels is "three"',)),
    "no sample size": ("unet/config.json", {"sample_size": None}, ("unet", "sample_size is None")),
    "sample size of no number": ("unet/config.json", {"sample_size": "8"}, ("unet", 'sample_size is "8"')),
    "three sample sizes": ("unet/config.json", {"sample_size": [8, 8, 8]}, ("unet", "sample_size is [8, 8, 8]")),
    "no size at all": ("unet/config.json", {"sample_size": 0}, ("unet", "sample_size is 0")),
    "scaling of no number": ("vqvae/config.json", {"scaling_factor": "big"}, ('scaling_factor is "big"',)),
    "scaling of nothing": ("vqvae/config.json", {"scaling_factor": 0}, ("scaling_factor is 0",)),
    "unknown schedule": (
        "scheduler/scheduler_config.json", {"beta_schedule": "sigmoid"}, ("beta_schedule is 'sigmoid'",),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("file", "change", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_configuration_says_what_and_where(
    file: str, change: Any, message: tuple[str, ...], tiny_model: Path, tmp_path: Path
) -> None:
    folder = copy_model(tiny_model, tmp_path / "broken-ldm")
    if change is None:
        (folder / file).unlink()
    elif isinstance(change, dict):
        edit_json(folder / file, change)
    else:
        (folder / file).write_bytes(change if isinstance(change, bytes) else change.encode())
    with pytest.raises(LdmcError) as caught:
        program_of(folder, seed=0)
    assert type(caught.value) is ModelError
    for part in message:
        assert part in caught.value.message
    assert caught.value.fix


def test_a_latent_need_not_be_square(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy_model(tiny_model, tmp_path / "wide-ldm")
    edit_json(folder / "unet" / "config.json", {"sample_size": [8, 16]})
    unet, decoder = program_of(folder).components
    assert unet.inputs[0].shape == (1, 3, 8, 16)
    assert decoder.outputs[0].shape == (1, 3, 16, 32)


def test_a_unet_and_a_decoder_that_do_not_fit_each_other(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy_model(tiny_model, tmp_path / "odd-ldm")
    edit_json(folder / "unet" / "config.json", {"in_channels": 4, "out_channels": 4})
    with pytest.raises(ModelError, match="the unet gives 4 channels, the decoder takes 3"):
        program_of(folder, seed=0)


def test_what_was_opened_is_plain_data(tiny_model: Path) -> None:
    opened = open_model(ModelRequest(str(tiny_model)), pytest.fail)
    assert isinstance(opened, Opened)
    assert frontend.open_model(ModelRequest(str(tiny_model)), pytest.fail) == opened
