"""Distributions: one number per sample, equal to the closed forms and to torch.distributions."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import acted, build, choices, generator, record_turns, team
from torch import Tensor
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from algorithms import Discrete
from algorithms.distributions import DiagonalGaussian, MaskedCategorical, one_hot, policy_change
from algorithms.networks import GaussianActor, mlp


def gaussian_actor(observation: int = 3, action: int = 2, log_std: float = -0.5) -> GaussianActor:
    """An actor whose means are far from zero and differ between observations."""
    actor = GaussianActor(observation, action, (8, 8), log_std, generator(1))
    actor.network = mlp([observation, 8, 8, action], 1.0, generator(2))
    return actor


# One number per sample


def test_log_probability_is_one_number_per_sample_the_sum_over_action_dimensions() -> None:
    """Broadcast over action dimensions it would be [T, E, A]."""
    actor = gaussian_actor(log_std=math.log(0.5))
    x, action = torch.randn(4, 3, 3, generator=generator()), torch.randn(4, 3, 2, generator=generator())
    log_prob = actor(x).log_prob(action)
    assert log_prob.shape == (4, 3)
    mean = actor.network(x)
    by_hand = torch.zeros(4, 3)
    for d in range(2):
        z = (action[..., d] - mean[..., d]) / 0.5
        by_hand += -0.5 * z**2 - math.log(0.5) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(log_prob, by_hand)


def test_log_probability_of_a_standard_normal_at_one_and_two() -> None:
    actor = GaussianActor(1, 2, (4,), 0.0, generator())
    for parameter in actor.network.parameters():
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


def test_standard_deviations_do_not_depend_on_the_state_and_are_not_capped() -> None:
    """A sigmoid would cap them at 0.5. A sample is mean + std z, so at z = 1 the rest is the standard deviation."""
    policy = gaussian_actor(log_std=0.4)(torch.randn(7, 3, generator=generator()))
    std = policy.sample(torch.ones(7, 2)) - policy.mean
    torch.testing.assert_close(std, torch.full((7, 2), math.exp(0.4)))


def test_an_old_gaussian_stays_as_it_was_when_its_actors_log_std_changes_in_place() -> None:
    """Optimisers write into the parameter: an old policy that shared it would have a KL of 0 against the new one."""
    actor, x = gaussian_actor(log_std=-0.5), torch.randn(5, 3, generator=generator())
    with torch.no_grad():
        old = actor(x)
        log_prob = old.log_prob(torch.ones(5, 2))
        actor.log_std += 0.3  # type: ignore[misc]
        assert torch.equal(old.log_prob(torch.ones(5, 2)), log_prob)
        kl = 2 * (0.3 + 0.5 * math.exp(-0.6) - 0.5)  # log(s' / s) + s^2 / (2 s'^2) - 1/2 in both dimensions
        torch.testing.assert_close(old.kl_divergence(actor(x)), torch.full((5,), kl))


# Equal to torch.distributions


def gaussian(seed: int) -> tuple[DiagonalGaussian, Independent]:
    """A random Gaussian over three dimensions at 6 x 2 samples, ours and PyTorch's."""
    g = generator(seed)
    mean, log_std = torch.randn(6, 2, 3, generator=g), torch.randn(3, generator=g)
    return DiagonalGaussian(mean, log_std), Independent(Normal(mean, log_std.exp()), 1)


def test_a_diagonal_gaussian_is_that_of_pytorch() -> None:
    (old, torch_old), (new, torch_new) = gaussian(1), gaussian(2)
    action = torch.randn(6, 2, 3, generator=generator())
    torch.testing.assert_close(old.log_prob(action), torch_old.log_prob(action))
    torch.testing.assert_close(old.entropy(), torch_old.entropy())
    torch.testing.assert_close(old.kl_divergence(new), kl_divergence(torch_old, torch_new))
    torch.testing.assert_close(old.mode, torch_old.mode)


CHOICES = (2, 4)


def allowed_choices() -> Tensor:
    """A random mask [6, 2, L] that allows a random choice of each component and about half of the others."""
    free = one_hot(choices(Discrete(CHOICES), (6, 2), generator(3)).float(), CHOICES).bool()
    return free | (torch.rand(free.shape, generator=generator(4)) < 0.5)


def categorical(seed: int, mask: Tensor | None) -> tuple[MaskedCategorical, list[Categorical]]:
    """A random choice in two components at 6 x 2 samples, ours, and PyTorch's of each component."""
    logits = torch.randn(6, 2, sum(CHOICES), generator=generator(seed))
    weights = logits if mask is None else logits.masked_fill(~mask, -math.inf)
    return MaskedCategorical(logits, CHOICES, mask), [Categorical(logits=x) for x in weights.split(CHOICES, -1)]


