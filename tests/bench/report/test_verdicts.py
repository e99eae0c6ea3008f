"""Verdicts: known boundaries, exact permutation tests, and rules decided by hand."""

from __future__ import annotations

from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from bench.report import stats
from bench.report.stats import CONTRADICTED, EQUIVALENT, SUPPORTED, UNDECIDED, Evidence
from bench.report.stats.errors import EXPERIMENTS, SEQUENTIAL, once
from bench.report.stats.sequential import bounds, levels, spent

# Several looks


def test_one_look_spends_everything() -> None:
    assert levels([5], 0.05) == pytest.approx([0.05])
    assert bounds((7,), 0.05) == pytest.approx((1.959964,), abs=1e-6)


def test_bounds_of_five_equal_looks_are_those_of_the_published_tables() -> None:
    """Of the spending function that resembles Pocock's test: 2.44, 2.43, 2.41, 2.40, 2.39."""
    assert bounds((1, 2, 3, 4, 5), 0.05) == pytest.approx((2.438, 2.427, 2.410, 2.397, 2.386), abs=5e-4)


def test_two_looks_spend_what_the_bivariate_normal_distribution_says() -> None:
    first, second = bounds((5, 10), 0.05)
    both = scipy_stats.multivariate_normal(cov=[[1, np.sqrt(0.5)], [np.sqrt(0.5), 1]])
    inside = both.cdf([first, second], lower_limit=[-first, -second])
    assert 2 * scipy_stats.norm.sf(first) == pytest.approx(spent(0.5, 0.05), abs=1e-9)
    assert 1 - inside == pytest.approx(0.05, abs=1e-5)


def test_bounds_hold_for_sums_that_are_simulated() -> None:
    looks = (5, 6, 8, 10)
    sums = np.cumsum(np.random.default_rng(0).normal(size=(200_000, 10)), axis=1)[:, np.array(looks) - 1]
    crossed = (np.abs(sums) / np.sqrt(looks) >= bounds(looks, 0.05)).any(axis=1)
    assert crossed.mean() == pytest.approx(0.05, abs=0.002)


# Evidence


def test_the_test_of_one_task_is_wilcoxons_exact_rank_sum_test() -> None:
    x = np.array([[3.0, 1.0, 4.5, 2.5], [1.5, 0.0, 2.0, 0.5]])
    exact = scipy_stats.mannwhitneyu(x[0], x[1], method="exact").pvalue
    found = stats.outperforms({"a": x}, 200_000)
    assert found.effect == pytest.approx(1.75)  # of 1.5, 1.0, 2.5, 2.0 without the lowest and the highest
    assert found.p == pytest.approx(exact, abs=0.005)
    assert (found.tasks, found.seeds) == (1, 4)
    assert np.isnan(found.low)


def test_ranks_of_several_tasks_are_added_up_within_each() -> None:
    """All assignments of two tasks with three seeds each, by hand: none is beyond the one in which all are separate."""
    x = {"a": np.array([[4.0, 5, 6], [1, 2, 3]]), "b": np.array([[400.0, 500, 600], [100, 200, 300]])}
    assert stats.outperforms(x, 200_000).p == pytest.approx(2 / comb(6, 3) ** 2, abs=0.001)


def test_a_test_that_points_to_the_other_side_than_the_effect_decides_nothing() -> None:
    """Most ranks are in favour of the second, the IQM of the differences is not."""
    x = {"a": np.array([[10.0, 10, 0, 0, 0, 0, 0], [0, 0, 9, 0.1, 0.1, 0.1, 0.1]])}
    found = stats.outperforms(x, 1000)
    assert found.effect > 0
    assert found.p > 0.5


def test_a_small_p_is_that_of_ten_times_as_many_permutations() -> None:
    """Both points of three separate tasks: the exact p is 2 / 252^3, less than any number of permutations gives."""
    x = {task: np.stack([np.arange(5.0) + 9, np.arange(5.0)]) for task in "abc"}
    assert stats.outperforms(x, 1000).p == pytest.approx(2 / 10_001)


