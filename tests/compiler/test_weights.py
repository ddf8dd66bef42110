"""Weights: every layout diffusers has ever saved gives the same network, and a broken one says how it is broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ldmc.compiler import weight_files
from ldmc.compiler.checkpoint import read_checkpoint
from ldmc.compiler.frontend import ModelRequest, open_model, read_program
from ldmc.compiler.eager import eager_component
from ldmc.compiler.weights import CheckpointWeights, file_records, find_weights, open_weights
from ldmc.errors import ModelError
from tests import checkpoints
from tests.checkpoints import COMPONENTS, STEM, whole
from tests.conftest import build_bundle

STATE = {
    "conv_in.weight": torch.arange(24, dtype=torch.float32).reshape(2, 3, 2, 2),
    "conv_in.bias": torch.tensor([1.0, -2.0]),
    "mid_block.attentions.0.to_q.weight": torch.randn(4, 4, generator=torch.Generator().manual_seed(0)),
    "mid_block.attentions.0.to_out.0.bias": torch.full((4,), 0.1),
}
SHAPES = {key: tuple(tensor.shape) for key, tensor in STATE.items()}
LAYOUTS: dict[str, Callable[[Path, checkpoints.State], None]] = {
    "safetensors": checkpoints.write_safetensors,
    "sharded safetensors": checkpoints.write_shards,
    "bin": checkpoints.write_bin,
    "bin of torch before 1.6": checkpoints.write_legacy_bin,
    "sharded bin": checkpoints.write_bin_shards,
    "sharded fp16 variant": lambda folder, state: checkpoints.write_shards(folder, state, "fp16"),
}


def opened(folder: Path) -> CheckpointWeights:
    files = find_weights(folder)
    assert files is not None
    return open_weights(files, SHAPES)


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("rename", [dict, checkpoints.old_keys], ids=["new keys", "old keys"])
def test_every_layout_reads_the_same(write: Any, rename: Any, tmp_path: Path) -> None:
    write(tmp_path, rename(STATE))
    weights = opened(tmp_path)
    for key, tensor in STATE.items():
        values = whole(weights, key)
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, tensor.numpy().ravel())


def test_the_fp16_variant_is_read_as_stored(tmp_path: Path) -> None:
    checkpoints.write_fp16(tmp_path, STATE)
    weights = opened(tmp_path)
    for key, tensor in STATE.items():
        assert whole(weights, key).dtype == np.float16
        np.testing.assert_array_equal(whole(weights, key), tensor.half().numpy().ravel())


@pytest.mark.parametrize("write", [checkpoints.write_safetensors, checkpoints.write_bin])
def test_bfloat16_is_given_as_float32(write: Any, tmp_path: Path) -> None:
    write(tmp_path, {key: tensor.bfloat16() for key, tensor in STATE.items()})
    values = whole(opened(tmp_path), "conv_in.weight")
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, STATE["conv_in.weight"].numpy().ravel())


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
def test_tensors_come_in_pieces(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of whole rows, none larger than a chunk where a row is not, together the tensor."""
    monkeypatch.setattr(weight_files, "CHUNK_ELEMENTS", 10)
    tensors = {
        "rows": torch.arange(70.0).reshape(35, 2),
        "wide": torch.arange(36.0).reshape(2, 18),
        "scalar": torch.tensor(3.0),
        "turned": torch.arange(24.0).reshape(4, 6).t().contiguous().t(),
    }
    write(tmp_path, {key: tensor.contiguous() for key, tensor in tensors.items()})
    files = find_weights(tmp_path)
    assert files is not None
    source = open_weights(files, {key: tuple(tensor.shape) for key, tensor in tensors.items()})
    for key, tensor in tensors.items():
        pieces = list(source.chunks(key))
        assert all(piece.ndim == 1 and piece.size <= 18 for piece in pieces)
        assert [*np.concatenate([*pieces, []])] == [*tensor.flatten().tolist()]
    assert max(piece.size for piece in source.chunks("rows")) == 10


