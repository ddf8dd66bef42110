"""Kinds and ranges of configurations: those of diffusers' constructors, and what cannot be is refused by reading."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
import pytest

from ldmc.artifacts.kinds import Either, Fault, Flag, Items, Maybe, Number, Text, Whole
from ldmc.compiler import checkpoint, config_kinds
from ldmc.errors import ModelError
from tests import checkpoints

FILES = {"unet": "unet/config.json", "vqvae": "vqvae/config.json", "scheduler": "scheduler/scheduler_config.json"}


def takes(kind: Any, value: Any) -> bool:
    found: Fault | None = kind.fault(value, "")
    return found is None


@pytest.mark.parametrize("name", config_kinds.CLASSES)
def test_the_keys_are_those_of_diffusers_and_its_defaults_are_taken(name: str) -> None:
    parameters = dict(inspect.signature(getattr(diffusers, name).__init__).parameters)
    del parameters["self"]
    kinds = config_kinds.CLASSES[name]
    assert kinds.keys() == parameters.keys()
    for key, parameter in parameters.items():
        default = json.loads(json.dumps(parameter.default))
        assert takes(kinds[key], default), (key, default)


@pytest.mark.parametrize("name", config_kinds.CLASSES)
def test_each_kind_is_its_annotation_s(name: str) -> None:
    """Scalars by what is let through; a key annotated int takes no text, and so on."""
    for key, parameter in list(inspect.signature(getattr(diffusers, name).__init__).parameters.items())[1:]:
        annotation = str(parameter.annotation)
        if "tuple" in annotation or "_empty" in annotation:
            continue
        kind = config_kinds.CLASSES[name][key]
        for word, value in (("str", "silu"), ("bool", True), ("float", 0.5)):
            assert takes(kind, value) == (word in annotation), (key, annotation, value)
        assert takes(kind, [1, 1]) is (key == "sample_size"), key


def test_the_test_knows_every_kind() -> None:
    used = {type(kind) for kinds in config_kinds.CLASSES.values() for kind in kinds.values()}
    assert used <= {Either, Flag, Items, Maybe, Number, Text, Whole}


CASES = [
    ("unet", {"layers_per_block": 10**6}, "layers_per_block is 1000000, expected a whole number from 1 to 32"),
    ("unet", {"layers_per_block": "2"}, 'layers_per_block is "2", expected a whole number'),
    ("unet", {"layers_per_block": True}, "layers_per_block is true, expected a whole number"),
    ("unet", {"in_channels": -1}, "in_channels is -1, expected a whole number from 1"),
    ("unet", {"sample_size": 10**6}, "sample_size is 1000000, expected a whole number from 1 to 16,384, or a list"),
    ("unet", {"sample_size": 9}, "sample_size is 9, expected a multiple of 2"),
    ("unet", {"sample_size": [8, 8, 8]}, "sample_size is [8, 8, 8], expected a list of 2 to 2 members"),
    ("unet", {"block_out_channels": [32, 10**6]}, "block_out_channels[1] is 1000000, expected a whole number"),
    ("unet", {"block_out_channels": [33, 64]}, "expected multiples of norm_num_groups, 32"),
    ("unet", {"block_out_channels": [32]}, "down_block_types is "),
    ("unet", {"down_block_types": "DownBlock2D"}, "down_block_types is \"DownBlock2D\", expected a list"),
    ("unet", {"act_fn": 7}, "act_fn is 7, expected a text"),
    ("unet", {"norm_eps": "1e-5"}, 'norm_eps is "1e-5", expected a number'),
    ("unet", {"attention_head_dim": 512}, "attention_head_dim is 512, expected at most the channels of a block, 32"),
    ("unet", {"norm_num_groups": 0}, "norm_num_groups is 0, expected a whole number from 1"),
    ("vqvae", {"num_vq_embeddings": 10**9}, "num_vq_embeddings is 1000000000, expected"),
    ("vqvae", {"scaling_factor": "x"}, 'scaling_factor is "x", expected a number'),
    ("vqvae", {"latent_channels": 2.5}, "latent_channels is 2.5, expected a whole number"),
]


@pytest.mark.parametrize(("part", "changes", "said"), CASES, ids=[f"{part}-{changes}" for part, changes, _ in CASES])
def test_what_cannot_be_is_refused_by_reading(
    part: str, changes: dict[str, Any], said: str, tiny_model: Path, tmp_path: Path
) -> None:
    folder = checkpoints.copy_model(tiny_model, tmp_path / "model")
    checkpoints.edit_json((tmp_path / "model") / FILES[part], changes)
    with pytest.raises(ModelError) as refused:
        checkpoint.read_checkpoint(tmp_path / "model")
    assert said in refused.value.message and FILES[part] in refused.value.message, folder


@pytest.mark.parametrize(("text", "said"), [
    ('{"_class_name": "UNet2DModel", "norm_eps": NaN}', "NaN is not a JSON number"),
    ('{"_class_name": "UNet2DModel", "norm_eps": 1e999}', "the number 1e999 is out of range"),
    ('{"sample_size": 8, "sample_size": 64}', "the key 'sample_size' is repeated"),
    ("[" * 200_000, "nested deeper than 64"),
    ('{"sample_size": ' + "9" * 5000 + "}", "has 5000 digits"),
])  # fmt: skip
def test_json_that_means_nothing_or_two_things_is_refused(
    text: str, said: str, tiny_model: Path, tmp_path: Path
) -> None:
    checkpoints.copy_model(tiny_model, tmp_path / "model")
    (tmp_path / "model" / FILES["unet"]).write_text(text)
    with pytest.raises(ModelError, match="is not JSON") as refused:
        checkpoint.read_checkpoint(tmp_path / "model")
    assert said in refused.value.message
