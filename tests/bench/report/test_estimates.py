"""Estimates and what is made of them over tasks, by hand and against scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from bench.report import stats
from bench.report.stats import estimates

HALVES = estimates.shares_of([2, 2])


def finals(**runs: dict[str, list[float]]) -> pd.DataFrame:
    """A frame like that of `final_returns`: algorithm -> task -> one return per seed; normalised by 10."""
    rows = [
        (task, algorithm, seed, value, value / 10, max(map(len, tasks.values())))
        for algorithm, tasks in runs.items()
        for task, values in tasks.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["task", "algorithm", "seed", "value", "normalised", "planned"])


def test_iqm_cuts_a_quarter_on_each_side() -> None:
    assert stats.iqm(np.array([100.0, 2.0, 4.0, -50.0])) == 3.0
    assert stats.iqm(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 700.0])) == 3.5


def test_iqm_of_three_seeds_is_the_mean() -> None:
    assert stats.iqm(np.array([1.0, 2.0, 9.0])) == 4.0


def test_shares_say_whose_a_run_is() -> None:
    np.testing.assert_allclose(estimates.shares_of([2, 1]), [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("n", range(1, 25))
def test_weighted_iqm_of_equal_weights_is_the_iqm(n: int) -> None:
    values = np.random.default_rng(n).normal(size=(3, n))
    np.testing.assert_allclose(estimates.weighted_iqm(values, np.full(n, 1 / n)), stats.iqm(values))


def test_weighted_iqm_of_a_repeated_run_is_that_of_a_heavier_one() -> None:
    heavy = estimates.weighted_iqm(np.array([1.0, 2.0, 5.0]), np.array([0.25, 0.5, 0.25]))
    assert heavy == stats.iqm(np.array([1.0, 2.0, 2.0, 5.0])) == 2.0


def test_mean_and_median_over_tasks_by_hand() -> None:
    values = np.array([0.0, 2.0, 4.0, 6.0, 100.0])
    shares = estimates.shares_of([2, 2, 1])
    assert estimates.mean(values, shares) == pytest.approx((1 + 5 + 100) / 3)
    assert estimates.median(values, shares) == 5.0


def test_a_task_with_more_seeds_weighs_no_more() -> None:
    assert estimates.mean(np.array([1.0, 1.0, 1.0, 0.0]), estimates.shares_of([3, 1])) == pytest.approx(0.5)


def test_what_is_above_the_target_does_not_make_up_for_a_gap() -> None:
    assert estimates.optimality_gap(np.array([0.5, 3.0, 1.0, 0.0]), HALVES) == pytest.approx((0.5 + 0 + 0 + 1) / 4)


def test_aggregates_by_hand() -> None:
    (row,) = stats.aggregates(finals(happo={"a": [0.0, 4.0], "b": [8.0, 20.0]})).to_dict("records")
    assert row["iqm"] == pytest.approx((0.4 + 0.8) / 2)
    assert (row["mean"], row["median"]) == (pytest.approx(0.8), pytest.approx(0.8))
    assert row["optimality_gap"] == pytest.approx((1 + 0.6 + 0.2 + 0) / 4)
    assert np.isnan(row["iqm_low"])
    assert (row["tasks"], row["fewest_seeds"], row["complete"]) == (2, 2, True)


def test_aggregates_of_five_seeds_have_intervals_around_them() -> None:
    values = np.random.default_rng(0).normal(size=(2, 5)).tolist()
    (row,) = stats.aggregates(finals(happo={"a": values[0], "b": values[1]})).to_dict("records")
    for name in ("iqm", "mean", "median", "optimality_gap"):
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]


def test_a_ragged_matrix_is_computed_with_what_is_there_and_says_so() -> None:
    table = stats.aggregates(finals(happo={"a": [0.0, 10.0], "b": [10.0, 10.0]}, mappo={"a": [0.0]}))
    happo, mappo = table.to_dict("records")
    assert (happo["tasks"], happo["all_tasks"], happo["fewest_seeds"], happo["complete"]) == (2, 2, 2, True)
    assert (mappo["tasks"], mappo["all_tasks"], mappo["most_seeds"], mappo["complete"]) == (1, 2, 1, False)
    assert mappo["mean"] == 0.0


def test_without_reference_scores_nothing_is_averaged_over_tasks() -> None:
    table = finals(happo={"a": [1.0]}).assign(normalised=np.nan)
    (row,) = stats.aggregates(table).to_dict("records")
    assert (row["tasks"], row["complete"]) == (0, False)
    assert np.isnan(row["iqm"])
    assert stats.performance_profiles(table, np.array([0.5])).empty
    assert stats.rank_stability(table)["rank"].isna().all()


def test_profiles_by_hand() -> None:
    thresholds = np.array([-1.0, 0.0, 0.4, 0.6, 1.0])
    profile = stats.performance_profiles(finals(happo={"a": [0.0, 4.0], "b": [8.0]}), thresholds)
    assert list(profile["share"]) == [1.0, 0.75, 0.5, 0.5, 0.0]


def test_the_profile_of_one_task_is_the_survival_function_of_scipy() -> None:
    values = np.random.default_rng(0).normal(size=9)
    profile = stats.performance_profiles(finals(happo={"a": (10 * values).tolist()}), np.sort(values))
    np.testing.assert_allclose(profile["share"], scipy_stats.ecdf(values).sf.probabilities, atol=1e-12)
    assert (profile["low"] <= profile["share"]).all()
    assert profile["low"].min() >= 0
    assert profile["high"].max() <= 1


def test_bands_of_a_profile_have_a_width_where_all_runs_agree() -> None:
    """Ten runs of ten above 0: the share may be down to 0.025^(1/10) = 69%, whatever the bootstrap says."""
    profile = stats.performance_profiles(finals(happo={"a": [10.0] * 5, "b": [20.0] * 5}), np.array([0.0, 3.0]))
    np.testing.assert_allclose(profile["low"], [0.025**0.1, 0.0])
    np.testing.assert_allclose(profile["high"], [1.0, 1 - 0.025**0.1])
    few = stats.performance_profiles(finals(happo={"a": [10.0] * 4}), np.array([0.0]))
    assert few[["low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("share", [0.8, 0.95])
def test_bands_of_a_profile_cover(share: float, seeds: int) -> None:
    random, repetitions, hits = np.random.default_rng(0), 150, 0
    for _ in range(repetitions):
        below = (random.random((3, seeds)) > share) * 20.0
        runs = {task: (10 - values).tolist() for task, values in zip("abc", below, strict=True)}
        row = stats.performance_profiles(finals(happo=runs), np.array([0.0])).iloc[0]
        hits += row["low"] <= share <= row["high"]
    assert hits / repetitions > 0.95 - 2 * np.sqrt(0.95 * 0.05 / repetitions)


def test_ranks_that_tasks_agree_on_are_stable() -> None:
    table = stats.rank_stability(finals(mappo={"a": [1.0], "b": [5.0]}, happo={"a": [2.0], "b": [9.0]}))
    assert list(table["rank"]) == [2, 1]
    assert list(table["rank_1"]) == [0.0, 1.0]


def test_a_rank_that_one_task_makes_goes_when_it_is_not_drawn() -> None:
    # x is ahead on task c alone, by more than on the others together: it leads unless c is missing, (2/3)^3
    x, y = {"a": [0.0], "b": [0.0], "c": [90.0]}, {"a": [1.0], "b": [1.0], "c": [0.0]}
    table = stats.rank_stability(finals(x=x, y=y))
    assert list(table["algorithm"]) == ["x", "y"]
    assert table["rank_1"].iloc[1] == pytest.approx((2 / 3) ** 3, abs=0.04)


def test_equal_algorithms_share_a_rank_and_only_common_tasks_count() -> None:
    table = stats.rank_stability(finals(x={"a": [1.0], "b": [5.0]}, y={"a": [1.0]}))
    assert list(table["rank"]) == [1, 1]
    assert set(table["tasks"]) == {1}


def test_an_algorithm_that_lacks_seeds_is_not_complete() -> None:
    table = finals(happo={"a": [0.0, 4.0], "b": [8.0, 20.0]})
    assert stats.aggregates(table.assign(planned=3))["complete"].tolist() == [False]
