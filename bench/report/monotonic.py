"""Whether updates lowered the return of the joint policy, from what the improvement meter measured around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats as distributions

from bench.report import stats
from bench.report.stats import CONTRADICTED, NOTHING, SUPPORTED, UNDECIDED, Decision, Evidence

CHANCE = 0.05
"""Of updates that change nothing, this share seems to lower the return, by the standard error of the meter."""
Z = float(distributions.norm.ppf(1 - CHANCE))


def measured(updates: pd.DataFrame) -> pd.DataFrame:
    """One row per measured update and step: task, algorithm, seed, step, agent, `improvement`, `lowered`, `surely`.

    `lowered`: J fell. `surely`: by more than 1.645 standard errors of the difference; where J is exact the error is 0.
    """
    if "improvement" not in updates:
        return pd.DataFrame(columns=["task", "algorithm", "seed", "step", "agent", "improvement", "lowered", "surely"])
    found = updates[updates["improvement"].notna()]
    kept = found[["task", "algorithm", "seed", "step", "agent", "improvement"]].reset_index(drop=True)
    error = found["improvement_error"].fillna(0.0).to_numpy(np.float64)
    change = kept["improvement"].to_numpy(np.float64)
    return kept.assign(lowered=change < 0, surely=change < -Z * error)


def shares(found: pd.DataFrame) -> pd.DataFrame:
    """One row per algorithm, task and whose step: number of `updates`, shares `lowered` and `surely`, mean `change`."""
    whose = found["agent"].where(found["agent"] == "team", "one agent")
    groups = found.assign(whose=whose).groupby(["task", "algorithm", "whose"], observed=True)
    table = groups.agg(
        updates=("improvement", "size"),
        lowered=("lowered", "mean"),
        surely=("surely", "mean"),
        change=("improvement", "mean"),
    )
    return table.reset_index()


def rows(updates: pd.DataFrame | None) -> list[dict[str, str]]:
    """`shares` as text; empty where nothing was measured."""
    return [
        {
            "task": str(row["task"]),
            "algorithm": str(row["algorithm"]),
            "step of": "the whole update" if row["whose"] == "team" else str(row["whose"]),
            "measured": str(row["updates"]),
            "lowered the return": f"{row['lowered']:.0%}",
            "surely lowered it": f"{row['surely']:.1%}",
            "mean change": f"{row['change']:+,.2f}",
        }
        for row in shares(measured(pd.DataFrame() if updates is None else updates)).to_dict("records")
    ]


def evidence(found: pd.DataFrame, label: str, tasks: Sequence[str]) -> Evidence:
    """The share of updates that surely lowered J, mean over tasks and seeds, with its interval over seeds; p is NaN."""
    mine = found[(found["algorithm"] == label) & found["task"].isin(tasks) & (found["agent"] == "team")]
    if mine.empty:
        return NOTHING
    by_seed = mine.groupby(["task", "seed"], observed=True)["surely"].mean()
    runs = [part.to_numpy(np.float64) for _, part in by_seed.groupby("task", observed=True)]
    sizes = np.repeat([1 / (len(run) * len(runs)) for run in runs], [len(run) for run in runs])
    low, high = stats.stratified(runs, lambda values: np.asarray(values @ sizes))
    share = float(np.concatenate(runs) @ sizes)
    return Evidence(share, max(float(low), 0.0), float(high), np.nan, len(runs), min(map(len, runs)))


def decision(one: Evidence) -> Decision:
    """Contradicted where more updates than chance allows lower J, supported where no more do."""
    if not np.isfinite(one.low + one.high):
        return Decision(UNDECIDED, 0, np.nan)
    if one.low > CHANCE:
        return Decision(CONTRADICTED, one.seeds, np.nan)
    return Decision(SUPPORTED if one.high <= CHANCE else UNDECIDED, one.seeds if one.high <= CHANCE else 0, np.nan)
