"""Frames: each function takes the records and trials of a suite and gives one row per trial, curve or cell."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import pandas as pd

from bench.report.algorithms import in_order
from bench.report.stats.estimates import Floats, iqm
from bench.report.stats.intervals import ENOUGH_SEEDS, interval
from bench.store import scores
from bench.store.scores import Score


def seed_returns(records: pd.DataFrame, kind: str) -> pd.DataFrame:
    """One row per task, algorithm, seed and step: `value`, the evaluation's mean return, and its `episodes`."""
    chosen = records[records["kind"] == kind]
    groups = chosen.groupby(["task", "algorithm", "seed", "step"], sort=True, observed=True)
    # pandas' own mean skips NaN, and would call a policy that diverged in half of its episodes a good one
    means = groups["episode_return"].mean(skipna=False)
    return pd.DataFrame({"value": means, "episodes": groups.size()}).reset_index()


def trial_states(
    records: pd.DataFrame,
    trials: list[dict[str, Any]],
    skipped: Collection[tuple[str, str]] = (),
    order: Iterable[str] = (),
    planned: Collection[tuple[str, str, int]] | None = None,
) -> pd.DataFrame:
    """The matrix tasks x algorithms x seeds, one row per cell that is planned or there.

    `planned`: the cells (task, algorithm, seed) that a suite plans for sure; without it all of the matrix that trials
    span. A trial that waits and is planned no more has no row. A pairing (task, algorithm) in `skipped` has rows only
    for trials that have records all the same. Algorithms stand in `order`, then as they appear; tables and figures
    follow the order of these rows.

    Columns: task, algorithm, seed; `state` (done, running, stopped, waiting, failed, incomplete, missing);
    `reached`, the last step of the grid that was evaluated; `steps`, the budget of the task; `seconds` of training;
    `error`. Without trial.json files the budget is the last step that anyone reached on the task. `done` means that
    the last and the best policy were played on fresh episodes, as a trial does at the end of its budget.
    """
    if planned is not None:
        trials = [t for t in trials if t["status"] != "waiting" or (t["task"], t["algorithm"], t["seed"]) in planned]
    grid = records[records["kind"] == "grid"]
    ends = grid.groupby(["task", "algorithm", "seed"], observed=True)
    reached: dict[Any, int] = ends["step"].max().to_dict()
    seconds: dict[Any, float] = ends["seconds"].max().to_dict()
    budget: dict[Any, int] = grid.groupby("task", observed=True)["step"].max().to_dict()
    budget |= {trial["task"]: trial["steps"] for trial in trials}
    known = {(trial["task"], trial["algorithm"], trial["seed"]): trial for trial in trials}
    ended = _ended(records, budget)
    cells = {*reached, *known, *(planned or ())}
    named = [*records["algorithm"], *(trial["algorithm"] for trial in trials), *(cell[1] for cell in sorted(cells))]
    labels = in_order(named, order)
    longest = max(budget.values(), default=0)
    rows = [
        {
            "task": task,
            "algorithm": algorithm,
            "seed": seed,
            "state": _state(known.get(cell), cell in reached, cell in ended),
            "reached": reached.get(cell, np.nan),
            "steps": budget.get(task, longest),
            "seconds": seconds.get(cell, np.nan),
            "error": _error(known.get(cell)),
        }
        for task in sorted({cell[0] for cell in cells})
        for algorithm in labels
        for seed in sorted({cell[2] for cell in cells})
        for cell in [(task, algorithm, seed)]
        if cell in reached
        or ((task, algorithm) not in skipped and (planned is None or cell in known or cell in planned))
    ]
    return pd.DataFrame(rows)


def begun_seeds(states: pd.DataFrame) -> list[int]:
    """How many seeds of each pairing of `trial_states` have records; of pairings without any nothing."""
    begun = states[states["reached"].notna()]
    return [int(count) for count in begun.groupby(["task", "algorithm"], observed=True).size()]


def _ended(records: pd.DataFrame, budget: dict[Any, int]) -> set[tuple[str, str, int]]:
    """The trials whose last policy, of the end of the budget, and whose best policy were played on fresh episodes."""
    final = records[(records["kind"] == "final") & (records["step"] == records["task"].map(budget))]
    absolute = records[records["kind"] == "absolute"]
    found = [{*zip(part["task"], part["algorithm"], part["seed"], strict=True)} for part in (final, absolute)]
    return found[0] & found[1]


def _state(trial: dict[str, Any] | None, begun: bool, ended: bool) -> str:
    if trial is not None and trial["status"] in ("failed", "running", "stopped", "waiting"):
        return str(trial["status"])
    if ended:
        return "done"
    return "missing" if trial is None and not begun else "incomplete"


def _error(trial: dict[str, Any] | None) -> str:
    return str(trial.get("error") or "") if trial is not None else ""


def diverged(records: pd.DataFrame) -> pd.DataFrame:
    """The trials with a return that is not finite: task, algorithm, seed and the first such `step`."""
    wrong: pd.DataFrame = records[~np.isfinite(records["episode_return"].to_numpy(np.float64))]
    return wrong.groupby(["task", "algorithm", "seed"], observed=True)["step"].min().reset_index()