def test_the_effect_of_several_tasks_is_the_interquartile_mean_of_all_differences() -> None:
    x = {"a": np.array([[1.0, 2, 3, 4], [0, 0, 0, 0]]), "b": np.array([[5.0, 6, 7, 8], [0, 0, 0, 0]])}
    assert stats.outperforms(x, 100).effect == pytest.approx(np.mean([3, 4, 5, 6]))


def test_a_trend_is_the_slope_per_doubling_of_the_agents() -> None:
    """Differences of 1, 2 and 3 with 2, 4 and 8 agents, at another height for another robot."""
    ones = np.ones(5)
    pairs = {f"mamujoco/Ant-{n}": np.stack([level * ones, 0 * ones]) for n, level in ((2, 1.0), (4, 2.0), (8, 3.0))}
    pairs |= {f"mamujoco/Walker2d-{n}": np.stack([level * ones, 0 * ones]) for n, level in ((2, 7.0), (4, 8.0))}
    agents = {task: int(task.rpartition("-")[2]) for task in pairs}
    found = stats.grows(pairs, agents, dict.fromkeys(pairs, 1.0), 500)
    assert found.effect == pytest.approx(1.0)
    assert (found.tasks, found.seeds) == (5, 5)
    assert found.p < 0.01


def test_the_test_of_a_trend_over_two_tasks_is_wilcoxons_exact_rank_sum_test_of_the_differences() -> None:
    few, many = [0.3, 0.1, 0.45, 0.25, -0.2], [0.5, 0.05, 0.2, 0.6, 0.9]
    pairs = {"mamujoco/Ant-2x4": np.array([few, [0.0] * 5]), "mamujoco/Ant-4x2": np.array([many, [0.0] * 5])}
    found = stats.grows(pairs, {"mamujoco/Ant-2x4": 2, "mamujoco/Ant-4x2": 4}, dict.fromkeys(pairs, 1.0), 20_000)
    exact = scipy_stats.mannwhitneyu(many, few, method="exact").pvalue
    assert found.p == pytest.approx(exact, abs=0.01)
    assert found.low < found.effect < found.high


def test_the_heights_of_robots_are_no_trend() -> None:
    """The robot with many agents is far above the other; within each no number of agents stands out."""
    spread = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])
    heights = {"mamujoco/Ant-2": 0.0, "mamujoco/Ant-3": 0.0, "mamujoco/Walker2d-6": 100.0, "mamujoco/Walker2d-8": 100.0}
    pairs = {task: np.stack([height + spread, 0 * spread]) for task, height in heights.items()}
    found = stats.grows(pairs, {task: int(task[-1]) for task in pairs}, dict.fromkeys(pairs, 1.0), 2000)
    assert found.effect == pytest.approx(0.0, abs=1e-9)
    assert found.p > 0.5


def test_robots_with_one_number_of_agents_have_no_trend() -> None:
    pairs = {
        "mamujoco/Hopper-3x1": np.ones((2, 5)),
        "mamujoco/Ant-2x4": np.ones((2, 5)),
        "mamujoco/Ant-2x4d": np.ones((2, 5)),
    }
    agents = {"mamujoco/Hopper-3x1": 3, "mamujoco/Ant-2x4": 2, "mamujoco/Ant-2x4d": 2}
    assert stats.grows(pairs, agents, dict.fromkeys(pairs, 1.0)) == stats.NOTHING
    assert np.isnan(stats.growth(stats.differences_of(pairs), agents))