@pytest.mark.parametrize("masked", [False, True])
def test_a_masked_categorical_is_the_product_of_those_of_pytorch(masked: bool) -> None:
    mask = allowed_choices() if masked else None
    (old, torch_old), (new, torch_new) = categorical(1, mask), categorical(2, mask)
    action = choices(Discrete(CHOICES), (6, 2), generator(3)).float()  # of which the mask forbids none
    by_component = [p.log_prob(a) for p, a in zip(torch_old, action.unbind(-1), strict=True)]
    torch.testing.assert_close(old.log_prob(action), sum(by_component))
    torch.testing.assert_close(old.entropy(), sum(p.entropy() for p in torch_old))
    each_kl = [kl_divergence(p, q) for p, q in zip(torch_old, torch_new, strict=True)]
    torch.testing.assert_close(old.kl_divergence(new), sum(each_kl))
    assert torch.equal(old.mode, torch.stack([p.mode for p in torch_old], dim=-1).float())


# How far an update moved a policy


def test_kl_is_that_of_old_against_new_gaussians_in_closed_form_mean_and_max() -> None:
    """KL(old, new) = sum_d log(s'/s) + (s^2 + (m - m')^2) / (2 s'^2) - 1/2; a sample's estimate has another Hessian."""
    old_actor, new_actor = gaussian_actor(log_std=-0.5), gaussian_actor(log_std=-0.2)
    with torch.no_grad():
        new_actor.network[-1].bias.add_(0.3)  # type: ignore[operator]
    x = torch.randn(12, 3, generator=generator())
    with torch.no_grad():
        old, new = old_actor(x), new_actor(x)
        row = policy_change(old, new, torch.tensor([0.5, 1.7, 1.0]))
        m, m_new, s, s_new = old_actor.network(x), new_actor.network(x), math.exp(-0.5), math.exp(-0.2)
        kl = (math.log(s_new / s) + (s**2 + (m - m_new) ** 2) / (2 * s_new**2) - 0.5).sum(-1)
    assert kl.shape == old.kl_divergence(new).shape == (12,)
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
            kl = turn.old(turn.samples.observation).kl_divergence(turn.new(turn.samples.observation))
        assert turn.row["kl_mean"] == pytest.approx(kl.mean().item(), rel=1e-4)
        assert turn.row["kl_max"] == pytest.approx(kl.max().item(), rel=1e-4)
        assert turn.row["kl_max"] > turn.row["kl_mean"] > 0


def top_share(shifts: Tensor) -> float:
    """`kl_top_share` of standard normals whose means move by `shifts` [B], which is a KL of shift^2 / 2 each."""
    old, new = (DiagonalGaussian(mean[:, None], torch.zeros(1)) for mean in (torch.zeros_like(shifts), shifts))
    return float(policy_change(old, new, torch.ones_like(shifts))["kl_top_share"])


def test_the_top_share_of_the_kl_is_one_where_one_percent_of_the_samples_hold_all_of_it() -> None:
    shifts = torch.zeros(200)
    shifts[[17, 130]] = torch.tensor([1.0, -3.0])
    assert top_share(shifts) == pytest.approx(1)


def test_the_top_share_of_the_kl_is_one_percent_where_all_samples_are_equal() -> None:
    assert top_share(torch.full((200,), 0.5)) == pytest.approx(0.01)


def test_the_top_share_of_the_kl_counts_the_greatest_samples() -> None:
    """KLs of 8, 8 and 198 times 1/2: the two greatest hold 16 of 115."""
    shifts = torch.ones(200)
    shifts[[0, 199]] = 4.0
    assert top_share(shifts) == pytest.approx(16 / 115)


def test_of_fewer_than_a_hundred_samples_the_top_share_of_the_kl_is_that_of_the_greatest() -> None:
    """KLs of 1/2, 1/2 and 2."""
    assert top_share(torch.tensor([1.0, -1.0, 2.0])) == pytest.approx(2 / 3)


def test_the_top_share_is_a_share_where_the_kl_is_rounding() -> None:
    logits = torch.randn(300, 5, generator=torch.Generator().manual_seed(0))
    moved = logits + 1e-5 * torch.randn(300, 5, generator=torch.Generator().manual_seed(1))
    old, new = (MaskedCategorical(x, (5,)) for x in (logits, moved))
    row = policy_change(old, new, torch.ones(300))
    assert abs(float(row["kl_mean"])) < 1e-7
    assert 0 <= float(row["kl_top_share"]) <= 1


def test_the_top_share_of_no_kl_is_zero() -> None:
    assert top_share(torch.zeros(200)) == 0
