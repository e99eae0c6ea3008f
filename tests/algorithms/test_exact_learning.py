"""Exact learning as a method among the others: it follows the theory, and its policies are tables."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from finite_games import DRIVERS, DRIVERS_DELTA, normal
from helpers import finite, generator, saved_and_loaded, seeds, team

import algorithms
from algorithms import Discrete, Model, SettingError, Team, check
from algorithms.exact import Game, expected_return, sequential_update

S = 3
NO_ROLLOUT: Any = None
"""Exact learning looks at none of it."""


def model(seed: int = 0, actions: tuple[int, ...] = (2, 3)) -> Model:
    random = generator(seed)
    transition, reward = normal(random, S, *actions, S).softmax(-1), normal(random, S, *actions)
    return Model(transition, reward, normal(random, S).softmax(-1))


def of(known: Model) -> Team:
    states, *actions = known.reward.shape
    return Team((states,) * len(actions), tuple(Discrete((a,)) for a in actions), states, model=known)


def learner(known: Model, **given: Any) -> Any:
    return algorithms.build("exact", of(known), algorithms.settings("exact", {"gamma": 0.9, **given}), seeds())


def tables(one: Any) -> list[torch.Tensor]:
    return [actor.probability.clone() for actor in one.actors]


def test_an_update_is_that_of_the_theory_in_the_order_that_was_drawn() -> None:
    known = model()
    one, before = learner(known), tables(learner(known))
    order = torch.randperm(2, generator=torch.Generator().manual_seed(seeds()["order"])).tolist()
    rows = one.update(NO_ROLLOUT)
    game = Game(known.transition, known.reward, known.initial, 0.9)
    expected = sequential_update(game, before, order)
    assert all(torch.equal(*pair) for pair in zip(tables(one), expected, strict=True))
    assert rows == [{"agent": "team", "objective": expected_return(game, expected)}]
    assert finite(rows)


@pytest.mark.parametrize("seed", range(5))
def test_the_return_never_falls(seed: int) -> None:
    one = learner(model(seed))
    returns = [expected_return(one.game, tables(one)), *(one.update(NO_ROLLOUT)[0]["objective"] for _ in range(5))]
    assert all(after >= before - 1e-12 for before, after in pairwise(returns))
    assert returns[-1] > returns[0]


def test_simultaneous_updates_of_the_drivers_lower_the_return_and_sequential_ones_do_not() -> None:
    reward = torch.tensor([DRIVERS]).double()
    known = Model(torch.ones(1, 2, 2, 1).double(), reward, torch.ones(1).double())
    lowest = {}
    for update in ("sequential", "simultaneous"):
        one = learner(known, update=update, delta=DRIVERS_DELTA, gamma=0.0)
        before = expected_return(one.game, tables(one))
        lowest[update] = one.update(NO_ROLLOUT)[0]["objective"] - before
    assert lowest["simultaneous"] < -0.1
    assert lowest["sequential"] > 0.1


def test_samples_follow_the_table_and_the_deterministic_action_is_the_likeliest() -> None:
    one = learner(model())
    states = torch.eye(S).repeat(20_000, 1)
    for actor, action in zip(one.actors, one.act([states, states], explore=True), strict=True):
        assert action.dtype == torch.float32
        for s in range(S):
            chosen = action[s::S, 0].long().bincount(minlength=actor.probability.shape[1]) / 20_000
            assert torch.allclose(chosen.double(), actor.probability[s], rtol=0, atol=0.02)
    for actor, action in zip(one.actors, one.act([states, states], explore=False), strict=True):
        assert torch.equal(action[:S, 0].long(), actor.probability.argmax(-1))


def test_it_goes_on_to_the_bit_from_what_it_saved() -> None:
    one, other = learner(model()), learner(model(), gamma=0.9)
    one.update(NO_ROLLOUT)
    other.load_state_dict(saved_and_loaded(one.state_dict()))
    x = torch.eye(S)
    for each in (one, other):
        each.update(NO_ROLLOUT)
    assert all(torch.equal(*pair) for pair in zip(tables(one), tables(other), strict=True))
    assert all(torch.equal(*pair) for pair in zip(one.act([x, x], True), other.act([x, x], True), strict=True))


def test_a_team_whose_game_is_not_known_is_refused() -> None:
    with pytest.raises(SettingError, match="whose model is known") as caught:
        check(team(), algorithms.settings("exact", {}))
    assert caught.value.key == "algorithm"


def test_distributions_of_actions_that_are_never_taken_are_finite() -> None:
    one = learner(model())
    one.actors[0].probability = torch.tensor([[1.0, 0.0]] * S).double()
    distribution = one.policies([torch.eye(S)] * 2)[0]
    assert distribution.entropy().tolist() == [0.0] * S
    assert distribution.kl_divergence(distribution).tolist() == [0.0] * S
    assert distribution.mode.flatten().tolist() == [0.0] * S
