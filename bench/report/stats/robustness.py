"""What the effect of a comparison would be if it were computed otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from bench.report.stats.estimates import Floats, iqm, pooled_iqm, shares_of
from bench.report.stats.verdicts import differences_of, growth
from bench.store.resolved import by_robot

Effect = Callable[[Mapping[str, Floats]], float]
"""From task -> differences of normalised returns."""


@dataclass(frozen=True)
class Robustness:
    """An effect, each time with one choice made otherwise; NaN where there is nothing to choose."""

    other_policy: float
    """By the returns of the best policy instead of the last one, or the other way round."""
    mean: float
    """The mean over tasks of their mean differences."""
    all_pairs: float
    """Of the differences x_n - y_m of all runs, not only of those on equal seeds."""
    one_scale: float
    """Of a trend: with all tasks of a robot on one scale."""
    least: float
    most: float
    """Without one task; of a trend, without one robot."""
    tasks: Mapping[str, float]
    """task -> the IQM of its differences."""


def pooled(differences: Mapping[str, Floats]) -> float:
    """The interquartile mean of the differences of all tasks; NaN without any."""
    if not differences:
        return np.nan
    runs = [*differences.values()]
    return float(pooled_iqm(np.concatenate(runs), shares_of([len(run) for run in runs])))


def of_difference(pairs: Mapping[str, Floats], by_other_policy: Mapping[str, Floats]) -> Robustness:
    """That of `outperforms`; both arguments are those of `normalised_pairs`, by one measure and by the other."""
    found = [d.mean() for d in differences_of(pairs).values()]
    mean = float(np.mean(found)) if found else np.nan
    return _robustness(pairs, by_other_policy, pooled, [[task] for task in pairs], mean, np.nan)


def of_trend(
    pairs: Mapping[str, Floats],
    by_other_policy: Mapping[str, Floats],
    agents: Mapping[str, int],
    units: Mapping[str, float],
) -> Robustness:
    """That of `grows`."""
    robots = by_robot({task: agents[task] for task in pairs})
    on_one_scale = growth({task: units[task] * d for task, d in differences_of(pairs).items()}, agents)
    return _robustness(pairs, by_other_policy, partial(growth, agents=agents), robots, np.nan, on_one_scale)


def _robustness(
    pairs: Mapping[str, Floats],
    by_other_policy: Mapping[str, Floats],
    effect: Effect,
    groups: list[list[str]],
    mean: float,
    one_scale: float,
) -> Robustness:
    differences = differences_of(pairs)
    crossed = {task: np.subtract.outer(x[0], x[1]).ravel() for task, x in pairs.items()}
    without = [effect({task: d for task, d in differences.items() if task not in group}) for group in groups]
    ends = (min(without), max(without)) if len(groups) > 1 else (np.nan, np.nan)
    tasks = {task: float(iqm(d)) for task, d in differences.items()}
    return Robustness(effect(differences_of(by_other_policy)), mean, effect(crossed), one_scale, *ends, tasks)
