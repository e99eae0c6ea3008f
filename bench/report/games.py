"""Games: the exact J of the joint policies over training, and how many seeds found the optimum."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from markupsafe import Markup

from bench.report import monotonic, plots, stats
from bench.report.algorithms import Algorithms, in_order
from bench.report.formats import NONE
from bench.report.load import SuiteResults
from bench.store import scores
from bench.store.scores import Score

WITH_OPTIMUM = re.compile(r"games/(driving|coordination-\d+)")
"""Games of one step whose optimum the likeliest actions of a policy can be, and not only come near."""
COORDINATION = re.compile(r"games/coordination-(\d+)")
CLOSE = 1e-9
TRIAL = ["task", "algorithm", "seed"]


@dataclass(frozen=True)
class Games:
    """What the section shows; empty for a suite in which no J is exact."""

    panels: list[Markup] = field(default_factory=list)
    """J over training, one panel per game."""
    tables: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    """Task -> one row per algorithm."""
    bounds: dict[str, str] = field(default_factory=dict)
    """Task -> what a policy that all agents share can earn."""


def make(suite: SuiteResults, states: pd.DataFrame) -> Games:
    """The section of a suite whose improvement meter found J exactly."""
    J = exact_returns(suite.updates)
    if J.empty:
        return Games()
    mine = states[states["task"].isin(J["task"].unique())]
    final = stats.final_returns(suite.records, states)
    tables = {task: table(J, final, task, in_order(mine["algorithm"])) for task in sorted(J["task"].unique())}
    bounds = {task: bound(task) for task in tables if COORDINATION.fullmatch(task)}
    return Games(_panels(J, mine, suite.algorithms), tables, bounds)


def exact_returns(updates: pd.DataFrame) -> pd.DataFrame:
    """task, algorithm, seed, step, J: one row per measured update where J is exact, and one just before the first."""
    columns = [*TRIAL, "step", "J"]
    if not {"expected_return", *monotonic.MEASURES} <= {*updates.columns}:
        return pd.DataFrame(columns=columns)
    team = updates[(updates["agent"] == "team") & updates["improvement"].notna()]
    exact = team[monotonic.exact(team)]
    exact = exact.assign(J=exact["expected_return"])
    first = exact.sort_values("step").drop_duplicates(TRIAL)
    length = updates.groupby(TRIAL, observed=True)["step"].agg(_update_steps).rename("length")
    first = first.merge(length, on=TRIAL)
    first = first.assign(step=first["step"] - first["length"], J=first["J"] - first["improvement"])
    return pd.concat([first, exact])[columns].sort_values(columns[:-1], ignore_index=True)


def _update_steps(steps: pd.Series[int]) -> int:
    """The environment steps of one update, T E: publishing keeps the first updates of a trial, which are neighbours."""
    return int(np.diff([0, *np.unique(steps)]).min())


def table(J: pd.DataFrame, final: pd.DataFrame, task: str, labels: list[str]) -> list[dict[str, str]]:
    """One row per algorithm: J at the last measured update, and in how many seeds the last policy finds the optimum."""
    here = J[J["task"] == task]
    last = here.loc[here.groupby(["algorithm", "seed"], observed=True)["step"].idxmax()]
    rows = []
    for label in labels:
        values = last.loc[last["algorithm"] == label, "J"].to_numpy(np.float64)
        if len(values) == 0:
            continue
        low, high = stats.interval(values)
        row = {"algorithm": label, "seeds": str(len(values)), "J, IQM": f"{stats.iqm(values):.4f}"}
        row["95% interval"] = NONE if np.isnan(low) else f"[{low:.4f}, {high:.4f}]"
        row |= {"least": f"{values.min():.4f}", "greatest": f"{values.max():.4f}"}
        if WITH_OPTIMUM.fullmatch(task):
            row["likeliest actions optimal"] = _optimal(final[(final["task"] == task) & (final["algorithm"] == label)])
        rows.append(row)
    return rows


def _optimal(ended: pd.DataFrame) -> str:
    """ "8 of 10 [44%, 97%]": seeds whose last policy earns the optimum where it takes its likeliest actions."""
    known = scores.score(ended["task"].iloc[0]) if len(ended) else None
    if known is None or known.reference is None:
        return NONE
    return stats.of_trials(int((ended["value"] >= known.reference - CLOSE).sum()), len(ended))


def bound(task: str) -> str:
    """The most that a policy shared by all agents can earn, 2 / 2^n of the optimum 1."""
    match = COORDINATION.fullmatch(task)
    assert match is not None
    agents = int(match[1])
    return f"A policy that all agents share earns at most 2/2^{agents} = {2 / 2**agents:.4f}."


def curves_of(J: pd.DataFrame, states: pd.DataFrame) -> pd.DataFrame:
    """`stats.curves` of J."""
    return stats.curves(J.rename(columns={"J": "episode_return"}).assign(kind="grid"), states, _score)


def _score(task: str) -> Score | None:
    """The scores of a task where they are values of J; those of a random game are returns of an episode that is cut."""
    return None if task.startswith("games/random-") else scores.score(task)


def _panels(J: pd.DataFrame, states: pd.DataFrame, algorithms: Algorithms) -> list[Markup]:
    """The curves of J, drawn as those of returns."""
    curves = curves_of(J, states)
    found = []
    for index, task in enumerate(sorted(states["task"].unique())):
        figure = plots.task_curves(task, curves, states, algorithms)
        figure.axes[0].set_ylabel("J of the joint policy")
        found.append(plots.inline(figure, f"game{index}", f"J over training on {task}", algorithms, [task]))
    return found
