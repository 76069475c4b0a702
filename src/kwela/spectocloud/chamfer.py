"""Chamfer distance between point clouds, in memory that grows with N + M instead of N x M.

The nearest neighbours are found without autograd: on the CPU by k-d trees, which ignore most of the pairs, on a GPU by
blocks of distances. The minimum passes gradient to its argument alone, so the matches are all that the gradient needs.
On the CPU it is computed beside them, cloud by cloud: operations on whole batches this small would spend their time
waiting for threads.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

BLOCK = 1 << 24  # distances held at once on a GPU: 64 MB of float32


class Matched(NamedTuple):
    """distance (B,): per-cloud symmetric squared Chamfer. to_target (B, N), to_pred (B, M): each point's nearest."""

    distance: Tensor
    to_target: Tensor
    to_pred: Tensor


def chamfer(pred: Tensor, target: Tensor) -> Tensor:
    """Symmetric squared Chamfer distance, averaged over the batch.

    pred, target: (B, N, 3) and (B, M, 3), float. Returns a scalar, in squared units of the input: the mean over points
    of the squared distance to the nearest point of the other cloud, both ways added. Gradients flow to both. Nearest
    neighbours are found without autograd, so memory is O(B(N+M)). Fan et al. 2017, eq. 1 (with means for sums).
    Raises ValueError if shapes disagree or a cloud is empty.
    """
    return chamfer_with_matches(pred, target).distance.mean()


def chamfer_with_matches(pred: Tensor, target: Tensor) -> Matched:
    """As `chamfer`, for each cloud of the batch, with the indices of the matches (to compare colours by)."""
    if (
        pred.ndim != 3
        or target.ndim != 3
        or pred.shape[0] != target.shape[0]
        or pred.shape[2] != target.shape[2]
    ):
        raise ValueError(
            f"clouds must be (B, N, 3) and (B, M, 3), got {tuple(pred.shape)} and {tuple(target.shape)}"
        )
    if 0 in pred.shape or 0 in target.shape:
        raise ValueError(f"an empty cloud has no neighbours: {tuple(pred.shape)} and {tuple(target.shape)}")
    if pred.device.type == "cpu":
        return Matched(*_ByTrees.apply(pred, target))
    with torch.no_grad():
        to_target, to_pred = _nearest_by_blocks(pred, target), _nearest_by_blocks(target, pred)
    there = (pred - gather(target, to_target)).square().sum(-1).mean(-1)
    back = (target - gather(pred, to_pred)).square().sum(-1).mean(-1)
    return Matched(there + back, to_target, to_pred)


def gather(points: Tensor, index: Tensor) -> Tensor:
    """points (B, M, C) at index (B, N) -> (B, N, C)."""
    return points.gather(1, index[..., None].expand(-1, -1, points.shape[-1]))


class _ByTrees(torch.autograd.Function):
    """(distance, to_target, to_pred) of CPU tensors; a point that isn't finite makes its cloud's distance NaN."""

    @staticmethod
    def forward(ctx: Any, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pairs = list(zip(pred.detach().numpy(), target.detach().numpy(), strict=True))
        found = _threads().map(_match, pairs) if len(pairs) > 1 else map(_match, pairs)
        distance, to_target, to_pred, *slopes = (
            torch.from_numpy(np.stack(parts)) for parts in zip(*found, strict=True)
        )
        ctx.save_for_backward(*slopes)
        ctx.mark_non_differentiable(to_target, to_pred)
        return distance, to_target, to_pred

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        for_pred, for_target = (gradients[0][:, None, None] * slope for slope in ctx.saved_tensors)
        return for_pred, for_target


def _match(pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Distance of two clouds, each point's nearest both ways, and the distance's gradient for both."""
    a, b = pair
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        nowhere = np.zeros(len(a), np.int64), np.zeros(len(b), np.int64)
        return a.dtype.type(np.nan), *nowhere, np.full_like(a, np.nan), np.full_like(b, np.nan)
    # Large leaves, split in the middle: the fastest trees to build and ask at about a thousand points.
    trees = [cKDTree(points, leafsize=32, balanced_tree=False, compact_nodes=False) for points in pair]
    (there, to_b), (back, to_a) = trees[1].query(a), trees[0].query(b)
    forth, home = (a - b[to_b]) * (2 / len(a)), (b - a[to_a]) * (2 / len(b))
    distance = np.square(there).mean() + np.square(back).mean()
    return (
        a.dtype.type(distance),
        to_b,
        to_a,
        forth - _collect(home, to_a, a),
        home - _collect(forth, to_b, b),
    )


def _collect(values: np.ndarray, index: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Shape and type of `like`: the sum of the rows of `values` that go to each index."""
    sums = [np.bincount(index, column, len(like)) for column in values.T]
    return np.stack(sums, axis=1).astype(like.dtype)


def _nearest_by_blocks(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.float(), b.float()
    rows = max(1, BLOCK // (a.shape[0] * b.shape[1]))
    return torch.cat([torch.cdist(part, b).argmin(-1) for part in a.split(rows, dim=1)], dim=1)


_pool: ThreadPoolExecutor | None = None
_pool_owner = 0


def _threads() -> ThreadPoolExecutor:
    """A pool of as many threads as torch uses, one per process (threads do not survive a fork)."""
    global _pool, _pool_owner
    if _pool is None or _pool_owner != os.getpid():
        _pool, _pool_owner = ThreadPoolExecutor(torch.get_num_threads()), os.getpid()
    return _pool
