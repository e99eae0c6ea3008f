"""MADDPG: what critics regress on, what actors climb, how targets follow, exploration and the number of steps."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from helpers import build, generator, rollout, same, team
from torch import Tensor, nn

from algorithms import Team
from algorithms.config import MADDPGSettings
from algorithms.maddpg import soft_update


def maddpg_on(members: Team, **given: Any) -> tuple[Any, Any]:
    """A learner that has stored a rollout but taken no gradient step, and a batch of it."""
    learner = build("maddpg", members, update_to_data=1e-9, **given)
    learner.update(rollout(members))
    assert learner.gradient_updates == 0
    c = learner.settings
    return learner, learner.replay_buffer.sample(c.batch_size, c.n_step, c.gamma, generator())


def actor_step(learner: Any, i: int, batch: Any) -> float:
    """Move actor i alone."""
    objective: float = learner._actor_step(i, batch, learner._encoded(batch.actions, batch.active))
    return objective


def test_windows_of_the_replay_have_the_length_and_the_discount_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner = build("maddpg", team(), n_step=3, gamma=0.5, batch_size=7)
    asked, sample = [], learner.replay_buffer.sample

    def watching(size: int, n: int, gamma: float, generator: torch.Generator) -> Any:
        asked.append((size, n, gamma))
        return sample(size, n, gamma, generator)

    monkeypatch.setattr(learner.replay_buffer, "sample", watching)
    learner.update(rollout(team()))
    assert {*asked} == {(7, 3, 0.5)}
    assert 10 <= MADDPGSettings().n_step <= 20  # what was published, and what learns


def test_no_gradient_step_is_taken_while_fewer_steps_are_stored_than_a_window_has() -> None:
    """Ten steps of three environments a rollout: two rollouts are a window of twenty."""
    learner, taken = build("maddpg", team(), n_step=20, update_to_data=0.1), []
    for k in range(3):
        learner.update(rollout(team(), seed=k))
        taken.append(learner.gradient_updates)
    assert taken == [0, 3, 6]


# Critics


def test_the_critic_regresses_on_reward_plus_discounted_target_of_the_next_actions() -> None:
    members = team((1,), (1,), state=1)
    learner, batch = maddpg_on(members, gamma=0.5, batch_size=32)
    critic, target = learner.critics[0], learner.target_critics[0]
    for value in target.network.parameters():
        torch.nn.init.zeros_(value)
    torch.nn.init.constant_(target.network[-1].bias, 8.0)  # Q' = 8 everywhere
    y = batch.reward_sum + 8 * batch.discount  # 4 more than the reward, or nothing more after an end
    assert set(batch.discount.tolist()) == {0.0, 0.5}
    with torch.no_grad():
        q = critic(batch.state, batch.actions)
    next_actions = [torch.zeros_like(batch.actions[0])]
    row = learner._critic_step(critic, target, batch, batch.actions, next_actions)
    assert row["critic_loss"] == pytest.approx(((q - y) ** 2).mean().item(), rel=1e-5)
    assert row["q_mean"] == pytest.approx(q.mean().item(), rel=1e-5)


def test_the_target_is_taken_at_the_next_state() -> None:
    members = team((1,), (1,), state=1)
    learner, batch = maddpg_on(members, gamma=0.5, batch_size=32)
    critic, target = learner.critics[0], learner.target_critics[0]
    next_actions = [torch.full_like(batch.actions[0], 0.3)]
    with torch.no_grad():
        y = batch.reward_sum + batch.discount * target(batch.next_state, next_actions)
        loss = (critic(batch.state, batch.actions) - y).square().mean().item()
    row = learner._critic_step(critic, target, batch, batch.actions, next_actions)
    assert row["critic_loss"] == pytest.approx(loss, rel=1e-5)


def test_the_target_takes_the_next_actions_of_all_agents_from_the_target_actors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = team()
    learner, batch = maddpg_on(members)
    for actor in learner.target_actors:
        for value in actor.parameters():
            torch.nn.init.zeros_(value)
        torch.nn.init.constant_(actor.network[-1].bias, 0.5)
    received: list[list[Tensor]] = []

    def watching(critic: Any, target: Any, batch: Any, actions: Any, next_actions: list[Tensor]) -> dict[str, float]:
        received.append(next_actions)
        return {}

    monkeypatch.setattr(learner, "_critic_step", watching)
    learner._gradient_step(batch)
    assert len(received) == 3
    for actions in received:
        assert [x.shape[-1] for x in actions] == [2, 1, 3]
        assert all(torch.allclose(x, torch.full_like(x, math.tanh(0.5))) for x in actions)


# Actors


def test_an_actor_moves_by_its_own_action_while_the_others_keep_theirs_from_the_replay() -> None:
    members = team()
    learner, batch = maddpg_on(members)
    for x in batch.actions:
        x.requires_grad_(True)
    received: list[list[Tensor]] = []
    learner.critics[1].register_forward_pre_hook(lambda module, args: received.append(list(args[1])))
    before = copy.deepcopy(learner.actors[1])
    actor_step(learner, 1, batch)
    ((first, own, third),) = received
    assert first is batch.actions[0]
    assert third is batch.actions[2]
    torch.testing.assert_close(own, before(batch.observations[1]))
    assert batch.actions[1].grad is None  # its own action of the replay plays no part


@pytest.mark.parametrize("i", [0, 1, 2])
def test_an_actors_gradient_is_that_of_its_critic_at_its_own_action(i: int) -> None:
    learner, batch = maddpg_on(team(), max_grad_norm=1e9)
    actor, critic = copy.deepcopy(learner.actors[i]), learner.critics[i]
    own = actor(batch.observations[i])
    q = critic(batch.state, [*batch.actions[:i], own, *batch.actions[i + 1 :]]).mean()
    gradients = torch.autograd.grad(-q, list(actor.parameters()))
    assert actor_step(learner, i, batch) == pytest.approx(q.item(), rel=1e-5)
    for p, gradient in zip(learner.actors[i].parameters(), gradients, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-4, atol=1e-7)


def test_an_actors_step_moves_no_other_actor_no_critic_and_no_target() -> None:
    members = team()
    learner, batch = maddpg_on(members)
    others = [learner.actors[0], learner.actors[2], *learner.critics, *learner.target_actors, *learner.target_critics]
    before = [p.clone() for network in others for p in network.parameters()]
    own = [p.clone() for p in learner.actors[1].parameters()]
    actor_step(learner, 1, batch)
    assert same([p for network in others for p in network.parameters()], before)
    assert not same(list(learner.actors[1].parameters()), own)
    assert all(p.grad is None for p in learner.critics[1].parameters())
    assert all(p.requires_grad for p in learner.critics[1].parameters())


def test_an_actor_climbs_its_critic() -> None:
    members = team()
    learner, batch = maddpg_on(members, actor_lr=0.01)
    objectives = [actor_step(learner, 0, batch) for _ in range(20)]
    assert objectives[-1] > objectives[0]


# Targets


def test_a_soft_update_goes_a_share_of_the_way() -> None:
    """A quarter of the way from 1 to 5 is 2, and from -2 to 2 is -1; the network stays where it is."""
    target, network = nn.Linear(1, 1), nn.Linear(1, 1)
    with torch.no_grad():
        for layer, (weight, bias) in ((target, (1.0, -2.0)), (network, (5.0, 2.0))):
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
    soft_update(target, network, 0.25)
    assert (target.weight.item(), target.bias.item()) == (2, -1)
    assert (network.weight.item(), network.bias.item()) == (5, 2)


def test_targets_move_towards_their_networks_by_exactly_tau() -> None:
    members = team()
    learner, batch = maddpg_on(members, tau=0.25)
    before = [p.clone() for t in (*learner.target_actors, *learner.target_critics) for p in t.parameters()]
    learner._gradient_step(batch)
    networks = [p for network in (*learner.actors, *learner.critics) for p in network.parameters()]
    targets = [p for t in (*learner.target_actors, *learner.target_critics) for p in t.parameters()]
    assert any(not torch.equal(new, old) for new, old in zip(targets, before, strict=True))
    for new, old, network in zip(targets, before, networks, strict=True):
        torch.testing.assert_close(new, old + 0.25 * (network - old), rtol=1e-6, atol=1e-7)


def test_targets_start_as_their_networks_and_see_through_the_same_moments() -> None:
    members = team()
    learner = build("maddpg", members, tau=0.0)
    start = [p.clone() for network in (*learner.actors, *learner.critics) for p in network.parameters()]
    learner.update(rollout(members))
    targets = [*learner.target_actors, *learner.target_critics]
    assert same([p for target in targets for p in target.parameters()], start)  # tau is 0
    for network, target in zip([*learner.actors, *learner.critics], targets, strict=True):
        assert torch.equal(network.normaliser.mean, target.normaliser.mean)
        assert torch.equal(network.normaliser.var, target.normaliser.var)
        assert network.normaliser.count.item() == target.normaliser.count.item() == 30


# Exploration, warm-up, number of gradient steps


def test_exploration_noise_is_added_only_when_exploring_and_stays_in_range() -> None:
    members = team()
    learner = build("maddpg", members, exploration_noise=0.1)
    observations = [torch.randn(2000, size, generator=generator()) for size in members.observation_sizes]
    calm, noisy = learner.act(observations, False), learner.act(observations, True)
    for quiet, loud in zip(calm, noisy, strict=True):
        assert (loud - quiet).std().item() == pytest.approx(0.1, rel=0.1)
        assert loud.abs().max().item() <= 1
    loud = build("maddpg", members, exploration_noise=3.0).act(observations, True)
    assert max(x.abs().max().item() for x in loud) == 1


def test_actions_of_the_warm_up_are_uniform_and_no_gradient_step_is_taken() -> None:
    members = team()
    learner = build("maddpg", members, warmup_steps=60)
    before = [p.clone() for network in (*learner.actors, *learner.critics) for p in network.parameters()]
    action = learner.act([torch.zeros(3000, size) for size in members.observation_sizes], True)[0]
    assert action.mean().item() == pytest.approx(0, abs=0.05)
    assert action.std().item() == pytest.approx(1 / math.sqrt(3), rel=0.05)
    assert learner.update(rollout(members)) == []
    assert learner.update(rollout(members)) == []
    assert same([p for network in (*learner.actors, *learner.critics) for p in network.parameters()], before)
    assert len(learner.update(rollout(members))) == 3


def test_gradient_steps_per_environment_step_are_as_many_as_asked_over_any_stretch() -> None:
    """30 steps a rollout at 0.05 are one and a half gradient steps, after a warm-up of 45 steps that owes none."""
    members = team()
    learner = build("maddpg", members, update_to_data=0.05, warmup_steps=45)
    taken = []
    for k in range(5):
        learner.update(rollout(members, seed=k))
        taken.append(learner.gradient_updates)
    assert taken == [0, 1, 2, 4, 5]  # int(0.05 steps) - int(0.05 * 45) at 30, 60, 90, 120, 150 steps


def test_a_window_longer_than_the_replay_is_refused_rather_than_never_learned_from() -> None:
    """30 transitions of 3 environments are 10 rows, in which no window of 11 steps ever fits."""
    with pytest.raises(ValueError):
        build("maddpg", team(), buffer_size=30, n_step=11)
