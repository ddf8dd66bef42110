"""Self-attention written out, where diffusers' fused kernel does not serve. Two ways to compute the scores:

    Fp32SoftmaxAttention   (q * d^-1/2) k^T, softmax in float32      for targets whose fp16 softmax loses too much
    BaddbmmAttention       baddbmm(q, k^T, alpha=d^-1/2), softmax    for PyTorch before 2.0 and ONNX before opset 14

Both are diffusers attention processors; everything around the scores equals diffusers' own `AttnProcessor2_0`.
"""

from __future__ import annotations

from typing import Any, ClassVar

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


def unfuse(net: Any) -> int:
    """Give every attention of `net` that is plain, and not written out already, `BaddbmmAttention`; how many."""
    plain = [module for module in net.modules() if hasattr(module, "set_processor") and is_plain(module)]
    for module in plain:
        module.set_processor(BaddbmmAttention())
    return len(plain)


class _WrittenOut:
    """Processor for `diffusers` Attention: tensors [batch, tokens, channels] or [batch, channels, h, w].

    masked, masked_fix: what to say, and to advise, of an attention with a mask.
    """

    masked: ClassVar[str]
    masked_fix: ClassVar[str]

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,  # diffusers hands it to every processor
    ) -> torch.Tensor:
        if attention_mask is not None:
            raise PassError(self.masked, fix=self.masked_fix)
        residual, shape = hidden_states, hidden_states.shape
        if len(shape) == 4:
            batch, channels, height, width = shape
            hidden_states = hidden_states.view(batch, channels, height * width).transpose(1, 2)
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        output = self.attend(attn, attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        output = attn.to_out[1](attn.to_out[0](output))
        if len(shape) == 4:
            output = output.transpose(1, 2).reshape(shape)
        if attn.residual_connection:
            output = output + residual
        return output / attn.rescale_output_factor  # type: ignore[no-any-return]

    def attend(self, attn: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attention of [batch, tokens, channels], split into the heads of `attn` and joined again."""
        raise NotImplementedError


class Fp32SoftmaxAttention(_WrittenOut):
    """Attention in the module's dtype with its softmax in fp32."""

    masked = "attention with a mask cannot keep its softmax in fp32"
    masked_fix = "drop softmax from keep="

    def attend(self, attn: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        query, key, value = (_split_heads(tensor, attn.heads) for tensor in (query, key, value))
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        weights = scores.float().softmax(dim=-1).to(value.dtype)
        output: torch.Tensor = (weights @ value).transpose(1, 2).flatten(2)
        return output


class BaddbmmAttention(_WrittenOut):
    """Attention as diffusers wrote it before PyTorch 2.0, heads in the batch.

    The addend is one zero that beta=0 leaves out. diffusers gives uninitialised memory the size of the scores,
    which an exporter stores: 154 MiB in an fp16 graph of the 274 M parameter UNet.
    """

    masked = "attention with a mask cannot be traced without PyTorch 2's fused attention"
    masked_fix = "leave it in: torchscript{fused=true}"

    def attend(self, attn: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        # Numbers, where they can be had: a tensor's sizes would be traced.
        batch, heads, width = query.shape[0], attn.heads, attn.inner_dim // attn.heads
        query, key, value = (_heads_to_batch(tensor, heads, width) for tensor in (query, key, value))
        nothing = torch.zeros((1, 1, 1), dtype=query.dtype, device=query.device)
        scores = torch.baddbmm(nothing, query, key.transpose(-1, -2), beta=0, alpha=width**-0.5)
        output = torch.bmm(scores.softmax(dim=-1), value)
        tokens = output.shape[1]
        output = output.reshape(batch, heads, tokens, width).permute(0, 2, 1, 3)
        return output.reshape(batch, tokens, heads * width)


def _split_heads(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """[batch, tokens, channels] -> [batch, heads, tokens, channels / heads]."""
    batch, tokens, channels = tensor.shape
    return tensor.view(batch, tokens, heads, channels // heads).transpose(1, 2)


def _heads_to_batch(tensor: torch.Tensor, heads: int, width: int) -> torch.Tensor:
    """[batch, tokens, heads * width] -> [batch * heads, tokens, width]."""
    batch, tokens, _ = tensor.shape
    split = tensor.reshape(batch, tokens, heads, width).permute(0, 2, 1, 3)
    return split.reshape(batch * heads, tokens, width)
