"""Self-attention with its softmax in fp32, for targets whose fp16 softmax loses too much.

    scores = (q * d^-1/2) k^T   fp16
    weights = softmax(float32(scores)) -> fp16
    out = weights v             fp16

A diffusers attention processor; everything around the softmax equals diffusers' own
`AttnProcessor2_0`, whose fused kernel has no place for a cast.
"""

from __future__ import annotations

from typing import Any

import torch

from ldmc.errors import PassError

# Parts of a diffusers Attention that the processor below does not have.
_FOREIGN_PARTS = ("spatial_norm", "norm_cross", "norm_q", "norm_k", "added_kv_proj_dim", "fused_projections")


def is_plain(attn: Any) -> bool:
    """Whether `Fp32SoftmaxAttention` does all that the processor of `attn` does."""
    processor = type(getattr(attn, "processor", None)).__name__
    return processor in ("AttnProcessor", "AttnProcessor2_0") and not any(
        getattr(attn, p, None) for p in _FOREIGN_PARTS
    )


class Fp32SoftmaxAttention:
    """Processor for `diffusers` Attention: tensors [batch, tokens, channels] or [batch, channels, h, w]."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,  # diffusers hands it to every processor
    ) -> torch.Tensor:
        if attention_mask is not None:
            raise PassError(
                "attention with a mask cannot keep its softmax in fp32", fix="drop softmax from keep="
            )
        residual, shape = hidden_states, hidden_states.shape
        if len(shape) == 4:
            hidden_states = hidden_states.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = _split_heads(attn.to_q(hidden_states), attn.heads)
        key = _split_heads(attn.to_k(context), attn.heads)
        value = _split_heads(attn.to_v(context), attn.heads)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        weights = scores.float().softmax(dim=-1).to(value.dtype)
        output = (weights @ value).transpose(1, 2).flatten(2)
        output = attn.to_out[1](attn.to_out[0](output))
        if len(shape) == 4:
            output = output.transpose(1, 2).reshape(shape)
        if attn.residual_connection:
            output = output + residual
        return output / attn.rescale_output_factor  # type: ignore[no-any-return]


def _split_heads(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """[batch, tokens, channels] -> [batch, heads, tokens, channels / heads]."""
    batch, tokens, channels = tensor.shape
    return tensor.view(batch, tokens, heads, channels // heads).transpose(1, 2)
