"""The exact J of games, against play and against the tables of the games."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from test_trial import finish, planned

import algorithms
from bench.envs.game_batch import GameBatch
from bench.envs.games import DRIVING, Table
from bench.tasks import games, registry
from bench.trial.collect import play
from bench.trial.exact_return import exact_return
from bench.trial.setup import seeds

SMALL: dict[str, Any] = {"envs": 4, "rollout_length": 5, "hidden_sizes": [8]}
GAMMA = 0.9


def batch_of(name: str, copies: int = 1) -> Any:
    task = registry.task(name, {})
    return registry.make(task, np.random.SeedSequence(1).spawn(copies), auto_reset=False)


def learner_of(method: str, batch: Any, seed: int = 0, **given: Any) -> Any:
    """A learner whose policies have been pushed away from their start."""
    small = {"warmup_steps": 0, "batch_size": 10} if method == "maddpg" else {}
    settings = algorithms.settings(method, {**SMALL, **small, **given} if method != "exact" else {"gamma": GAMMA})
    learner = algorithms.build(method, batch.team, settings, seeds(seed)[0])
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in learner.policy.parameters():
            p.add_(torch.randn(p.shape, generator=random), alpha=0.3)
    return learner


@pytest.mark.parametrize("name", ["games/driving", "games/coordination-4", "games/ridge"])
def test_in_a_game_of_one_step_it_is_the_mean_return_of_play(name: str) -> None:
    batch = batch_of(name, copies=40_000)
    learner = learner_of("happo", batch)
    returns = play(learner, batch, explore=True).returns
    J = exact_return(learner, batch, GAMMA)
    assert pytest.approx(returns.mean(), abs=5 * returns.std() / 200) == J


def test_in_a_markov_game_it_is_the_discounted_return_of_play() -> None:
    batch = batch_of("games/random-0", copies=20_000)
    learner = learner_of("mappo", batch)
    discounted, weight = np.zeros(batch.envs), 1.0
    J = exact_return(learner, batch, 0.5)
    for _ in range(20):  # 0.5^20 of what is left does not matter
        actions = learner.act([torch.from_numpy(x) for x in batch.observations], explore=True)
        batch.step([a.numpy() for a in actions])
        discounted, weight = discounted + weight * batch.reward, weight * 0.5
    assert pytest.approx(discounted.mean(), abs=5 * discounted.std() / 141 + 1e-5) == J


def test_without_discounting_it_is_known_on_the_ridge_alone() -> None:
    assert [
        exact_return(learner_of("happo", batch), batch, 1.0) is None
        for batch in (batch_of("games/random-0"), batch_of("games/driving"), batch_of("games/ridge"))
    ] == [True, True, False]


def test_of_deterministic_policies_it_is_what_their_actions_pay() -> None:
    batch = batch_of("games/driving")
    learner = learner_of("maddpg", batch, seed=3)
    first, second = (int(a) for a in learner.act([torch.from_numpy(x) for x in batch.observations], explore=False))
    assert exact_return(learner, batch, GAMMA) == pytest.approx(DRIVING[first][second], abs=1e-12)


def test_deterministic_actions_on_the_ridge_have_no_spread() -> None:
    batch = batch_of("games/ridge")
    learner = learner_of("maddpg", batch, seed=3)
    actions = learner.act([torch.from_numpy(x) for x in batch.observations], explore=False)
    expected = batch.ridge.reward(np.concatenate([a.double().numpy() for a in actions], axis=1))[0]
    assert exact_return(learner, batch, GAMMA) == pytest.approx(expected, abs=1e-9)


def test_of_tables_it_is_their_own() -> None:
    task = registry.task("games/random-1", {})
    batch = batch_of("games/random-1")
    learner = learner_of("exact", batch)
    assert isinstance(games.known(task.name, task.options), Table)
    objective = learner.update(None)[0]["objective"]
    assert exact_return(learner, batch, GAMMA) == pytest.approx(objective, rel=1e-12)


def test_there_is_none_where_the_task_is_no_game() -> None:
    batch = batch_of("mamujoco/Hopper-3x1")
    assert not isinstance(batch, GameBatch)
    assert exact_return(learner_of("happo", batch), batch, GAMMA) is None
    batch.close()


def test_the_meter_plays_a_game_without_discounting(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"diagnostics": {"improvement_every": 1}, "algorithms": {"happo": {"gamma": 1.0}}}
    trial = planned(tmp_path, tasks=["games/random-0"], **changes)["happo"]
    found = pd.read_parquet(finish(trial, tmp_path / "out") / "updates.parquet")
    assert (found["improvement_error"] > 0).any()


@pytest.mark.parametrize("name", ["games/random-0", "games/ridge"])
def test_the_meter_is_exact_in_games_and_each_update_begins_where_the_last_ended(tmp_path: Path, name: str) -> None:
    trial = planned(tmp_path, tasks=[name], diagnostics={"improvement_every": 1})["happo"]
    found = pd.read_parquet(finish(trial, tmp_path / "out") / "updates.parquet")
    assert (found["improvement_error"] == 0).all()
    team = found[found["agent"] == "team"]
    agents = found[found["agent"] != "team"].groupby("step")["improvement"].sum()
    assert agents.to_numpy() == pytest.approx(team["improvement"].to_numpy(), abs=1e-12)
    last = found.sort_values(["step", "position"]).groupby("step").last()  # of the agents; the team has no position
    assert team["expected_return"].to_numpy() == pytest.approx(last["expected_return"].to_numpy(), abs=1e-12)
