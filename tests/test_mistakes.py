"""The mistakes that implementations of these methods are known to make: each test names one, and its absence."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import (
    EVERY,
    ON_POLICY,
    acted,
    build,
    cut_every,
    equal_team,
    finite,
    hessian_of_the_mean_kl,
    parameters,
    record_turns,
    rollout,
    same,
    seeds,
    team,
)
from torch import Tensor
from torch.distributions import kl_divergence
from torch.nn.utils import parameters_to_vector

from algorithms import Diverged, Rollout, Team, layers, on_policy, trust_region
from algorithms.clip import clip_objective, clip_step
from algorithms.config import ClipSettings, TrustRegionSettings
from algorithms.layers import FlatAdam
from algorithms.networks import (
    CategoricalActor,
    DeterministicActor,
    GaussianActor,
    RunningMoments,
    ValueCritic,
    mlp,
    policy_change,
)
from algorithms.replay import Replay, transition_bytes
from algorithms.returns import explained_variance, gae, standardise
from algorithms.rollout import minibatches
from algorithms.trust_region import conjugate_gradient, fisher_product, line_search, trust_region_step


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian_actor(observation: int = 3, action: int = 2, log_std: float = -0.5) -> GaussianActor:
    """An actor whose means are far from zero and differ between observations."""
    actor = GaussianActor(observation, action, (8, 8), log_std, generator(1))
    actor.mean = mlp([observation, 8, 8, action], 1.0, generator(2))
    return actor


def with_optimiser(actor: GaussianActor, lr: float = 5e-4) -> GaussianActor:
    actor.optimiser = FlatAdam(actor, lr, eps=1e-8)
    return actor


# Distributions: one number per sample


def test_log_probability_is_one_number_per_sample_the_sum_over_action_dimensions() -> None:
    """Broadcast over action dimensions it would be [T, E, A]."""
    actor = gaussian_actor(log_std=math.log(0.5))
    x, action = torch.randn(4, 3, 3, generator=generator()), torch.randn(4, 3, 2, generator=generator())
    log_prob = actor(x).log_prob(action)
    assert log_prob.shape == (4, 3)
    mean = actor.mean(x)
    by_hand = torch.zeros(4, 3)
    for d in range(2):
        z = (action[..., d] - mean[..., d]) / 0.5
        by_hand += -0.5 * z**2 - math.log(0.5) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(log_prob, by_hand)


def test_log_probability_of_a_standard_normal_at_one_and_two() -> None:
    actor = GaussianActor(1, 2, (4,), 0.0, generator())
    for parameter in actor.mean.parameters():
        torch.nn.init.zeros_(parameter)
    log_prob = actor(torch.zeros(1, 1)).log_prob(torch.tensor([[1.0, 2.0]]))
    assert log_prob.item() == pytest.approx(-0.5 * (1 + 4) - math.log(2 * math.pi))


def test_entropy_is_the_analytic_one_and_one_number_per_sample() -> None:
    """Broadcast as (B,) against (B, 1) the entropy is multiplied by the batch size."""
    actor = gaussian_actor()
    with torch.no_grad():
        actor.log_std.copy_(torch.tensor([-1.0, 0.3]))
    entropy = actor(torch.randn(5, 3, 3, generator=generator())).entropy()
    analytic = sum(0.5 * math.log(2 * math.pi * math.e * math.exp(log_std) ** 2) for log_std in (-1.0, 0.3))
    assert entropy.shape == (5, 3)
    torch.testing.assert_close(entropy, torch.full((5, 3), analytic))


@pytest.mark.parametrize("T", [2, 200])
def test_the_entropy_bonus_pulls_equally_hard_whatever_the_batch_size(T: int) -> None:
    """With M = 0 only the bonus is left: its slope is the coefficient c in both log-stds: |g| = c sqrt 2."""
    actor = with_optimiser(gaussian_actor())
    x, action = torch.randn(T, 3, 3, generator=generator()), torch.randn(T, 3, 2, generator=generator())
    c = ClipSettings(entropy_coef=0.01, actor_epochs=1)
    _, row = clip_step(actor, x, action, torch.zeros(T, 3), c, generator())
    assert row["gradient_norm"] == pytest.approx(0.01 * math.sqrt(2), rel=1e-5)


def test_kl_is_that_of_old_against_new_gaussians_in_closed_form_mean_and_max() -> None:
    """KL(old, new) = sum_d log(s'/s) + (s^2 + (m - m')^2) / (2 s'^2) - 1/2; a sample's estimate has another Hessian."""
    old_actor, new_actor = gaussian_actor(log_std=-0.5), gaussian_actor(log_std=-0.2)
    with torch.no_grad():
        new_actor.mean[-1].bias.add_(0.3)
    x = torch.randn(4, 3, 3, generator=generator())
    with torch.no_grad():
        old, new = old_actor(x), new_actor(x)
        row = policy_change(old, new, torch.tensor([0.5, 1.7, 1.0]))
        m, m_new, s, s_new = old_actor.mean(x), new_actor.mean(x), math.exp(-0.5), math.exp(-0.2)
        kl = (math.log(s_new / s) + (s**2 + (m - m_new) ** 2) / (2 * s_new**2) - 0.5).sum(-1)
    assert kl.shape == (4, 3)
    assert row["kl_mean"] == pytest.approx(kl.mean().item(), rel=1e-5)
    assert row["kl_max"] == pytest.approx(kl.max().item(), rel=1e-5)
    assert row["ratio_max"] == pytest.approx(1.7)
    assert row["entropy"] == pytest.approx(2 * (0.5 * math.log(2 * math.pi * math.e) - 0.2), rel=1e-5)


def test_kl_differs_between_states_and_its_maximum_is_logged() -> None:
    members = team()
    learner = build("happo", members, actor_lr=5e-3)
    turns = record_turns(learner)
    learner.update(acted(learner, members))
    for turn in turns:
        with torch.no_grad():
            kl = kl_divergence(turn.old(turn.seen), turn.new(turn.seen))
        assert turn.row["kl_mean"] == pytest.approx(kl.mean().item(), rel=1e-4)
        assert turn.row["kl_max"] == pytest.approx(kl.max().item(), rel=1e-4)
        assert turn.row["kl_max"] > turn.row["kl_mean"] > 0


def test_standard_deviations_do_not_depend_on_the_state_and_are_not_capped() -> None:
    """A sigmoid would cap them at 0.5."""
    actor = gaussian_actor(log_std=0.4)
    std = actor(torch.randn(7, 3, generator=generator())).base_dist.stddev
    torch.testing.assert_close(std, torch.full((7, 2), math.exp(0.4)))


def test_learning_can_raise_a_standard_deviation_above_one_half() -> None:
    actor = with_optimiser(gaussian_actor(log_std=math.log(0.45)), lr=0.05)
    x, action = torch.randn(4, 3, 3, generator=generator()), torch.randn(4, 3, 2, generator=generator())
    clip_step(actor, x, action, torch.zeros(4, 3), ClipSettings(entropy_coef=1.0, actor_epochs=20), generator())
    assert actor.log_std.min().item() > math.log(0.5)


def test_samples_are_not_clipped_and_the_log_probability_is_that_of_the_sample() -> None:
    """Actions reach the environment clipped; the density of the clipped action is not that of the Gaussian."""
    members = team()
    learner = build("mappo", members, initial_log_std=0.5)
    data = acted(learner, members, T=20)
    assert all(action.abs().max() > 1.5 for action in data.actions)
    turns = record_turns(learner)
    learner.update(data)
    for turn in turns:
        assert torch.equal(turn.action, data.actions[turn.agent])


def test_sampled_actions_follow_the_mean_and_standard_deviation_of_the_policy() -> None:
    members = team()
    learner = build("happo", members, initial_log_std=-1.0)
    actor, observations = learner.actors[0], [torch.ones(20_000, size) for size in members.observation_sizes]
    sample = learner.act(observations, explore=True)[0]
    policy = actor(actor.see(observations[0][:1])).base_dist
    torch.testing.assert_close(sample.mean(0), policy.mean[0], atol=0.02, rtol=0)
    torch.testing.assert_close(sample.std(0), policy.stddev[0], atol=0.02, rtol=0)


@pytest.mark.parametrize("name", ON_POLICY)
def test_an_evaluated_policy_acts_by_its_mean(name: str) -> None:
    members = team()
    learner = build(name, members)
    observations = [x[0] for x in rollout(members).observations]
    for actor, x, action in zip(learner.actors, observations, learner.act(observations, explore=False), strict=True):
        torch.testing.assert_close(action, actor.mean(actor.see(x)))


# The clip objective


@pytest.mark.parametrize(
    ("ratio", "M", "value", "slope"),
    [
        (1.5, 2.0, 2.4, 0.0),  # good and already likelier: 1.2 M, nothing more to earn
        (0.5, 2.0, 1.0, 2.0),  # good and less likely: pulled back up
        (1.5, -2.0, -3.0, -2.0),  # bad and likelier: pushed back down
        (0.5, -2.0, -1.6, 0.0),  # bad and already less likely: 0.8 M, nothing more to earn
        (1.1, 2.0, 2.2, 2.0),
        (0.9, -2.0, -1.8, -2.0),
    ],
)
def test_the_clip_objective_stops_pulling_only_where_the_ratio_went_too_far(
    ratio: float, M: float, value: float, slope: float
) -> None:
    r = torch.tensor(ratio, requires_grad=True)
    objective = clip_objective(r, torch.tensor(M), 0.2)
    objective.backward()
    assert objective.item() == pytest.approx(value)
    assert r.grad is not None
    assert r.grad.item() == pytest.approx(slope)


def test_the_clip_step_reports_the_share_of_ratios_outside_the_clip_range() -> None:
    members = team((4,), (2,))
    learner = build("mappo", members, actor_lr=0.003, actor_epochs=5)
    turns = record_turns(learner)
    learner.update(acted(learner, members))
    (turn,) = turns
    outside = ((turn.ratio < 0.8) | (turn.ratio > 1.2)).float().mean().item()
    assert turn.row["clip_fraction"] == pytest.approx(outside)
    assert 0 < outside < 1


def test_minibatches_are_disjoint_and_cover_every_sample_once() -> None:
    parts = list(minibatches(10, 3, generator()))
    assert [len(part) for part in parts] == [4, 3, 3]
    assert sorted(torch.cat(parts).tolist()) == list(range(10))


# The trust region


def line_search_on(
    actor: GaussianActor, length: float, predicted: float, **given: Any
) -> tuple[Tensor, dict[str, Any], list[float]]:
    """One line search along `length` times the surrogate's gradient: the ratio, the row, and the surrogates it saw."""
    x, action = torch.randn(6, 2, 3, generator=generator(3)), torch.randn(6, 2, 2, generator=generator(4))
    M = torch.randn(6, 2, generator=generator(5)) + 1
    with torch.no_grad():
        old = actor(x)
        old_log_prob = old.log_prob(action)
    values: list[float] = []

    def surrogate(policy: Any) -> tuple[Tensor, Tensor]:
        ratio = torch.exp(policy.log_prob(action) - old_log_prob)
        value = (ratio * M).mean()
        values.append(value.item())
        return value, ratio

    parameters = list(actor.parameters())
    theta = parameters_to_vector(parameters).detach().clone()
    step = length * parameters_to_vector(torch.autograd.grad(surrogate(actor(x))[0], parameters))
    values.clear()
    c = TrustRegionSettings(**given)
    _, ratio, row = line_search(actor, parameters, theta, step, predicted, old, surrogate, x, c)
    return ratio, dict(row), values


def test_a_zero_step_improves_the_surrogate_by_exactly_zero() -> None:
    """A search that compares two different surrogates sees a gain or a loss where nothing moved."""
    ratio, row, values = line_search_on(gaussian_actor(), 0.0, 0.0, max_backtracks=3)
    assert len(values) == 5  # before, three tries, and once more after the restoration
    assert len(set(values)) == 1
    assert row["gain"] == 0.0
    assert torch.equal(ratio, torch.ones(6, 2))


def test_the_trust_region_ratio_is_one_number_per_sample() -> None:
    actor = gaussian_actor()
    x, action = torch.randn(6, 2, 3, generator=generator(3)), torch.randn(6, 2, 2, generator=generator(4))
    ratio, row = trust_region_step(
        actor, x, action, torch.randn(6, 2, generator=generator(5)), TrustRegionSettings(), generator()
    )
    assert row["accepted"] == 1
    assert ratio.shape == (6, 2)


def test_a_line_search_accepts_a_step_that_gains_what_was_promised() -> None:
    actor = gaussian_actor()
    before = [p.clone() for p in actor.parameters()]
    ratio, row, values = line_search_on(actor, 1e-3, 1e-9, accept_ratio=1.0)
    assert (row["accepted"], row["backtracks"]) == (1, 0)
    assert row["gain"] == pytest.approx(values[1] - values[0])
    assert not same(list(actor.parameters()), before)
    assert not torch.equal(ratio, torch.ones(6, 2))


def test_a_line_search_that_is_promised_too_much_restores_the_parameters_bit_for_bit() -> None:
    actor = gaussian_actor()
    before = [p.clone() for p in actor.parameters()]
    ratio, row, values = line_search_on(actor, 1e-3, 1e9, accept_ratio=1.0)
    assert all(value > values[0] for value in values[1:-1])  # every try did gain, but not what was promised
    assert (row["accepted"], row["backtracks"], row["gain"]) == (0, 10, 0.0)
    assert same(list(actor.parameters()), before)
    assert torch.equal(ratio, torch.ones(6, 2))


def test_a_line_search_rejects_what_gains_but_leaves_the_trust_region() -> None:
    actor = gaussian_actor()
    before = [p.clone() for p in actor.parameters()]
    _, row, values = line_search_on(actor, 0.05, 1e-9, delta=1e-9)
    assert all(value > values[0] for value in values[1:-1])
    assert row["accepted"] == 0
    assert same(list(actor.parameters()), before)


@pytest.mark.parametrize("name", ["hatrpo", "matrpo"])
def test_a_rejected_step_leaves_the_actor_alone_and_reports_no_kl(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search is sent downhill, so that no step along it can be accepted; a rejected KL must not be logged."""
    monkeypatch.setattr(trust_region, "conjugate_gradient", lambda product, b, steps: -b)
    members = team()
    learner = build(name, members)
    turns = record_turns(learner)
    learner.update(acted(learner, members))
    assert len(turns) == 3
    for turn in turns:
        assert same(list(turn.old.parameters()), list(turn.new.parameters()))
        assert torch.equal(turn.ratio, torch.ones(10, 3))
        assert torch.equal(turn.M, turns[0].M)  # nobody moved, so nobody's advantage is reweighed
        assert turn.row["accepted"] == 0
        assert turn.row["kl_mean"] == turn.row["kl_max"] == turn.row["gain"] == 0


def test_a_step_with_too_large_a_kl_is_shortened_until_it_fits() -> None:
    actor = gaussian_actor()
    x, action = torch.randn(6, 2, 3, generator=generator(3)), torch.randn(6, 2, 2, generator=generator(4))
    M = torch.randn(6, 2, generator=generator(5))
    c = TrustRegionSettings(delta=1.0, damping=0.0, fisher_stride=1, accept_ratio=0.0, max_backtracks=50)
    old = copy.deepcopy(actor)
    _, row = trust_region_step(actor, x, action, M, c, generator())
    assert row["accepted"] == 1
    assert row["backtracks"] > 0
    with torch.no_grad():
        assert kl_divergence(old(x), actor(x)).mean().item() <= 1.0


def test_a_trust_region_step_begins_with_the_gradient_of_the_surrogate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all samples, in pieces, at the old policy, and of log sigma too."""
    monkeypatch.setattr(layers, "PIECE", 5)
    actor = gaussian_actor()
    x, action = torch.randn(6, 2, 3, generator=generator(3)), torch.randn(6, 2, 2, generator=generator(4))
    M, old = torch.randn(6, 2, generator=generator(5)), copy.deepcopy(actor)
    handed: list[Tensor] = []

    def watching(product: Any, b: Tensor, steps: int) -> Tensor:
        handed.append(b)
        return conjugate_gradient(product, b, steps)

    monkeypatch.setattr(trust_region, "conjugate_gradient", watching)
    ratio, _ = trust_region_step(actor, x, action, M, TrustRegionSettings(), generator())
    log_prob = old(x).log_prob(action)
    surrogate = (torch.exp(log_prob - log_prob.detach()) * M).mean()
    gradient = parameters_to_vector(torch.autograd.grad(surrogate, list(old.parameters())))
    torch.testing.assert_close(handed[0], gradient, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ratio, torch.exp(actor(x).log_prob(action) - log_prob), rtol=1e-5, atol=1e-6)


def test_without_any_advantage_a_trust_region_step_leaves_the_parameters_untouched() -> None:
    actor = gaussian_actor()
    before = [p.clone() for p in actor.parameters()]
    x, action = torch.randn(6, 2, 3, generator=generator()), torch.randn(6, 2, 2, generator=generator())
    ratio, row = trust_region_step(actor, x, action, torch.zeros(6, 2), TrustRegionSettings(), generator())
    assert same(list(actor.parameters()), before)
    assert torch.equal(ratio, torch.ones(6, 2))
    assert row["accepted"] == 0
    assert finite([row])


def test_conjugate_gradient_solves_a_positive_definite_system_in_as_many_steps_as_it_has_rows() -> None:
    """[[4, 1], [1, 3]] x = [1, 2] has the solution [1/11, 7/11]."""
    A = torch.tensor([[4.0, 1.0], [1.0, 3.0]])
    x = conjugate_gradient(lambda v: A @ v, torch.tensor([1.0, 2.0]), 2)
    torch.testing.assert_close(x, torch.tensor([1 / 11, 7 / 11]))


def test_conjugate_gradient_of_nothing_is_nothing() -> None:
    A = torch.tensor([[4.0, 1.0], [1.0, 3.0]])
    assert torch.equal(conjugate_gradient(lambda v: A @ v, torch.zeros(2), 10), torch.zeros(2))


def test_conjugate_gradient_goes_on_past_the_solution_without_dividing_by_zero() -> None:
    b = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(conjugate_gradient(lambda v: 2 * v, b, 50), b / 2)


def test_conjugate_gradient_of_a_zero_matrix_stays_finite() -> None:
    assert conjugate_gradient(torch.zeros_like, torch.tensor([1.0, -2.0]), 10).isfinite().all()


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_an_iterate_of_conjugate_gradients_is_as_long_as_its_share_of_the_right_hand_side(steps: int) -> None:
    """x^T A x = x^T b however early the iteration stops: the step's length needs no product more."""
    root = torch.randn(12, 12, generator=generator(), dtype=torch.float64)
    A, b = root @ root.T, torch.randn(12, generator=generator(1), dtype=torch.float64)
    x = conjugate_gradient(lambda v: A @ v, b, steps)
    torch.testing.assert_close(x.dot(A @ x), x.dot(b))


def gaussian_of_small_size() -> GaussianActor:
    actor = gaussian_actor()
    with torch.no_grad():
        actor.log_std.copy_(torch.tensor([-1.0, 0.3]))
    return actor


POLICIES: dict[str, Callable[[], GaussianActor | CategoricalActor]] = {
    "gaussian": gaussian_of_small_size,
    "categorical": lambda: CategoricalActor(3, (4,), (8, 8), generator(1)),
    "of two choices": lambda: CategoricalActor(3, (2, 3), (8, 8), generator(1)),
}
"""One small actor of each policy class, that sees three numbers."""


@pytest.fixture(params=POLICIES)
def small_actor(request: pytest.FixtureRequest) -> GaussianActor | CategoricalActor:
    """An actor of which no parameter is a round number: a fresh LayerNorm (gamma 1, beta 0) would hide mistakes."""
    actor, random = POLICIES[request.param](), generator(6)
    with torch.no_grad():
        for p in actor.parameters():
            p += 0.1 * torch.randn(p.shape, generator=random)
    return actor


@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_the_fisher_product_is_the_dense_hessian_of_the_mean_kl_times_the_vector(
    small_actor: GaussianActor | CategoricalActor, damping: float
) -> None:
    actor = small_actor.double()
    x = torch.randn(10, 3, generator=generator(), dtype=torch.float64)
    H = hessian_of_the_mean_kl(actor, x)
    v = torch.randn(len(H), generator=generator(), dtype=torch.float64)
    product = fisher_product(actor, list(actor.parameters()), x, damping)
    torch.testing.assert_close(product(v), H @ v + damping * v, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(product(2 * v), 2 * product(v))  # nothing of one product is left for the next


def test_the_fisher_product_in_single_precision_is_off_by_less_than_a_hundred_thousandth(
    small_actor: GaussianActor | CategoricalActor,
) -> None:
    x = torch.randn(10, 3, generator=generator())
    exact = hessian_of_the_mean_kl(copy.deepcopy(small_actor).double(), x.double())
    v = torch.randn(len(exact), generator=generator())
    found = fisher_product(small_actor, list(small_actor.parameters()), x, 0.0)(v)
    assert (found - exact @ v.double()).norm() < 1e-5 * (exact @ v.double()).norm()


def test_in_log_sigma_the_fisher_matrix_of_a_gaussian_is_two_on_the_diagonal() -> None:
    """Which pins the scale: neither the mean over samples nor the sum over action dimensions is lost."""
    actor = gaussian_of_small_size()
    product = fisher_product(actor, list(actor.parameters()), torch.randn(10, 3, generator=generator()), 0.0)
    assert next(name for name, _ in actor.named_parameters()) == "log_std"
    v = torch.zeros(sum(p.numel() for p in actor.parameters()))
    v[1] = 1.0
    torch.testing.assert_close(product(v), 2 * v)


# Advantages, time limits, value scale


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers)[:, None]


def test_gae_sums_discounted_deltas_by_hand() -> None:
    """gamma = lambda = 1/2: deltas 1 + 2/2 - 1 = 1, 2 + 4/2 - 2 = 2, 3 + 8/2 - 4 = 3; A_t = delta_t + A_{t+1} / 4."""
    no = torch.zeros(3, 1, dtype=torch.bool)
    A = gae(column(1, 2, 3), column(1, 2, 4), column(2, 4, 8), no, no, 0.5, 0.5)
    torch.testing.assert_close(A, column(1 + 2.75 / 4, 2 + 3 / 4, 3))


def test_gae_after_a_terminated_step_neither_bootstraps_nor_goes_on() -> None:
    """The second step terminates: delta_2 = 2 - 2 = 0, and nothing of the third reaches the second."""
    terminated, no = column(0, 1, 0).bool(), torch.zeros(3, 1, dtype=torch.bool)
    A = gae(column(1, 2, 3), column(1, 2, 4), column(2, 4, 8), terminated, no, 0.5, 0.5)
    torch.testing.assert_close(A, column(1 + 0 / 4, 0, 3))


def test_gae_after_a_truncated_step_bootstraps_but_does_not_go_on() -> None:
    """The second step is cut by a time limit: delta_2 = 2 + 4/2 - 2 = 2, which nothing of the third reaches."""
    truncated, no = column(0, 1, 0).bool(), torch.zeros(3, 1, dtype=torch.bool)
    A = gae(column(1, 2, 3), column(1, 2, 4), column(2, 4, 8), no, truncated, 0.5, 0.5)
    torch.testing.assert_close(A, column(1 + 2 / 4, 2, 3))


def test_the_successor_of_a_last_step_is_the_state_before_the_reset() -> None:
    members = team((2,), (1,), state=1)
    data = rollout(members, T=3, E=2, ending=0.0)
    data.ends, data.end_state = torch.tensor([[1, 0]]), torch.tensor([[99.0]])
    data.state = torch.arange(8.0).view(4, 2, 1)
    assert data.successors(data.state, data.end_state)[..., 0].tolist() == [[2, 3], [99, 5], [6, 7]]


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


def test_advantages_are_standardised_by_hand_over_all_steps_and_environments() -> None:
    A = torch.tensor([[1.0, 2.0], [3.0, 6.0]])  # mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5
    torch.testing.assert_close(standardise(A), (A - 3) / math.sqrt(3.5))


def test_equal_advantages_standardise_to_zero_rather_than_to_nothing() -> None:
    assert torch.equal(standardise(torch.full((3, 2), 5.0)), torch.zeros(3, 2))


def test_advantages_are_never_centred_again_after_the_factor() -> None:
    """M = factor A of a later agent has a mean of its own, which is part of the gradient's meaning."""
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
    per_agent = turns[0].M.chunk(3, dim=1) if shared else [turn.M for turn in turns]
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
    step = learner.step

    def watching(*given: Any) -> Any:
        critic_when_acting.append([x.clone() for x in learner.critics[0].state_dict().values()])
        return step(*given)

    learner.step = watching
    turns = record_turns(learner)
    learner.update(data)
    after = list(learner.critics[0].state_dict().values())
    assert len(critic_when_acting) == 3
    assert all(same(held, list(before.state_dict().values())) for held in critic_when_acting)
    assert not same(after, list(before.state_dict().values()))
    with torch.no_grad():
        value, end_value = before.value(data.state), before.value(data.end_state)
    following = data.successors(value, end_value)
    A = standardise(gae(data.reward, value[:-1], following, data.terminated, data.truncated, 0.99, 0.95))
    assert torch.equal(turns[0].M, A)


def test_explained_variance_is_one_for_the_truth_and_zero_for_a_constant() -> None:
    returns = torch.tensor([1.0, 2.0, 5.0])
    assert explained_variance(returns, returns) == pytest.approx(1)
    assert explained_variance(torch.full((3,), 7.0), returns) == pytest.approx(0, abs=1e-6)


def test_the_value_scale_follows_the_returns_and_the_value_is_in_units_of_reward() -> None:
    critic = ValueCritic(2, (4,), generator())
    critic.returns.update(torch.tensor([90.0, 110.0]))  # mean 100, standard deviation 10
    x = torch.randn(5, 2, generator=generator())
    torch.testing.assert_close(critic.value(x), 100 + 10 * critic(critic.see(x)))


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
        assert theirs.moments.count.item() == 2 * 10 * 3
        assert torch.equal(ours.moments.mean, theirs.moments.mean)
        assert torch.equal(ours.moments.var, theirs.moments.var)
    for ours, theirs in zip(learner.critics, fresh.critics, strict=True):
        assert ours.returns.var.item() > 100
        assert torch.equal(ours.returns.mean, theirs.returns.mean)
        assert torch.equal(ours.returns.var, theirs.returns.var)


# What networks see


def test_observations_are_normalised_per_feature_over_samples_not_over_the_features_of_one_sample() -> None:
    """Features 0, 2 and 10, 10 over two samples: means 1 and 10, variances 1 and 0."""
    moments = RunningMoments((2,))
    moments.update(torch.tensor([[0.0, 10.0], [2.0, 10.0]]))
    assert moments.mean.tolist() == [1, 10]
    assert moments.var.tolist() == [1, 0]
    torch.testing.assert_close(moments.normalise(torch.tensor([[4.0, 10.0]])), torch.tensor([[3.0, 0.0]]))


def test_running_moments_of_parts_are_those_of_the_whole() -> None:
    x = 5 + 3 * torch.randn(40, 3, 4, generator=generator())
    moments = RunningMoments((4,))
    for part in (x[:1], x[1:15], x[15:]):
        moments.update(part)
    torch.testing.assert_close(moments.mean, x.mean((0, 1)))
    torch.testing.assert_close(moments.var, x.var((0, 1), correction=0))
    assert moments.count.item() == 120


def test_normalised_observations_are_clipped_to_ten_standard_deviations() -> None:
    actor = gaussian_actor()
    assert actor.see(torch.tensor([50.0, -50.0, 3.0])).tolist() == [10, -10, 3]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("explore", [True, False])
def test_acting_does_not_move_the_observation_moments(name: str, explore: bool) -> None:
    members = team()
    learner = build(name, members)
    learner.update(rollout(members))
    before = parameters(learner)
    learner.act([x[0] + 3 for x in rollout(members, seed=1).observations], explore)
    assert same(parameters(learner), before)


@pytest.mark.parametrize("name", ON_POLICY)
def test_an_update_sees_through_the_moments_that_acted_and_replaces_them_last(name: str) -> None:
    members = team()
    learner = build(name, members)
    learner.update(rollout(members, seed=1))
    acting = copy.deepcopy(learner.actors)
    data = rollout(members, seed=2)
    turns = record_turns(learner)
    learner.update(data)
    for turn in turns:
        assert torch.equal(turn.seen, acting[turn.agent].see(data.observations[turn.agent][:-1]))
        assert torch.equal(turn.new.moments.mean, acting[turn.agent].moments.mean)
    for old, new in zip(acting, learner.actors, strict=True):
        assert new.moments.count.item() == 60
        assert not torch.equal(old.moments.mean, new.moments.mean)


def test_a_shared_actor_is_told_the_index_of_its_agent_exactly_once() -> None:
    blind, told = equal_team(3), equal_team(3, observes_id=True)
    assert build("mappo", blind, share_actors=True).actors[0].mean[0].in_features == 4 + 3
    assert build("mappo", told, share_actors=True).actors[0].mean[0].in_features == 4
    assert build("mappo", blind).actors[0].mean[0].in_features == 4


def test_a_shared_actor_gives_each_agent_its_own_action() -> None:
    members = equal_team(3)
    learner = build("mappo", members, share_actors=True)
    x = [torch.ones(2, 4)] * 3
    actor = learner.actors[0]
    for i, action in enumerate(learner.act(x, explore=False)):
        one_hot = torch.eye(3)[i].expand(2, -1)
        torch.testing.assert_close(action, actor.mean(actor.see(torch.cat([x[i], one_hot], dim=1))))
    first, second, _ = learner.act(x, explore=False)
    assert not torch.equal(first, second)


def test_sharing_actors_shares_the_local_critics_of_ippo_too() -> None:
    members = equal_team(3)
    assert len(build("ippo", members, share_actors=True).critics) == 1
    assert len(build("ippo", members).critics) == 3
    assert len(build("mappo", members).critics) == 1


# Order and factor


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


def test_the_factors_mean_maximum_and_effective_sample_size_are_logged_by_hand() -> None:
    """Factors 1, 1, 2, 4: mean 2, maximum 4, and 8^2 / (4 * 22) of the samples still count."""
    row = on_policy._factor_row(torch.tensor([[1.0, 1.0], [2.0, 4.0]]))
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


@pytest.mark.parametrize("step", [clip_step, trust_region_step])
def test_the_ratio_handed_on_carries_no_gradient(step: Callable[..., Any]) -> None:
    actor = with_optimiser(gaussian_actor())
    x, action = torch.randn(6, 2, 3, generator=generator(3)), torch.randn(6, 2, 2, generator=generator(4))
    c = ClipSettings() if step is clip_step else TrustRegionSettings()
    ratio, _ = step(actor, x, action, torch.randn(6, 2, generator=generator(5)), c, generator())
    assert not ratio.requires_grad
    assert not torch.equal(ratio, torch.ones(6, 2))


# Random numbers


@pytest.mark.parametrize("name", EVERY)
def test_global_randomness_is_neither_used_nor_touched(name: str) -> None:
    members = team()
    results = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        state = torch.random.get_rng_state()
        learner = build(name, members)
        learner.update(acted(learner, members))
        learner.act([x[0] for x in rollout(members).observations], explore=True)
        assert torch.equal(torch.random.get_rng_state(), state)
        results.append(parameters(learner))
    assert same(*results)


@pytest.mark.parametrize("name", EVERY)
def test_acting_without_exploration_draws_no_random_number(name: str) -> None:
    members = team()
    learner = build(name, members)
    observations = [x[0] for x in rollout(members).observations]
    before = [g.get_state() for g in learner.generators.values()]
    first, second = (learner.act(observations, explore=False) for _ in range(2))
    assert same(first, second)
    assert same([g.get_state() for g in learner.generators.values()], before)


@pytest.mark.parametrize("name", EVERY)
def test_exploration_draws_from_its_own_generator_only(name: str) -> None:
    members = team()
    learner = build(name, members)
    observations = [x[0] for x in rollout(members).observations]
    before = {purpose: g.get_state() for purpose, g in learner.generators.items()}
    first, second = (learner.act(observations, explore=True) for _ in range(2))
    assert not same(first, second)
    changed = [p for p, g in learner.generators.items() if not torch.equal(g.get_state(), before[p])]
    assert changed == ["exploration"]


@pytest.mark.parametrize("name", EVERY)
def test_the_initialisation_seed_changes_the_initial_weights_and_nothing_else(name: str) -> None:
    members = team()
    usual, other = build(name, members), build(name, members, seed=seeds(initialisation=9))
    for ours, theirs in zip([*usual.actors, *usual.critics], [*other.actors, *other.critics], strict=True):
        weights = [(p, q) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True) if p.dim() == 2]
        assert not any(torch.equal(p, q) for p, q in weights)
    for purpose in ("exploration", "order", "minibatches"):
        assert torch.equal(usual.generators[purpose].get_state(), other.generators[purpose].get_state())


@pytest.mark.parametrize("purpose", ["exploration", "order", "minibatches"])
@pytest.mark.parametrize("name", EVERY)
def test_no_other_seed_changes_the_initial_weights(name: str, purpose: str) -> None:
    members = team()
    assert same(parameters(build(name, members)), parameters(build(name, members, seed=seeds(**{purpose: 9}))))


def test_the_exploration_seed_changes_what_is_sampled_but_not_what_is_learned_from_given_data() -> None:
    members = team()
    usual, other = build("happo", members), build("happo", members, seed=seeds(exploration=9))
    data = rollout(members)
    observations = [x[0] for x in data.observations]
    assert not same(usual.act(observations, True), other.act(observations, True))
    usual.update(data)
    other.update(data)
    assert same(parameters(usual), parameters(other))


def test_the_minibatch_seed_matters_only_where_there_are_minibatches() -> None:
    members, data = team(), rollout(team())

    def learned(parts: int, seed: int) -> list[Tensor]:
        learner = build(
            "mappo", members, seed=seeds(minibatches=seed), actor_minibatches=parts, critic_minibatches=parts
        )
        learner.update(data)
        return parameters(learner)

    assert same(learned(1, 1), learned(1, 2))
    assert not same(learned(3, 1), learned(3, 2))


# Checkpoints


def saved_and_loaded(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("name", EVERY)
def test_a_learner_goes_on_from_a_checkpoint_bit_for_bit(name: str) -> None:
    members = team()
    given: dict[str, Any] = {"critic_minibatches": 3}
    if name == "maddpg":
        given = {"n_step": 2, "warmup_steps": 40}
    elif name not in ("hatrpo", "matrpo"):
        given |= {"actor_minibatches": 2}
    learner = build(name, members, **given)
    for k in range(3):
        learner.update(acted(learner, members, seed=k))
    fresh = build(name, members, seed=dict.fromkeys(seeds(), 0), **given)
    fresh.load_state_dict(saved_and_loaded(learner.state_dict()))
    assert fresh.gradient_updates == learner.gradient_updates > 0
    for k in range(3, 5):
        rows = [one.update(acted(one, members, seed=k)) for one in (learner, fresh)]
        assert rows[0] == rows[1]
    assert same(parameters(learner), parameters(fresh))
    observations = [x[0] for x in rollout(members).observations]
    assert same(learner.act(observations, True), fresh.act(observations, True))


@pytest.mark.parametrize("name", EVERY)
def test_a_state_handed_over_in_memory_does_not_tie_two_learners_together(name: str) -> None:
    """Optimisers share the tensors of a loaded state: each learner would then move with the other's momentum."""
    members = team()
    learner, alone, fresh = build(name, members), build(name, members), build(name, members)
    for one in (learner, alone):
        one.update(rollout(members, seed=0))
    fresh.load_state_dict(learner.state_dict())
    fresh.update(rollout(members, seed=1))
    for one in (learner, alone):
        one.update(rollout(members, seed=2))
    assert same(parameters(learner), parameters(alone))


@pytest.mark.parametrize("name", EVERY)
def test_an_update_writes_into_the_memory_that_the_parameters_already_have(name: str) -> None:
    """Parameters that become views of one long vector lie at other addresses, where matrix products round otherwise:
    a run resumed from a checkpoint, at fresh addresses, would not go on bit for bit."""
    members = team()
    learner = build(name, members)
    before = [p.data_ptr() for network in (*learner.actors, *learner.critics) for p in network.parameters()]
    learner.update(acted(learner, members))
    after = [p.data_ptr() for network in (*learner.actors, *learner.critics) for p in network.parameters()]
    assert after == before


@pytest.mark.parametrize("name", EVERY)
def test_the_policy_alone_is_enough_to_act_as_before(name: str) -> None:
    members = team()
    learner, fresh = build(name, members), build(name, members, seed=dict.fromkeys(seeds(), 0))
    learner.update(rollout(members))
    fresh.policy.load_state_dict(saved_and_loaded(learner.policy.state_dict()))
    observations = [x[0] for x in rollout(members).observations]
    assert same(learner.act(observations, False), fresh.act(observations, False))


# Numbers that are not finite


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["reward", "observation", "state"])
@pytest.mark.parametrize("name", EVERY)
def test_a_number_that_is_not_finite_ends_the_update_with_its_rows(name: str, where: str, bad: float) -> None:
    """A trial that goes on with them writes nonsense for days; the rows say where it began."""
    members = team()
    learner = build(name, members, **({"batch_size": 256} if name == "maddpg" else {}))
    data = rollout(members)
    {"reward": data.reward, "observation": data.observations[1], "state": data.state}[where][4, 1] = bad
    if where == "state" and name in ("ippo", "haippo"):
        assert finite(learner.update(data))  # nobody looks at the state
        return
    with pytest.raises(Diverged) as caught:
        learner.update(data)
    assert caught.value.rows
    assert all("agent" in row for row in caught.value.rows)


@pytest.mark.parametrize("rate", ["critic_lr", "actor_lr"])
@pytest.mark.parametrize("name", ["ippo", "mappo", "happo", "haippo", "maddpg"])
def test_a_parameter_that_is_not_finite_ends_the_update(name: str, rate: str) -> None:
    """A step of 1e39 is beyond float32, though the loss before it was fine."""
    once = {"update_to_data": 0.034} if name == "maddpg" else {"critic_epochs": 1, "actor_epochs": 1}
    members = team()
    learner = build(name, members, **once, **{rate: 1e39})
    with pytest.raises(Diverged):
        learner.update(rollout(members))


def test_an_actor_that_diverges_stops_the_update_before_the_next_agent_moves() -> None:
    members = team()
    learner = build("happo", members, actor_lr=1e39, actor_epochs=1)
    turns = record_turns(learner)
    with pytest.raises(Diverged) as caught:
        learner.update(rollout(members))
    assert len(turns) == len(caught.value.rows) == 1


# MADDPG: replay


ALONE = team((1,), (1,), state=1)


def story(T: int, E: int = 2, first: int = 0, ends: dict[tuple[int, int], str] | None = None) -> Rollout:
    """One agent whose reward at step t of environment e is 100 e + t, and whose state and observation say the same.

    A true successor at an end is that of the step plus 1000.
    """
    kinds = ends or {}
    told = 100.0 * torch.arange(E) + torch.arange(first, first + T + 1)[:, None]
    when = torch.tensor(sorted(kinds), dtype=torch.long).reshape(-1, 2)
    after = torch.tensor([[1000.0 + 100 * e + first + t] for t, e in sorted(kinds)]).reshape(-1, 1)
    flags = {kind: torch.zeros(T, E, dtype=torch.bool) for kind in ("terminated", "truncated")}
    for (t, e), kind in kinds.items():
        flags[kind][t, e] = True
    x = told[..., None]
    return Rollout(
        [x],
        x.clone(),
        [x[:-1] / 1000],
        told[:-1].clone(),
        **flags,
        ends=when,
        end_observations=[after],
        end_state=after,
    )


def drawn(replay: Replay, n: int, gamma: float = 0.5) -> dict[int, tuple[float, float, float]]:
    """By the number that a transition starts with: return, discount and next state, of many samples."""
    batch = replay.sample(2000, n, gamma, generator())
    for start, observed, acts in zip(batch.state, batch.observations[0], batch.actions[0], strict=True):
        assert torch.equal(start, observed)
        assert acts.item() == pytest.approx(start.item() / 1000)
    assert torch.equal(batch.next_state, batch.next_observations[0])
    columns = (batch.state.flatten(), batch.returns, batch.discount, batch.next_state.flatten())
    return {int(s): (r, d, after) for s, r, d, after in zip(*(x.tolist() for x in columns), strict=True)}


def replay_of(*rollouts: Rollout, rows: int = 50) -> Replay:
    replay = Replay(ALONE, 2 * rows, 2)
    for data in rollouts:
        replay.add(data)
    return replay


def test_one_step_transitions_hold_the_reward_the_discount_and_the_next_state() -> None:
    got = drawn(replay_of(story(4)), n=1)
    assert got == {100 * e + t: (100 * e + t, 0.5, 100 * e + t + 1) for e in (0, 1) for t in range(4)}


def test_one_step_transitions_bootstrap_after_a_time_limit_from_the_true_successor_and_not_after_an_end() -> None:
    got = drawn(replay_of(story(4, ends={(1, 0): "truncated", (2, 1): "terminated"})), n=1)
    assert got[1] == (1, 0.5, 1001)
    assert got[102] == (102, 0.0, 1102)
    assert got[2] == (2, 0.5, 3)


def test_n_step_returns_are_discounted_sums_by_hand() -> None:
    """gamma = 1/2, three steps: r_t + r_{t+1} / 2 + r_{t+2} / 4, then 1/8 of the value at t + 3."""
    got = drawn(replay_of(story(5)), n=3)
    assert got[0] == (0 + 1 / 2 + 2 / 4, 1 / 8, 3)
    assert got[101] == (101 + 102 / 2 + 103 / 4, 1 / 8, 104)
    assert sorted(got) == [0, 1, 2, 100, 101, 102]


def test_n_step_returns_stop_at_an_end_and_at_a_time_limit() -> None:
    """Step 1 of environment 0 terminates, step 2 of environment 1 is cut; neither mixes in the next episode."""
    got = drawn(replay_of(story(5, ends={(1, 0): "terminated", (2, 1): "truncated"})), n=3)
    assert got[0] == (0 + 1 / 2, 0.0, 1001)
    assert got[1] == (1, 0.0, 1001)
    assert got[2] == (2 + 3 / 2 + 4 / 4, 1 / 8, 5)
    assert got[100] == (100 + 101 / 2 + 102 / 4, 1 / 8, 1102)
    assert got[101] == (101 + 102 / 2, 1 / 4, 1102)
    assert got[102] == (102, 1 / 2, 1102)


def test_n_step_returns_go_on_from_one_rollout_into_the_next() -> None:
    got = drawn(replay_of(story(2), story(2, first=2)), n=3)
    assert got[1] == (1 + 2 / 2 + 3 / 4, 1 / 8, 4)


def test_the_ring_overwrites_the_oldest_and_no_window_crosses_the_write_position() -> None:
    """Four rows, six steps: rows 4, 5, 2, 3; a window from 4 or 5 over the write position would mix 5 with 2."""
    replay = replay_of(story(3), story(3, first=3), rows=4)
    assert replay.filled == 4
    assert {start: row[0] for start, row in drawn(replay, n=1, gamma=1.0).items() if start < 100} == {
        t: t for t in (2, 3, 4, 5)
    }
    windows = {start: row[0] for start, row in drawn(replay, n=3, gamma=1.0).items() if start < 100}
    assert windows == {2: 2 + 3 + 4, 3: 3 + 4 + 5}


def test_of_a_rollout_longer_than_the_ring_the_end_is_kept() -> None:
    assert sorted(drawn(replay_of(story(7, ends={(5, 0): "truncated"}), rows=3), n=1)) == [4, 5, 6, 104, 105, 106]


def test_a_ring_that_is_not_full_gives_only_what_it_holds() -> None:
    assert sorted(drawn(replay_of(story(2)), n=2)) == [0, 100]


def test_a_loaded_ring_draws_the_same_and_goes_on_the_same() -> None:
    ours, theirs = replay_of(story(3), story(3, first=3), rows=4), replay_of(rows=4)
    theirs.load_state_dict(saved_and_loaded(ours.state_dict()))
    assert drawn(ours, n=2) == drawn(theirs, n=2)
    for replay in (ours, theirs):
        replay.add(story(3, first=6))
    assert drawn(ours, n=2) == drawn(theirs, n=2)


def echoes(T: int = 6, seed: int = 0) -> tuple[Team, Rollout]:
    """Two agents, one seeing the state backwards and one a number of its own besides, and random steps of theirs."""
    plain = team((2, 2), (1, 2), state=2)
    data = rollout(plain, seed, T, E=3, ending=0.4)
    for state, (first, second) in (
        (data.state, data.observations),
        (data.end_state, data.end_observations),
    ):
        first.copy_(state.flip(-1))
        second[..., 0] = state[..., 1]
    return dataclasses.replace(plain, sources=(0, 1, 1, 0, 1, 5)), data


@pytest.mark.parametrize("n", [1, 3])
def test_features_that_repeat_others_are_stored_once_and_sampled_as_they_were(n: int) -> None:
    members, _ = echoes()
    whole, sparing = Replay(dataclasses.replace(members, sources=()), 12, 3), Replay(members, 12, 3)
    for k in range(3):
        following = echoes(seed=k)[1]
        for replay in (whole, sparing):
            replay.add(following)
    assert (whole.features.shape[-1], sparing.features.shape[-1]) == (6, 3)
    ours, theirs = (vars(replay.sample(500, n, 0.5, generator())) for replay in (sparing, whole))
    for name, x in ours.items():
        y = theirs[name]
        if x is not None and x != [None, None]:  # there are no masks, and nobody leaves
            assert same(x, y) if isinstance(x, list) else torch.equal(x, y), name


def test_the_ends_of_episodes_leave_the_replay_with_their_rows() -> None:
    replay = replay_of(rows=4)
    for first in range(0, 40, 2):
        replay.add(story(2, first=first, ends={(0, 1): "terminated", (1, 0): "truncated"}))
        assert replay.end_features[:, 0].tolist() == [
            x for k in (first - 2, first) if k >= 0 for x in (1100.0 + k, 1000.0 + k + 1)
        ]
    assert drawn(replay, n=1)[139] == (139, 0.5, 140)


def test_a_transition_takes_the_memory_that_is_foretold() -> None:
    members, _ = echoes()
    replay = Replay(members, 300, 3)
    stored = (replay.features, replay.actions, replay.reward, replay.terminated, replay.ended)
    assert sum(x.nbytes for x in stored) == transition_bytes(members) * 101 * 3
    assert transition_bytes(members) == 4 * (3 + 3 + 1) + 2


# MADDPG: learning


def maddpg_on(members: Team, **given: Any) -> tuple[Any, Any]:
    """A learner that has seen a rollout but taken no gradient step, and a batch as its networks see it."""
    learner = build("maddpg", members, update_to_data=1e-9, **given)
    learner.update(rollout(members))
    assert learner.gradient_updates == 0
    c = learner.settings
    return learner, learner._seen(learner.replay.sample(c.batch_size, c.n_step, c.gamma, generator()))


def actor_step(learner: Any, i: int, batch: Any) -> float:
    """Move actor i alone."""
    objective: float = learner._actor_step(i, learner.actors[i], learner.critics[i], batch)
    return objective


def test_the_critic_regresses_on_reward_plus_discounted_target_of_the_next_actions() -> None:
    members = team((1,), (1,), state=1)
    learner, batch = maddpg_on(members, gamma=0.5, batch_size=32)
    critic, target = learner.critics[0], learner.target_critics[0]
    for value in target.value.parameters():
        torch.nn.init.zeros_(value)
    torch.nn.init.constant_(target.value[-1].bias, 8.0)  # Q' = 8 everywhere
    y = batch.returns + 8 * batch.discount  # 4 more than the reward, or nothing more after an end
    assert set(batch.discount.tolist()) == {0.0, 0.5}
    with torch.no_grad():
        q = critic(batch.state, batch.actions)
    next_action = [torch.zeros_like(batch.actions[0])]
    loss, q_mean = learner._critic_step(critic, target, batch, next_action)
    assert loss == pytest.approx(((q - y) ** 2).mean().item(), rel=1e-5)
    assert q_mean == pytest.approx(q.mean().item(), rel=1e-5)


def test_the_target_takes_the_next_actions_of_all_agents_from_the_target_actors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = team()
    learner, batch = maddpg_on(members)
    for actor in learner.target_actors:
        for value in actor.parameters():
            torch.nn.init.zeros_(value)
        torch.nn.init.constant_(actor.action[-1].bias, 0.5)
    handed: list[list[Tensor]] = []
    monkeypatch.setattr(learner, "_critic_step", lambda c, t, b, a: (handed.append(a), (0.0, 0.0))[1])
    learner._gradient_step(batch)
    assert len(handed) == 3
    for actions in handed:
        assert [x.shape[-1] for x in actions] == [2, 1, 3]
        assert all(torch.allclose(x, torch.full_like(x, math.tanh(0.5))) for x in actions)


def test_an_actor_moves_by_its_own_action_while_the_others_keep_theirs_from_the_replay() -> None:
    members = team()
    learner, batch = maddpg_on(members)
    for x in batch.actions:
        x.requires_grad_(True)
    handed: list[list[Tensor]] = []
    critic = learner.critics[1]
    critic.register_forward_pre_hook(lambda module, args: handed.append(list(args[1])))
    before = parameters(learner)
    actor_step(learner, 1, batch)
    ((first, own, third),) = handed
    assert first is batch.actions[0]
    assert third is batch.actions[2]
    actor = DeterministicActor(3, 1, (16, 16), generator())
    actor.load_state_dict(dict(zip(actor.state_dict(), _of(before, learner, 1), strict=True)))
    torch.testing.assert_close(own, actor(batch.observations[1]))
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


def _of(flat: list[Tensor], learner: Any, k: int) -> list[Tensor]:
    """The part of `parameters` that belongs to actor k."""
    sizes = [len(actor.state_dict()) for actor in learner.actors]
    return flat[sum(sizes[:k]) : sum(sizes[: k + 1])]


def test_an_actors_step_moves_no_other_actor_no_critic_and_no_target() -> None:
    members = team()
    learner, batch = maddpg_on(members)
    others = [learner.actors[0], learner.actors[2], *learner.critics, *learner.target_actors, *learner.target_critics]
    before = [p.clone() for network in others for p in network.parameters()]
    own = [p.clone() for p in learner.actors[1].parameters()]
    actor_step(learner, 1, batch)
    assert same([p for network in others for p in network.parameters()], before)
    assert not same(list(learner.actors[1].parameters()), own)
    assert not any(p.grad.any() for p in learner.critics[1].parameters())
    assert all(p.requires_grad for p in learner.critics[1].parameters())


def test_an_actor_climbs_its_critic() -> None:
    members = team()
    learner, batch = maddpg_on(members, actor_lr=0.01)
    objectives = [actor_step(learner, 0, batch) for _ in range(20)]
    assert objectives[-1] > objectives[0]


def test_targets_move_towards_their_networks_by_exactly_tau() -> None:
    members = team()
    learner, batch = maddpg_on(members, polyak=0.25)
    before = [p.clone() for t in (*learner.target_actors, *learner.target_critics) for p in t.parameters()]
    learner._gradient_step(batch)
    networks = [p for network in (*learner.actors, *learner.critics) for p in network.parameters()]
    targets = [p for t in (*learner.target_actors, *learner.target_critics) for p in t.parameters()]
    assert any(not torch.equal(new, old) for new, old in zip(targets, before, strict=True))
    for new, old, network in zip(targets, before, networks, strict=True):
        torch.testing.assert_close(new, old + 0.25 * (network - old), rtol=1e-6, atol=1e-7)


def test_targets_start_as_their_networks_and_see_through_the_same_moments() -> None:
    members = team()
    learner = build("maddpg", members, polyak=0.0)
    start = [p.clone() for network in (*learner.actors, *learner.critics) for p in network.parameters()]
    learner.update(rollout(members))
    targets = [*learner.target_actors, *learner.target_critics]
    assert same([p for target in targets for p in target.parameters()], start)  # tau is 0
    for network, target in zip([*learner.actors, *learner.critics], targets, strict=True):
        assert torch.equal(network.moments.mean, target.moments.mean)
        assert torch.equal(network.moments.var, target.moments.var)
        assert network.moments.count.item() == 30


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


def test_actions_stored_in_the_replay_are_those_that_the_environment_saw() -> None:
    data = story(2)
    data.actions = [torch.tensor([[[3.0], [-2.0]], [[0.5], [1.0]]])]
    replay = Replay(ALONE, 4, 2)
    replay.add(data)
    assert replay.actions[:2].flatten().tolist() == [1, -1, 0.5, 1]


def test_a_window_longer_than_the_replay_is_refused_rather_than_never_learned_from() -> None:
    """30 transitions of 3 environments are 10 rows, in which no window of 11 steps ever fits."""
    with pytest.raises(ValueError):
        build("maddpg", team(), buffer_size=30, n_step=11)
