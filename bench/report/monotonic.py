"""Whether updates lowered the return of the joint policy, from what the improvement meter measured around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as distributions

from bench.report import stats
from bench.report.algorithms import in_order
from bench.report.formats import NONE, without_empty
from bench.report.load import SuiteResults
from bench.report.stats import CONTRADICTED, NOTHING, SUPPORTED, UNDECIDED, Decision, Evidence
from bench.store.resolved import FEWEST_EPISODES

CHANCE = 0.05
"""Of updates that leave returns as they are at most this share seems to lower them, in `FEWEST_EPISODES` or more."""
SKEWED = 0.2
"""Of updates that leave the mean return as it is hardly more than this share seems to lower it: where a few of 16
episodes gain much and the others lose a little, 19% do."""
ERRORS = float(distributions.t.ppf(1 - CHANCE, FEWEST_EPISODES - 1))
"""A change by more than 1.753 standard errors is a sure one: the 95% quantile of Student's t with 15 degrees."""
NORMAL = float(distributions.norm.ppf(0.975))
ROUNDING = 1e-11
"""A fall by less of |J|, or of 1, is none: where J is exact, it comes from rounding."""
MEASURES = ("improvement", "improvement_error")
KEPT = ["task", "algorithm", "seed", "step", "agent", "improvement"]
JUDGED = ["lowered", "surely", "raised", "exact", "error"]


def measured(updates: pd.DataFrame) -> pd.DataFrame:
    """One row per measured update and step: task, algorithm, seed, step, agent, `improvement`, and what it was.

    `lowered`: J fell. `surely`: by more than `ERRORS` standard errors of the difference; `raised`: it rose by more.
    `exact`: whether J was, as in games.
    """
    if "improvement" not in updates:
        return pd.DataFrame(columns=[*KEPT, *JUDGED])
    found = updates[updates["improvement"].notna()].reset_index(drop=True)
    change = found["improvement"].astype(np.float64)
    error = found["improvement_error"].astype(np.float64).fillna(0.0)
    rounding = ROUNDING * _size(found)
    least = ERRORS * error + rounding
    judged = (change < -rounding, change < -least, change > least, exact(found), error)
    return found[KEPT].assign(**dict(zip(JUDGED, judged, strict=True)))


def exact(found: pd.DataFrame) -> pd.Series[bool]:
    """Whether J is exact on the task of each measured update: no change there has an error, and J changes.

    Where it is sampled, an update changes nothing, without error, if the trust region rejected the step of each agent.
    """
    sizes = found[[*MEASURES]].fillna(0.0).abs().groupby(found["task"], observed=True).transform("max")
    return (sizes["improvement"] > 0) & (sizes["improvement_error"] == 0)


def _size(updates: pd.DataFrame) -> Any:
    """max(|J|, 1) after each step; 1 where J was not recorded."""
    return np.maximum(updates["expected_return"].abs().fillna(1.0), 1.0) if "expected_return" in updates else 1.0


def shares(found: pd.DataFrame) -> pd.DataFrame:
    """One row per algorithm, task and whose step: number of `updates`, shares `lowered` and `surely`, mean `change`,
    median standard `error` of a change."""
    whose = found["agent"].where(found["agent"] == "team", "one agent")
    groups = found.assign(whose=whose).groupby(["task", "algorithm", "whose"], observed=True)
    table = groups.agg(
        updates=("improvement", "size"),
        lowered=("lowered", "mean"),
        surely=("surely", "mean"),
        change=("improvement", "mean"),
        error=("error", "median"),
    )
    return table.reset_index()


def by_algorithm(found: pd.DataFrame, order: Iterable[str] = ()) -> list[dict[str, str]]:
    """One row of text per algorithm, over all tasks: how often an update, and a step of one agent, lowered J.

    Without columns in which none has anything.
    """
    rows = []
    for label in in_order(found["algorithm"], order):
        mine = found[found["algorithm"] == label]
        whole, single = mine[mine["agent"] == "team"], mine[mine["agent"] != "team"]
        rows.append(
            {
                "algorithm": str(label),
                "tasks": str(whole["task"].nunique()),
                "updates measured": f"{len(whole):,}",
                "lowered the return": _in_words(whole, "lowered"),
                "surely lowered it": _in_words(whole, "surely"),
                "surely raised it": _in_words(whole, "raised"),
                "trials with a fall": _trials_with_a_fall(whole),
                "agents' steps that lowered it": _in_words(single, "lowered"),
            }
        )
    return without_empty(rows)


def _trials_with_a_fall(whole: pd.DataFrame) -> str:
    """ "1 of 2 [1%, 99%]"; a dash where J is sampled, as how many seem to follows from how often they measured."""
    if whole.empty or not whole["exact"].all():
        return NONE
    falls = whole.groupby(["task", "seed"], observed=True)["surely"].any()
    return stats.of_trials(int(falls.sum()), len(falls))


def _in_words(part: pd.DataFrame, column: str) -> str:
    """ "12% [9%, 15%]"; a dash where nothing was measured, and no interval of fewer than five seeds."""
    if part.empty:
        return NONE
    share, low, high = _share(part, column)
    return f"{share:.1%}" + (f" [{low:.1%}, {high:.1%}]" if low < high else "")


