"""The table of final returns: no trial is dropped, and what stands in for one is marked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.report import stats
from bench.store.scores import Score


def table(values: dict[int, float | None], score: Score | None, failed: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """Final returns of one algorithm: seed -> return; None has only begun."""
    rows: list[tuple[int, str, float]] = []
    for seed, value in values.items():
        rows.append((seed, "grid", 0.0))
        rows += [(seed, kind, value) for kind in ("final", "absolute")] if value is not None else []
    records = pd.DataFrame(rows, columns=["seed", "kind", "episode_return"])
    records = records.assign(task="a", algorithm="happo", step=100, seconds=1.0)
    trials = [
        {
            "task": "a",
            "algorithm": "happo",
            "seed": seed,
            "steps": 100,
            "status": "failed" if seed in failed else "done",
        }
        for seed in {*values, *failed}
    ]
    found = stats.final_returns(records, stats.trial_states(records, trials), score_of=lambda task: score)
    return found.to_dict("records")  # type: ignore[return-value]


def test_what_ended_well_counts_as_it_is() -> None:
    (row,) = table({0: 30.0}, Score(10.0, 50.0))
    assert (row["value"], row["normalised"], row["counted_as"]) == (30.0, 0.5, "")


def test_a_failed_trial_counts_as_a_random_policy() -> None:
    _, row = table({0: 30.0}, Score(10.0, 50.0), failed=(1,))
    assert (row["seed"], row["value"], row["normalised"], row["counted_as"]) == (1, 10.0, 0.0, "random policy")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_trial_that_diverged_counts_as_the_worst_of_its_task_where_that_is_less(value: float) -> None:
    _, row = table({0: -30.0, 1: value}, Score(10.0, 50.0))
    assert (row["value"], row["normalised"], row["counted_as"]) == (-30.0, -1.0, "worst of the task")


def test_without_a_score_the_worst_stands_in_and_without_either_nothing() -> None:
    assert table({0: 7.0, 1: np.nan}, None)[1]["counted_as"] == "worst of the task"
    (row,) = table({0: np.nan}, None)
    assert np.isnan(row["value"])
    assert row["counted_as"] == ""


def test_a_trial_that_has_not_ended_is_not_in_the_table() -> None:
    assert [row["seed"] for row in table({0: 7.0, 1: None}, Score(0.0, None))] == [0]


def test_without_a_reference_there_is_a_value_and_nothing_normalised() -> None:
    (row,) = table({0: 7.0}, Score(0.0, None))
    assert row["value"] == 7.0
    assert np.isnan(row["normalised"])


def test_a_failed_trial_keeps_no_return_that_it_had_before() -> None:
    _, row = table({0: 30.0, 1: 99.0}, Score(10.0, None), failed=(1,))
    assert (row["value"], row["counted_as"]) == (10.0, "random policy")
