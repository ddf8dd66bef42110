"""What the configurations of a checkpoint may hold: kinds and ranges of every key, by diffusers' constructors.

    "layers_per_block": 1000000   ->   layers_per_block is 1000000, expected a whole number from 1 to 32

The kinds are those of the `__init__` of UNet2DModel, UNet2DConditionModel, VQModel and AutoencoderKL (a test holds them
to these); the ranges are far beyond any model that exists, and near enough that nothing here runs for hours. So what
cannot be built is known by reading, before torch is imported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ldmc.artifacts.kinds import Either, Fault, Flag, Items, Kind, Maybe, Number, Record, Text, Whole, first_fault
from ldmc.errors import ModelError

MOST_BLOCKS, MOST_LAYERS, MOST_CHANNELS, MOST_SIDE, MOST_TIMESTEPS = 16, 32, 65_536, 16_384, 100_000
MOST_MODULES = 4_000  # residual blocks and transformer layers of one network
_LARGEST = 1e30

_COUNT, _CHANNELS, _LAYERS = Whole(1, 1_000_000), Whole(1, MOST_CHANNELS), Whole(1, MOST_LAYERS)
# null for a switch that is off: published configurations have it
_TEXT, _FLAG, _FACTOR = Text(), Maybe(Flag()), Number(-_LARGEST, _LARGEST)
_WORDS = Items(_TEXT, 1, MOST_BLOCKS)
_DEPTH = Whole(0, 128)  # transformer layers
_SIDE = Either(Whole(1, MOST_SIDE), Items(Whole(1, MOST_SIDE), 2, 2))
_MEANS = Maybe(Items(_FACTOR, 1, MOST_CHANNELS))
_EPSILON = Number(0, 1)


def _each(kind: Kind) -> Either:
    """One for all blocks, or one for each."""
    return Either(kind, Items(kind, 1, MOST_BLOCKS))


_NETWORK: dict[str, Kind] = {
    "in_channels": _CHANNELS, "out_channels": _CHANNELS, "down_block_types": _WORDS, "up_block_types": _WORDS,
    "block_out_channels": Items(_CHANNELS, 1, MOST_BLOCKS), "layers_per_block": _LAYERS, "act_fn": _TEXT,
    "norm_num_groups": _CHANNELS,
}  # fmt: skip
_UNET: dict[str, Kind] = {
    **_NETWORK, "sample_size": Maybe(_SIDE), "center_input_sample": _FLAG, "time_embedding_type": _TEXT,
    "time_embedding_dim": Maybe(_CHANNELS), "freq_shift": Whole(0, MOST_CHANNELS), "flip_sin_to_cos": _FLAG,
    "mid_block_type": Maybe(_TEXT), "mid_block_scale_factor": _FACTOR, "downsample_padding": Whole(0, 64),
    "dropout": Number(0, 1), "norm_eps": _EPSILON, "resnet_time_scale_shift": _TEXT, "class_embed_type": Maybe(_TEXT),
    "num_class_embeds": Maybe(_COUNT),
}  # fmt: skip
UNET2D: dict[str, Kind] = {
    **_UNET, "downsample_type": _TEXT, "upsample_type": _TEXT, "attention_head_dim": Maybe(_CHANNELS),
    "attn_norm_num_groups": Maybe(_CHANNELS), "add_attention": _FLAG, "num_train_timesteps": Maybe(_COUNT),
}  # fmt: skip
UNET2D_CONDITION: dict[str, Kind] = {
    **_UNET, "only_cross_attention": _each(_FLAG), "layers_per_block": _each(_LAYERS),
    "norm_num_groups": Maybe(_CHANNELS),
    "cross_attention_dim": _each(_CHANNELS), "attention_head_dim": _each(_CHANNELS),
    "num_attention_heads": Maybe(_each(_CHANNELS)), "transformer_layers_per_block": _each(_each(_DEPTH)),
    "reverse_transformer_layers_per_block": Maybe(_each(_each(_DEPTH))), "encoder_hid_dim": Maybe(_CHANNELS),
    "encoder_hid_dim_type": Maybe(_TEXT), "dual_cross_attention": _FLAG, "use_linear_projection": _FLAG,
    "addition_embed_type": Maybe(_TEXT), "addition_time_embed_dim": Maybe(_CHANNELS), "upcast_attention": _FLAG,
    "resnet_skip_time_act": _FLAG, "resnet_out_scale_factor": _FACTOR, "time_embedding_act_fn": Maybe(_TEXT),
    "timestep_post_act": Maybe(_TEXT), "time_cond_proj_dim": Maybe(_CHANNELS), "conv_in_kernel": Whole(1, 31),
    "conv_out_kernel": Whole(1, 31), "projection_class_embeddings_input_dim": Maybe(_CHANNELS), "attention_type": _TEXT,
    "class_embeddings_concat": _FLAG, "mid_block_only_cross_attention": _FLAG, "cross_attention_norm": Maybe(_TEXT),
    "addition_embed_type_num_heads": _CHANNELS,
}  # fmt: skip
_AUTOENCODER: dict[str, Kind] = {
    **_NETWORK, "latent_channels": _CHANNELS, "sample_size": _SIDE, "scaling_factor": _FACTOR, "force_upcast": _FLAG,
    "mid_block_add_attention": _FLAG,
}  # fmt: skip
VQ: dict[str, Kind] = {
    **_AUTOENCODER, "num_vq_embeddings": _COUNT, "vq_embed_dim": Maybe(_CHANNELS), "norm_type": _TEXT,
    "lookup_from_codebook": _FLAG,
}  # fmt: skip
KL: dict[str, Kind] = {
    **_AUTOENCODER, "shift_factor": Maybe(_FACTOR), "latents_mean": _MEANS, "latents_std": _MEANS,
    "use_quant_conv": _FLAG, "use_post_quant_conv": _FLAG,
}  # fmt: skip
CLASSES = {"UNet2DModel": UNET2D, "UNet2DConditionModel": UNET2D_CONDITION, "VQModel": VQ, "AutoencoderKL": KL}


def check_network(path: Path, config: Mapping[str, Any]) -> None:
    """Hold the configuration of a UNet or a decoder, of one of `CLASSES`, to its kinds and to itself.

    Raises:
        ModelError: the first key whose value cannot be.
    """
    kinds = CLASSES[config["_class_name"]]
    _require(path, first_fault(Record({}, kinds), dict(config)))
    _require(path, next(_contradictions(config), None))


def _require(path: Path, fault: Fault | None) -> None:
    if fault is not None:
        raise ModelError(f"{path}: {fault}", fix="set it to what the model was trained with")


def _contradictions(config: Mapping[str, Any]) -> Iterator[Fault]:
    """Values that cannot be together. Where a key is missing diffusers has its own, which fit each other."""
    channels = config.get("block_out_channels")
    if not isinstance(channels, list):
        return
    for key in ("down_block_types", "up_block_types"):
        if key in config and len(config[key]) != len(channels):
            yield Fault(key, config[key], f"a list of {len(channels)}, as block_out_channels has")
    for key in ("layers_per_block", "attention_head_dim", "num_attention_heads", "cross_attention_dim",
                "only_cross_attention", "transformer_layers_per_block"):  # fmt: skip
        value = config.get(key)
        if isinstance(value, list) and len(value) != len(channels):
            yield Fault(key, value, f"a list of {len(channels)}, as block_out_channels has")
    groups = config.get("norm_num_groups", 32)
    for count in channels if groups is not None else ():
        if count % groups:
            yield Fault("block_out_channels", channels, f"multiples of norm_num_groups, {groups}")
    modules = _modules(config, len(channels))
    if modules > MOST_MODULES:
        wanted = f"blocks and layers of at most {MOST_MODULES:,} modules; these are {modules:,}"
        yield Fault("layers_per_block", config.get("layers_per_block"), wanted)
    if config["_class_name"] == "UNet2DModel":
        yield from _unet2d_contradictions(config, channels)


def _unet2d_contradictions(config: Mapping[str, Any], channels: list[int]) -> Iterator[Fault]:
    """What UNet2DModel finds out only as it runs."""
    factor = 2 ** (len(channels) - 1)
    size = config.get("sample_size")
    for side in size if isinstance(size, list) else [size] if size is not None else []:
        if side % factor:
            yield Fault("sample_size", size, f"a multiple of {factor}, which its {len(channels)} blocks halve it by")
    head = config.get("attention_head_dim", 8)
    if head is not None and head > min(channels):
        yield Fault("attention_head_dim", head, f"at most the channels of a block, {min(channels)}")


def _modules(config: Mapping[str, Any], blocks: int) -> int:
    """Residual blocks and transformer layers, both ways."""
    layers, depths = _spread(config.get("layers_per_block", 2), blocks), config.get("transformer_layers_per_block", 1)
    each = [_total(depth) + 1 for depth in _spread(depths, blocks)]
    return 2 * sum(math.prod(pair) for pair in zip(layers, each))


def _spread(value: Any, blocks: int) -> list[Any]:
    return value if isinstance(value, list) else [value] * blocks


def _total(depth: Any) -> int:
    return sum(map(_total, depth)) if isinstance(depth, list) else int(depth)