def test_a_trend_that_is_one_of_the_scale_is_not_significant() -> None:
    """Raw differences of 4 and 3, worth 1 and 1.5 where the scale of the task with more agents is half as long."""
    spread = np.linspace(-0.1, 0.1, 8)
    heights = {"mamujoco/Ant-2x4": 1.0, "mamujoco/Ant-4x2": 1.5}
    pairs = {task: np.stack([height + spread, 0 * spread]) for task, height in heights.items()}
    agents = {"mamujoco/Ant-2x4": 2, "mamujoco/Ant-4x2": 4}
    units = {"mamujoco/Ant-2x4": 4 / 3, "mamujoco/Ant-4x2": 2 / 3}
    assert stats.grows(pairs, agents, dict.fromkeys(pairs, 1.0), 500).p < 0.01
    found = stats.grows(pairs, agents, units, 500)
    assert found.effect == pytest.approx(0.5)
    assert found.p == 1.0
    assert stats.of_trend(pairs, pairs, agents, units).one_scale == pytest.approx(1.5 * 2 / 3 - 4 / 3)


def test_a_trend_is_significant_only_where_it_is_on_both_scales() -> None:
    """A raw difference of 1,000 on every partition of Walker2d, whose scales are those of `scores.json`: no growth."""
    spans = {"mamujoco/Walker2d-2x3": 1942.0, "mamujoco/Walker2d-3x2": 1241.0, "mamujoco/Walker2d-6x1": 926.0}
    agents = dict(zip(spans, (2, 3, 6), strict=True))
    units = {task: 3 * span / sum(spans.values()) for task, span in spans.items()}
    random, repetitions, one, both = np.random.default_rng(0), 100, 0, 0
    for _ in range(repetitions):
        raw = {task: np.stack([1000 + random.normal(0, 300, 5), random.normal(0, 300, 5)]) for task in spans}
        pairs = {task: x / spans[task] for task, x in raw.items()}
        one += stats.grows(pairs, agents, dict.fromkeys(units, 1.0), 200).p <= 0.05
        both += stats.grows(pairs, agents, units, 200).p <= 0.05
    assert one > 0.4 * repetitions
    assert both <= 0.05 * repetitions


def test_an_effect_of_nothing_is_not_significant_however_often_one_side_wins() -> None:
    """The first never loses and the second fails in 7 of 30: the ranks differ, the interquartile mean is 0."""
    pairs = {"a": np.stack([np.ones(30), np.arange(30) >= 7])}
    for found in (stats.outperforms(pairs, 500), stats.outperforms({"a": pairs["a"][::-1]}, 500)):
        assert (found.effect, found.p) == (0.0, 1.0)


def test_an_effect_is_computed_otherwise_too() -> None:
    """By hand: two tasks of two seeds, differences of 1 and 3, and of 10 and 20."""
    pairs = {"a": np.array([[1.0, 4.0], [0.0, 1.0]]), "b": np.array([[10.0, 20.0], [0.0, 0.0]])}
    other = {"a": np.array([[2.0, 2.0], [0.0, 0.0]]), "b": np.array([[6.0, 6.0], [0.0, 0.0]])}
    found = stats.of_difference(pairs, other)
    assert found.tasks == {"a": 2.0, "b": 15.0}
    assert found.mean == 8.5
    assert found.other_policy == 4.0
    assert found.all_pairs == pytest.approx(np.mean([3, 4, 10, 10]))  # of 0, 1, 3, 4, 10, 10, 20, 20
    assert (found.least, found.most) == (2.0, 15.0)
    assert np.isnan(found.one_scale)


def test_a_trend_is_computed_otherwise_too() -> None:
    """Two robots, whose differences grow by 1 and by 3 per doubling."""
    at = {"mamujoco/Ant-2": 0.0, "mamujoco/Ant-4": 1.0, "mamujoco/Walker2d-2": 5.0, "mamujoco/Walker2d-4": 8.0}
    pairs = {task: np.full((2, 3), [[height], [0.0]]) for task, height in at.items()}
    agents = {task: int(task[-1]) for task in at}
    found = stats.of_trend(pairs, {task: 2 * x for task, x in pairs.items()}, agents, dict.fromkeys(at, 0.5))
    assert (found.least, found.most) == (1.0, 3.0)
    assert (found.other_policy, found.all_pairs, found.one_scale) == (4.0, 2.0, 1.0)
    assert np.isnan(found.mean)
    one = {task: x for task, x in pairs.items() if "Ant" in task}
    assert np.isnan(stats.of_trend(one, one, agents, dict.fromkeys(at, 1.0)).least)  # nothing is left without it


