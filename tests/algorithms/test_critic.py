"""PPO's clipped value loss and falling learning rates: by hand, by brute force, and nothing where they are off."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers import ON_POLICY, acted, build, equal_team, parameters, rollout, same, team
from torch import Tensor, nn

from algorithms import METHODS, Rollout
from algorithms.advantages import explained_variance
from algorithms.config import OnPolicySettings
from algorithms.on_policy import OnPolicy, value_loss

# The clipped value loss


def loss_of(V: float, V_old: float, G: float, **given: float) -> float:
    x = [torch.tensor([number]) for number in (V, G, V_old)]
    return value_loss(OnPolicySettings(**given), *x).item()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("V", "V_old", "G", "loss"),
    [
        (0.1, 0.0, 1.0, 0.405),  # within the clip: 0.9^2 / 2
        (0.9, 0.0, 1.0, 0.32),  # beyond it towards the target: as if at 0.2, 0.8^2 / 2
        (-0.5, 0.0, 1.0, 1.125),  # beyond it away from the target: the whole error, 1.5^2 / 2
        (1.5, 0.0, 1.0, 0.32),  # past the target: still as if at 0.2
        (4.0, 3.0, 0.0, 8.0),  # away from a target below: 4^2 / 2
    ],
)
def test_the_clipped_loss_is_the_larger_of_two_by_hand(V: float, V_old: float, G: float, loss: float) -> None:
    assert loss_of(V, V_old, G, value_clip=0.2) == pytest.approx(loss)


def test_the_clipped_loss_is_hubers_by_hand() -> None:
    """Beyond delta = 1 it is linear: of the errors 4 and 3.8 the first counts, 1 (4 - 1/2)."""
    assert loss_of(1.0, 1.2, 5.0, value_clip=0.2, huber_delta=1.0) == pytest.approx(3.5)


def test_the_clipped_loss_is_that_of_a_plain_loop() -> None:
    g = torch.Generator().manual_seed(0)
    V, G, V_old = (2 * torch.randn(200, generator=g, dtype=torch.float64) for _ in range(3))

    def huber(error: float) -> float:
        return error**2 / 2 if abs(error) <= 0.7 else 0.7 * (abs(error) - 0.35)

    losses = []
    for v, g_, old in zip(V.tolist(), G.tolist(), V_old.tolist(), strict=True):
        near = old + min(max(v - old, -0.3), 0.3)
        losses.append(max(huber(v - g_), huber(near - g_)))
    c = OnPolicySettings(value_clip=0.3, huber_delta=0.7)
    found = [value_loss(c, *sample).item() for sample in zip(V.split(1), G.split(1), V_old.split(1), strict=True)]
    assert found == pytest.approx(losses, rel=1e-12)
    assert value_loss(c, V, G, V_old).item() == pytest.approx(sum(losses) / 200, rel=1e-12)


def test_a_value_beyond_the_clip_is_pulled_back_but_not_on() -> None:
    """Targets far above: the first value is within, the second beyond on the way there, the third on the way off."""
    V = torch.tensor([0.1, 0.5, -0.5], requires_grad=True)
    value_loss(OnPolicySettings(value_clip=0.2), V, torch.full((3,), 2.0), torch.zeros(3)).backward()
    assert V.grad is not None
    torch.testing.assert_close(3 * V.grad, torch.tensor([-1.9, 0.0, -2.5]))


def plainly_fitted(critic: Any, data: Rollout, returns: Tensor, c: OnPolicySettings) -> list[Tensor]:
    """The critic's parameters after the fit written out without any clip."""
    critic.optimiser = torch.optim.Adam(critic.parameters(), c.critic_lr, eps=1e-5, fused=True)
    x = data.state[:-1].flatten(0, 1)
    critic.return_normaliser.update(returns)
    target = critic.return_normaliser(returns)
    for _ in range(c.critic_epochs):
        loss = nn.functional.huber_loss(critic(x), target, delta=c.huber_delta)
        critic.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(critic.parameters(), c.max_grad_norm)
        critic.optimiser.step()
    return list(critic.network.parameters())


