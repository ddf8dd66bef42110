"""What becomes of every key of a checkpoint's configurations.

    passed        diffusers builds the network by it, and the network is what is compiled
    implemented   the compiler or the runtime does what it asks for
    harmless      it changes no picture; each with the reason
    only          it needs something that is not implemented, unless it has one of the values given

Any other key is an error: nobody can say what it would have changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ldmc.errors import ModelError


@dataclass(frozen=True)
class Keys:
    """Decisions for one class. harmless: key -> reason. only: key -> (values that are accepted, what others need)."""

    passed: frozenset[str]
    implemented: frozenset[str] = frozenset()
    harmless: Mapping[str, str] = field(default_factory=dict)
    only: Mapping[str, tuple[tuple[Any, ...], str]] = field(default_factory=dict)


_LABEL = "a class label as an input, which is not implemented"
_UNET = frozenset(
    {
        "act_fn",
        "attention_head_dim",
        "block_out_channels",
        "center_input_sample",
        "down_block_types",
        "downsample_padding",
        "dropout",
        "flip_sin_to_cos",
        "freq_shift",
        "in_channels",
        "layers_per_block",
        "mid_block_scale_factor",
        "mid_block_type",
        "norm_eps",
        "norm_num_groups",
        "out_channels",
        "resnet_time_scale_shift",
        "sample_size",
        "time_embedding_dim",
        "up_block_types",
    }
)
_DECODER = frozenset(
    {
        "act_fn",
        "block_out_channels",
        "down_block_types",
        "in_channels",
        "latent_channels",
        "layers_per_block",
        "mid_block_add_attention",
        "norm_num_groups",
        "out_channels",
        "up_block_types",
    }
)
_SAMPLE_SIZE = {"sample_size": "the image's size follows from the UNet's sample_size"}

KEYS = {
    "UNet2DModel": Keys(
        _UNET | {"add_attention", "attn_norm_num_groups", "downsample_type", "num_train_timesteps", "upsample_type"},
        only={
            "class_embed_type": ((None,), _LABEL),
            "num_class_embeds": ((None,), _LABEL),
            "time_embedding_type": (
                ("positional", "learned"),
                "a variance-exploding scheduler, which is not implemented",
            ),
        },
    ),
    "UNet2DConditionModel": Keys(
        _UNET
        | {
            "addition_embed_type_num_heads",
            "addition_time_embed_dim",
            "conv_in_kernel",
            "conv_out_kernel",
            "cross_attention_dim",
            "cross_attention_norm",
            "mid_block_only_cross_attention",
            "num_attention_heads",
            "only_cross_attention",
            "projection_class_embeddings_input_dim",
            "resnet_out_scale_factor",
            "resnet_skip_time_act",
            "reverse_transformer_layers_per_block",
            "time_embedding_act_fn",
            "timestep_post_act",
            "transformer_layers_per_block",
            "upcast_attention",
            "use_linear_projection",
        },
        harmless={"class_embeddings_concat": "there are no class embeddings"},
        only={
            "addition_embed_type": ((None, "text_time"), "further conditions, which are not implemented"),
            "attention_type": ((None, "default"), "boxes or other conditions, which are not implemented"),
            "class_embed_type": ((None,), _LABEL),
            "dual_cross_attention": ((None, False), "two contexts, which are not implemented"),
            "encoder_hid_dim": ((None,), "a projected condition, which is not implemented"),
            "encoder_hid_dim_type": ((None,), "a projected condition, which is not implemented"),
            "num_class_embeds": ((None,), _LABEL),
            "time_cond_proj_dim": ((None,), "the guidance scale as an input, which is not implemented"),
            "time_embedding_type": (
                ("positional",),
                "a variance-exploding scheduler, which is not implemented",
            ),
        },
    ),
    "VQModel": Keys(
        _DECODER | {"norm_type", "num_vq_embeddings", "vq_embed_dim"},
        implemented=frozenset({"scaling_factor", "force_upcast"}),
        harmless={**_SAMPLE_SIZE, "lookup_from_codebook": "latents are quantised, not looked up by index"},
    ),
    "AutoencoderKL": Keys(
        _DECODER | {"use_post_quant_conv"},
        implemented=frozenset(
            {"scaling_factor", "shift_factor", "latents_mean", "latents_std", "force_upcast"}
        ),
        harmless={**_SAMPLE_SIZE, "use_quant_conv": "it is of the encoder, which is not compiled"},
    ),
}
# model_index.json: what is not compiled, and why a picture does not depend on it.
_TEXT = "of text conditioning: such a checkpoint is planned and not built"
INDEX = Keys(
    frozenset(),
    implemented=frozenset({"unet", "vae", "vqvae", "scheduler"}),
    harmless={
        "add_watermarker": "it marks finished pictures",
        "feature_extractor": "of the safety checker",
        "force_zeros_for_empty_prompt": _TEXT,
        "image_encoder": _TEXT,
        "requires_safety_checker": "of the safety checker",
        "safety_checker": "it looks at finished pictures",
        "text_encoder": _TEXT,
        "text_encoder_2": _TEXT,
        "tokenizer": _TEXT,
        "tokenizer_2": _TEXT,
    },
)


def bookkeeping(key: str) -> bool:
    """Whether `key` is diffusers' note of where a configuration comes from: `_class_name`, `_diffusers_version`."""
    return key.startswith("_")


def check_keys(place: str, config: Mapping[str, Any], keys: Keys, name: str) -> None:
    """Refuse what is not understood of `config`, the configuration of a `name` read from `place`.

    Raises:
        ModelError: a key is not known, or has a value that needs what is not implemented.
    """
    for key, value in config.items():
        if bookkeeping(key) or key in keys.passed or key in keys.implemented or key in keys.harmless:
            continue
        if key not in keys.only:
            raise ModelError(
                f"{place}: {key} is not a key that ldmc knows of {name}: it may change the picture",
                fix="remove it if it has no effect, or compile with a version that implements it",
            )
        accepted, needs = keys.only[key]
        if not any(value is one or (value == one and one is not None) for one in accepted):
            raise ModelError(
                f"{place}: {key} is {value!r}: {name} then needs {needs}",
                fix=f"compile a model with {key} {' or '.join(json_of(one) for one in accepted)}",
            )


def json_of(value: Any) -> str:
    """A key's value as the file has it."""
    return "null" if value is None else str(value)