def test_pairs_are_of_equal_seeds_and_of_tasks_that_can_be_normalised() -> None:
    rows = [("a", "x", 0, 1.0), ("a", "x", 1, 2.0), ("a", "y", 1, 5.0), ("b", "x", 0, np.nan), ("b", "y", 0, np.nan)]
    table = pd.DataFrame(rows, columns=["task", "algorithm", "seed", "normalised"])
    found = stats.normalised_pairs(table, "x", "y", ["a", "b"])
    assert {task: pair.tolist() for task, pair in found.items()} == {"a": [[2.0], [5.0]]}
    assert stats.normalised_pairs(table, "x", "z", ["a", "b"]) == {}


# Decisions


def evidence(effect: float, p: float, half: float = 0.5, seeds: int = 5) -> Evidence:
    return Evidence(effect, effect - half, effect + half, p, 1, seeds)


def decided(*found: Evidence, margin: float = 0.1) -> list[str]:
    decisions = stats.decide(lambda j, _: found[j], [margin] * len(found), [5])
    return [decision.verdict for decision in decisions]


def test_holms_rule_by_hand() -> None:
    """0.05 / 3 >= 0.012, 0.05 / 2 >= 0.02, 0.05 / 1 < 0.06; the first that fails ends it."""
    assert decided(evidence(1, 0.02), evidence(-1, 0.012), evidence(1, 0.06)) == [SUPPORTED, CONTRADICTED, UNDECIDED]
    assert decided(evidence(1, 0.03), evidence(1, 0.03)) == [UNDECIDED, UNDECIDED]


def test_corrected_p_is_holms() -> None:
    found = evidence(1, 0.01), evidence(1, 0.04), evidence(1, 0.03)
    decisions = stats.decide(lambda j, _: found[j], [0.1] * 3, [5])
    assert [decision.p for decision in decisions] == pytest.approx([0.03, 0.06, 0.06])


def test_an_interval_within_the_margin_is_equivalence_even_if_it_leaves_out_zero() -> None:
    assert decided(evidence(0.05, 0.001, half=0.03)) == [EQUIVALENT]
    assert decided(evidence(0.05, 0.9, half=0.06)) == [UNDECIDED]


def test_equivalence_is_harder_among_many() -> None:
    one = evidence(0.0, 0.9, half=0.09)
    assert decided(one) == [EQUIVALENT]
    assert decided(*[one] * 5) == [UNDECIDED] * 5


def test_equivalence_is_harder_at_each_of_many_looks() -> None:
    one = evidence(0.0, 0.9, half=0.095)
    assert decided(one) == [EQUIVALENT]
    assert stats.decide(lambda j, n: one, [0.1], [5, 6, 7, 8, 9, 10])[0].verdict == UNDECIDED


def test_an_equivalence_makes_no_difference_easier_to_find() -> None:
    """0.04 is more than 0.05 / 2."""
    assert decided(evidence(0, 0.9, half=0.03), evidence(1, 0.04)) == [EQUIVALENT, UNDECIDED]


def test_fewer_than_five_seeds_decide_nothing() -> None:
    assert decided(evidence(9, 1e-4, seeds=4)) == [UNDECIDED]
    assert stats.decide(lambda j, n: evidence(9, 1e-4, seeds=n), [0.1], [2, 3])[0].verdict == UNDECIDED


