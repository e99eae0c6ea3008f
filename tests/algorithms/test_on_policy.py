"""The loop of IPPO, MAPPO, HAPPO and HATRPO: acting, advantages, time limits, the value scale, order and factor."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import (
    ON_POLICY,
    acted,
    build,
    cut_every,
    equal_team,
    finite,
    generator,
    record_turns,
    rollout,
    same,
    seeds,
    team,
)
from torch import Tensor

from algorithms import Diverged, Rollout, Samples, SettingError, Team, on_policy
from algorithms.advantages import gae, standardise
from algorithms.clip import clip_step
from algorithms.config import ClipSettings, TrustRegionSettings
from algorithms.networks import GaussianActor, give_optimisers
from algorithms.trust_region import trust_region_step

# Acting


def test_actors_act_with_the_parameters_that_were_loaded_into_one_of_them() -> None:
    members = team()
    learner, other = (build("happo", members, seed=seeds(initialisation=start)) for start in (0, 1))
    observations = [torch.ones(4, size) for size in members.observation_sizes]
    learner.act(observations, explore=False)
    learner.actors[1].load_state_dict(other.actors[1].state_dict())
    found, expected = (one.act(observations, explore=False)[1] for one in (learner, other))
    assert torch.equal(found, expected)


def test_after_an_update_that_diverged_no_actor_acts_with_its_parameters_from_before() -> None:
    members = team()
    learner = build("happo", members)
    observations = [torch.ones(4, size) for size in members.observation_sizes]
    learner.act(observations, explore=False)
    data = acted(learner, members)
    data.reward[0] = torch.nan
    with pytest.raises(Diverged):
        learner.update(data)
    assert not all(x.isfinite().all() for x in learner.act(observations, explore=False))


def test_the_step_receives_the_samples_unclipped() -> None:
    """Actions reach the environment clipped; the density of the clipped action is not that of the Gaussian."""
    members = team()
    learner = build("mappo", members, initial_log_std=0.5)
    data = acted(learner, members, T=20)
    assert all(action.abs().max() > 1.5 for action in data.actions)
    turns = record_turns(learner)
    learner.update(data)
    assert len(turns) == 3
    for turn in turns:
        assert torch.equal(turn.samples.action, data.actions[turn.agent].flatten(0, 1))


def test_sampled_actions_follow_the_mean_and_standard_deviation_of_the_policy() -> None:
    members = team()
    learner = build("happo", members, initial_log_std=-1.0)
    actor, observations = learner.actors[0], [torch.ones(20_000, size) for size in members.observation_sizes]
    sample = learner.act(observations, explore=True)[0]
    policy = actor(observations[0][:1])
    torch.testing.assert_close(sample.mean(0), policy.mean[0], atol=0.02, rtol=0)
    torch.testing.assert_close(sample.std(0), policy.log_std.exp(), atol=0.02, rtol=0)


@pytest.mark.parametrize("name", ON_POLICY)
def test_an_evaluated_policy_acts_by_its_mean(name: str) -> None:
    members = team()
    learner = build(name, members)
    observations = [x[0] for x in rollout(members).observations]
    for actor, x, action in zip(learner.actors, observations, learner.act(observations, explore=False), strict=True):
        torch.testing.assert_close(action, actor.network(actor.normaliser(x)))


# Sharing actors


def test_a_shared_actor_is_told_the_index_of_its_agent_exactly_once() -> None:
    blind, observing = equal_team(3), equal_team(3, observes_id=True)
    assert build("mappo", blind, share_actors=True).actors[0].network[0].in_features == 4 + 3
    assert build("mappo", observing, share_actors=True).actors[0].network[0].in_features == 4
    assert build("mappo", blind).actors[0].network[0].in_features == 4


@pytest.mark.parametrize("name", ["ippo", "mappo", "matrpo"])
def test_an_actor_shared_without_index_acts_alike_for_agents_that_observe_alike(name: str) -> None:
    members = equal_team(3)
    learner = build(name, members, share_actors="without_index")
    for _ in range(2):
        assert [len(learner.actors), learner.actors[0].network[0].in_features] == [1, 4]
        first, *others = learner.act([torch.ones(2, 4)] * 3, explore=False)
        assert all(torch.equal(first, other) for other in others)
        learner.update(rollout(members))
    if name == "ippo":
        assert [critic.network[0].in_features for critic in learner.critics] == [4]


def test_of_one_agent_an_actor_without_index_is_the_actor_that_is_not_shared() -> None:
    members = equal_team(1)
    alone, shared = (build("mappo", members, share_actors=how) for how in (False, "without_index"))
    assert alone.update(rollout(members)) == shared.update(rollout(members))


def test_agents_that_observe_their_index_themselves_cannot_share_without_it() -> None:
    with pytest.raises(SettingError, match="do not end with their index") as caught:
        build("mappo", equal_team(3, observes_id=True), share_actors="without_index")
    assert caught.value.key == "share_actors"


def test_a_shared_actor_gives_each_agent_its_own_action() -> None:
    members = equal_team(3)
    learner = build("mappo", members, share_actors=True)
    x = [torch.ones(2, 4)] * 3
    actor = learner.actors[0]
    for i, action in enumerate(learner.act(x, explore=False)):
        one_hot = torch.eye(3)[i].expand(2, -1)
        torch.testing.assert_close(action, actor(torch.cat([x[i], one_hot], dim=1)).mode)
    first, second, _ = learner.act(x, explore=False)
    assert not torch.equal(first, second)


def test_sharing_actors_shares_the_local_critics_of_ippo_too() -> None:
    members = equal_team(3)
    assert len(build("ippo", members, share_actors=True).critics) == 1
    assert len(build("ippo", members).critics) == 3
    assert len(build("mappo", members).critics) == 1


# Time limits


def fitted(name: str, data: Rollout, updates: int, **given: Any) -> Any:
    """A learner whose critic was fitted to the same rollout again and again."""
    members = team((data.state.shape[-1],), (1,), state=data.state.shape[-1])
    learner = build(name, members, critic_lr=5e-3, critic_epochs=10, actor_lr=0.0, actor_epochs=1, **given)
    for _ in range(updates):
        learner.update(data)
    return learner


@pytest.mark.parametrize("name", ["mappo", "ippo"])
def test_a_time_limit_does_not_lower_values(name: str) -> None:
    """Reward 1 for ever, seen through episodes cut at 8 steps, is worth 1 / (1 - 0.9) = 10; at a limit taken for an
    end it would be worth about 4."""
    data = cut_every(8, 16, 2, lambda t: [1.0, -2.0], terminated=False)
    critic = fitted(name, data, 40, gamma=0.9).critics[0]
    assert critic.value(data.state).flatten()[0].item() == pytest.approx(10, abs=0.1)


def test_an_end_does_lower_values() -> None:
    """Reward 1 until termination after 8 steps: t steps in, sum_{k < 8 - t} 0.9^k is left."""
    data = cut_every(8, 16, 2, lambda t: [float(t == k) for k in range(8)], terminated=True)
    critic = fitted("mappo", data, 40, gamma=0.9).critics[0]
    left = [(1 - 0.9 ** (8 - t)) / 0.1 for t in range(8)]
    assert critic.value(data.state[:8])[:, 0].tolist() == pytest.approx(left, abs=0.1)


# Advantages


def test_advantages_are_never_centred_again_after_the_factor() -> None:
    """M = factor A of a later agent has a mean of its own; without it samples would change sign, and their clipping."""
    members = team()
    learner = build("happo", members, actor_lr=0.02)
    turns = record_turns(learner)
    learner.update(acted(learner, members))
    first, _, last = turns
    assert first.M.mean().abs().item() < 1e-6
    assert first.M.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert last.M.mean().abs().item() > 1e-3
    assert last.M.std(correction=0).item() != pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("shared", [False, True])
def test_local_critics_have_their_advantages_standardised_per_agent(shared: bool) -> None:
    members = equal_team(3)
    learner = build("ippo", members, share_actors=shared)
    turns = record_turns(learner)
    learner.update(rollout(members))
    per_agent = turns[0].M.view(10, 3 * 3).chunk(3, dim=1) if shared else [turn.M for turn in turns]
    assert len(per_agent) == 3
    for M in per_agent:
        assert M.mean().abs().item() < 1e-6
        assert M.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_advantages_come_from_the_critic_before_its_fit_and_actors_move_first() -> None:
    members = team()
    learner = build("happo", members)
    learner.update(rollout(members, seed=1))
    before = copy.deepcopy(learner.critics[0])
    data = rollout(members, seed=2)
    critic_when_acting: list[list[Tensor]] = []
    step = learner.actor_step

    def watching(*given: Any) -> Any:
        critic_when_acting.append([x.clone() for x in learner.critics[0].state_dict().values()])
        return step(*given)

    learner.actor_step = watching
    turns = record_turns(learner)
    learner.update(data)
    after = list(learner.critics[0].state_dict().values())
    assert len(critic_when_acting) == 3
    assert all(same(held, list(before.state_dict().values())) for held in critic_when_acting)
    assert not same(after, list(before.state_dict().values()))
    with torch.no_grad():
        value, end_value = before.value(data.state), before.value(data.end_state)
    next_value = data.successors(value, end_value)
    A = standardise(gae(data.reward, value[:-1], next_value, data.terminated, data.truncated, 0.99, 0.95))
    assert torch.equal(turns[0].M, A.flatten())


# Normalisers and the value scale


@pytest.mark.parametrize("name", ON_POLICY)
def test_an_update_sees_through_the_moments_that_acted_and_replaces_them_last(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = team()
    learner = build(name, members)
    learner.update(rollout(members, seed=1))
    networks = [*learner.actors, *learner.critics]
    acting = [copy.deepcopy(network.normaliser) for network in networks]
    data = rollout(members, seed=2)
    turns = record_turns(learner)
    while_fitting: list[bool] = []
    value_loss = on_policy.value_loss

    def watching(*given: Any) -> Tensor:
        while_fitting.append(
            all(torch.equal(old.mean, new.normaliser.mean) for old, new in zip(acting, networks, strict=True))
        )
        return value_loss(*given)

    monkeypatch.setattr(on_policy, "value_loss", watching)
    learner.update(data)
    assert len(turns) == 3
    for turn in turns:
        assert torch.equal(turn.samples.observation, data.observations[turn.agent][:-1].flatten(0, 1))
        assert torch.equal(turn.old.normaliser.mean, acting[turn.agent].mean)
        assert torch.equal(turn.new.normaliser.mean, acting[turn.agent].mean)
    assert while_fitting == [True] * 2 * len(learner.critics)  # in each of two epochs
    for old, network in zip(acting, networks, strict=True):
        assert network.normaliser.count.item() == 60
        assert not torch.equal(old.mean, network.normaliser.mean)


@pytest.mark.parametrize("name", ON_POLICY)
def test_the_value_scale_and_the_moments_are_in_the_checkpoint(name: str) -> None:
    """Without them a resumed critic speaks in another unit and sees another world."""
    members = team()
    learner = build(name, members)
    for k in range(2):
        data = rollout(members, seed=k)
        data.reward = data.reward * 50 + 10
        learner.update(data)
    fresh = build(name, members, seed=dict.fromkeys(seeds(), 0))
    fresh.load_state_dict(learner.state_dict())
    for ours, theirs in zip([*learner.actors, *learner.critics], [*fresh.actors, *fresh.critics], strict=True):
        assert theirs.normaliser.count.item() == 2 * 10 * 3
        assert torch.equal(ours.normaliser.mean, theirs.normaliser.mean)
        assert torch.equal(ours.normaliser.var, theirs.normaliser.var)
    for ours, theirs in zip(learner.critics, fresh.critics, strict=True):
        assert ours.return_normaliser.var.item() > 100
        assert torch.equal(ours.return_normaliser.mean, theirs.return_normaliser.mean)
        assert torch.equal(ours.return_normaliser.var, theirs.return_normaliser.var)


# Order


def order_of(learner: Any, members: Team, updates: int = 6) -> list[list[int]]:
    orders = []
    for k in range(updates):
        rows = [row for row in learner.update(rollout(members, seed=k)) if row["agent"] != "team"]
        orders.append([int(row["agent"]) for row in sorted(rows, key=lambda row: row["position"])])
    return orders


@pytest.mark.parametrize("name", ["happo", "hatrpo", "haippo"])
def test_agents_move_in_an_order_drawn_anew_and_recorded(name: str) -> None:
    members = team()
    learner = build(name, members)
    turns = record_turns(learner)
    orders = order_of(learner, members)
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert len({tuple(order) for order in orders}) > 2
    assert [turn.agent for turn in turns] == [agent for order in orders for agent in order]


def test_the_order_comes_from_its_own_generator() -> None:
    members = team()
    usual = order_of(build("happo", members), members)
    others = seeds(exploration=1, initialisation=2, minibatches=3)
    assert order_of(build("happo", members, seed=others), members) == usual
    assert order_of(build("happo", members, seed=seeds(order=9)), members) != usual


@pytest.mark.parametrize("name", ["mappo", "ippo", "matrpo"])
def test_agents_that_move_all_at_once_draw_no_order(name: str) -> None:
    members = team()
    learner = build(name, members)
    before = learner.generators["order"].get_state()
    assert order_of(learner, members, 3) == [[0, 1, 2]] * 3
    assert torch.equal(learner.generators["order"].get_state(), before)


# Factor


def test_the_factors_mean_maximum_and_effective_sample_size_are_logged_by_hand() -> None:
    """Factors 1, 1, 2, 4: mean 2, maximum 4, and 8^2 / (4 * 22) of the samples still count."""
    row = on_policy._factor_diagnostics(torch.tensor([[1.0, 1.0], [2.0, 4.0]]))
    assert row == pytest.approx({"factor_mean": 2, "factor_max": 4, "factor_ess": 64 / 88})


def test_the_first_to_move_has_a_factor_of_one_and_the_next_the_ratio_of_the_first() -> None:
    members = team()
    learner = build("happo", members)
    turns = record_turns(learner)
    rows = sorted(learner.update(acted(learner, members))[:-1], key=lambda row: row["position"])
    assert [rows[0][key] for key in ("factor_mean", "factor_max", "factor_ess")] == [1, 1, 1]
    assert rows[1]["factor_mean"] == pytest.approx(turns[0].ratio.mean().item())
    assert rows[1]["factor_max"] == pytest.approx(turns[0].ratio.max().item())
    assert rows[1]["factor_ess"] < 1


def test_one_huge_ratio_leaves_one_sample_that_counts_rather_than_a_number_that_is_not_finite() -> None:
    """The square of 2e19 is beyond float32, and beside it the 29 ones are nothing."""
    factor = torch.ones(10, 3)
    factor[4, 1] = 2e19
    row = on_policy._factor_diagnostics(factor)
    assert row["factor_ess"] == pytest.approx(1 / 30)
    assert row["factor_max"] == pytest.approx(2e19)


@pytest.mark.parametrize("name", ["happo", "haippo", "hatrpo"])
def test_one_huge_ratio_does_not_end_the_update(name: str) -> None:
    """Of 20 environments and 200 steps, as published: one of 4,000 samples then has all the weight."""
    members = team()
    learner = build(name, members)
    step = learner.actor_step
    moved: list[Any] = []

    def with_a_huge_ratio(actor: Any, *given: Any) -> Any:
        ratio, row = step(actor, *given)
        moved.append(actor)
        if len(moved) == 1:
            ratio[13] = 2e19
        return ratio, row

    learner.actor_step = with_a_huge_ratio
    rows = learner.update(acted(learner, members, T=200, E=20))
    assert len(moved) == 3
    assert finite(rows)
    by_position = sorted(rows[:-1], key=lambda row: row["position"])
    assert [row["factor_ess"] for row in by_position] == pytest.approx([1, 1 / 4000, 1 / 4000])


@pytest.mark.parametrize("step", [clip_step, trust_region_step])
def test_the_ratio_handed_on_carries_no_gradient(step: Callable[..., Any]) -> None:
    actor = GaussianActor(3, 2, (8, 8), -0.5, generator(1))
    give_optimisers("actor", [actor], 5e-4, eps=1e-8)
    x, action = torch.randn(12, 3, generator=generator(3)), torch.randn(12, 2, generator=generator(4))
    c = ClipSettings() if step is clip_step else TrustRegionSettings()
    ratio, _ = step(actor, Samples(x, action, None), torch.randn(12, generator=generator(5)), c, generator())
    assert not ratio.requires_grad
    assert not torch.equal(ratio, torch.ones(12))


# Diagnostics of the team


@pytest.mark.parametrize("name", ON_POLICY)
def test_the_joint_kl_of_the_team_is_the_sum_of_its_agents(name: str) -> None:
    members = team()
    learner = build(name, members)
    turns = record_turns(learner)
    *rows, team_row = learner.update(acted(learner, members))
    assert len(rows) == len(turns) == 3
    assert team_row["agent"] == "team"
    assert team_row["kl_joint"] == pytest.approx(sum(row["kl_mean"] for row in rows), rel=1e-12)
    assert team_row["kl_joint"] == pytest.approx(sum(float(turn.row["kl_mean"]) for turn in turns), rel=1e-12)
    assert team_row["kl_joint"] > 0


def test_the_joint_kl_counts_a_shared_actor_once_for_each_agent() -> None:
    members = equal_team(3)
    learner = build("mappo", members, share_actors=True)
    turns = record_turns(learner)
    team_row = learner.update(acted(learner, members))[-1]
    (turn,) = turns
    assert team_row["kl_joint"] == pytest.approx(3 * float(turn.row["kl_mean"]))