def test_full_precision_and_safetensors_come_first(tmp_path: Path) -> None:
    layouts = [
        ("diffusion_pytorch_model.fp16.bin", lambda: (tmp_path / f"{STEM}.fp16.bin").write_bytes(b"")),
        ("diffusion_pytorch_model.bin", lambda: checkpoints.write_bin(tmp_path, STATE)),
        ("diffusion_pytorch_model.fp16.safetensors", lambda: checkpoints.write_fp16(tmp_path, STATE)),
        ("diffusion_pytorch_model.safetensors", lambda: checkpoints.write_safetensors(tmp_path, STATE)),
    ]
    assert find_weights(tmp_path) is None
    for name, write in layouts:
        write()
        assert find_weights(tmp_path) == [tmp_path / name]


def test_a_tensor_does_not_stay_in_memory(tmp_path: Path) -> None:
    """Reading opens the file anew each time: it may even be replaced meanwhile."""
    checkpoints.write_safetensors(tmp_path, STATE)
    weights = opened(tmp_path)
    checkpoints.write_safetensors(tmp_path, {key: tensor + 1 for key, tensor in STATE.items()})
    np.testing.assert_array_equal(whole(weights, "conv_in.bias"), [2.0, -1.0])


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("mid_block.resnets.0.query.weight", True),  # not an attention
        ("attentions_extra.key", True),
        ("up_blocks.1.attentions.2.proj_attn.bias", False),
        ("encoder.mid_block.attentions.0.value.weight", False),
    ],
)
def test_only_attention_keys_are_renamed(name: str, kept: bool, tmp_path: Path) -> None:
    checkpoints.write_safetensors(tmp_path, {name: torch.zeros(1)})
    files = find_weights(tmp_path)
    assert files is not None
    with pytest.raises(ModelError) as caught:
        open_weights(files, {"other": (1,)})
    assert (f"first: {name})" in caught.value.message) is kept


def test_records_of_files_are_relative_and_hashed(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "a.bin").write_bytes(b"abc")
    assert file_records([tmp_path / "unet" / "a.bin"], tmp_path) == [
        {
            "path": "unet/a.bin",
            "bytes": 3,
            "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        }
    ]


# what is done to a good folder -> (how, parts of the message, part of the fix)
def _truncate(folder: Path, name: str, size: int) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:size])


def _without(state: checkpoints.State, key: str) -> checkpoints.State:
    return {k: v for k, v in state.items() if k != key}


def _broken_index(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / f"{STEM}.safetensors.index.json").write_text(text)


