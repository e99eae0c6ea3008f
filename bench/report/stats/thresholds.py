"""What it costs to reach a return, when not every trial gets there."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from bench.report.stats.estimates import Floats
from bench.report.stats.intervals import CONFIDENCE, ENOUGH_SEEDS
from bench.report.stats.tables import seed_returns


def first_passages(records: pd.DataFrame, states: pd.DataFrame, task: str, threshold: float) -> pd.DataFrame:
    """One row per trial of a task with records: algorithm, seed, `reached`, and what that took, `steps` and `seconds`.

    It is the first point of the grid at which the mean return of the evaluation is at least the threshold, so it is
    known to one interval of the grid. Where there is none, `reached` is False and the cost is that of the last point:
    the trial is censored there. One that has ended never gets there, whether it failed, diverged or used all of its
    steps, and is censored at the largest cost of the task: neither an early end nor a fast machine spares it.
    """
    keys = ["algorithm", "seed"]
    grid = seed_returns(records[records["task"] == task], "grid")
    times = records[(records["task"] == task) & (records["kind"] == "grid")].groupby([*keys, "step"], observed=True)
    grid = grid.merge(times["seconds"].max().reset_index(), on=[*keys, "step"])
    ended = states[(states["task"] == task) & states["state"].isin(["failed", "done"])]
    never = {*zip(ended["algorithm"], ended["seed"], strict=True)}
    never |= {*grid.loc[~np.isfinite(grid["value"]), keys].itertuples(index=False, name=None)}
    parts = dict(iter(grid.groupby(keys, observed=True)))
    rows = []
    for cell in sorted({*parts} | never):
        part = parts.get(cell, grid.iloc[:0])
        reached = part[np.isfinite(part["value"]) & (part["value"] >= threshold)]
        spent = reached.iloc[0] if len(reached) else grid.max() if cell in never else part.iloc[-1]
        rows.append((*cell, len(reached) > 0, float(spent["step"]), float(spent["seconds"])))
    return pd.DataFrame(rows, columns=[*keys, "reached", "steps", "seconds"])


def survival(costs: Floats, reached: NDArray[np.bool_]) -> Any:
    """Kaplan and Meier's estimate of the share of trials that have not got there yet, a function of the cost.

    S(c) = product over costs c_i <= c of (1 - d_i / n_i): of n_i trials that had neither got there nor been censored
    before c_i, d_i got there. What `scipy.stats.ecdf` gives as `sf`. Source: Kaplan and Meier 1958.
    """
    sample = stats.CensoredData(uncensored=costs[reached], right=costs[~reached])
    return stats.ecdf(sample).sf


def median_cost(costs: Floats, reached: NDArray[np.bool_]) -> tuple[float, float, float]:
    """The median cost, and its 95% interval: the first cost at which S, and each of its bounds, is at most 1/2.

    Infinite where S or the bound does not fall that far: with S, half of the trials did not get there. Bounds are those
    of log(-log S), which say nothing where S is 0 or 1. NaN below `ENOUGH_SEEDS`, or where no trial got there. Source:
    Brookmeyer and Crowley 1982; Kalbfleisch and Prentice 1980 for the bounds.
    """
    if not reached.any():
        return np.inf, np.nan, np.nan
    sf = survival(costs, reached)
    median = _first(sf.quantiles, sf.probabilities)
    if len(costs) < ENOUGH_SEEDS:
        return median, np.nan, np.nan
    with warnings.catch_warnings(category=RuntimeWarning, action="ignore"), np.errstate(all="ignore"):
        bounds = sf.confidence_interval(CONFIDENCE, method="log-log")
    low = np.where(np.isnan(bounds.low.probabilities), sf.probabilities, bounds.low.probabilities)
    high = np.nan_to_num(bounds.high.probabilities, nan=1.0)
    return median, _first(sf.quantiles, low), _first(sf.quantiles, high)


def _first(costs: Floats, shares: Floats) -> float:
    """The first cost at which a falling share is at most 1/2."""
    found = costs[shares <= 0.5 + 1e-12]
    return float(found[0]) if len(found) else np.inf


def cost_to_threshold(records: pd.DataFrame, states: pd.DataFrame, task: str, threshold: float) -> pd.DataFrame:
    """One row per algorithm: `seeds`, how many `reached` the threshold, and the median `steps` and `seconds` it took.

    Each median has `_low` and `_high`, and is infinite where fewer than half got there. Trials that did not are
    censored, not dropped: without them the cost of an algorithm that rarely gets there would look small.
    """
    rows = []
    passages = first_passages(records, states, task, threshold)
    for algorithm, part in passages.groupby("algorithm", observed=True, sort=False):
        row: dict[str, Any] = {"task": task, "algorithm": algorithm, "threshold": threshold}
        reached = part["reached"].to_numpy(bool)
        row |= {"seeds": len(part), "reached": int(reached.sum())}
        for unit in ("steps", "seconds"):
            ends = median_cost(part[unit].to_numpy(np.float64), reached)
            row |= dict(zip((unit, f"{unit}_low", f"{unit}_high"), ends, strict=True))
        rows.append(row)
    return pd.DataFrame(rows)
