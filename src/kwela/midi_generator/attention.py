"""Compute attention by torch's SDPA, or by a faster way to the same numbers where torch has no good kernel.

In bfloat16 on a CPU, torch 2.13's flash kernel runs at a tenth of the speed of its own matmul. Training there
goes through `BlockCausal`, 2.5 times as fast at 512 positions: blocks of queries against the keys that they
may see, with the gradient written out. Everything else (GPU, float32, cached decoding, export) is plain SDPA.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 128  # queries a block: smaller skips more of the masked half, larger keeps the matmuls efficient


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Apply causal self-attention without a past. q, k, v and the result: (B, H, T, D), one float dtype."""
    if q.dtype == torch.bfloat16 and q.device.type == "cpu":
        return BlockCausal.apply(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def cached(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Apply causal attention of the last T of P + T positions.

    q: (B, H, T, D). k, v: (B, H, P + T, D). Returns (B, H, T, D).
    """
    queries, keys = q.shape[2], k.shape[2]
    position = torch.arange(keys - queries, keys, device=q.device)  # of each query
    mask = torch.arange(keys, device=q.device) <= position[:, None]  # (T, P + T)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class BlockCausal(torch.autograd.Function):
    """softmax(q k' / sqrt(D) + causal mask) v, with O(T^2 / 2) probabilities kept for the backward pass.

    The gradient is that of Dao et al. 2022 (FlashAttention), appendix B.2: dS = P * (dP - rowsum(dO * O)).
    """

    @staticmethod
    def forward(ctx: Any, *qkv: Tensor) -> Tensor:
        """Compute the attention of q, k, v, (B, H, T, D) each, block by block."""
        shape = qkv[0].shape  # (B, H, T, D)
        q, k, v = (x.flatten(0, 1) for x in qkv)  # (B H, T, D)
        q = q * shape[-1] ** -0.5
        future = torch.full((BLOCK, BLOCK), -torch.inf, dtype=q.dtype, device=q.device).triu(1)
        out, kept = torch.empty_like(q), []
        for start in range(0, shape[2], BLOCK):
            end = min(start + BLOCK, shape[2])
            scores = q[:, start:end] @ k[:, :end].mT  # (B H, block, end)
            scores[:, :, start:] += future[: end - start, : end - start]
            kept.append(scores.softmax(-1))
            out[:, start:end] = kept[-1] @ v[:, :end]
        ctx.save_for_backward(q, k, v, out, *kept)
        return out.view(shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the gradients of q, k and v."""
        q, k, v, out, *kept = ctx.saved_tensors
        shape = grads[0].shape
        grad = grads[0].flatten(0, 1)  # dO
        delta = (grad * out).sum(-1, keepdim=True)  # (B H, T, 1)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for index, p in enumerate(kept):
            start, end = index * BLOCK, min((index + 1) * BLOCK, shape[2])
            rows = slice(start, end)
            ds = (grad[:, rows] @ v[:, :end].mT).sub_(delta[:, rows]).mul_(p)
            dq[:, rows] = ds @ k[:, :end]
            dk[:, :end] += ds.mT @ q[:, rows]
            dv[:, :end] += p.mT @ grad[:, rows]
        return (dq * shape[-1] ** -0.5).view(shape), dk.view(shape), dv.view(shape)
