"""Curves on which a trial failed or diverged: it stays in, as a random policy or as the worst of its task."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench.report import plots, stats
from bench.store.scores import Score


def curve(returns: dict[int, list[float]], failed: tuple[int, ...] = (), score: Score | None = None) -> pd.DataFrame:
    """The curve of "happo" beside a "mappo" that stays at 5; seed -> returns at steps 0, 10, ..."""
    rows = [("happo", seed, 10 * i, x) for seed, values in returns.items() for i, x in enumerate(values)]
    rows += [("mappo", 0, 10 * i, 5.0) for i in range(4)]
    records = pd.DataFrame(rows, columns=["algorithm", "seed", "step", "episode_return"])
    records = records.assign(task="a", kind="grid", seconds=1.0)
    cells = [("happo", seed) for seed in sorted({*returns, *failed})] + [("mappo", 0)]
    states = pd.DataFrame(
        [{"task": "a", "algorithm": a, "seed": s, "state": "failed" if s in failed else "done"} for a, s in cells]
    )
    found = stats.curves(records, states, score_of=lambda task: score)
    return found[found["algorithm"] == "happo"].reset_index(drop=True)


def test_a_trial_that_failed_counts_as_a_random_policy_from_there_on() -> None:
    found = curve({0: [0.0, 10, 20, 30], 1: [0.0, 12]}, failed=(1,), score=Score(2.0, 40.0))
    assert list(found["iqm"]) == [0.0, 11.0, 11.0, 16.0]
    assert list(found["seeds"]) == [2, 2, 2, 2]
    assert list(found["failed"]) == [0, 0, 1, 1]


def test_or_as_the_worst_of_its_task_where_that_is_less() -> None:
    found = curve({0: [0.0, 10, 20, 30], 1: [0.0, 12]}, failed=(1,), score=Score(7.0, 40.0))
    assert list(found["iqm"]) == [0.0, 11.0, 12.5, 17.5]
    without_scores = curve({0: [0.0, 10, 20, 30], 1: [0.0, 12]}, failed=(1,))
    assert list(without_scores["iqm"]) == [0.0, 11.0, 12.5, 17.5]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_trial_that_diverged_does_not_come_back(value: float) -> None:
    found = curve({0: [0.0, 10, 20, 30], 1: [0.0, 10, value, 100]}, score=Score(2.0, 40.0))
    assert list(found["iqm"]) == [0.0, 10.0, 11.0, 16.0]
    assert list(found["failed"]) == [0, 0, 1, 1]


def test_a_trial_that_failed_before_its_first_evaluation_is_in_from_the_start() -> None:
    found = curve({0: [0.0, 10, 20, 30]}, failed=(1,), score=Score(-4.0, 40.0))
    assert list(found["iqm"]) == [-2.0, 3.0, 8.0, 13.0]
    assert list(found["failed"]) == [1, 1, 1, 1]


def test_an_algorithm_whose_trials_all_failed_before_an_evaluation_has_a_curve() -> None:
    found = curve({}, failed=(0, 1), score=Score(2.0, 40.0))
    assert list(found["step"]) == [0, 10, 20, 30]
    assert list(found["iqm"]) == [2.0] * 4
    assert list(found["seeds"]) == list(found["failed"]) == [2] * 4


def test_a_failed_trial_is_lost_after_its_last_evaluation_not_in_a_gap() -> None:
    """As seeds whose updates were measured at different intervals."""
    rows = [("happo", 0, step, 1.0) for step in (0, 10, 20, 30)] + [("happo", 1, step, 3.0) for step in (10, 20)]
    records = pd.DataFrame(rows, columns=["algorithm", "seed", "step", "episode_return"])
    states = pd.DataFrame([("happo", 0, "done"), ("happo", 1, "failed")], columns=["algorithm", "seed", "state"])
    records, states = (table.assign(task="a") for table in (records.assign(kind="grid", seconds=1.0), states))
    found = stats.curves(records, states, score_of=lambda task: Score(0.0, 40.0))
    assert [*zip(found["step"], found["iqm"], found["failed"], strict=True)] == [
        (0, 1, 0),
        (10, 2, 0),
        (20, 2, 0),
        (30, 0.5, 1),
    ]


def test_a_failed_trial_is_not_looked_for_at_steps_that_only_another_algorithm_has() -> None:
    """As in the table of updates, where an update has as many steps as the settings say."""
    rows = [("happo", 0, 20, 1.0), ("happo", 0, 40, 2.0), ("happo", 1, 20, 3.0)]
    rows += [("mappo", 0, step, 5.0) for step in (15, 30, 45)]
    records = pd.DataFrame(rows, columns=["algorithm", "seed", "step", "episode_return"])
    cells = [("happo", 0, "done"), ("happo", 1, "failed"), ("mappo", 0, "done")]
    states = pd.DataFrame(cells, columns=["algorithm", "seed", "state"]).assign(task="a")
    found = stats.curves(records.assign(task="a", kind="grid"), states, score_of=lambda task: Score(0.0, 10.0))
    happo = found[found["algorithm"] == "happo"]
    assert list(happo["step"]) == [20, 40]
    assert list(happo["iqm"]) == [2.0, 1.0]
    assert list(happo["failed"]) == [0, 1]


def test_where_every_trial_of_a_task_is_lost_they_count_as_a_random_policy_still() -> None:
    rows = [(seed, 10 * i, x) for seed, last in [(0, 3.0), (1, np.nan)] for i, x in enumerate([0.0, last, np.nan])]
    records = pd.DataFrame(rows, columns=["seed", "step", "episode_return"])
    records = records.assign(task="a", algorithm="happo", kind="grid", seconds=1.0)
    states = pd.DataFrame({"task": "a", "algorithm": "happo", "seed": [0, 1], "state": "done"})
    found = stats.curves(records, states, score_of=lambda task: Score(-5.0, 10.0))
    assert list(found["iqm"]) == [0.0, -1.0, -5.0]
    assert list(found["failed"]) == [0, 1, 2]
    without_scores = stats.curves(records, states, score_of=lambda task: None)
    assert list(without_scores["iqm"][:2]) == [0.0, 3.0]
    assert np.isnan(without_scores["iqm"][2])


def test_a_trial_that_runs_is_not_continued() -> None:
    found = curve({0: [0.0, 10, 20, 30], 1: [0.0, 12]})
    assert list(found["seeds"]) == [2, 2, 1, 1]
    assert list(found["iqm"]) == [0.0, 11.0, 20.0, 30.0]


def test_a_panel_says_how_many_seeds_each_has_and_how_many_failed() -> None:
    cells = [("happo", seed, "done", 100) for seed in range(5)] + [("mappo", seed, "done", 100) for seed in range(7)]
    states = pd.DataFrame(cells, columns=["algorithm", "seed", "state", "reached"]).assign(steps=100)
    assert plots.seed_note(states) == "7 seeds for mappo, 5 seeds"
    begun = [states.query("algorithm == 'happo'").assign(algorithm=label, reached=50) for label in ("ippo", "x", "y")]
    assert plots.seed_note(pd.concat([states, *begun])) == "7 seeds for mappo, 5 seeds, 0 of 5 for ippo, x and y"
    states.loc[0, "state"], states.loc[0, "reached"] = "failed", 40
    assert plots.seed_note(states) == "7 seeds for mappo, 4 of 5 for happo; cross: 1 failed"
