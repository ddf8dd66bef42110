"""Nearest-code lookup as a few small MatMuls, for export.

    argmin_k |z - e_k|^2  =  argmax_k (2 z.e_k - |e_k|^2)  =  argmax_k [z, 1] . [2 e_k, -|e_k|^2]

diffusers' `cdist` has no ONNX operator and is decomposed into a [positions, codes, width] difference:
4096 x 8192 x 3 floats. As one MatMul over rows [z, 1] the largest tensor is [positions, codes], and
rows are independent, so taking them in slices bounds it further.
"""

from __future__ import annotations

import torch
from torch import nn

SLICE_BYTES = 16 * 2**20  # scores of one slice; with its inputs and a copy the quantiser stays under 32 MiB


class NearestCode(nn.Module):
    """Replaces diffusers' `VectorQuantizer` in a decoder. Has its one parameter, `embedding.weight`.

    Input z: [batch, code width, rows, columns]; output: the nearest codes, same shape and dtype.
    Distances are computed in the dtype of the codebook.
    """

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        codes = self.embedding.weight
        batch, width, *space = z.shape
        rows = z.permute(0, 2, 3, 1).reshape(-1, width)
        # Derived from the codebook alone: `fold` turns this into one constant.
        table = torch.cat([2 * codes.t(), -(codes * codes).sum(dim=1).unsqueeze(0)], dim=0)
        rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
        height = max(1, SLICE_BYTES // (codes.shape[0] * 4))
        starts = range(0, rows.shape[0], height)
        nearest = [torch.argmax(rows[start : start + height] @ table, dim=1) for start in starts]
        indices = torch.cat(nearest) if len(nearest) > 1 else nearest[0]
        quantised = self.embedding(indices).view(batch, *space, width).permute(0, 3, 1, 2)
        return quantised, None, None  # diffusers also returns a loss and statistics, unused in inference