def by_task(found: pd.DataFrame) -> list[dict[str, str]]:
    """`shares` as text: one row per task, algorithm and whose step."""
    rows = [
        {
            "task": str(row["task"]),
            "algorithm": str(row["algorithm"]),
            "step of": "the whole update" if row["whose"] == "team" else str(row["whose"]),
            "measured": str(row["updates"]),
            "lowered the return": f"{row['lowered']:.0%}",
            "surely lowered it": f"{row['surely']:.1%}",
            "mean change": f"{row['change']:+,.4g}",
            "standard error of one change": f"{row['error']:,.4g}" if row["error"] else NONE,
        }
        for row in shares(found).to_dict("records")
    ]
    return without_empty(rows)


def context(suite: SuiteResults) -> dict[str, Any]:
    """What the template `improvement.html` shows; no rows where nothing was measured."""
    found = measured(suite.updates)
    sharing = {(t["task"], t["algorithm"]) for t in suite.trials if t.get("settings", {}).get("share_actors")}
    shared = np.array([pair in sharing for pair in zip(found["task"], found["algorithm"], strict=True)], bool)
    found = found[(found["agent"] == "team") | ~shared]  # the step of the one actor is the whole update
    return {"algorithms": by_algorithm(found, suite.algorithms.methods), "tasks": by_task(found)}


def evidence(whole: pd.DataFrame) -> Evidence:
    """The share of updates that surely lowered J, with its interval over seeds; p is NaN.

    `whole`: the rows of `measured` of one algorithm's whole updates.
    """
    if whole.empty:
        return NOTHING
    share, low, high = _share(whole, "surely")
    seeds = whole.groupby("task", observed=True)["seed"].nunique()
    return Evidence(share, low, high, np.nan, len(seeds), int(seeds.min()))


def _share(part: pd.DataFrame, column: str, bound: float = NORMAL) -> tuple[float, float, float]:
    """The share of updates, and its interval over seeds.

    Each end is the further one of two: of the bootstrap over seeds, and of Clopper and Pearson's interval for as many
    updates, which has a width where all agree. Where z = `bound` is not 1.96, both are of the level of that z.
    """
    trials = part.groupby(["task", "seed"], observed=True)[column].agg(["sum", "size"])
    tasks = trials.index.get_level_values("task")
    runs = [np.flatnonzero(tasks == task) for task in tasks.unique()]
    counts, sizes = trials["sum"].to_numpy(np.float64), trials["size"].to_numpy(np.float64)
    share = float(counts.sum() / sizes.sum())
    ends = stats.stratified(runs, lambda drawn: counts[drawn].sum(axis=-1) / sizes[drawn].sum(axis=-1))
    low, high = (share + bound / NORMAL * (float(end) - share) for end in ends)
    if np.isnan(low):
        return share, low, high
    least, most = stats.clopper_pearson(counts.sum(), len(part), float(distributions.norm.sf(bound)))
    return share, min(max(low, 0.0), float(least)), max(min(high, 1.0), float(most))


def _decisive(part: pd.DataFrame, column: str, bound: float) -> tuple[float, float]:
    """The interval of a share at the level of z = `bound`, as wide as if all updates of a trial agreed.

    Updates of one trial fall together, so it is that of Clopper and Pearson for as many trials, or `_share`'s where
    that is wider; NaN where a task has fewer than five seeds.
    """
    trials = part.groupby(["task", "seed"], observed=True)[column].mean()
    low, high = stats.clopper_pearson(trials.sum(), len(trials), float(distributions.norm.sf(bound)))
    _, *ends = _share(part, column, bound)
    return float(np.minimum(low, ends[0])), float(np.maximum(high, ends[1]))  # NaN where `_share` has none


def decide(
    at: Callable[[int], pd.DataFrame | None], looks: Sequence[int], exact: bool = False, comparisons: int = 1
) -> Decision:
    """The verdict on one algorithm's whole updates; `at(n)` has those of n seeds, or None where some are not there yet.

    Where J is sampled: contradicted where more updates than `SKEWED` surely lower the return; supported where at most
    `CHANCE` do and more than `SKEWED` raise it. The chance that one of so many comparisons is decided wrongly at any
    look is at most 5%. Where J is `exact`: contradicted where one of the measured updates lowers it, supported where
    none does and some raise it, which says nothing of those that were not measured. A verdict stays.
    """
    planned = stats.deciding(looks)
    for seeds, bound in zip(planned, stats.bounds(planned, stats.ALPHA / comparisons), strict=True):
        whole = at(seeds)
        if whole is None or whole.empty:
            continue
        if exact:
            lowered, raised = (bool(whole[column].any()) for column in ("surely", "raised"))
            contradicted, supported = lowered, raised and not lowered
        else:
            (low, high), (least, _) = (_decisive(whole, column, bound) for column in ("surely", "raised"))
            contradicted, supported = low > SKEWED, high <= CHANCE and least > SKEWED
        if contradicted or supported:
            return Decision(CONTRADICTED if contradicted else SUPPORTED, seeds, np.nan)
    return Decision(UNDECIDED, 0, np.nan)
