"""Chamfer distance between point clouds, in memory that grows with N + M instead of N x M.

Nearest neighbours are found without autograd: on the CPU by k-d trees, which skip most pairs, and on a GPU by
blocks of distances. The gradient of a minimum flows only to its argument, so the gradient needs nothing but
the matches. On the CPU the gradient is computed together with the matches, cloud by cloud, because torch
operations on batches this small spend most of their time waiting for threads.
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
    """The distance of each pair of clouds and its matches.

    distance (B,): symmetric squared Chamfer distance. to_target (B, N), to_pred (B, M): index of each point's
    nearest neighbour in the other cloud.
    """

    distance: Tensor
    to_target: Tensor
    to_pred: Tensor


def chamfer(pred: Tensor, target: Tensor) -> Tensor:
    """Return the symmetric squared Chamfer distance, averaged over the batch.

    pred, target: (B, N, 3) and (B, M, 3), float. Returns a scalar, in squared units of the input: the mean
    over points of the squared distance to the nearest point of the other cloud, both ways added. Gradients
    flow to both. Nearest neighbours are found without autograd, so memory is O(B(N+M)). Fan et al. 2017, eq.
    1 (with means for sums). Raises ValueError if shapes disagree or a cloud is empty.
    """
    return chamfer_with_matches(pred, target).distance.mean()


def chamfer_with_matches(pred: Tensor, target: Tensor) -> Matched:
    """Return the distance of each cloud of the batch and the matches, by which colours are compared.

    pred, target: as for `chamfer`. Raises ValueError as `chamfer`.
    """
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
    pred_distance = (pred - gather(target, to_target)).square().sum(-1).mean(-1)
    target_distance = (target - gather(pred, to_pred)).square().sum(-1).mean(-1)
    return Matched(pred_distance + target_distance, to_target, to_pred)


def gather(points: Tensor, index: Tensor) -> Tensor:
    """Return the points (B, M, C) at index (B, N) as (B, N, C)."""
    return points.gather(1, index[..., None].expand(-1, -1, points.shape[-1]))


class _ByTrees(torch.autograd.Function):
    """Chamfer distance and matches on the CPU. A cloud with a point that is not finite gets NaN."""

    @staticmethod
    def forward(ctx: Any, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pairs = list(zip(pred.detach().numpy(), target.detach().numpy(), strict=True))
        matches = _threads().map(_match, pairs) if len(pairs) > 1 else map(_match, pairs)
        distance, to_target, to_pred, *gradients = (
            torch.from_numpy(np.stack(parts)) for parts in zip(*matches, strict=True)
        )
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(to_target, to_pred)
        return distance, to_target, to_pred

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor]:
        pred_gradient, target_gradient = (upstream[0][:, None, None] * saved for saved in ctx.saved_tensors)
        return pred_gradient, target_gradient


def _match(pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return the distance of two clouds, the nearest neighbours both ways, and the gradient for both."""
    a, b = pair
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        no_match = np.zeros(len(a), np.int64), np.zeros(len(b), np.int64)
        return a.dtype.type(np.nan), *no_match, np.full_like(a, np.nan), np.full_like(b, np.nan)
    # Trees with large leaves, split in the middle, are the fastest at about a thousand points (measured).
    trees = [cKDTree(points, leafsize=32, balanced_tree=False, compact_nodes=False) for points in pair]
    (a_distances, to_b), (b_distances, to_a) = trees[1].query(a), trees[0].query(b)
    a_pull, b_pull = (a - b[to_b]) * (2 / len(a)), (b - a[to_a]) * (2 / len(b))
    distance = np.square(a_distances).mean() + np.square(b_distances).mean()
    return (
        a.dtype.type(distance),
        to_b,
        to_a,
        a_pull - _sum_by_index(b_pull, to_a, a),
        b_pull - _sum_by_index(a_pull, to_b, b),
    )


def _sum_by_index(values: np.ndarray, index: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return an array like `like`: the sum of the rows of `values` that have each index."""
    sums = [np.bincount(index, column, len(like)) for column in values.T]
    return np.stack(sums, axis=1).astype(like.dtype)


def _nearest_by_blocks(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.float(), b.float()
    rows = max(1, BLOCK // (a.shape[0] * b.shape[1]))
    return torch.cat([torch.cdist(part, b).argmin(-1) for part in a.split(rows, dim=1)], dim=1)


_pool: ThreadPoolExecutor | None = None
_pool_owner = 0


def _threads() -> ThreadPoolExecutor:
    """Return this process's pool, with as many threads as torch uses. Threads do not survive a fork."""
    global _pool, _pool_owner
    if _pool is None or _pool_owner != os.getpid():
        _pool, _pool_owner = ThreadPoolExecutor(torch.get_num_threads()), os.getpid()
    return _pool
