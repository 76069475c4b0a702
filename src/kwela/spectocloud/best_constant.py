"""The one cloud that stands for many: what a model must beat. A pure function, for training and for the judge."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kwela.spectocloud import space
from kwela.spectocloud.chamfer import chamfer

STEPS, BATCH, RATE = 40, 16, 3e-3  # of the descent


def best_cloud(clouds: Tensor, seed: int) -> Tensor:
    """The one cloud (1200, 3) that descent finds nearest to all of clouds (N, 1200, 3), from 1,200 of their points."""
    rng = np.random.default_rng(seed)
    pooled = clouds.flatten(0, 1)
    cloud = pooled[rng.choice(len(pooled), space.POINTS, replace=False)].clone().requires_grad_()
    descent = torch.optim.Adam([cloud], lr=RATE)
    with torch.enable_grad():
        for step in range(STEPS):
            descent.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
            some = clouds[rng.choice(len(clouds), min(BATCH, len(clouds)), replace=False)]
            descent.zero_grad()
            chamfer(cloud.expand(len(some), -1, -1), some).backward()
            descent.step()
    return cloud.detach().clamp(0, 1)
