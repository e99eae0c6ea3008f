"""Two algorithms against each other: paired differences, probability of improvement, seeds still needed.

Functions of two labels take the frame of `tables.final_returns`; `first` minus `second`, `first` above `second`.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from scipy import optimize, stats

from bench.report.stats.estimates import Floats, iqm, pooled_iqm, shares_of
from bench.report.stats.intervals import ENOUGH_SEEDS, TAILS, interval, stratified
from bench.report.stats.profiles import runs_of

MOST_SEEDS = 1000
POWER = 0.8
"""The chance that the seeds asked for decide, if effect and spread are as measured."""


def paired(table: pd.DataFrame, first: str, second: str, column: str = "value") -> pd.DataFrame:
    """Differences on equal seeds, one row per task and seed that both have: task, seed, `difference`."""
    keys = ["task", "seed"]
    sides = [table.loc[table["algorithm"] == label, [*keys, column]] for label in (first, second)]
    both = sides[0].merge(sides[1], on=keys, suffixes=("", "_second"))
    difference = both[column] - both[f"{column}_second"]
    return both[keys].assign(difference=difference).dropna(ignore_index=True)


def paired_differences(table: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """One row per task: `iqm` of the differences on equal seeds, `low`, `high`, `mean`, `median`, `wins` of `first`.

    d_n = x_n - y_n. `seeds` are those that both have, `unpaired` the runs that have no partner and are not used. Unit:
    that of returns. The mean has no interval, since none covers (docs/statistics.md).
    """
    found = paired(table, first, second)
    runs = table[table["algorithm"].isin([first, second])].groupby("task", observed=True).size()
    rows = []
    for task, part in found.groupby("task", observed=True):
        d = part["difference"].to_numpy(np.float64)
        low, high = interval(d)
        row = {"task": task, "seeds": len(d), "unpaired": runs[task] - 2 * len(d), "iqm": float(iqm(d))}
        row |= {"low": float(low), "high": float(high), "mean": d.mean(), "median": np.median(d)}
        rows.append(row | {"wins": int((d > 0).sum())})
    return pd.DataFrame(rows)


def paired_over_tasks(table: pd.DataFrame, first: str, second: str) -> dict[str, float]:
    """Interquartile mean of the normalised paired differences of all tasks, with its interval over seeds.

    Keys: `tasks`, `fewest_seeds`, `iqm`, `low`, `high`; NaN where no task has both. Without unit. Tasks weigh the same.
    """
    found = paired(table, first, second, "normalised")
    runs = [part["difference"].to_numpy(np.float64) for _, part in found.groupby("task", observed=True)]
    if not runs:
        return {"tasks": 0, "fewest_seeds": 0} | dict.fromkeys(("iqm", "low", "high"), np.nan)
    counts = [len(part) for part in runs]
    statistic = partial(pooled_iqm, shares=shares_of(counts))
    low, high = stratified(runs, statistic)
    ends = {"iqm": float(statistic(np.concatenate(runs))), "low": float(low), "high": float(high)}
    return {"tasks": len(runs), "fewest_seeds": min(counts)} | ends


def improvement(x: Floats, y: Floats) -> float:
    """P(X > Y) + P(X = Y) / 2, the share of pairs of runs in which x is larger: Mann and Whitney's U / (m n)."""
    return float(stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)))


def improvement_interval(x: Floats, y: Floats) -> tuple[float, float]:
    """95% interval of `improvement`, which keeps a width where one side wins all pairs, as a bootstrap does not.

    Its ends are the θ with (θ - p)^2 = z^2 V(θ), V(θ) = θ (1 - θ) (1 + k ((1 - θ) / (2 - θ) + θ / (1 + θ))) / (m n),
    k = (m + n) / 2 - 1. NaN below `ENOUGH_SEEDS`. Source: Newcombe 2006, Statistics in Medicine 25:559-573, method 5;
    V is that of Hanley and McNeil 1982.
    """
    m, n, p = len(x), len(y), improvement(x, y)
    if min(m, n) < ENOUGH_SEEDS:
        return np.nan, np.nan
    z, k = stats.norm.ppf(TAILS[1]), (m + n) / 2 - 1

    def excess(θ: float) -> float:
        variance = θ * (1 - θ) * (1 + k * ((1 - θ) / (2 - θ) + θ / (1 + θ))) / (m * n)
        return float((θ - p) ** 2 - z**2 * variance)

    tiny = 1e-12
    low = 0.0 if p == 0 else optimize.brentq(excess, tiny, p - tiny)
    high = 1.0 if p == 1 else optimize.brentq(excess, p + tiny, 1 - tiny)
    return float(low), float(high)


def probability_of_improvement(table: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """One row per task that both have, then one of `task` "all": the chance that a run of `first` is above `second`.

    Columns: task, `seeds` and `seeds_second`, `probability`, `low`, `high`. Over tasks p = mean of p_i, from
    p - sqrt(sum of (p_i - l_i)^2) / T to p + sqrt(sum of (u_i - p_i)^2) / T. The runs of the two are taken as
    independent; where equal seeds make them alike, the interval is too wide. Sources: Agarwal et al. 2021; Zou and
    Donner 2008 for the sum of intervals.
    """
    sides = runs_of(table, first, "value"), runs_of(table, second, "value")
    rows = []
    for task in sorted({*sides[0]} & {*sides[1]}):
        x, y = sides[0][task], sides[1][task]
        low, high = improvement_interval(x, y)
        rows.append((task, len(x), len(y), improvement(x, y), low, high))
    columns = ["task", "seeds", "seeds_second", "probability", "low", "high"]
    found = pd.DataFrame(rows, columns=columns)
    if found.empty:
        return found
    p, T = found["probability"].mean(), len(found)
    below, beyond = (np.linalg.norm(found["probability"] - found[end]) / T for end in ("low", "high"))
    least = found[["seeds", "seeds_second"]].min()
    found.loc[T] = ["all", least["seeds"], least["seeds_second"], p, p - below, p + beyond]
    return found


def seeds_needed(effect: float, low: float, high: float, seeds: int, margin: float, level: float = 0.05) -> float:
    """About how many seeds decide whether such an effect is above or below 0, or within ±margin.

    The smallest n >= `ENOUGH_SEEDS` with (t_a + t_.8) s / sqrt(n) <= |e|, or with (t_a + t_.9) s / sqrt(n) <=
    margin - |e|, quantiles of n - 1 degrees of freedom, a = 1 - level / 2: power 80%, in the second case on both sides.
    `level` is the two-sided one at which a comparison is decided. s = half of the width of the effect's 95% interval
    times sqrt(n') / t_.975 for the n' seeds at hand. NaN where there is no interval, and infinite above 1000. It rests
    on a measured effect, which is itself uncertain: a guide, no promise. Source: Julious 2004, Statistics in Medicine
    23:1921-1986, for both formulas.
    """
    if not np.isfinite(low + high):
        return np.nan
    e = abs(effect)
    s = (high - low) / 2 * np.sqrt(seeds) / stats.t.ppf(TAILS[1], seeds - 1)
    n = np.arange(ENOUGH_SEEDS, MOST_SEEDS + 1)
    error, certain = s / np.sqrt(n), stats.t.ppf(1 - level / 2, n - 1)
    apart = (certain + stats.t.ppf(POWER, n - 1)) * error <= e
    equal = (certain + stats.t.ppf((1 + POWER) / 2, n - 1)) * error <= margin - e
    decided = n[(apart & (e > 0)) | (equal & (margin > e))]
    return float(decided[0]) if len(decided) else np.inf
