"""Returns that the papers published, as context: other physics, other observations, other settings."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

PATH = Path(__file__).with_name("published_returns.csv")
STEPS = {"1M": 1_000_000, "2M": 2_000_000, "5M": 5_000_000, "10M": 10_000_000}
"""Column `return_at_...` -> environment steps."""


@cache
def table() -> pd.DataFrame:
    """One row per published number: source, task (without version), algorithm, steps, value, spread.

    Read off the figures of Kuba et al. (ICLR 2022) and Zhong et al. (JMLR 2024) by eye, to about 3% of the axis, on v2
    tasks with observations of the whole state. `spread` is half of the band's height after 10 million steps.
    """
    wide = pd.read_csv(PATH)
    parts = [
        wide[["source", "task", "algorithm"]].assign(
            steps=steps,
            value=wide[f"return_at_{name}"],
            spread=wide["spread_at_10M"] if name == "10M" else float("nan"),
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
    shown = wide.map(lambda cell: cell if isinstance(cell, str) else "–" if pd.isna(cell) else f"{cell:,.0f}")
    return [{str(key): str(cell) for key, cell in row.items()} for row in shown.to_dict("records")]
