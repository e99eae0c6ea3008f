"""Intervals: by hand, and their coverage on simulated seeds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench.report import stats
from bench.report.stats import coverage
from bench.report.stats.intervals import stratified, stretch, stretched


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_fewer_than_five_seeds_have_no_interval(seeds: int) -> None:
    assert np.isnan(stats.interval(np.arange(float(seeds)))).all()


def test_a_value_that_is_not_finite_leaves_no_interval_at_its_step_alone() -> None:
    values = np.arange(12.0).reshape(6, 2)
    values[3, 0] = np.nan
    low, high = stats.interval(values)
    assert np.isnan([low[0], high[0]]).all()
    assert np.isfinite([low[1], high[1]]).all()


def test_interval_of_equal_seeds_is_a_point() -> None:
    low, high = stats.interval(np.full(5, 7.0))
    assert [float(low), float(high)] == [7.0, 7.0]


def test_interval_contains_the_iqm() -> None:
    values = np.array([3.0, 8.0, 1.0, 5.0, 9.0, 4.0])
    low, high = stats.interval(values)
    assert low < stats.iqm(values) < high


def test_interval_of_a_curve_is_that_of_each_of_its_points() -> None:
    values = np.array([[0.0, 10.0], [1.0, 30.0], [5.0, 20.0], [2.0, 0.0], [7.0, 4.0]])  # [seeds, steps]
    low, high = stats.interval(values)
    assert (low[1], high[1]) == tuple(map(float, stats.interval(values[:, 1])))


def test_interval_moves_and_grows_with_the_unit() -> None:
    values = np.array([3.0, 8.0, 1.0, 5.0, 9.0, 4.0])
    np.testing.assert_allclose(stats.interval(10 * values - 2), 10 * np.array(stats.interval(values)) - 2)


def test_stretching_by_hand() -> None:
    # quantiles 2.5% and 97.5% of 0 ... 40 are 1 and 39; t with 4 degrees of freedom is 2.776 at 97.5%, z is 1.960
    low, high = stretched(np.array(10.0), np.arange(41.0), 5)
    assert low == pytest.approx(10 - 2.7764451 / 1.9599640 * 9)
    assert high == pytest.approx(10 + 2.7764451 / 1.9599640 * 29)


def test_the_stretch_vanishes_with_many_seeds() -> None:
    assert stretch(5) > stretch(10) > stretch(20) > 1
    assert stretch(10**6) == pytest.approx(1, abs=1e-5)


def test_with_many_seeds_the_interval_is_the_percentile_bootstrap_of_scipy() -> None:
    values = np.random.default_rng(0).normal(size=400)
    random = np.random.default_rng(1)
    expected = scipy_stats.bootstrap((values,), stats.iqm, n_resamples=5000, method="percentile", rng=random)
    assert stats.interval(values) == pytest.approx((*expected.confidence_interval,), abs=0.01)


def test_all_resamples_of_five_seeds_are_taken() -> None:
    values = np.random.default_rng(3).normal(size=5)
    every = [stats.iqm(np.array(drawn)) for drawn in itertools.product(values, repeat=5)]
    estimate, (low, high) = stats.iqm(values), np.quantile(every, [0.025, 0.975])
    expected = estimate - stretch(5) * (estimate - low), estimate + stretch(5) * (high - estimate)
    assert stats.interval(values) == pytest.approx(expected, rel=1e-12)


def test_the_mean_of_one_stratum_has_the_interval_of_a_stretched_bootstrap() -> None:
    values = np.array([3.0, 8.0, 1.0, 5.0, 9.0, 4.0])
    low, high = stratified([values], lambda runs: runs.mean(axis=-1))
    error = stretch(6) * scipy_stats.norm.ppf(0.975) * values.std() / np.sqrt(6)
    assert (low, high) == pytest.approx((5 - error, 5 + error), abs=0.2)


def test_strata_are_drawn_apart() -> None:
    # between tasks 100 apart nothing varies: a bootstrap over pooled runs would
    low, high = stratified([np.full(5, 0.0), np.full(5, 100.0)], lambda runs: runs.mean(axis=-1))
    assert (float(low), float(high)) == (50.0, 50.0)


def test_a_task_with_four_seeds_leaves_no_interval_over_tasks() -> None:
    assert np.isnan(stratified([np.arange(5.0), np.arange(4.0)], lambda runs: runs.mean(axis=-1))).all()


@pytest.mark.parametrize("seeds", [5, 10, 20])
@pytest.mark.parametrize("population", [*coverage.POPULATIONS][:4])
def test_intervals_cover_what_they_say(population: str, seeds: int) -> None:
    draw = coverage.POPULATIONS[population]
    values = draw(np.random.default_rng(5), (400, seeds))
    share = coverage.covered(coverage.ours(stats.iqm, values), coverage.truths(draw)[0])
    assert 0.93 - 0.025 < share < 0.97 + 0.02  # two standard errors


def test_the_simulation_makes_the_intervals_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "RESAMPLES", stats.RESAMPLES)
    values = np.random.default_rng(0).normal(size=(3, 5))
    theirs = np.transpose([stats.interval(row) for row in values])
    np.testing.assert_allclose(coverage.ours(stats.iqm, values), theirs)


def test_the_simulated_bca_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).lognormal(size=12)
    random = np.random.default_rng(1)
    expected = scipy_stats.bootstrap((values,), np.mean, n_resamples=20000, method="BCa", rng=random)
    found = coverage.bca(coverage.mean_of, values[None])
    np.testing.assert_allclose(found[:, 0], expected.confidence_interval, rtol=0.06)


def test_the_stretch_over_tasks_is_that_of_the_fewest_seeds() -> None:
    x = np.array([3.0, 8.0, 1.0, 5.0, 9.0])
    alone = stratified([x], lambda runs: runs.mean(axis=-1))
    beside = stratified([x, np.zeros(20)], lambda runs: runs[..., :5].mean(axis=-1))
    np.testing.assert_allclose(beside, alone)
