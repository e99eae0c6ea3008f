"""Estimates: one number from the returns of several seeds, or of several tasks with several seeds each.

The unit of all statistics is the seed: the episodes of one evaluation are averaged first, because they share one policy
and say nothing about how the algorithm varies from one training to the next.

Over tasks, the runs of all tasks stand in one array [N], and `shares` [T, N] says whose they are: 1 / n_i where a run
is one of the n_i of task i, else 0. Each task weighs the same, however many of its seeds are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, stats

Floats = NDArray[np.float64]

QUARTER = 0.25 + 1e-9
"""A quarter of the weight, beyond the rounding of sums."""


def iqm(values: Floats, axis: int = -1) -> Any:
    """Interquartile mean: the mean of what is left when the lowest and the highest quarter are cut off.

    IQM = 1 / (n - 2g) * sum of x_(i), i = g + 1 ... n - g, with g = floor(n / 4), as in rliable, so up to three values
    give the plain mean. Unit: that of the values. Source: Agarwal et al. 2021, "Deep RL at the edge of the statistical
    precipice", section 4.3.
    """
    return stats.trim_mean(values, 0.25, axis=axis)


def shares_of(counts: Sequence[int]) -> Floats:
    """The matrix `shares` of tasks with so many runs each, which stand one task after the other, [T, N]."""
    return np.asarray(linalg.block_diag(*(np.full((1, n), 1 / n) for n in counts)), dtype=np.float64)


def mean(values: Floats, shares: Floats) -> Floats:
    """Mean over tasks of the mean over seeds: sum of x_in / (T n_i). Unit: that of the values, [..., N] -> [...]."""
    return np.asarray(values @ shares.mean(axis=0))


def median(values: Floats, shares: Floats) -> Floats:
    """Median over tasks of the mean over seeds, [..., N] -> [...]. Unit: that of the values.

    Source: Agarwal et al. 2021, who advise against it: half of the tasks may be anything without moving it.
    """
    return np.asarray(np.median(values @ shares.T, axis=-1))


def pooled_iqm(values: Floats, shares: Floats) -> Floats:
    """Interquartile mean of the runs of all tasks, [..., N] -> [...]. Unit: that of the values."""
    return weighted_iqm(values, shares.mean(axis=0))


def weighted_iqm(values: Floats, weights: Floats) -> Floats:
    """Interquartile mean of runs that weigh differently, [..., N] and [..., N] -> [...]. Weights add up to 1.

    The lowest runs whose weights add up to at most 1/4 are left out, likewise the highest: with equal weights `iqm`.
    Source: Agarwal et al. 2021; the weights are ours, for matrices in which tasks have different numbers of seeds.
    """
    order = np.argsort(values, axis=-1)
    ranked = np.take_along_axis(values, order, axis=-1)
    sizes = np.take_along_axis(np.broadcast_to(weights, values.shape), order, axis=-1)
    up, down = sizes.cumsum(axis=-1), sizes[..., ::-1].cumsum(axis=-1)[..., ::-1]
    kept = sizes * ((up > QUARTER) & (down > QUARTER))
    return np.asarray((kept * ranked).sum(axis=-1) / kept.sum(axis=-1))


def optimality_gap(values: Floats, shares: Floats, target: float = 1.0) -> Floats:
    """How far the runs fall short of a target, mean of max(target - x, 0) over tasks; what is above it counts as 0.

    Unit: that of the values, which are normalised returns: 0 is a random policy, 1 the recorded reference. Source:
    Agarwal et al. 2021, section 4.3.
    """
    return mean(np.maximum(target - values, 0.0), shares)
