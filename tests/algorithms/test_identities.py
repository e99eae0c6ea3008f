"""What holds exactly between the methods, whatever the data: identities come before thresholds."""

from __future__ import annotations

import copy
from itertools import product
from typing import Any

import pytest
import torch
from helpers import acted, build, equal_team, parameters, record_turns, rollout, same, seeds, team
from torch import Tensor

from algorithms import Diagnostics, Rollout, Samples
from algorithms.advantages import gae, standardise
from algorithms.clip import clip_step


def twins(first: str, second: str, sizes: dict[str, Any], updates: int = 3, **given: Any) -> tuple[list[Tensor], ...]:
    """All that two methods hold after `updates` on the same rollouts."""
    members = team(**sizes)
    learners = [build(name, members, **given) for name in (first, second)]
    for learner in learners:
        for k in range(updates):
            learner.update(rollout(members, seed=k))
    return tuple(parameters(learner) for learner in learners)


ONE = {"observations": (5,), "actions": (2,), "state": 7}


@pytest.mark.parametrize("minibatches", [1, 3])
def test_with_one_agent_happo_is_mappo_bit_for_bit(minibatches: int) -> None:
    happo, mappo = twins("happo", "mappo", ONE, actor_minibatches=minibatches, entropy_coef=0.01)
    assert same(happo, mappo)


def test_with_one_agent_hatrpo_is_trpo_bit_for_bit() -> None:
    hatrpo, trpo = twins("hatrpo", "matrpo", ONE)
    assert same(hatrpo, trpo)


def test_with_one_agent_haippo_is_ippo_bit_for_bit() -> None:
    haippo, ippo = twins("haippo", "ippo", ONE)
    assert same(haippo, ippo)


def test_with_one_agent_that_observes_the_state_ippo_is_mappo_bit_for_bit() -> None:
    members = team((5,), (2,), state=5)
    ippo, mappo = build("ippo", members), build("mappo", members)
    for k in range(3):
        data = rollout(members, seed=k)
        data.state, data.end_state = data.observations[0], data.end_observations[0]
        ippo.update(data)
        mappo.update(data)
    assert same(parameters(ippo), parameters(mappo))


@pytest.mark.parametrize("name", ["mappo", "ippo", "matrpo"])
def test_one_agent_that_observes_its_index_shares_its_actor_with_itself_alone(name: str) -> None:
    members = team((5,), (2,), observes_id=True)
    shared, alone = build(name, members, share_actors=True), build(name, members)
    for k in range(3):
        shared.update(rollout(members, seed=k))
        alone.update(rollout(members, seed=k))
    assert same(parameters(shared), parameters(alone))


def test_several_agents_are_not_the_same_under_happo_and_mappo() -> None:
    happo, mappo = twins("happo", "mappo", {}, updates=1)
    assert not same(happo, mappo)


def test_happo_without_its_factor_is_mappo() -> None:
    def ratio_one(*given: Any) -> tuple[Tensor, Diagnostics]:
        ratio, row = clip_step(*given)
        return torch.ones_like(ratio), row

    members = team()
    happo, mappo = build("happo", members), build("mappo", members)
    happo.actor_step = mappo.actor_step = ratio_one
    for k in range(3):
        happo.update(rollout(members, seed=k))
        mappo.update(rollout(members, seed=k))
    assert same(parameters(happo), parameters(mappo))


def plain_advantage(critic: Any, x: Tensor, x_end: Tensor, data: Rollout) -> Tensor:
    """The standardised advantage by a critic as it is, with the default gamma 0.99 and lambda 0.95.  [T E]"""
    with torch.no_grad():
        value = critic.value(x)
        following = data.successors(value, critic.value(x_end))
    return standardise(gae(data.reward, value[:-1], following, data.terminated, data.truncated, 0.99, 0.95)).flatten()


@pytest.mark.parametrize("minibatches", [1, 4])
def test_at_learning_rate_zero_happo_hands_every_agent_the_plain_advantage(minibatches: int) -> None:
    members = team()
    learner = build("happo", members, actor_lr=0.0, actor_minibatches=minibatches)
    data = rollout(members)
    A = plain_advantage(learner.critics[0], data.state, data.end_state, data)
    turns = record_turns(learner)
    learner.update(data)
    assert len(turns) == 3
    for turn in turns:
        assert torch.equal(turn.ratio, torch.ones(30))
        assert torch.equal(turn.M, A)


def test_at_learning_rate_zero_haippo_hands_every_agent_its_own_plain_advantage() -> None:
    members = team()
    learner = build("haippo", members, actor_lr=0.0)
    data = rollout(members)
    views = zip(learner.critics, data.observations, data.end_observations, strict=True)
    plain = [plain_advantage(critic, x, x_end, data) for critic, x, x_end in views]
    turns = record_turns(learner)
    learner.update(data)
    assert not torch.equal(plain[0], plain[1])
    for turn in turns:
        assert torch.equal(turn.ratio, torch.ones(30))
        assert torch.equal(turn.M, plain[turn.agent])


@pytest.mark.parametrize("name", ["happo", "hatrpo", "haippo"])
def test_each_agent_climbs_the_advantage_times_the_ratios_of_those_before_it(name: str) -> None:
    members = team()
    learner = build(name, members)
    learner.update(acted(learner, members, seed=1))  # so that the second update starts from fitted normalisers
    data = acted(learner, members, seed=2)
    critics = copy.deepcopy(learner.critics)
    turns = record_turns(learner)
    learner.update(data)
    factor = torch.ones(30)
    for turn in turns:
        if name == "haippo":
            k = turn.agent
            A = plain_advantage(critics[k], data.observations[k], data.end_observations[k], data)
        else:
            A = plain_advantage(critics[0], data.state, data.end_state, data)
        torch.testing.assert_close(turn.M, factor * A, rtol=1e-6, atol=1e-6)
        assert not torch.equal(turn.recomputed_ratio(), torch.ones(30))
        factor = factor * turn.recomputed_ratio()
    assert sorted(turn.agent for turn in turns) == [0, 1, 2]


