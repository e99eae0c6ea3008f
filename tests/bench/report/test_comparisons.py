"""Comparisons of two algorithms: by hand, and simulated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats
from test_estimates import finals

from bench.report import stats


def test_paired_differences_by_hand() -> None:
    table = finals(happo={"a": [1.0, 5.0, 9.0]}, mappo={"a": [0.0, 6.0, 3.0]})
    (row,) = stats.paired_differences(table, "happo", "mappo").to_dict("records")
    assert (row["iqm"], row["mean"], row["median"], row["wins"], row["seeds"]) == (2.0, 2.0, 1.0, 2, 3)
    assert np.isnan(row["low"])


def test_a_seed_without_a_partner_is_not_used_and_counted() -> None:
    table = finals(happo={"a": [1.0, 5.0, 9.0]}, mappo={"a": [0.0]})
    (row,) = stats.paired_differences(table, "happo", "mappo").to_dict("records")
    assert (row["seeds"], row["unpaired"], row["iqm"]) == (1, 2, 1.0)


def test_pairing_removes_what_seeds_share() -> None:
    shared = np.array([0.0, 100.0, 300.0, 50.0, 800.0])
    table = finals(happo={"a": (shared + 1).tolist()}, mappo={"a": shared.tolist()})
    (row,) = stats.paired_differences(table, "happo", "mappo").to_dict("records")
    assert (row["low"], row["high"]) == (1.0, 1.0)


def test_paired_differences_over_tasks_by_hand() -> None:
    table = finals(happo={"a": [4.0, 8.0], "b": [1.0]}, mappo={"a": [0.0, 0.0], "b": [0.0], "c": [7.0]})
    found = stats.paired_over_tasks(table, "happo", "mappo")
    # weights 1/4, 1/4, 1/2 of 0.4, 0.8, 0.1: the highest quarter goes, the lowest run is more than a quarter
    assert found["iqm"] == pytest.approx((0.5 * 0.1 + 0.25 * 0.4) / 0.75)
    assert (found["tasks"], found["fewest_seeds"]) == (2, 1)
    assert stats.paired_over_tasks(table, "happo", "ippo")["tasks"] == 0


def test_improvement_counts_pairs_and_half_of_ties() -> None:
    assert stats.improvement(np.array([1.0, 3.0]), np.array([1.0, 2.0])) == (0.5 + 0 + 1 + 1) / 4


def test_one_side_that_always_wins_leaves_an_interval() -> None:
    low, high = stats.improvement_interval(np.arange(5.0) + 10, np.arange(5.0))
    assert high == 1.0
    assert 0.5 < low < 0.85
    mirrored = stats.improvement_interval(np.arange(5.0), np.arange(5.0) + 10)
    assert mirrored == pytest.approx((0.0, 1 - low))


def test_the_ends_of_an_interval_of_improvement_solve_its_equation() -> None:
    x, y = np.array([1.0, 4.0, 5.0, 7.0, 8.0, 9.0]), np.array([0.0, 2.0, 3.0, 6.0, 7.5])
    p, k = stats.improvement(x, y), (6 + 5) / 2 - 1
    for θ in stats.improvement_interval(x, y):
        variance = θ * (1 - θ) * (1 + k * ((1 - θ) / (2 - θ) + θ / (1 + θ))) / 30
        assert (θ - p) ** 2 == pytest.approx(1.959964**2 * variance, rel=1e-5)


@pytest.mark.parametrize(("shift", "truth"), [(0.0, 0.5), (1.4142136, 0.8413447)])
def test_intervals_of_improvement_cover(shift: float, truth: float) -> None:
    random = np.random.default_rng(0)
    ends = [stats.improvement_interval(random.normal(shift, 1, 5), random.normal(size=5)) for _ in range(600)]
    share = np.mean([low <= truth <= high for low, high in ends])
    assert 0.93 - 0.02 < share < 0.97 + 0.02  # two standard errors


def test_improvement_over_tasks_weighs_tasks_the_same() -> None:
    high, low = [10.0, 11.0, 12.0, 13.0, 14.0], [0.0, 1.0, 2.0, 3.0, 4.0]
    table = finals(happo={"a": high, "b": low, "c": high}, mappo={"a": low, "b": high, "c": low, "d": high})
    a, b, c, both = stats.probability_of_improvement(table, "happo", "mappo").to_dict("records")
    assert [row["task"] for row in (a, b, c, both)] == ["a", "b", "c", "all"]
    assert both["probability"] == pytest.approx(2 / 3)
    assert 2 / 3 - both["low"] == pytest.approx(np.sqrt(2) * (1 - a["low"]) / 3)
    assert both["high"] - 2 / 3 == pytest.approx(b["high"] / 3)


def test_few_seeds_leave_no_interval_of_improvement() -> None:
    table = finals(happo={"a": [1.0, 2.0]}, mappo={"a": [0.0]})
    assert stats.probability_of_improvement(table, "happo", "mappo")[["low", "high"]].isna().all(axis=None)


def needed(values: stats.Floats, margin: float = 0.0, level: float = 0.05) -> float:
    """The seeds that differences like these need."""
    low, high = stats.interval(values)
    return stats.seeds_needed(float(stats.iqm(values)), float(low), float(high), len(values), margin, level)


@pytest.mark.parametrize("level", [0.05, 0.05 / 15])
@pytest.mark.parametrize(("effect", "margin"), [(0.5, 0.0), (0.3, 1.0), (0.3, 1.2)])
def test_seeds_needed_are_the_least_that_fulfil_the_formula(effect: float, margin: float, level: float) -> None:
    """Ends 0.8 from the effect, of 5 seeds, are 2.776 standard errors of s / sqrt(5) away."""
    s = 0.8 * np.sqrt(5) / scipy_stats.t.ppf(0.975, 4)

    def decides(n: int) -> bool:
        certain, differs, within = (scipy_stats.t.ppf(share, n - 1) for share in (1 - level / 2, 0.8, 0.9))
        error = s / np.sqrt(n)
        return bool((certain + differs) * error <= effect or (certain + within) * error <= margin - effect)

    least = next(n for n in range(5, 1000) if decides(n))
    assert stats.seeds_needed(effect, effect - 0.8, effect + 0.8, 5, margin, level) == least > 5


def test_a_clear_difference_needs_no_more_than_five_seeds() -> None:
    assert needed(np.array([10.0, 10.1, 9.9, 10.2, 9.8])) == 5


def test_what_has_no_interval_has_no_number_of_seeds() -> None:
    assert np.isnan(needed(np.array([1.0, 2.0, 3.0, 4.0])))


def test_seeds_needed_grow_with_the_square_of_the_noise() -> None:
    noise = np.random.default_rng(0).normal(size=40)
    noise -= stats.iqm(noise)
    few, many = needed(1 + 2 * noise), needed(1 + 8 * noise)
    assert many / few == pytest.approx(16, rel=0.1)


def test_no_difference_is_decided_by_a_margin_alone() -> None:
    values = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    assert np.isinf(needed(values))
    assert 5 < needed(values, margin=1.0) < 100


def test_the_seeds_asked_for_decide_in_four_of_five_experiments() -> None:
    random = np.random.default_rng(0)
    measured = random.normal(size=400)
    n = int(needed(measured - stats.iqm(measured) + 0.8))
    decided = [stats.interval(random.normal(0.8, 1, n))[0] > 0 for _ in range(200)]
    assert np.mean(decided) == pytest.approx(0.8, abs=0.1)
