"""How far apart two clouds are: all that the cloud judge measures of a pair, from one search for nearest neighbours.

A cloud is a set: its points have no order, so each point is compared with the nearest point of the other cloud. These
are the judge's own distances, in float64 and by exact search; training has its own.

Radii of the F-score. Between a target and the same target drawn again, the distance from a point to the other draw's
nearest has a median of .016 and a 95 % point of .050 cube edges (64 segments of the demo's held-out songs). FINE lies
a little above that median, so that two draws of one music share most of it and no cloud can be asked for much more;
COARSE lies at the 95 % point, so that they agree almost wholly. In music: FINE is 2.4 semitones or 30 ms, COARSE
6 semitones or 74 ms.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from kwela.spectocloud.target import Cloud

FINE, COARSE = 0.02, 0.05  # cube edges


class Apart(NamedTuple):
    """chamfer >= 0, squared cube edges; fine, coarse: F-scores in [0, 1], 1 best; colour, properties: in [0, 1]."""

    chamfer: float
    fine: float
    coarse: float
    colour: float
    properties: float


def apart(cloud: Cloud, wanted: Cloud) -> Apart:
    """How far `cloud` is from `wanted`.

    chamfer: the mean squared distance to the nearest point of the other cloud, both ways added (Fan et al. 2017, eq. 1,
    with means for sums). fine, coarse: see `f_score`. colour: the mean absolute difference of red, green, blue and
    opacity between each point and its nearest, both ways averaged; properties: that of size, glow and depth.
    Points that aren't finite, which no honest model gives: chamfer and the differences are infinite, the F-scores 0.
    Raises ValueError if a cloud has no points.
    """
    a, b = (np.asarray(one.positions, np.float64) for one in (cloud, wanted))
    if not len(a) or not len(b):
        raise ValueError(f"clouds of {len(a)} and {len(b)} points: an empty one has no neighbours")
    if not all(np.isfinite(part).all() for one in (cloud, wanted) for part in one):
        return Apart(np.inf, 0.0, 0.0, np.inf, np.inf)
    (there, to_b), (back, to_a) = cKDTree(b).query(a), cKDTree(a).query(b)
    forth = np.abs(cloud.attributes - wanted.attributes[to_b]).mean(0)
    home = np.abs(wanted.attributes - cloud.attributes[to_a]).mean(0)
    differs = (forth + home) / 2
    return Apart(
        float(np.square(there).mean() + np.square(back).mean()),
        f_score(there, back, FINE),
        f_score(there, back, COARSE),
        float(differs[:4].mean()),
        float(differs[4:].mean()),
    )


def f_score(there: np.ndarray, back: np.ndarray, radius: float) -> float:
    """The harmonic mean of precision and recall within `radius`; 0 where both are 0. Tatarchenko et al. 2019, sec. 5.

    there: each predicted point's distance to the nearest wanted one (precision: the share within `radius`); back: each
    wanted point's distance to the nearest predicted one (recall).
    """
    precision, recall = (there <= radius).mean(), (back <= radius).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0
