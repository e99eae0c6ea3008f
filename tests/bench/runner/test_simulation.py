"""The simulation of a cluster: by hand where trials are few, and what must hold for any."""

from __future__ import annotations

import math
from itertools import repeat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.runner.simulation import Job, Run, forecast, lived, simulate


def plain(seconds: float, memory: float = 0.0) -> Job:
    """A job whose only checkpoint is its end."""
    return Job(start=0.0, first=seconds, interval=0.0, saves=1, last=0.0, memory=memory)


SAVING = Job(start=1.0, first=2.0, interval=5.0, saves=3, last=4.0)
"""Saved after 3, 8 and 13 seconds, done after 17."""


def times(runs: list[Run]) -> list[tuple[int, float, float]]:
    return [(run.worker, run.begin, run.end) for run in runs]


# Workers


def test_two_workers_and_three_trials() -> None:
    runs = simulate([plain(5), plain(2), plain(4)], workers=2, driver=0)
    assert times(runs) == [(0, 0, 5), (1, 0, 2), (1, 2, 6)]
    seen = forecast(runs, workers=2, workers_per_node=1)
    assert (seen.makespan, seen.busy, seen.longest, seen.efficiency) == (6, 11, 5, 11 / 12)


def test_a_free_worker_takes_the_next_trial_at_once_though_others_are_still_at_work() -> None:
    runs = simulate([plain(10), plain(1), plain(1), plain(1)], workers=2, driver=0)
    assert times(runs) == [(0, 0, 10), (1, 0, 1), (1, 1, 2), (1, 2, 3)]


def test_workers_without_a_trial_lower_the_efficiency() -> None:
    assert forecast(simulate([plain(3)], workers=4, driver=0), 4, 1).efficiency == 1 / 4


def test_the_driver_hands_out_one_trial_after_the_other() -> None:
    """Half a second each: the third trial waits for a worker until 1.5 s, then for the driver."""
    runs = simulate([plain(1), plain(1), plain(1)], workers=2, driver=0.5)
    assert times(runs) == [(0, 0.5, 1.5), (1, 1.0, 2.0), (0, 2.0, 3.0)]


def test_trials_that_are_too_short_leave_the_workers_to_the_driver() -> None:
    seen = forecast(simulate([plain(0.1)] * 100, workers=1000, driver=0.5), 1000, 1)
    assert seen.makespan == pytest.approx(100 * 0.5 + 0.1)


# Failures


def test_without_failures_everything_has_its_time() -> None:
    starts, saved, seconds = lived(SAVING, repeat(math.inf))
    assert (starts.tolist(), saved.tolist(), seconds) == ([0], [3, 8, 13], 17)
    assert (SAVING.seconds, SAVING.stretch) == (17, 6)


def test_a_failure_costs_the_work_since_the_last_checkpoint_and_a_start() -> None:
    """It fails after 9 s, saved at 8: it starts again, saves 5 s of work later, and ends 4 s after that."""
    starts, saved, seconds = lived(SAVING, iter([9, math.inf]))
    assert (starts.tolist(), saved.tolist(), seconds) == ([0, 9], [3, 8, 15], 19)
    assert Run(SAVING, 0, seconds, starts, saved).lost == 1 + 1


def test_a_failure_before_the_first_checkpoint_costs_all() -> None:
    starts, saved, seconds = lived(SAVING, iter([2.5, math.inf]))
    assert (starts.tolist(), saved.tolist(), seconds) == ([0, 2.5], [5.5, 10.5, 15.5], 19.5)


def test_a_failure_at_a_checkpoint_costs_a_start() -> None:
    _, saved, seconds = lived(SAVING, iter([8, math.inf]))
    assert (saved.tolist(), seconds) == ([3, 8, 14], 18)


def test_a_failure_after_the_last_checkpoint_costs_the_final_episodes_so_far() -> None:
    """It fails 3 s into the final episodes, and plays them all again."""
    starts, saved, seconds = lived(SAVING, iter([16, math.inf]))
    assert (starts.tolist(), saved.tolist(), seconds) == ([0, 16], [3, 8, 13], 16 + 1 + 4)


def test_several_failures_add_up() -> None:
    starts, saved, seconds = lived(SAVING, iter([4, 0.5, 7, math.inf]))
    assert starts.tolist() == [0, 4, 4.5, 11.5]
    assert saved.tolist() == [3, 10.5, 17.5]  # 4.5 + 1 + 5, 11.5 + 1 + 5
    assert seconds == 17.5 + 4


def test_the_mean_time_is_that_of_the_exponential_distribution() -> None:
    """An hour of work without a checkpoint at one failure per hour takes e - 1 hours; the standard error is 0.022."""
    runs = simulate([plain(3600)] * 2000, workers=2000, fail_rate=1.0, driver=0)
    assert np.mean([run.end / 3600 for run in runs]) == pytest.approx(math.e - 1, abs=0.08)
    assert np.mean([run.failures for run in runs]) == pytest.approx(math.e - 1, abs=0.15)