def test_a_verdict_stays_and_says_at_how_many_seeds_it_fell() -> None:
    found = {5: evidence(1, 0.5), 6: evidence(1, 1e-4), 7: evidence(-1, 1e-4)}
    (decision,) = stats.decide(lambda j, n: found[n], [0.1], [5, 6, 7])
    assert (decision.verdict, decision.seeds) == (SUPPORTED, 6)


def test_looking_often_asks_for_more_at_each_look() -> None:
    found = evidence(1, 0.04)
    assert stats.decide(lambda j, n: found, [0.1], [5])[0].verdict == SUPPORTED
    assert stats.decide(lambda j, n: found, [0.1], [5, 6, 7, 8, 9, 10])[0].verdict == UNDECIDED


def test_differences_of_the_margin_are_seldom_called_none() -> None:
    """On one task of five seeds, whose interval knows its spread badly: in about 3% of suites of 15."""
    suites, comparisons, seeds, wrong = 100, 15, 5, 0
    differences = np.random.default_rng(0).normal(0.1, 0.01, (seeds, suites, comparisons))
    ends = np.stack([stats.iqm(differences, axis=0), *stats.interval(differences)], axis=-1)
    for of_suite in ends.tolist():
        found = [Evidence(effect, low, high, 1.0, 1, seeds) for effect, low, high in of_suite]
        wrong += EQUIVALENT in decided(*found)
    assert wrong / suites <= 0.05  # with normal quantiles in 8%


def test_an_interval_without_width_shows_no_equivalence() -> None:
    """Five runs of which none failed say little of one that fails in three of ten."""
    assert decided(Evidence(0.0, 0.0, 0.0, 1.0, 1, 5)) == [UNDECIDED]


def test_where_seeds_lack_nothing_is_decided() -> None:
    decisions = stats.decide(lambda j, n: None, [0.1], [5])
    assert (decisions[0].verdict, decisions[0].seeds) == (UNDECIDED, 0)


# Simulation, which docs/statistics.md has with more repetitions


@pytest.mark.parametrize(("comparisons", "looks"), [(15, [5]), (3, [5, 6, 7, 8, 9, 10])])
def test_of_comparisons_without_a_difference_one_in_twenty_suites_decides_any(
    comparisons: int, looks: list[int]
) -> None:
    """Uncorrected it would be more than half of them: 1 - 0.95^15, and about as many for 3 at six looks."""
    repetitions, wrong = 120, 0
    random = np.random.default_rng(0)
    for _ in range(repetitions):
        sums = random.normal(size=(comparisons, looks[-1])).cumsum(axis=1)
        z = sums / np.sqrt(np.arange(1, looks[-1] + 1))
        p = 2 * scipy_stats.norm.sf(np.abs(z))
        found = {(j, n): evidence(z[j, n - 1], p[j, n - 1], 9.0, n) for j in range(comparisons) for n in looks}
        decisions = stats.decide(lambda *jn, found=found: found[jn], [0.1] * comparisons, looks)
        wrong += any(decision.verdict != UNDECIDED for decision in decisions)
    assert 0.01 < wrong / repetitions < 0.1


def test_differences_are_found() -> None:
    assert np.mean([once(EXPERIMENTS[0], seed)["differences found"] for seed in range(2)]) > 0.9


def test_seeds_are_saved_where_the_difference_is_large() -> None:
    found = [once(SEQUENTIAL[2], seed) for seed in range(20)]
    assert np.mean([one["seeds used"] for one in found]) < 8
    assert sum(one["false difference"] for one in found) <= 4


def test_the_spread_of_one_task_is_known_with_a_degree_of_freedom_less_than_seeds() -> None:
    """At the level of five comparisons the interval is 4.604 / 2.776 = 1.66 times as wide, with 5 degrees 1.57."""
    assert decided(*[evidence(0.0, 0.9, half=0.062)] * 5) == [UNDECIDED] * 5