def final_returns(
    records: pd.DataFrame,
    states: pd.DataFrame,
    kind: str = "final",
    score_of: Callable[[str], Score | None] = scores.score,
) -> pd.DataFrame:
    """One row per trial that has ended: task, algorithm, seed, `value`, `normalised`, `counted_as`, and of how many
    such trials of its task and algorithm are `planned`.

    `value` is the mean return on fresh episodes of the last policy, or of the best one with `kind` "absolute"
    (Gorsane et al. 2022). A trial that failed for good, or whose value is not finite, is not dropped: it counts as the
    random policy of the reference scores, or as the worst trial of its task where that is less. `counted_as` then says
    "random policy" or "worst of the task", else it is empty; without either the value is NaN. `normalised` is
    0 for a random policy and 1 for the reference, NaN where no reference is recorded.
    """
    planned = states.groupby(["task", "algorithm"], observed=True).size().rename("planned").reset_index()
    found = count_lost(ended_returns(records, states, kind), score_of)
    return found.merge(planned, how="left", on=["task", "algorithm"])


def ended_returns(records: pd.DataFrame, states: pd.DataFrame, kind: str = "final") -> pd.DataFrame:
    """One row per trial that has ended: task, algorithm, seed, `value`, NaN for one that failed or is not finite."""
    keys = ["task", "algorithm", "seed"]
    ended = states.loc[states["state"].isin(["done", "failed"]), [*keys, "state"]]
    table = ended.merge(seed_returns(records, kind)[[*keys, "value"]], on=keys, how="left")
    table["value"] = table["value"].where(table["state"] == "done").where(np.isfinite(table["value"]))
    return table.drop(columns="state")


def count_lost(table: pd.DataFrame, score_of: Callable[[str], Score | None] = scores.score) -> pd.DataFrame:
    """The table of `ended_returns` as that of `final_returns`: the worst of a task is that of the trials in it."""
    value = table["value"]
    known = {task: score_of(task) for task in table["task"].unique()}
    random = table["task"].map({task: score.random for task, score in known.items() if score}).astype(float)
    worst = value.groupby(table["task"], observed=True).transform("min")
    lost = value.isna()
    as_random = lost & ~(worst < random) & random.notna()
    as_worst = lost & ~as_random & worst.notna()
    value = value.mask(as_random, random).mask(as_worst, worst)
    return table.assign(
        value=value,
        normalised=[_normalised(known[task], one) for task, one in zip(table["task"], value, strict=True)],
        counted_as=np.select([as_random, as_worst], ["random policy", "worst of the task"], ""),
    )


def normalisable(task: str) -> bool:
    """Whether the repository has both reference scores of a task."""
    score = scores.score(task)
    return score is not None and score.reference is not None


def _normalised(score: Score | None, value: float) -> float:
    return np.nan if score is None or score.reference is None else score.normalised(value)


def curves(
    records: pd.DataFrame, states: pd.DataFrame, score_of: Callable[[str], Score | None] = scores.score
) -> pd.DataFrame:
    """Learning curves: one row per task, algorithm and step, with `iqm`, `low` and `high` over the seeds.

    `points` are the returns of the seeds, finite ones alone, where they are too few for an interval; else it is empty.
    `seeds` counts the trials that were evaluated at this step, `planned` those that the matrix asks for:
    where they differ the point is not comparable with its neighbours, and the figure shows it. A trial that failed for
    good, or diverged, is not left out: from there on it counts as a random policy, or as the worst trial of its task at
    that step where that is less, and `failed` is how many do.
    """
    planned = states.groupby(["task", "algorithm"], observed=True).size().to_dict()
    grid = seed_returns(records, "grid")
    lost = _lost(grid, states)
    groups = {(str(t), str(a)): group for (t, a), group in grid.groupby(["task", "algorithm"], observed=True)}
    unevaluated = {cell: grid[:0] for cell in lost if cell not in groups and (grid["task"] == cell[0]).any()}
    parts = []
    for (task, algorithm), group in (groups | unevaluated).items():
        wide = group.pivot(index="seed", columns="step", values="value")  # [seeds, steps]
        evaluated = group.pivot(index="seed", columns="step", values="episodes").notna()
        failed = pd.DataFrame(False, wide.index, wide.columns)
        if seeds := lost.get((task, algorithm), []):
            wide, failed = _with_lost(wide, evaluated, seeds, grid[grid["task"] == task], score_of(task))
            evaluated = evaluated.reindex(index=wide.index, columns=wide.columns, fill_value=False) | failed
        # the steps that the same seeds have reached are resampled together
        for present, columns in wide.T.groupby(evaluated.T.apply(tuple, axis=1)):
            values = columns.to_numpy(np.float64).T[list(present)]
            low, high = interval(values)
            part: dict[str, Any] = {
                "step": columns.index,
                "iqm": iqm(values, axis=0),
                "low": low,
                "high": high,
                "points": [_points(column) for column in values.T],
                "seeds": len(values),
                "failed": failed[columns.index].sum().to_numpy(),
            }
            part |= {"task": task, "algorithm": algorithm, "planned": planned[task, algorithm]}
            parts.append(pd.DataFrame(part))
    return pd.concat(parts).sort_values(["task", "algorithm", "step"], ignore_index=True)


