"""Returns that the papers published, as context: other physics, other observations, other settings."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

from bench.report.formats import NONE, without_empty
from bench.store import scores

PATH = Path(__file__).with_name("published_returns.csv")
STEPS = {"1M": 1_000_000, "2M": 2_000_000, "5M": 5_000_000, "10M": 10_000_000}
"""Column `return_at_...` -> environment steps."""
READING = 0.03
"""Returns that differ by at most this share of the published one cannot be told apart: it was read off a figure."""
EQUAL_STEPS = "best published, as many steps", "exceeded there"


@cache
def table() -> pd.DataFrame:
    """One row per published number: source, task (without version), algorithm, steps, value.

    Read off the figures of Kuba et al. (ICLR 2022) and Zhong et al. (JMLR 2024) by eye, to about 3% of the axis, on v2
    tasks with observations of the whole state.
    """
    wide = pd.read_csv(PATH)
    parts = [
        wide[["source", "task", "algorithm"]].assign(
            steps=steps,
            value=wide[f"return_at_{name}"],
        )
        for name, steps in STEPS.items()
    ]
    long = pd.concat(parts).dropna(subset="value")
    return long.assign(task=long["task"].str.replace("-v2", "")).sort_values(["source", "task", "steps"])


def rows(tasks: list[str]) -> list[dict[str, str]]:
    """The published numbers of these tasks, labels of Multi-Agent MuJoCo, as text: one row per task and algorithm."""
    names = {task.removeprefix("mamujoco/").partition(":")[0] for task in tasks if task.startswith("mamujoco/")}
    found = table()[table()["task"].isin(names)]
    wide = found.pivot_table(index=["task", "algorithm", "source"], columns="steps", values="value", sort=False)
    wide = wide.reindex(columns=[*STEPS.values()]).set_axis([*STEPS], axis=1).reset_index()
    shown = wide.map(lambda cell: cell if isinstance(cell, str) else NONE if pd.isna(cell) else f"{cell:,.0f}")
    return [{str(key): str(cell) for key, cell in row.items()} for row in shown.to_dict("records")]


def panels(returns: pd.DataFrame) -> list[dict[str, str]]:
    """Each published panel of these tasks: its best method after 10 million steps, and after as many as here, beside
    the best algorithm here.

    `returns`: `stats.returns_table`. What is best here is so by the interquartile mean of the final return over seeds.
    """
    ours = returns[returns["final_iqm"].notna()]
    names = {task: scores.key(task).removeprefix("mamujoco/") for task in ours["task"].unique()}  # without observation
    found = []
    for (source, task), of_panel in table().groupby(["source", "task"], sort=False):
        panel = of_panel[of_panel["steps"] == STEPS["10M"]]
        here = ours[ours["task"].map(names) == task]
        if here.empty or panel.empty:
            continue
        best = here.iloc[int(here["final_iqm"].to_numpy().argmax())]
        found.append(
            {
                "task": str(task),
                "source": str(source),
                "best here": f"{best['algorithm']} {best['final_iqm']:,.0f}",
                "steps": f"{best['steps']:,}",
                "seeds": f"{best['seeds']}",
                **_beside(panel, best["final_iqm"], "best published, 10M steps", "exceeded"),
                **_beside(of_panel[of_panel["steps"] == best["steps"]], best["final_iqm"], *EQUAL_STEPS),
            }
        )
    return without_empty(found)


def _beside(panel: pd.DataFrame, here: float, heading: str, exceeded: str) -> dict[str, str]:
    """The best published return of some, and whether one here exceeds it: "level" within `READING`.

    Dashes where there is none.
    """
    if panel.empty:
        return {heading: NONE, exceeded: NONE}
    best = panel.iloc[int(panel["value"].to_numpy().argmax())]
    level = abs(here - best["value"]) <= READING * abs(best["value"])
    verdict = "level" if level else "yes" if here > best["value"] else "no"
    return {heading: f"{best['algorithm']} {best['value']:,.0f}", exceeded: verdict}
