"""Networks and what moves them: acting after an update, one step of Adam, and numbers that are not finite."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from helpers import build, generator, rollout, same, team
from torch import nn

from algorithms.networks import RunningNormaliser, give_optimisers, minimise, mlp
from algorithms.rollout import Diverged, check_finite


@pytest.mark.parametrize("name", ["mappo", "hatrpo"])
def test_the_policy_acts_anew_after_each_update(name: str) -> None:
    members = team()
    learner, data = build(name, members), rollout(members)
    observations = [x[0] for x in data.observations]
    before = [x.clone() for x in learner.act(observations, explore=False)]
    learner.update(data)
    after = learner.act(observations, explore=False)
    assert not same(before, after)
    for actor, x, action in zip(learner.actors, observations, after, strict=True):
        torch.testing.assert_close(action, actor(x).mode)


@pytest.mark.parametrize("name", ["mappo", "hatrpo"])
def test_a_policy_that_is_loaded_acts_at_once(name: str) -> None:
    members = team()
    ours, theirs, data = build(name, members), build(name, members), rollout(members)
    observations = [x[0] for x in data.observations]
    theirs.update(data)
    ours.act(observations, explore=False)
    ours.policy.load_state_dict(theirs.policy.state_dict())
    assert same(ours.act(observations, explore=False), theirs.act(observations, explore=False))


def test_features_that_all_agree_pass_the_layer_norm() -> None:
    net = mlp([2, 4, 1], 1.0, generator())
    with torch.no_grad():
        net[0].weight.zero_()  # type: ignore[operator]
        net[0].bias.fill_(1.0)  # type: ignore[operator]  # a variance of 0 beside a mean square of 1
        torch.testing.assert_close(net(torch.ones(3, 2)), torch.zeros(3, 1), rtol=0, atol=1e-3)


def test_one_descent_is_one_step_of_adam_on_the_mean() -> None:
    ours = build("happo", team((3,), (1,))).critics[0]
    theirs = copy.deepcopy(ours)
    x, y = torch.randn(20, 6, generator=generator()), torch.randn(20, generator=generator(1))
    give_optimisers("critic", [ours], 1e-2, eps=1e-5)
    adam = torch.optim.Adam(theirs.parameters(), 1e-2, eps=1e-5)
    norm = minimise((ours(x) - y).square().mean(), ours, max_grad_norm=0.1)
    (theirs(x) - y).square().mean().backward()
    expected = nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
    adam.step()
    assert norm == pytest.approx(expected.item(), rel=1e-5)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_moments_bear_the_largest_observations_that_an_environment_may_give() -> None:
    normaliser = RunningNormaliser((500,))
    x = torch.full((4000, 500), 1e18)
    x[::2] = -1e18
    normaliser.update(x)
    torch.testing.assert_close(normaliser.var, torch.full((500,), 1e36), rtol=1e-3, atol=0)
    check_finite([], [normaliser])  # though the sum of its variances is none that float32 has


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_not_finite_is_found(bad: float) -> None:
    normaliser = RunningNormaliser((3,))
    normaliser.mean[1] = bad
    with pytest.raises(Diverged, match="not finite"):
        check_finite([], [normaliser])
