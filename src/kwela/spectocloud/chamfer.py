"""Chamfer distance between point clouds, in memory that grows with N + M instead of N x M.

The nearest neighbours are found without autograd (on the CPU by k-d trees, which ignore most of the pairs; on a GPU by
blocks of distances), then only the matched pairs enter the graph: the gradient is that of the full form, since the
minimum passes gradient to its argument alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

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
    if pred.ndim != 3 or target.ndim != 3 or pred.shape[0] != target.shape[0] or pred.shape[2] != target.shape[2]:
        raise ValueError(f"clouds must be (B, N, 3) and (B, M, 3), got {tuple(pred.shape)} and {tuple(target.shape)}")
    if 0 in pred.shape or 0 in target.shape:
        raise ValueError(f"an empty cloud has no neighbours: {tuple(pred.shape)} and {tuple(target.shape)}")
    to_target, to_pred = nearest(pred.detach(), target.detach())
    there = (pred - gather(target, to_target)).square().sum(-1).mean(-1)
    back = (target - gather(pred, to_pred)).square().sum(-1).mean(-1)
    return Matched(there + back, to_target, to_pred)


def gather(points: Tensor, index: Tensor) -> Tensor:
    """points (B, M, C) at index (B, N) -> (B, N, C)."""
    return points.gather(1, index[..., None].expand(-1, -1, points.shape[-1]))


@torch.no_grad()
def nearest(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the nearest point of b for each of a (B, N), and of a for each of b (B, M), int64."""
    if a.device.type != "cpu":
        return _nearest_by_blocks(a, b), _nearest_by_blocks(b, a)
    pairs = list(zip(a.float().numpy(), b.float().numpy(), strict=True))
    found = list(_threads().map(_nearest_by_trees, pairs)) if len(pairs) > 1 else [_nearest_by_trees(pairs[0])]
    return torch.stack([to_b for to_b, _ in found]), torch.stack([to_a for _, to_a in found])


def _nearest_by_trees(pair: Sequence) -> tuple[Tensor, Tensor]:
    # Large leaves, split in the middle: the fastest trees to build and ask at about a thousand points.
    trees = [cKDTree(points, leafsize=32, balanced_tree=False, compact_nodes=False) for points in pair]
    return torch.from_numpy(trees[1].query(pair[0])[1]), torch.from_numpy(trees[0].query(pair[1])[1])


def _nearest_by_blocks(a: Tensor, b: Tensor) -> Tensor:
    rows = max(1, BLOCK // (a.shape[0] * b.shape[1]))
    b = b.float()
    return torch.cat([torch.cdist(part, b).argmin(-1) for part in a.float().split(rows, dim=1)], dim=1)


_pool: ThreadPoolExecutor | None = None
_pool_owner = 0


def _threads() -> ThreadPoolExecutor:
    """A pool of as many threads as torch uses, one per process (threads do not survive a fork)."""
    global _pool, _pool_owner
    if _pool is None or _pool_owner != os.getpid():
        _pool, _pool_owner = ThreadPoolExecutor(torch.get_num_threads()), os.getpid()
    return _pool