@pytest.mark.parametrize("name", ["happo", "hatrpo"])
def test_the_factor_handed_on_last_is_the_product_of_new_over_old_policies(name: str) -> None:
    members = team()
    learner = build(name, members)
    before = copy.deepcopy(learner.actors)
    data = acted(learner, members)
    turns = record_turns(learner)
    learner.update(data)
    handed_on = torch.stack([turn.ratio for turn in turns]).prod(dim=0)
    log_ratio = torch.zeros(10, 3)
    for old, new, x, action in zip(before, learner.actors, data.observations, data.actions, strict=True):
        new.normaliser = old.normaliser  # which acted, and which the update has replaced since
        with torch.no_grad():
            log_ratio += new(x[:-1]).log_prob(action) - old(x[:-1]).log_prob(action)
    torch.testing.assert_close(handed_on, log_ratio.exp().flatten(), rtol=1e-6, atol=1e-6)


def test_mappo_hands_every_agent_the_plain_advantage_whatever_the_others_did() -> None:
    members = team()
    learner = build("mappo", members)
    data = rollout(members)
    A = plain_advantage(learner.critics[0], data.state, data.end_state, data)
    turns = record_turns(learner)
    learner.update(data)
    assert [turn.agent for turn in turns] == [0, 1, 2]
    for turn in turns:
        assert not torch.equal(turn.ratio, torch.ones(30))
        assert torch.equal(turn.M, A)


@pytest.mark.parametrize("delta", [0.001, 0.01])
@pytest.mark.parametrize("name", ["hatrpo", "matrpo"])
def test_a_trust_region_step_stays_within_delta_and_never_lowers_the_surrogate(name: str, delta: float) -> None:
    members = team()
    learner = build(name, members, delta=delta)
    turns = record_turns(learner)
    for k in range(4):
        learner.update(acted(learner, members, seed=k))
    accepted = 0
    for turn in turns:
        with torch.no_grad():
            x = turn.samples.observation
            kl = turn.old(x).kl_divergence(turn.new(x)).mean().item()
        gain = (turn.recomputed_ratio() * turn.M).mean().item() - turn.M.mean().item()
        assert kl <= delta * (1 + 1e-6)
        assert gain >= -1e-7
        assert turn.row["kl_mean"] == pytest.approx(kl, rel=1e-5, abs=1e-8)
        accepted += turn.row["accepted"]
    assert accepted > len(turns) / 2


# Tables of a one-step game of three agents with two actions each: a policy is a row of probabilities, Q has one axis
# per agent. Every expectation below is a sum over all eight joint actions.
OLD = torch.tensor([[0.5, 0.5], [0.3, 0.7], [0.9, 0.1]], dtype=torch.float64)
NEW = torch.tensor([[0.2, 0.8], [0.6, 0.4], [0.7, 0.3]], dtype=torch.float64)
Q = torch.tensor([[[1.0, -2.0], [0.5, 3.0]], [[-1.0, 4.0], [2.0, 0.0]]], dtype=torch.float64)


def expectation(f: Tensor, policies: Tensor) -> Tensor:
    return torch.einsum("abc,a,b,c->", f, *policies)


def tabular_turns(order_seed: int) -> list[tuple[int, Tensor]]:
    """What each agent of the game is handed when policies move from OLD to NEW: (agent, M [8]) in turn.

    The rollout lists the eight joint actions, one per environment; a step only says the ratio of its agent's action.
    """
    actions = list(product(range(2), repeat=3))
    A = torch.tensor([[Q[action] - expectation(Q, OLD) for action in actions]], dtype=torch.float64)  # [1, 8]
    members = equal_team(3)
    learner = build("happo", members, seed=seeds(order=order_seed))
    handed: list[tuple[int, Tensor]] = []

    def step(actor: Any, samples: Samples, M: Tensor, *rest: Any) -> tuple[Tensor, Diagnostics]:
        agent = next(k for k, other in enumerate(learner.actors) if other is actor)
        handed.append((agent, M))
        ratio = NEW[agent] / OLD[agent]
        return ratio[torch.tensor([a[agent] for a in actions])], {}

    learner.actor_step = step
    learner._update_actors(rollout(members, T=1, E=8), [A] * 3)
    return handed


@pytest.mark.parametrize("order_seed", range(4))
def test_what_an_agent_is_handed_estimates_its_gain_given_the_moves_of_those_before_it(order_seed: int) -> None:
    """E_old[ratio^m M_m] = E[A] under the new policies of the agents up to m and the old ones of the rest."""
    handed = tabular_turns(order_seed)
    weights = torch.tensor([OLD[0, a] * OLD[1, b] * OLD[2, c] for a, b, c in product(range(2), repeat=3)])
    actions = torch.tensor(list(product(range(2), repeat=3)))  # [8, 3]
    policies = OLD.clone()
    for agent, M in handed:
        ratio = (NEW[agent] / OLD[agent])[actions[:, agent]]
        policies[agent] = NEW[agent]
        exact = expectation(Q, policies) - expectation(Q, OLD)
        torch.testing.assert_close((weights * ratio * M).sum(), exact, rtol=1e-6, atol=1e-9, check_dtype=False)
    assert sorted(agent for agent, _ in handed) == [0, 1, 2]
