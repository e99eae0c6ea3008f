"""The improvement meter: what it measures, and that training does not notice it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from test_trial import FIVE, TINY, finish, planned

from bench.store.trials import read_trial
from bench.suite.trial import Trial
from bench.trial import replay, session, worker
from bench.trial.improvement import ImprovementMeter, _gain
from bench.trial.link import Link
from bench.trial.setup import learner_and_batch

METER = {"diagnostics": {"improvement_every": 2, "improvement_episodes": 3}}
MEASURED = ["improvement", "improvement_error", "expected_return"]


def updates(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "updates.parquet").drop(columns="steps_per_second")


@pytest.mark.parametrize("label", FIVE)
def test_training_does_not_notice_it(tmp_path: Path, label: str) -> None:
    without = finish(planned(tmp_path)[label], tmp_path / "a")
    measured = finish(planned(tmp_path, **METER)[label], tmp_path / "b")
    for name in ("records", "updates"):
        one, other = (pd.read_parquet(folder / f"{name}.parquet") for folder in (without, measured))
        other = other.drop(columns=[*MEASURED, "steps_per_second", "seconds"], errors="ignore")
        if "agent" in one:  # MADDPG has no row of the team but for this
            other = other[other["agent"].isin(one["agent"])].reset_index(drop=True)
        pd.testing.assert_frame_equal(one[other.columns], other, check_exact=True)
    assert torch.equal(*(weights(folder) for folder in (without, measured)))


def weights(folder: Path) -> torch.Tensor:
    policy = torch.load(folder / "policy.pt", weights_only=True)["last"]
    return torch.cat([x.flatten() for x in policy.values()])


def test_every_second_update_has_the_change_of_each_agents_step_and_of_the_whole(tmp_path: Path) -> None:
    found = updates(finish(planned(tmp_path, **METER)["happo"], tmp_path / "out"))
    number = found["step"] / 50
    assert (found["improvement"].notna() == (number % 2 == 0)).all()
    for _, rows in found[found["improvement"].notna()].groupby("step"):
        whole = rows.loc[rows["agent"] == "team", "improvement"].item()
        assert rows.loc[rows["agent"] != "team", "improvement"].sum() == pytest.approx(whole, abs=1e-9)
        assert len(rows) == 4
        assert (rows["improvement_error"] >= 0).all()


def test_a_learner_without_steps_of_single_actors_has_the_whole_update(tmp_path: Path) -> None:
    found = updates(finish(planned(tmp_path, **METER)["maddpg"], tmp_path / "out"))
    measured = found[found["improvement"].notna()]
    assert {*measured["agent"]} == {"team"}
    assert len(measured) == 3


def meter(trial: Trial) -> ImprovementMeter:
    learner, batch = learner_and_batch(trial)
    batch.close()
    return ImprovementMeter(trial, learner, batch, lambda: None)


def test_equal_policies_play_equal_episodes(tmp_path: Path) -> None:
    measuring = meter(planned(tmp_path, **METER)["happo"])
    one, other, again = measuring._returns([measuring._policy()] * 2 + [measuring._policy()])
    assert one.tolist() == other.tolist() == again.tolist()
    measuring.updates = 7
    assert measuring._returns([measuring._policy()])[0].tolist() != one.tolist()


def test_a_better_policy_is_measured_as_better(tmp_path: Path) -> None:
    """Hopper earns 1 for each step that it does not fall: a policy that does nothing falls later than a wild one."""
    measuring = meter(planned(tmp_path, tasks=["mamujoco/Hopper-3x1"], **METER)["happo"])
    policy = measuring._policy()
    wild = {key: torch.full_like(x, 5.0) if "log_std" in key else x for key, x in policy.items()}
    quiet = {key: torch.full_like(x, -5.0) if "log_std" in key else x for key, x in policy.items()}
    assert any("log_std" in key for key in policy)
    worse, better = measuring._returns([wild, quiet])
    assert better.mean() > worse.mean()


def test_a_gain_is_the_mean_difference_and_its_standard_error() -> None:
    found = _gain(np.array([0.0, 1.0]), np.array([1.0, 4.0]))
    assert found == {"improvement": 2.0, "improvement_error": pytest.approx(1.0), "expected_return": 2.5}
    assert _gain(np.array([0.25]), np.array([0.5]))["improvement_error"] == 0  # exact


def test_an_interrupted_trial_measures_the_same_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = planned(tmp_path, **METER)["hatrpo"]
    whole = updates(finish(trial, tmp_path / "whole"))
    assert worker.run(trial, tmp_path / "parts", until=100).status == "running"
    parts = updates(finish(trial, tmp_path / "parts"))
    pd.testing.assert_frame_equal(whole, parts, check_exact=True)


def test_a_trial_that_is_measured_from_its_middle_on_measures_the_updates_of_the_others(tmp_path: Path) -> None:
    whole = updates(finish(planned(tmp_path, **METER)["happo"], tmp_path / "whole"))
    assert worker.run(planned(tmp_path)["happo"], tmp_path / "parts", until=100).status == "running"
    parts = updates(finish(planned(tmp_path, **METER)["happo"], tmp_path / "parts"))
    late = whole["step"] > 100
    assert whole.loc[late, "improvement"].notna().any()
    pd.testing.assert_frame_equal(whole[late][parts.columns], parts[parts["step"] > 100], check_exact=True)


@pytest.mark.parametrize("label", FIVE)
def test_a_trial_that_was_measured_is_replayed_as_it_was(tmp_path: Path, label: str) -> None:
    every = {"diagnostics": {"improvement_every": 1, "improvement_episodes": 2}}
    folder = finish(planned(tmp_path, **every)[label], tmp_path / "tiny")
    about = read_trial(folder / "trial.json")
    assert replay.difference(tmp_path / "tiny", about, Link()) == ""


def test_time_of_the_meter_is_no_time_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImprovementMeter, "_returns", lambda self, policies: _slow(len(policies)))
    trial = planned(tmp_path, **METER)["happo"]
    folder = trial.folder(tmp_path / "out")
    running = session.Session(trial, folder)
    for _ in range(2):
        running.train()
    assert running.evaluation_seconds > 0.5 > running.seconds
    running.close()


def _slow(count: int) -> list[Any]:
    import time

    time.sleep(0.6)
    return [np.zeros(2)] * count


def test_the_meter_is_no_part_of_what_a_trial_means(tmp_path: Path) -> None:
    assert planned(tmp_path)["happo"].config_hash() == planned(tmp_path, **METER)["happo"].config_hash()
    assert "diagnostics" not in TINY
