"""Returns at the budgets that trials had before they were given more steps, beside those at the end."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench.report import formats, stats
from bench.report.formats import number, span
from bench.store.trials import AT, FRESH_KINDS, of_earlier_budgets


def earlier_returns(records: pd.DataFrame) -> pd.DataFrame:
    """One row per task, algorithm, budget (`steps`) and kind of fresh episode: `seeds`, `iqm`, `low` and `high`.

    Empty where no trial was given more steps.
    """
    rows: list[dict[str, Any]] = []
    chosen = records[of_earlier_budgets(records)]
    for kind in chosen["kind"].unique():
        name, _, steps = kind.partition(AT)
        returns = stats.seed_returns(chosen, kind)
        for (task, algorithm), cell in returns.groupby(["task", "algorithm"], observed=True):
            values = cell["value"].to_numpy(float)
            low, high = stats.interval(values)
            row = {"task": task, "algorithm": algorithm, "steps": int(steps), "kind": name, "seeds": len(values)}
            rows.append(row | {"iqm": float(stats.iqm(values)), "low": float(low), "high": float(high)})
    return pd.DataFrame(rows)


def rows(records: pd.DataFrame, table: pd.DataFrame) -> list[dict[str, str]]:
    """`earlier_returns` as text, with the present budget of `stats.returns_table` below those of an algorithm."""
    earlier = earlier_returns(records)
    if earlier.empty:
        return []
    found = []
    for now in table.to_dict("records"):
        own = earlier[(earlier["task"] == now["task"]) & (earlier["algorithm"] == now["algorithm"])]
        for _, part in own.groupby("steps"):
            by_kind = {row["kind"]: row for row in part.to_dict("records")}
            found.append(_row(now, {kind: by_kind[kind] for kind in FRESH_KINDS}, by_kind["final"]))
        if len(own):
            ends = {kind: {key: now[f"{kind}_{key}"] for key in ("iqm", "low", "high")} for kind in FRESH_KINDS}
            found.append(_row(now, ends, now))
    return formats.without_empty(found)


def _row(now: dict[Any, Any], ends: dict[str, dict[str, float]], of: dict[Any, Any]) -> dict[str, str]:
    cells = {"task": str(now["task"]), "algorithm": str(now["algorithm"]), "steps": f"{of['steps']:,}"}
    cells |= {"seeds": str(of["seeds"])}
    for kind, end in ends.items():
        cells |= {f"{kind} IQM": number(end["iqm"]), f"{kind} 95% interval": span(end["low"], end["high"])}
    return cells
