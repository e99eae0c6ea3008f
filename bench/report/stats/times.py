"""Training time beside steps."""

from __future__ import annotations

import pandas as pd


def with_seconds(curves: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """`stats.curves` with a column `seconds`: the training time that a step took, the median over the seeds there."""
    grid = records[records["kind"] == "grid"]
    trials = grid.groupby(["task", "algorithm", "seed", "step"], observed=True)["seconds"].max()
    medians = trials.groupby(["task", "algorithm", "step"], observed=True).median()
    return curves.merge(medians.reset_index(), on=["task", "algorithm", "step"], how="left")