def test_without_a_clip_the_fit_is_plain_huber_regression() -> None:
    members = team()
    learner, data = build("mappo", members, critic_epochs=4), rollout(members)
    critic = copy.deepcopy(learner.critics[0])
    returns = learner._estimate(critic, data, data.state, data.end_state).returns
    learner.update(data)
    fitted = plainly_fitted(critic, data, returns.flatten(), learner.settings)
    for ours, theirs in zip(learner.critics[0].network.parameters(), fitted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_without_a_clip_the_critic_makes_no_extra_pass() -> None:
    def passes(**given: float) -> int:
        members, calls = team(), []
        learner = build("mappo", members, critic_epochs=4, **given)  # type: ignore[arg-type]
        learner.critics[0].network.register_forward_hook(lambda *_: calls.append(1))
        learner.update(rollout(members))
        return len(calls)

    assert passes() == 2 + 4  # values, values at the ends of episodes, one pass per epoch
    assert passes(value_clip=0.2) == 2 + 4 + 1


def learned(name: str, **given: Any) -> list[Tensor]:
    """The parameters after three updates; step sizes so large that a clip of 0.05 is passed."""
    members = equal_team(3)
    learner = build(name, members, critic_lr=0.01, critic_epochs=6, **given)
    for k in range(3):
        learner.update(rollout(members, seed=k))
    return parameters(learner)


def test_gradient_steps_are_counted_as_they_were_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared actor sees more samples than a centralised critic, which has then fewer minibatches than were asked."""
    members, taken = equal_team(3), []
    monkeypatch.setattr("algorithms.on_policy.minimise", lambda loss, critic, norm: taken.append(1))
    learner = build("mappo", members, share_actors=True, critic_epochs=2, critic_minibatches=50)
    data = rollout(members)
    learner._fit_critics(learner._critic_data(data))
    assert learner.gradient_updates == len(taken) == 2 * data.reward.numel() == 60


@pytest.mark.parametrize(("name", "given"), [*((name, {}) for name in ON_POLICY), ("mappo", {"critic_minibatches": 3})])
def test_a_huge_clip_is_no_clip_and_a_small_one_is(name: str, given: dict[str, int]) -> None:
    plain = learned(name, **given)
    for ours, theirs in zip(learned(name, value_clip=1e6, **given), plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert not same(learned(name, value_clip=0.05, **given), plain)


def test_values_are_clipped_around_the_critic_before_the_first_gradient_step(monkeypatch: pytest.MonkeyPatch) -> None:
    members = equal_team(2)
    learner, data = build("ippo", members, value_clip=0.1, share_actors=True, critic_minibatches=2), rollout(members)
    given: list[tuple[Tensor, ...]] = []

    def watching(c: OnPolicySettings, V: Tensor, G: Tensor, V_old: Tensor) -> Tensor:
        given.append((V.detach().clone(), V_old.clone()))
        return value_loss(c, V, G, V_old)

    monkeypatch.setattr("algorithms.on_policy.value_loss", watching)
    learner.update(data)
    (first, first_old), (_, second_old), *others = given
    torch.testing.assert_close(first, first_old)
    # The two parts of an epoch hold every sample once, and those of the next epoch the same old values again.
    before = torch.cat([first_old, second_old]).sort().values
    assert not torch.equal(others[0][0], others[0][1])
    torch.testing.assert_close(torch.cat([others[0][1], others[1][1]]).sort().values, before)


# Learning rates that fall


def step_sizes(learner: OnPolicy) -> set[float]:
    return {part.param_groups[0]["lr"] for part in learner.parts.values() if isinstance(part, torch.optim.Optimizer)}


def test_step_sizes_fall_linearly_to_zero_and_stay_there_by_hand() -> None:
    """Rollouts of 10 x 3 steps: 0, 30, 60, ... steps lie before an update, of 75 in all."""
    members = team()
    learner = build("happo", members, actor_lr=0.01, critic_lr=0.01, lr_decay_steps=75)
    found = []
    for k in range(5):
        learner.update(rollout(members, seed=k))
        found.append(step_sizes(learner))
    expected = [0.01, 0.01 * 45 / 75, 0.01 * 15 / 75, 0.0, 0.0]
    assert all(len(sizes) == 1 for sizes in found)
    assert [sizes.pop() for sizes in found] == pytest.approx(expected)


def test_actors_and_critics_keep_the_ratio_of_their_step_sizes() -> None:
    members = team()
    learner = build("mappo", members, actor_lr=0.01, critic_lr=0.04, lr_decay_steps=60)
    for k in range(2):
        learner.update(rollout(members, seed=k))
    assert sorted(step_sizes(learner)) == pytest.approx([0.005, 0.02])


@pytest.mark.parametrize("name", ["hatrpo", "matrpo"])
def test_of_a_trust_region_method_only_the_critic_has_a_step_size(name: str) -> None:
    members = team()
    learner = build(name, members, critic_lr=0.04, lr_decay_steps=60)
    learner.update(rollout(members, seed=0))
    learner.update(rollout(members, seed=1))
    assert step_sizes(learner) == {0.02}
    networks = (learner.actors[0], learner.critics[0])
    actor, critic = ([p.detach().clone() for p in network.parameters()] for network in networks)
    learner.update(acted(learner, members, seed=2))  # past the end: the critic stands still, the actors move
    assert not same(actor, list(learner.actors[0].parameters()))
    assert same(critic, list(learner.critics[0].parameters()))


def test_a_step_size_of_zero_moves_nothing() -> None:
    members = team()
    learner = build("happo", members, lr_decay_steps=30)
    learner.update(rollout(members, seed=0))
    before = [p.detach().clone() for network in (*learner.actors, *learner.critics) for p in network.parameters()]
    learner.update(rollout(members, seed=1))
    after = [p for network in (*learner.actors, *learner.critics) for p in network.parameters()]
    assert same(before, after)


@pytest.mark.parametrize("name", ON_POLICY)
def test_without_a_decay_step_sizes_stay(name: str) -> None:
    members = team()
    learner = build(name, members)
    before = step_sizes(learner)
    for k in range(3):
        learner.update(rollout(members, seed=k))
    assert step_sizes(learner) == before


@pytest.mark.parametrize("name", ON_POLICY)
def test_a_learner_counts_the_steps_that_it_was_given(name: str) -> None:
    members = team()
    learner = build(name, members)
    learner.update(rollout(members, T=10, E=3))
    learner.update(rollout(members, T=4, E=5))
    assert learner.steps == 50


@pytest.mark.parametrize("name", ON_POLICY)
def test_a_decay_goes_on_from_a_checkpoint_bit_for_bit(name: str) -> None:
    members = team()
    given: dict[str, Any] = {"lr_decay_steps": 150, "value_clip": 0.1}
    learner, fresh = build(name, members, **given), build(name, members, **given)
    for k in range(2):
        learner.update(acted(learner, members, seed=k))
    fresh.load_state_dict(copy.deepcopy(learner.state_dict()))
    assert fresh.steps == learner.steps == 60
    for k in range(2, 4):
        rows = [one.update(acted(one, members, seed=k)) for one in (learner, fresh)]
        assert rows[0] == rows[1]
    assert step_sizes(fresh) == step_sizes(learner)
    assert same(parameters(learner), parameters(fresh))


def test_both_settings_are_off_unless_asked_for() -> None:
    for name in ON_POLICY:
        settings = METHODS[name].settings()
        assert isinstance(settings, OnPolicySettings)
        assert (settings.value_clip, settings.lr_decay_steps) == (0.0, 0)


def test_the_explained_variance_is_that_of_the_values_before_the_fit() -> None:
    """With gamma 0 the returns are the rewards."""
    learner, data = build("mappo", team(), gamma=0.0), rollout(team())
    with torch.no_grad():
        expected = explained_variance(learner.critics[0].value(data.state[:-1]), data.reward)
    assert learner.update(data)[-1]["explained_variance"] == pytest.approx(expected, rel=1e-4)