def test_the_same_seed_gives_the_same_failures_on_any_number_of_workers() -> None:
    few, many, other = (simulate([SAVING] * 50, n, 100.0, seed, driver=0) for n, seed in ((2, 0), (7, 0), (2, 1)))
    lost = [[run.failures for run in runs] for runs in (few, many, other)]
    assert lost[0] == lost[1] != lost[2]
    assert sum(lost[0]) > 0


# Loads


def test_peaks_are_means_over_ten_seconds() -> None:
    """Saved at 15 and 25 s, ended at 35; 35 writes of progress spread evenly: 1, 4, 4, 4 files and 10, 10, 10, 5."""
    job = Job(0.0, first=15, interval=10, saves=2, last=10, save_bytes=100, end_bytes=50, progress=35)
    seen = forecast(simulate([job], workers=1, driver=0), 1, 1)
    assert [seen.files, seen.written] == pytest.approx([48, 250])
    assert [seen.files_peak, seen.bytes_peak] == pytest.approx([1.4, 10])
    assert (seen.submissions_peak, seen.outcomes_peak) == (0.1, 0.1)


def test_a_replay_buffer_grows_until_it_is_full() -> None:
    job = Job(0.0, first=1, interval=1, saves=4, last=1, save_bytes=10, replay_bytes=80, full=2)
    assert job.sizes().tolist() == [10, 50, 90, 90]
    assert forecast(simulate([job], workers=1, driver=0), 1, 1).written == 240


def test_a_run_of_less_than_ten_seconds_is_one_window() -> None:
    seen = forecast(simulate([plain(2)] * 4, workers=4, driver=0), 4, 1)
    assert (seen.submissions_peak, seen.outcomes_peak) == (2, 2)


def test_a_failure_writes_its_start_again() -> None:
    starts, saved, seconds = lived(SAVING, iter([9, math.inf]))
    seen = forecast([Run(SAVING, 0, seconds, starts, saved)], 1, 1)
    assert (seen.files, seen.failures, seen.most_failures, seen.lost) == (2 + 3 * 4 + 4, 1, 1, 2)


def test_the_fullest_node_has_the_trials_that_run_there_at_once() -> None:
    """Two workers to a node: 1 + 2 bytes on the first, 4 on the second; then 5 on the first, alone."""
    jobs = [plain(1, 1), plain(1, 2), plain(9, 4), plain(1, 5)]
    assert forecast(simulate(jobs[:3], 3, driver=0), 3, 2).node_memory == 4
    assert forecast(simulate(jobs, 3, driver=0), 3, 2).node_memory == 5
    assert forecast(simulate(jobs, 3, driver=0), 3, 3).node_memory == 4 + 5


def test_a_trial_that_begins_when_another_ends_does_not_add_to_it() -> None:
    assert forecast(simulate([plain(1, 5), plain(1, 5)], 1, driver=0), 1, 1).node_memory == 5


# What holds for any jobs

SECONDS = st.floats(0.01, 1e5)
JOBS = st.lists(
    st.builds(Job, start=st.floats(0, 10), first=SECONDS, interval=SECONDS, saves=st.integers(1, 30), last=SECONDS),
    min_size=1,
    max_size=30,
)
WORKERS = st.integers(1, 12)


@given(jobs=JOBS, workers=WORKERS)
@settings(max_examples=100, deadline=None)
def test_the_makespan_lies_within_the_bounds_of_list_scheduling(jobs: list[Job], workers: int) -> None:
    """At least the longest trial and an equal share of all; at most their sum (Graham 1966)."""
    seen = forecast(simulate(jobs, workers, driver=0), workers, 1)
    longest, share = max(job.seconds for job in jobs), sum(job.seconds for job in jobs) / workers
    assert max(longest, share) * (1 - 1e-9) <= seen.makespan <= (longest * (1 - 1 / workers) + share) * (1 + 1e-9)
    assert seen.efficiency <= 1 + 1e-9
    assert (seen.lost, seen.failures) == (0, 0)


@given(jobs=JOBS, workers=WORKERS, driver=st.floats(0, 10))
@settings(max_examples=100, deadline=None)
def test_another_worker_never_makes_it_longer(jobs: list[Job], workers: int, driver: float) -> None:
    """Anomalies of list scheduling need trials that wait for others: here each begins no later than before."""
    fewer, more = simulate(jobs, workers, driver=driver), simulate(jobs, workers + 1, driver=driver)
    assert all(b.begin <= a.begin * (1 + 1e-9) for a, b in zip(fewer, more, strict=True))


@given(jobs=JOBS, workers=WORKERS, hazard=st.floats(0.01, 2))
@settings(max_examples=50, deadline=None)
def test_failures_only_add_time_and_lose_no_checkpoint(jobs: list[Job], workers: int, hazard: float) -> None:
    rate = hazard * 3600 / max(job.stretch for job in jobs)
    runs = simulate(jobs, workers, rate, driver=0)
    for run in runs:
        assert len(run.saved) == run.job.saves
        assert (np.diff(run.saved) > 0).all()
        assert run.lost > -1e-6 if run.failures else run.lost == 0
    seen = forecast(runs, workers, 1)
    assert seen.busy == pytest.approx(sum(job.seconds for job in jobs) + seen.lost)
    assert seen.efficiency <= 1 + 1e-9
