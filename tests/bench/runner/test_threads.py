"""What the plan says of threads within trials."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bench.runner import threads
from bench.runner.cost import Cost
from bench.suite.resolving import load, trials
from bench.suite.trial import Trial

SUITE = {
    "name": "tiny",
    "steps": 100,
    "seeds": 1,
    "evaluate": {"every": 50, "episodes": 2},
    "tasks": ["games/driving"],
    "algorithms": {"happo": None, "mappo": None},
    "defaults": {"envs": 2, "rollout_length": 25},
}


def what_pays(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cores: int, seconds: dict[tuple[int, int], float], jobs: int = 99
) -> tuple[str, list[str]]:
    """The line for two trials, and the trials that were measured. `seconds`: by threads of environments and learner."""
    measured: list[str] = []

    def costs(chosen: list[Trial], env_threads: int, link: object) -> dict[Trial, Cost]:
        measured.append(chosen[0].label)
        return {t: Cost(seconds[env_threads, t.learner_threads], 1.0, 1.0, 1.0) for t in chosen}

    monkeypatch.setattr(threads, "costs", costs)
    monkeypatch.setattr(threads.os, "cpu_count", lambda: cores)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(SUITE))
    planned = trials(load(path)[0], path)
    prices = {t: Cost({"happo": 10.0, "mappo": 9.0}[t.label], 1.0, 1.0, 1.0) for t in planned}
    return threads.what_pays(prices, jobs), measured


def test_no_fewer_trials_than_cores_have_one_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert what_pays(tmp_path, monkeypatch, 3, {}) == ("3 for 2 trials: a core each, and threads would not help", [])


def test_the_longest_trial_is_measured_with_the_cores_that_are_left_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, measured = what_pays(tmp_path, monkeypatch, 9, {(1, 1): 12.0, (4, 1): 4.0, (1, 4): 8.0, (4, 4): 6.0})
    assert set(measured) == {"happo"}
    assert line == (
        "9 for 2 trials: --env-threads 4 pays most; measured on games/driving happo seed 0: --env-threads 4 3 times "
        "as fast, --set learner_threads=4 1.5 times as fast, both 2 times as fast"
    )


def test_cores_are_left_over_where_fewer_trials_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line, _ = what_pays(tmp_path, monkeypatch, 2, {(1, 1): 12.0, (2, 1): 6.0, (1, 2): 12.0, (2, 2): 8.0}, jobs=1)
    assert line.startswith("2 for 1 trial at once: --env-threads 2 pays most; ")


def test_threads_that_gain_less_than_a_tenth_do_not_pay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line, _ = what_pays(tmp_path, monkeypatch, 4, {(1, 1): 12.0, (2, 1): 11.5, (1, 2): 11.0, (2, 2): 13.0})
    assert line.startswith("4 for 2 trials: threads do not pay; ")
