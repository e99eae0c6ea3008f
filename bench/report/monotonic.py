"""Whether updates lowered the return of the joint policy, from what the improvement meter measured around them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as distributions

from bench.report import stats
from bench.report.algorithms import in_order
from bench.report.formats import NONE
from bench.report.stats import CONTRADICTED, NOTHING, SUPPORTED, UNDECIDED, Decision, Evidence, Floats

CHANCE = 0.05
"""Of updates that change nothing, this share seems to lower the return, by the standard error of the meter."""
Z = float(distributions.norm.ppf(1 - CHANCE))
ROUNDING = 1e-12
"""A fall of J by less is none: where J is exact, it comes from rounding."""
MEASURES = ("improvement", "improvement_error")
KEPT = ["task", "algorithm", "seed", "step", "agent", "improvement"]


def measured(updates: pd.DataFrame) -> pd.DataFrame:
    """One row per measured update and step: task, algorithm, seed, step, agent, `improvement`, `lowered`, `surely`.

    `lowered`: J fell. `surely`: by more than 1.645 standard errors of the difference; where J is `exact`, as in games,
    the error is 0.
    """
    if "improvement" not in updates:
        return pd.DataFrame(columns=[*KEPT, "lowered", "surely", "exact"])
    found = updates[updates["improvement"].notna()]
    kept = found[KEPT].reset_index(drop=True)
    error = found["improvement_error"].fillna(0.0).to_numpy(np.float64)
    change = kept["improvement"].to_numpy(np.float64)
    surely = change < -Z * error - ROUNDING
    return kept.assign(lowered=change < -ROUNDING, surely=surely, exact=error == 0)


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


def by_algorithm(found: pd.DataFrame, order: Iterable[str] = ()) -> list[dict[str, str]]:
    """One row of text per algorithm, over all tasks: how often an update, and a step of one agent, lowered J."""
    rows = []
    for label in in_order(found["algorithm"], order):
        mine = found[found["algorithm"] == label]
        whole, single = mine[mine["agent"] == "team"], mine[mine["agent"] != "team"]
        falls = whole.groupby(["task", "seed"], observed=True)["surely"].any()
        rows.append(
            {
                "algorithm": str(label),
                "tasks": str(whole["task"].nunique()),
                "updates measured": f"{len(whole):,}",
                "lowered the return": _in_words(whole, "lowered"),
                "surely lowered it": _in_words(whole, "surely"),
                "trials with a sure fall": stats.of_trials(int(falls.sum()), len(falls)),
                "agents' steps that lowered it": _in_words(single, "lowered"),
            }
        )
    return rows


def _in_words(part: pd.DataFrame, column: str) -> str:
    """ "12% [9%, 15%]"; a dash where nothing was measured, and no interval where all trials agree."""
    if part.empty:
        return NONE
    share, low, high, _ = _share(part, column)
    return f"{share:.1%}" + (f" [{low:.1%}, {high:.1%}]" if low < high else "")


def by_task(found: pd.DataFrame) -> list[dict[str, str]]:
    """`shares` as text: one row per task, algorithm and whose step."""
    return [
        {
            "task": str(row["task"]),
            "algorithm": str(row["algorithm"]),
            "step of": "the whole update" if row["whose"] == "team" else str(row["whose"]),
            "measured": str(row["updates"]),
            "lowered the return": f"{row['lowered']:.0%}",
            "surely lowered it": f"{row['surely']:.1%}",
            "mean change": f"{row['change']:+,.4g}",
        }
        for row in shares(found).to_dict("records")
    ]


def context(updates: pd.DataFrame, order: Iterable[str]) -> dict[str, Any]:
    """What the template `improvement.html` shows; no rows where nothing was measured."""
    found = measured(updates)
    return {"algorithms": by_algorithm(found, order), "tasks": by_task(found)}


def evidence(found: pd.DataFrame, label: str, tasks: Sequence[str]) -> Evidence:
    """The share of updates that surely lowered J, mean over tasks and seeds, with its interval over seeds; p is NaN."""
    mine = found[(found["algorithm"] == label) & found["task"].isin(tasks) & (found["agent"] == "team")]
    if mine.empty:
        return NOTHING
    share, low, high, runs = _share(mine, "surely")
    return Evidence(share, low, high, np.nan, len(runs), min(map(len, runs)))


def _share(part: pd.DataFrame, column: str) -> tuple[float, float, float, list[Floats]]:
    """The mean over tasks and seeds of a share, its interval over seeds, and the shares of the seeds of each task."""
    by_seed = part.groupby(["task", "seed"], observed=True)[column].mean()
    runs = [one.to_numpy(np.float64) for _, one in by_seed.groupby("task", observed=True)]
    weights = stats.shares_of([len(run) for run in runs])
    low, high = stats.stratified(runs, lambda values: stats.mean(values, weights))
    share = float(stats.mean(np.concatenate(runs), weights))
    return share, max(float(low), 0.0), min(float(high), 1.0), runs


def chance(found: pd.DataFrame) -> float:
    """The share of updates that seem to lower J though they change nothing: none where every J is exact."""
    return 0.0 if found["exact"].all() else CHANCE


def decision(one: Evidence, chance: float = CHANCE) -> Decision:
    """Contradicted where more updates than chance allows lower J, supported where no more do.

    Without chance, where J is exact, one update that lowers it contradicts.
    """
    if not np.isfinite(one.low + one.high):
        return Decision(UNDECIDED, 0, np.nan)
    if one.low > chance or one.effect > chance == 0:
        return Decision(CONTRADICTED, one.seeds, np.nan)
    return Decision(SUPPORTED, one.seeds, np.nan) if one.high <= chance else Decision(UNDECIDED, 0, np.nan)
