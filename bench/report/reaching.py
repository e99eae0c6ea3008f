"""What it costs to reach the reference return of a task, in steps and in seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bench.report import formats, stats
from bench.report.algorithms import Algorithms, in_order
from bench.report.formats import NONE
from bench.store import scores

LEVELS = (0.5, 1.0)
"""Normalised returns."""


def table(records: pd.DataFrame, states: pd.DataFrame) -> pd.DataFrame:
    """`stats.cost_to_threshold` of each task that has reference scores, at each of `LEVELS` (column `level`) that
    not every algorithm has before any training."""
    parts = []
    for task in sorted(states["task"].unique()):
        if stats.normalisable(task):
            score = scores.score(task)
            assert score is not None
            assert score.reference is not None
            for level in LEVELS:
                threshold = score.random + level * (score.reference - score.random)
                found = stats.cost_to_threshold(records, states, task, threshold).assign(level=level)
                if len(found) and (found["steps"] > 0).any():  # else a policy that has not learned is that good
                    parts.append(found)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def rows(found: pd.DataFrame, algorithms: Algorithms) -> list[dict[str, str]]:
    """Costs to reach the thresholds as text, in the order of the algorithms."""
    if found.empty:
        return []
    order = {label: k for k, label in enumerate(in_order(found["algorithm"], algorithms.methods))}
    placed = found.assign(place=found["algorithm"].map(order)).sort_values(["task", "level", "place"])
    return formats.without_empty([_row(row) for row in placed.to_dict("records")])


def _row(row: dict[Any, Any]) -> dict[str, str]:
    return {
        "task": str(row["task"]),
        "return": f"{_number(row['threshold'])} ({_what(row['level'])})",
        "algorithm": str(row["algorithm"]),
        "trials that got there": f"{row['reached']:.0f} of {row['seeds']:.0f}",
        "median steps": _median(row["steps"]),
        "95% interval, steps": _span(row["steps_low"], row["steps_high"]),
        "median seconds": _median(row["seconds"]),
        "95% interval, seconds": _span(row["seconds_low"], row["seconds_high"]),
    }


def _what(level: float) -> str:
    return "the reference" if level == 1 else "halfway from a random policy to the reference"


def _number(value: float) -> str:
    """A return, with decimals where it is small."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _median(value: float) -> str:
    """Infinite where fewer than half of the trials got there."""
    return "not reached by half" if np.isinf(value) else _cost(value)


def _cost(value: float) -> str:
    """Steps or seconds; less than ten with a decimal."""
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def _span(low: float, high: float) -> str:
    if np.isnan(low):
        return NONE
    return f"[{'∞' if np.isinf(low) else _cost(low)}, {'∞)' if np.isinf(high) else f'{_cost(high)}]'}"
