"""95% intervals whose coverage was simulated: docs/statistics.md has the table, and the command that makes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.report.stats.estimates import Floats, iqm

CONFIDENCE = 0.95
RESAMPLES = 5000
ENOUGH_SEEDS = 5
"""Below this no interval is given: none that we know covers what it says."""
BARELY_COVERING = (5, 6, 7, 8, 12, 13)
"""Numbers of seeds of which intervals cover too little where some seeds fail outright and the others agree closely."""
TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


def stretch(seeds: int) -> float:
    """How much wider an interval of so few seeds must be than quantiles of its resamples: t_(n-1) / z at 97.5%.

    1.42 with 5 seeds, 1.15 with 10, 1.07 with 20. Source: Hesterberg 2015, "What teachers should know about the
    bootstrap", who takes quantiles further out instead; with 5 seeds those cannot leave the range of the seeds.
    """
    return float(stats.t.ppf(TAILS[1], seeds - 1) / stats.norm.ppf(TAILS[1]))


def stretched(estimate: Floats, resampled: Floats, seeds: int) -> tuple[Floats, Floats]:
    """The percentile bootstrap interval, each side stretched away from the estimate; `resampled` is [resamples, ...].

    low = e - s (e - q_low), high = e + s (q_high - e), with q the 2.5% and 97.5% quantiles and s = `stretch(seeds)`.
    """
    low, high = np.quantile(resampled, TAILS, axis=0)
    s = stretch(seeds)
    return np.asarray(estimate - s * (estimate - low)), np.asarray(estimate + s * (high - estimate))


def drawn(seeds: int, resamples: int) -> NDArray[np.int_]:
    """Which seeds each resample has, [resamples, seeds]: all seeds^seeds ways, as of five, or so many at random."""
    if seeds**seeds <= resamples:
        return np.array([*product(range(seeds), repeat=seeds)])
    return np.random.default_rng(0).integers(0, seeds, (resamples, seeds))


def interval(values: Floats) -> tuple[Floats, Floats]:
    """95% interval of the interquartile mean over seeds: a percentile bootstrap, stretched for few seeds.

    `values` is [seeds, ...]: one resample draws whole seeds, so the points of a curve stay together. The random stream
    starts anew at each call: equal records give equal numbers, whatever else is in the report. With fewer than
    `ENOUGH_SEEDS`, or where a value is not finite, the interval is NaN. Differences of paired seeds are values like
    others. Source: `stretched`; coverage: docs/statistics.md.
    """
    low = np.full(values.shape[1:], np.nan)
    high = low.copy()
    finite = np.isfinite(values).all(axis=0)
    n = len(values)
    if n >= ENOUGH_SEEDS and finite.any():
        chosen = values[:, finite] if values.ndim > 1 else values
        low[finite], high[finite] = stretched(iqm(chosen, axis=0), iqm(chosen[drawn(n, RESAMPLES)], axis=1), n)
    return low, high


def stratified(
    runs: Sequence[NDArray[Any]], statistic: Callable[[Any], Floats], resamples: int = RESAMPLES
) -> tuple[Floats, Floats]:
    """95% interval of a statistic of several tasks: seeds are drawn anew within each task, tasks stay as they are.

    `runs` has one array per task, `statistic` maps [..., N], the runs of all tasks one after the other, to numbers. The
    interval says how the estimate varies with the seeds, on these tasks; for other tasks see `rank_stability`. It is
    stretched for the smallest number of seeds, and NaN where a task has fewer than `ENOUGH_SEEDS`. Source: Agarwal et
    al. 2021, section 4.1.
    """
    values = np.concatenate(runs)
    estimate = statistic(values)
    fewest = min(len(part) for part in runs)
    if fewest < ENOUGH_SEEDS or not np.isfinite(values).all():
        return np.full(np.shape(estimate), np.nan), np.full(np.shape(estimate), np.nan)
    random = np.random.default_rng(0)
    anew = [part[random.integers(0, len(part), (resamples, len(part)))] for part in runs]
    return stretched(estimate, statistic(np.concatenate(anew, axis=1)), fewest)


def clopper_pearson(found: Any, trials: int, tail: float = TAILS[0]) -> tuple[Floats, Floats]:
    """The interval of a share, of `found` in so many trials; each end errs with a chance of at most `tail`.

    `found` may be no whole number, as the sum of shares is. Source: Clopper and Pearson 1934.
    """
    x = np.asarray(found, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        low, high = stats.beta.ppf(tail, x, trials - x + 1), stats.beta.isf(tail, x + 1, trials - x)
    return np.where(x > 0, low, 0.0), np.where(x < trials, high, 1.0)


def of_trials(found: int, trials: int) -> str:
    """ "8 of 10 [44%, 97%]": a number of trials, and 95% of the share it stands for (Clopper and Pearson 1934).

    It covers at least what it says, whatever the share.
    """
    low, high = clopper_pearson(found, trials)
    return f"{found} of {trials} [{low:.0%}, {high:.0%}]"
