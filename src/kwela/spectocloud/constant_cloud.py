"""The best constant prediction of a set of clouds, which a model must beat. Training and the judge use it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kwela.spectocloud import space
from kwela.spectocloud.chamfer import chamfer

STEPS, BATCH, RATE = 40, 16, 3e-3  # of the gradient descent


def fit_constant_cloud(clouds: Tensor, seed: int) -> Tensor:
    """Fit one cloud (1200, 3) to all of clouds (N, 1200, 3) by gradient descent on the Chamfer distance.

    The descent starts from 1,200 of their points, chosen by `seed`.
    """
    rng = np.random.default_rng(seed)
    pooled = clouds.flatten(0, 1)
    cloud = pooled[rng.choice(len(pooled), space.POINTS, replace=False)].clone().requires_grad_()
    descent = torch.optim.Adam([cloud], lr=RATE)
    with torch.enable_grad():
        for step in range(STEPS):
            descent.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
            batch = clouds[rng.choice(len(clouds), min(BATCH, len(clouds)), replace=False)]
            descent.zero_grad()
            chamfer(cloud.expand(len(batch), -1, -1), batch).backward()
            descent.step()
    return cloud.detach().clamp(0, 1)