def _shards_then(damage: Callable[[Path], object]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        checkpoints.write_shards(folder, STATE)
        damage(folder)

    return make


def _then(write: Any, damage: Callable[[Path], object]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        write(folder, STATE)
        damage(folder)

    return make


BROKEN: dict[str, tuple[Callable[[Path], Any], tuple[str, ...], str]] = {
    "truncated in the data": (
        _then(checkpoints.write_safetensors, lambda f: _truncate(f, f"{STEM}.safetensors", 420)),
        (f"{STEM}.safetensors (420 bytes) cannot be read as weights", "incomplete"),
        "truncated or damaged; download it again",
    ),
    "truncated in the header": (
        _then(checkpoints.write_safetensors, lambda f: _truncate(f, f"{STEM}.safetensors", 50)),
        (f"{STEM}.safetensors (50 bytes) cannot be read as weights",),
        "truncated or damaged; download it again",
    ),
    "empty file": (
        _then(checkpoints.write_safetensors, lambda f: _truncate(f, f"{STEM}.safetensors", 0)),
        (f"{STEM}.safetensors (0 bytes) cannot be read as weights",),
        "truncated or damaged; download it again",
    ),
    "truncated pickle": (
        _then(checkpoints.write_bin, lambda f: _truncate(f, f"{STEM}.bin", 600)),
        (f"{STEM}.bin (600 bytes) cannot be read as weights",),
        "truncated or damaged; download it again",
    ),
    "truncated old pickle": (
        _then(checkpoints.write_legacy_bin, lambda f: _truncate(f, f"{STEM}.bin", 700)),
        (f"{STEM}.bin (700 bytes) cannot be read as weights",),
        "truncated or damaged; download it again",
    ),
    "empty pickle": (
        _then(checkpoints.write_bin, lambda f: _truncate(f, f"{STEM}.bin", 0)),
        (f"{STEM}.bin (0 bytes) cannot be read as weights",),
        "truncated or damaged; download it again",
    ),
    "a web page": (
        lambda f: (f / f"{STEM}.bin").write_text("<!DOCTYPE html><html>Not found</html>"),
        (f"{STEM}.bin (37 bytes) cannot be read as weights",),
        "truncated or damaged; download it again",
    ),
    "a git-lfs pointer": (
        lambda f: (f / f"{STEM}.safetensors").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
        ),
        (f"{STEM}.safetensors (56 bytes) cannot be read as weights",),
        "download it again",
    ),
    "a pickle that is no state dict": (
        lambda f: torch.save({"epoch": 3, "state_dict": STATE}, f / f"{STEM}.bin"),
        (f"{STEM}.bin holds no state dict of tensors",),
        "torch.save(net.state_dict())",
    ),
    "a pickled list": (
        lambda f: torch.save([torch.zeros(1)], f / f"{STEM}.bin"),
        (f"{STEM}.bin holds no state dict of tensors",),
        "torch.save(net.state_dict())",
    ),
    "missing shard": (
        _shards_then(lambda f: (f / f"{STEM}-00002-of-00003.safetensors").unlink()),
        ("1 of 3 shards are missing", f"{STEM}-00002-of-00003.safetensors"),
        "download the missing files beside the index",
    ),
    "truncated shard": (
        _shards_then(lambda f: _truncate(f, f"{STEM}-00002-of-00003.safetensors", 30)),
        (f"{STEM}-00002-of-00003.safetensors (30 bytes) cannot be read as weights",),
        "download it again",
    ),
    "index that is not JSON": (_broken_index("{"), ("is not a shard index",), "download the file again"),
    "index without a map": (_broken_index("{}"), ("is not a shard index",), "download the file again"),
    "index that is a list": (_broken_index("[]"), ("is not a shard index",), "download the file again"),
    "index of numbers": (
        _broken_index('{"weight_map": {"a": 1, "b": "c"}}'),
        ("is not a shard index",),
        "download the file again",
    ),
    "index of nothing": (
        _broken_index('{"weight_map": {}}'),
        ("is not a shard index",),
        "download the file again",
    ),
    "index that leaves the folder": (
        _broken_index('{"weight_map": {"a": "../secret.safetensors"}}'),
        ("is not a shard index", "../secret.safetensors"),
        "download the file again",
    ),
    "missing key": (
        lambda f: checkpoints.write_safetensors(f, _without(STATE, "conv_in.bias")),
        ("1 of 4 parameters are missing (first: conv_in.bias)",),
        "give the weights that belong to this config.json",
    ),
    "extra keys": (
        lambda f: checkpoints.write_safetensors(f, {**STATE, "ema.a": torch.ones(1), "ema.b": torch.ones(1)}),
        ("2 are not of this network (first: ema.a)",),
        "give the weights that belong to this config.json",
    ),
    "missing and extra keys": (
        lambda f: checkpoints.write_bin(
            f, {**_without(STATE, "conv_in.bias"), "conv_in.bais": torch.ones(2)}
        ),
        (
            "1 of 4 parameters are missing (first: conv_in.bias)",
            "1 are not of this network (first: conv_in.bais)",
        ),
        "give the weights that belong to this config.json",
    ),
    "wrong shape": (
        lambda f: checkpoints.write_safetensors(f, {**STATE, "conv_in.weight": torch.zeros(2, 4, 2, 2)}),
        ("conv_in.weight has shape [2, 4, 2, 2], the network needs [2, 3, 2, 2]",),
        "give the config and weights of one model",
    ),
}


@pytest.mark.parametrize(("make", "message", "fix"), BROKEN.values(), ids=BROKEN)
def test_broken_weights_say_what_where_and_fix(
    make: Callable[[Path], Any], message: tuple[str, ...], fix: str, tmp_path: Path
) -> None:
    make(tmp_path)
    with pytest.raises(ModelError) as caught:
        opened(tmp_path)
    assert caught.value.exit_code == 1
    assert str(tmp_path) in caught.value.message
    for part in message:
        assert part in caught.value.message
    assert fix in caught.value.fix


def test_a_pickle_cannot_run_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"conv_in.weight": Trap()}, tmp_path / f"{STEM}.bin")
    with pytest.raises(ModelError, match="cannot be read as weights"):
        opened(tmp_path)
    assert not (tmp_path / "sprung").exists()