def _lost(grid: pd.DataFrame, states: pd.DataFrame) -> dict[tuple[str, str], list[int]]:
    """(task, algorithm) -> the seeds whose trials failed for good, or have a return that is not finite."""
    keys = ["task", "algorithm", "seed"]
    failed = states.loc[states["state"] == "failed", keys]
    wrong = grid.loc[~np.isfinite(grid["value"]), keys]
    both = pd.concat([failed, wrong]).drop_duplicates().sort_values(keys)
    return {(str(t), str(a)): [*part["seed"]] for (t, a), part in both.groupby(["task", "algorithm"], observed=True)}


def _with_lost(
    wide: pd.DataFrame, evaluated: pd.DataFrame, seeds: list[int], task: pd.DataFrame, score: Score | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns [seeds, steps] in which lost seeds have what they count as from there on, and where that is.

    They are lost after their last evaluation, or from the first whose return is not finite.
    """
    finite = task[np.isfinite(task["value"])]
    steps = [*wide.columns]  # its own: in tables of updates those of other algorithms may lie between them
    if {*wide.index} <= {*seeds}:  # nobody is left who could say how far it goes
        steps += sorted(step for step in {*task["step"]} if step > max(steps, default=-1))
    floor = finite.groupby("step")["value"].min().reindex(steps)  # NaN where every trial of the task is lost
    if score is not None:
        floor = floor.fillna(score.random).clip(upper=score.random)
    wide = wide.reindex(index=sorted({*wide.index, *seeds}), columns=steps)
    failed = pd.DataFrame(False, wide.index, wide.columns)
    evaluated = evaluated.reindex(index=wide.index, columns=steps, fill_value=False)
    for seed in seeds:
        there = evaluated.loc[seed].to_numpy(bool)
        diverged = there & ~np.isfinite(wide.loc[seed].to_numpy(np.float64))
        left = ~np.logical_or.accumulate(there[::-1])[::-1]
        failed.loc[seed] = np.logical_or.accumulate(diverged | left)
    return wide.mask(failed, floor, axis=1), failed


def _points(values: Floats) -> list[float]:
    return values[np.isfinite(values)].tolist() if len(values) < ENOUGH_SEEDS else []


def returns_table(
    records: pd.DataFrame, states: pd.DataFrame, score_of: Callable[[str], Score | None] = scores.score
) -> pd.DataFrame:
    """One row per task and algorithm: final and absolute returns, and what they cost.

    The trials that have ended count, `seeds` of the `planned` ones; `failed` of them failed or diverged, and count as
    `final_returns` says. `final_*` is the mean return of the last policy, `absolute_*` that of the best policy of the
    grid, both on fresh episodes (Gorsane et al. 2022); `best_step_*` says at which step of its training that best
    policy stood. Returns are undiscounted sums of the team reward over one episode; `seconds` is training time per
    trial.
    """
    final, absolute = (count_lost(ended_returns(records, states, kind), score_of) for kind in ("final", "absolute"))
    bests = records[records["kind"] == "absolute"].drop_duplicates(["task", "algorithm", "seed"])
    rows = []
    for (task, algorithm), cell in states.groupby(["task", "algorithm"], sort=False):
        ends, tops, of = (x[(x["task"] == task) & (x["algorithm"] == algorithm)] for x in (final, absolute, bests))
        steps = int(cell["steps"].iloc[0])
        seconds = float(cell.loc[cell["state"] == "done", "seconds"].mean())
        row: dict[str, Any] = {"task": task, "algorithm": algorithm, "seeds": len(ends), "planned": len(cell)}
        row |= {"failed": int((ends["counted_as"] != "").sum() + ends["value"].isna().sum()), "steps": steps}
        row |= _summary("final", ends["value"].dropna().to_numpy(np.float64))
        row |= _summary("absolute", tops["value"].dropna().to_numpy(np.float64))
        row |= {f"best_step_{key}": of["step"].agg(key) for key in ("median", "min", "max")}
        rows.append(row | {"seconds": seconds, "steps_per_second": steps / seconds if seconds > 0 else np.nan})
    return pd.DataFrame(rows)


def _summary(name: str, values: Floats) -> dict[str, float]:
    if len(values) == 0:
        keys = ("iqm", "low", "high", "mean", "median", "min", "max")
        return dict.fromkeys((f"{name}_{key}" for key in keys), np.nan)
    low, high = interval(values)
    return {
        f"{name}_iqm": float(iqm(values)),
        f"{name}_low": float(low),
        f"{name}_high": float(high),
        f"{name}_mean": float(values.mean()),
        f"{name}_median": float(np.median(values)),
        f"{name}_min": float(values.min()),
        f"{name}_max": float(values.max()),
    }
