"""Choices that are off by default: the order of agents, a bound on the factor, a KL budget of the team."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import acted, build, parameters, record_turns, rollout, same, team
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from algorithms import Rollout, SettingError, settings


def prepared(name: str, **given: Any) -> tuple[Any, Rollout]:
    """A learner whose policies have left their start, and a rollout of its own."""
    members = team()
    learner = build(name, members, **given)
    learner.update(rollout(members))
    return learner, acted(learner, members, seed=1, T=40)


# The order of agents


def test_a_fixed_order_is_that_of_the_indices_and_draws_nothing() -> None:
    learner, data = prepared("happo", order="fixed")
    before = learner.generators["order"].get_state()
    for _ in range(3):
        turns = record_turns(learner)
        learner.update(data)
        assert [turn.agent for turn in turns[:3]] == [0, 1, 2]
    assert torch.equal(learner.generators["order"].get_state(), before)


def slope(actor: Any, data: Rollout, i: int, M: Tensor) -> float:
    """The norm of the gradient of E[ratio M], of the ratio as it is written."""
    log_prob = actor(data.observations[i][:-1]).log_prob(data.actions[i])
    surrogate = (torch.exp(log_prob - log_prob.detach()) * M).mean()
    return parameters_to_vector(torch.autograd.grad(surrogate, list(actor.parameters()))).norm().item()


@pytest.mark.parametrize("name", ["happo", "hatrpo"])
def test_in_greedy_order_the_steepest_of_those_that_wait_is_next(name: str) -> None:
    learner, data = prepared(name, order="greedy")
    turns = record_turns(learner)
    learner.update(data)
    old = {turn.agent: turn.old for turn in turns}
    waiting = [0, 1, 2]
    for turn in turns:
        M = turn.M.view_as(data.reward)
        assert turn.agent == max(waiting, key=lambda i: slope(old[i], data, i, M))
        waiting.remove(turn.agent)


def test_the_greedy_order_is_not_always_that_of_the_indices() -> None:
    firsts = set()
    for seed in range(8):
        learner, _ = prepared("happo", order="greedy")
        turns = record_turns(learner)
        learner.update(acted(learner, learner.team, seed=seed))
        firsts.add(turns[0].agent)
    assert len(firsts) > 1


# The bound on the factor


def test_the_factor_weighs_no_sample_by_more_than_its_bound_and_compounds_on() -> None:
    learner, data = prepared("happo", factor_bound=1.0, actor_lr=0.01)
    turns = record_turns(learner)
    rows = learner.update(data)
    A, product = turns[0].M, torch.ones_like(turns[0].M)
    for turn in turns:
        assert torch.allclose(turn.M, product.clamp(max=1.0) * A, rtol=0, atol=1e-6)
        product = product * turn.ratio
    assert (product > 1).any()
    last = max((row for row in rows if row["agent"] != "team"), key=lambda row: row["position"])
    assert last["factor_max"] > 1  # what is recorded is the factor itself


def test_a_bound_that_is_never_reached_changes_nothing() -> None:
    learners = [prepared("hatrpo", **given)[0] for given in ({}, {"factor_bound": 1e9})]
    assert same(*(parameters(learner) for learner in learners))


# The KL budget


def test_a_joint_budget_is_shared_by_those_that_wait_and_holds_for_their_sum() -> None:
    learner, data = prepared("hatrpo", kl_budget="joint", delta=0.02)
    given, step = [], learner.actor_step

    def recording(*arguments: Any) -> Any:
        result = step(*arguments)
        given.append((arguments[3].delta, result[1]["kl_mean"]))
        return result

    learner.actor_step = recording
    learner.update(data)
    left = 0.02
    for waiting, (delta, spent) in zip((3, 2, 1), given, strict=True):
        assert delta == pytest.approx(left / waiting)
        assert 0 < spent <= delta
        left -= spent
    assert left >= 0


def test_a_joint_budget_of_one_agent_is_its_own() -> None:
    one = team((5,), (2,))
    learners = [build("hatrpo", one, kl_budget=of) for of in ("agent", "joint")]
    for learner in learners:
        learner.update(rollout(one))
    assert same(*(parameters(learner) for learner in learners))


# Where they have no meaning


@pytest.mark.parametrize("name", ["ippo", "mappo", "matrpo"])
@pytest.mark.parametrize(("key", "value"), [("order", "greedy"), ("order", "fixed"), ("factor_bound", 2.0)])
def test_a_simultaneous_update_has_neither_order_nor_factor(name: str, key: str, value: Any) -> None:
    with pytest.raises(SettingError, match=f"for {name}, whose agents are updated simultaneously") as caught:
        settings(name, {key: value})
    assert caught.value.key == key


def test_an_unknown_order_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(SettingError, match="none of random, fixed, greedy"):
        settings("happo", {"order": "best"})