# The tiny model in every layout: the same network to the last bit.


def reference_outputs(folder: Path) -> dict[str, Any]:
    """What plain diffusers gives with the weights that ldmc reads from `folder`."""
    request = ModelRequest(str(folder))
    program = read_program(open_model(request, pytest.fail), request)
    latent = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    inputs = {"unet": (latent, torch.tensor([500])), "decoder": (latent,)}
    outputs = {}
    for component in program.components:
        module = eager_component(read_checkpoint(folder), component.name, component.payload.weights)
        with torch.inference_mode():
            outputs[component.name] = module(*inputs[component.name]).numpy()
    return outputs


@pytest.fixture(scope="module")
def expected(tiny_model: Path) -> dict[str, Any]:
    return reference_outputs(tiny_model)


@pytest.fixture(scope="module")
def old_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as diffusers 0.0.x would have saved it."""
    return checkpoints.old_model(tiny_model, tmp_path_factory.mktemp("old") / "tiny-ldm")


def rewritten(model: Path, folder: Path, write: Any) -> Path:
    """A copy of `model` with its weights in another layout."""
    checkpoints.copy_model(model, folder)
    for name in COMPONENTS:
        state = checkpoints.read_state(folder / name)
        checkpoints.drop_weights(folder / name)
        write(folder / name, state)
    return folder


def test_the_tiny_model_agrees_with_diffusers_own_loading(tiny_model: Path, expected: dict[str, Any]) -> None:
    from diffusers import LDMPipeline

    pipeline = LDMPipeline.from_pretrained(tiny_model)
    for net in (pipeline.unet, pipeline.vqvae):  # out of the mapped file, where kernels round differently
        net.load_state_dict({key: tensor.clone() for key, tensor in net.state_dict().items()}, assign=True)
    latent = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        unet = pipeline.unet(latent, torch.tensor([500])).sample
        image = pipeline.vqvae.decode(latent / pipeline.vqvae.config.scaling_factor).sample
    np.testing.assert_array_equal(unet.numpy(), expected["unet"])
    np.testing.assert_array_equal(image.numpy(), expected["decoder"])


@pytest.mark.parametrize(
    "write",
    [checkpoints.write_shards, checkpoints.write_bin, checkpoints.write_bin_shards],
    ids=lambda w: w.__name__,
)
def test_other_layouts_are_the_very_same_network(
    write: Any, tiny_model: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    outputs = reference_outputs(rewritten(tiny_model, tmp_path / "tiny-ldm", write))
    for name in expected:
        np.testing.assert_array_equal(outputs[name], expected[name])


def test_an_old_checkpoint_is_the_very_same_network(old_model: Path, expected: dict[str, Any]) -> None:
    stored = torch.load(old_model / "unet" / f"{STEM}.bin", weights_only=True)
    assert "mid_block.attentions.0.proj_attn.weight" in stored
    assert not any("to_q" in key for key in stored)
    assert "timesteps" in json.loads((old_model / "scheduler" / "scheduler_config.json").read_text())
    outputs = reference_outputs(old_model)
    for name in expected:
        np.testing.assert_array_equal(outputs[name], expected[name])


def test_an_old_checkpoint_compiles_to_the_very_same_files(
    old_model: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = build_bundle(old_model, tmp_path / "old.cpu.ldmc", "onnx,fold")
    for relative in (
        "unet/model.onnx",
        "unet/model.onnx.data",
        "decoder/model.onnx",
        "decoder/model.onnx.data",
    ):
        assert (bundle / relative).read_bytes() == (tiny_bundle / relative).read_bytes(), relative
    old, new = (json.loads((folder / "manifest.json").read_text()) for folder in (bundle, tiny_bundle))
    assert old["scheduler"] == new["scheduler"]
    assert old["components"] == new["components"]
    assert old["source"]["weights"]["files"] != new["source"]["weights"]["files"]


def test_the_fp16_variant_of_a_model_is_used_where_it_is_all_there_is(
    tiny_model: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    outputs = reference_outputs(rewritten(tiny_model, tmp_path / "tiny-ldm", checkpoints.write_fp16))
    error = np.abs(outputs["unet"] - expected["unet"]).max()
    assert 0 < error < 0.01
