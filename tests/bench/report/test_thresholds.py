"""Cost to a threshold: passages by hand, Kaplan and Meier's estimate on published numbers, its interval simulated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.report import stats


def grid(curves: dict[tuple[str, int], list[float]]) -> pd.DataFrame:
    """Records of one task: (algorithm, seed) -> return at steps 0, 100, ...; a step takes 0.02 s."""
    rows = [
        ("a", algorithm, seed, "grid", 100 * k, value, 2.0 * k)
        for (algorithm, seed), values in curves.items()
        for k, value in enumerate(values)
    ]
    columns = ["task", "algorithm", "seed", "kind", "step", "episode_return", "seconds"]
    return pd.DataFrame(rows, columns=columns)


def states(records: pd.DataFrame, *failed: tuple[str, int]) -> pd.DataFrame:
    """All trials of the records are done, but for the failed ones."""
    cells = {*records[["algorithm", "seed"]].itertuples(index=False, name=None), *failed}
    rows = [("a", *cell, "failed" if cell in failed else "done") for cell in sorted(cells)]
    return pd.DataFrame(rows, columns=["task", "algorithm", "seed", "state"])


def passages(records: pd.DataFrame, *failed: tuple[str, int]) -> list[dict[str, Any]]:
    return stats.first_passages(records, states(records, *failed), "a", 5.0).to_dict("records")  # type: ignore[return-value]


def test_the_first_point_at_the_threshold_counts_even_if_the_return_falls_again() -> None:
    (row,) = passages(grid({("happo", 0): [0.0, 5.0, 1.0, 9.0]}))
    assert (row["reached"], row["steps"], row["seconds"]) == (True, 100.0, 2.0)


def test_a_trial_that_never_got_there_is_censored_where_it_ended() -> None:
    (row,) = passages(grid({("happo", 0): [0.0, 1.0, 2.0]}))
    assert (row["reached"], row["steps"]) == (False, 200.0)


def test_a_trial_that_failed_or_diverged_is_censored_at_the_largest_cost() -> None:
    records = grid({("happo", 0): [0.0], ("happo", 1): [0.0, np.nan], ("happo", 2): [0.0, 1.0, 2.0, 7.0]})
    rows = passages(records, ("happo", 0), ("happo", 3))  # seed 3 failed before its first evaluation
    assert [(row["seed"], row["reached"], row["steps"]) for row in rows] == [
        (0, False, 300.0),
        (1, False, 300.0),
        (2, True, 300.0),
        (3, False, 300.0),
    ]


def test_an_infinite_return_reaches_nothing() -> None:
    records = grid({("happo", 0): [0.0, np.inf, 0.0]})
    (passage,) = stats.first_passages(records, states(records), "a", 1e6).to_dict("records")
    assert not passage["reached"]


def test_a_trial_that_used_all_of_its_steps_is_censored_at_the_largest_cost() -> None:
    """Of three trials one got there, in the middle of the time that it took; a fast one is not spared by its speed."""
    records = grid({("happo", 0): [0.0, 1.0, 1.0], ("happo", 1): [0.0, 1.0, 7.0], ("happo", 2): [0.0, 1.0, 1.0]})
    records.loc[records["seed"] == 0, "seconds"] /= 4
    found = stats.cost_to_threshold(records, states(records), "a", 5.0).iloc[0]
    assert (found["reached"], found["seeds"]) == (1, 3)
    assert (found["steps"], found["seconds"]) == (np.inf, np.inf)


def test_a_trial_that_failed_after_it_got_there_got_there() -> None:
    (row,) = passages(grid({("happo", 0): [0.0, 6.0]}), ("happo", 0))
    assert (row["reached"], row["steps"]) == (True, 100.0)


def test_survival_of_the_remissions_of_freireich() -> None:
    """The 6-MP arm of Freireich et al. 1963, the standard example of the estimate; its median is 23 weeks."""
    reached = np.array([6, 6, 6, 7, 10, 13, 16, 22, 23], dtype=np.float64)
    censored = np.array([6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35], dtype=np.float64)
    costs = np.concatenate([reached, censored])
    event = np.arange(len(costs)) < len(reached)
    at = stats.survival(costs, event).evaluate(np.array([6.0, 7.0, 10.0, 13.0, 16.0, 22.0, 23.0]))
    np.testing.assert_allclose(at, [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448], atol=5e-4)
    assert stats.median_cost(costs, event)[0] == 23.0


def test_without_censoring_the_cost_is_the_median_trial() -> None:
    assert stats.median_cost(np.array([3.0, 1.0, 2.0]), np.ones(3, bool))[0] == 2.0


def test_where_fewer_than_half_got_there_the_median_is_infinite() -> None:
    median, _, high = stats.median_cost(np.array([1.0, 9.0, 9.0, 9.0, 9.0]), np.arange(5) == 0)
    assert (median, high) == (np.inf, np.inf)
    assert stats.median_cost(np.full(5, 9.0), np.zeros(5, bool))[0] == np.inf


def test_fewer_than_five_trials_have_no_interval_of_the_cost() -> None:
    assert np.isnan(stats.median_cost(np.arange(1.0, 5.0), np.ones(4, bool))[1:]).all()


@pytest.mark.parametrize("seeds", [10, 20])
def test_intervals_of_the_median_cost_cover(seeds: int) -> None:
    """Exponential costs of median log 2, a quarter of which are beyond the budget."""
    random = np.random.default_rng(0)
    hits = []
    for _ in range(400):
        costs = random.exponential(size=seeds)
        _, low, high = stats.median_cost(np.minimum(costs, np.log(4)), costs <= np.log(4))
        hits.append(low <= np.log(2) <= high)
    assert 0.92 < np.mean(hits) < 0.99


def test_the_table_counts_those_that_got_there() -> None:
    curves = {("happo", seed): [0.0, 1.0, 6.0] for seed in range(3)} | {("mappo", 0): [0.0, 9.0], ("mappo", 1): [0.0]}
    records = grid(curves)
    happo, mappo = stats.cost_to_threshold(records, states(records, ("mappo", 1)), "a", 5.0).to_dict("records")
    assert (happo["seeds"], happo["reached"], happo["steps"], happo["seconds"]) == (3, 3, 200.0, 4.0)
    assert (mappo["seeds"], mappo["reached"], mappo["steps"]) == (2, 1, 100.0)
