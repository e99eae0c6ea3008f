"""Over tasks: what an algorithm's normalised returns on several tasks add up to.

Each function takes the frame of `tables.final_returns`. Tasks whose returns cannot be normalised are left out, tasks
weigh the same however many of their seeds are there, and columns say how many tasks and seeds that was.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from bench.report.stats.estimates import Floats, mean, median, optimality_gap, pooled_iqm, shares_of, weighted_iqm
from bench.report.stats.intervals import clopper_pearson, stratified

TASK_RESAMPLES = 2000


def runs_of(table: pd.DataFrame, algorithm: str, column: str = "normalised") -> dict[str, Floats]:
    """Task -> one value per seed of the algorithm; tasks without a value are not in it."""
    mine = table[(table["algorithm"] == algorithm) & table[column].notna()]
    return {str(task): part[column].to_numpy(np.float64) for task, part in mine.groupby("task", observed=True)}


def available(algorithm: str, runs: dict[str, Floats], table: pd.DataFrame) -> dict[str, object]:
    """What the numbers of one algorithm are computed with, beside what there could be.

    `tasks` of `all_tasks` that the table has normalised returns of; the smallest and the largest number of seeds on
    them; `complete` where all tasks and, on each, all planned seeds are there. Incomplete ones are not comparable.
    """
    all_tasks = table.loc[table["normalised"].notna(), "task"].nunique()
    counts = {task: len(part) for task, part in runs.items()}
    mine = table[(table["algorithm"] == algorithm) & table["task"].isin(runs)]
    planned = mine.groupby("task", observed=True)["planned"].first().to_dict()
    return {
        "tasks": len(runs),
        "all_tasks": all_tasks,
        "fewest_seeds": min(counts.values(), default=0),
        "most_seeds": max(counts.values(), default=0),
        "complete": 0 < len(runs) == all_tasks and counts == planned,
    }


def aggregates(table: pd.DataFrame) -> pd.DataFrame:
    """One row per algorithm: `iqm`, `mean`, `median`, `optimality_gap` over tasks, each with `_low` and `_high`.

    Without unit: normalised returns. Intervals are `intervals.stratified`: for these tasks, over seeds. `iqm_shared` is
    on the `shared` tasks alone, those that all algorithms have. Source: Agarwal et al. 2021, section 4.
    """
    estimates = {"iqm": pooled_iqm, "mean": mean, "median": median, "optimality_gap": optimality_gap}
    having = table[table["normalised"].notna()].groupby("task", observed=True)["algorithm"].nunique()
    shared = {*having.index[having == table["algorithm"].nunique()]}
    rows = []
    for algorithm in table["algorithm"].unique():
        runs = runs_of(table, algorithm)
        row = {"algorithm": algorithm, **available(algorithm, runs, table), "shared": len(shared), "iqm_shared": np.nan}
        if both := [part for task, part in runs.items() if task in shared]:
            row["iqm_shared"] = float(pooled_iqm(np.concatenate(both), shares_of([len(part) for part in both])))
        row |= dict.fromkeys((f"{name}{end}" for name in estimates for end in ("", "_low", "_high")), np.nan)
        shares = shares_of([len(part) for part in runs.values()])
        for name, estimate in estimates.items() if runs else ():
            statistic = partial(estimate, shares=shares)
            low, high = stratified([*runs.values()], statistic)
            value = float(statistic(np.concatenate([*runs.values()])))
            row |= {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}
        rows.append(row)
    return pd.DataFrame(rows)


def above(values: Floats, thresholds: Floats, shares: Floats) -> Floats:
    """The share of runs above each threshold, tasks weighing the same, [..., N] -> [..., thresholds]."""
    return np.stack([mean(values > threshold, shares) for threshold in thresholds], axis=-1)


def performance_profiles(table: pd.DataFrame, thresholds: Floats) -> pd.DataFrame:
    """One row per algorithm and threshold τ: `share` of runs whose normalised return is above τ, with `low`, `high`.

    F(τ) = 1/T sum over tasks of 1/n_i sum over seeds of [x_in > τ]. Intervals hold for each τ alone. Each end is the
    further one of the bootstrap's, which has no width where all runs agree, and of Clopper and Pearson's for as many
    runs, which also holds where tasks have different shares (Hoeffding 1956). Of two curves, one that lies above the
    other everywhere is stochastically larger. Without any normalised return there are no rows. Source: Agarwal et al.
    2021, section 4.2; Dolan and Moré 2002.
    """
    parts = []
    for algorithm in table["algorithm"].unique():
        if runs := runs_of(table, algorithm):
            shares = shares_of([len(part) for part in runs.values()])
            statistic = partial(above, thresholds=thresholds, shares=shares)
            low, high = stratified([*runs.values()], statistic)
            values = np.concatenate([*runs.values()])
            share = statistic(values)
            least, most = clopper_pearson(share * len(values), len(values))
            ends = {"low": np.minimum(low, least).clip(0, 1), "high": np.maximum(high, most).clip(0, 1)}
            numbers = {"threshold": thresholds, "share": share, **ends}
            parts.append(pd.DataFrame({"algorithm": algorithm, **numbers}))
    columns = ["algorithm", "threshold", "share", "low", "high"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def rank_stability(table: pd.DataFrame) -> pd.DataFrame:
    """One row per algorithm: its `rank` over tasks, and `rank_1` ..., how often it has each when tasks are resampled.

    Tasks are drawn with replacement, with all of their runs, and algorithms are ranked by the interquartile mean of
    normalised returns, the highest first; equal ones share the best of their ranks. `tasks` are those that all
    algorithms have: any other would rank by who was run on it. With one task nothing varies: the shares say nothing.
    Source: Efron 1979, the bootstrap, with tasks as what is drawn; Agarwal et al. 2021 for the estimate.
    """
    labels = [*table["algorithm"].unique()]
    runs = {label: runs_of(table, label) for label in labels}
    tasks = sorted(set.intersection(*(set(of) for of in runs.values()))) if runs else []
    if not tasks:
        return pd.DataFrame({"algorithm": labels, "tasks": 0, "rank": np.nan})
    T = len(tasks)
    draws = np.random.default_rng(0).multinomial(T, np.full(T, 1 / T), TASK_RESAMPLES) / T
    draws = np.concatenate([np.full((1, T), 1 / T), draws])  # the first is the tasks as they are
    levels = []
    for label in labels:
        shares = shares_of([len(runs[label][task]) for task in tasks])
        values = np.concatenate([runs[label][task] for task in tasks])
        levels.append(weighted_iqm(np.broadcast_to(values, (len(draws), len(values))), draws @ shares))
    ranks = stats.rankdata(-np.array(levels).round(12), method="min", axis=0)  # [algorithms, draws]
    shown = {f"rank_{k}": (ranks[:, 1:] == k).mean(axis=1) for k in range(1, len(labels) + 1)}
    return pd.DataFrame({"algorithm": labels, "tasks": T, "rank": ranks[:, 0], **shown})
