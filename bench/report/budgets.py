"""Returns at the budgets that trials had before they were given more steps, beside those at the end."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench.report import formats, stats
from bench.report.formats import number, span
from bench.store.trials import AT, FRESH_KINDS, of_earlier_budgets


def earlier_returns(records: pd.DataFrame, states: pd.DataFrame) -> pd.DataFrame:
    """One row per task, algorithm, budget (`steps`) and kind of fresh episode: `seeds`, `failed`, `iqm`, `low`, `high`.

    A trial that failed before it had used a budget counts there as in `stats.final_returns`. Empty where no trial was
    given more steps.
    """
    keys = ["task", "algorithm", "seed"]
    failed = states.loc[states["state"] == "failed", keys]
    rows: list[dict[str, Any]] = []
    chosen = records[of_earlier_budgets(records)]
    for kind in chosen["kind"].unique():
        name, _, steps = kind.partition(AT)
        played = stats.seed_returns(chosen, kind)[[*keys, "value"]]
        lost = failed[~pd.MultiIndex.from_frame(failed).isin(pd.MultiIndex.from_frame(played[keys]))]
        lost = lost[pd.MultiIndex.from_frame(lost[keys[:2]]).isin(pd.MultiIndex.from_frame(played[keys[:2]]))]
        returns = stats.count_lost(pd.concat([played, lost], ignore_index=True))
        for (task, algorithm), cell in returns.groupby(["task", "algorithm"], observed=True):
            values = cell["value"].dropna().to_numpy(float)
            low, high = stats.interval(values)
            row = {"task": task, "algorithm": algorithm, "steps": int(steps), "kind": name, "seeds": len(cell)}
            row["failed"] = int((cell["counted_as"] != "").sum() + cell["value"].isna().sum())
            rows.append(row | {"iqm": float(stats.iqm(values)), "low": float(low), "high": float(high)})
    return pd.DataFrame(rows)


def rows(records: pd.DataFrame, states: pd.DataFrame, table: pd.DataFrame) -> list[dict[str, str]]:
    """`earlier_returns` as text, with the present budget of `stats.returns_table` below those of an algorithm."""
    earlier = earlier_returns(records, states)
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
    cells |= {"seeds": str(of["seeds"]) + (f", {of['failed']} failed" if of["failed"] else "")}
    for kind, end in ends.items():
        cells |= {f"{kind} IQM": number(end["iqm"]), f"{kind} 95% interval": span(end["low"], end["high"])}
    return cells
