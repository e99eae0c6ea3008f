"""Running normalisation: of observations per feature, and of returns, whose inverse gives values in units of reward."""

from __future__ import annotations

import torch
from helpers import generator

from algorithms.networks import GaussianActor, RunningNormaliser, ValueCritic


def test_observations_are_normalised_per_feature_over_samples_not_over_the_features_of_one_sample() -> None:
    """Features 0, 2 and 10, 10 over two samples: means 1 and 10, variances 1 and 0."""
    normaliser = RunningNormaliser((2,))
    normaliser.update(torch.tensor([[0.0, 10.0], [2.0, 10.0]]))
    assert normaliser.mean.tolist() == [1, 10]
    assert normaliser.var.tolist() == [1, 0]
    torch.testing.assert_close(normaliser(torch.tensor([[4.0, 10.0]])), torch.tensor([[3.0, 0.0]]))


def test_running_moments_of_parts_are_those_of_the_whole() -> None:
    x = 5 + 3 * torch.randn(40, 3, 4, generator=generator())
    normaliser = RunningNormaliser((4,))
    for part in (x[:1], x[1:15], x[15:]):
        normaliser.update(part)
    torch.testing.assert_close(normaliser.mean, x.mean((0, 1)))
    torch.testing.assert_close(normaliser.var, x.var((0, 1), correction=0))
    assert normaliser.count.item() == 120


def test_normalised_observations_are_clipped_to_ten_standard_deviations() -> None:
    actor = GaussianActor(3, 2, (8, 8), -0.5, generator())
    assert actor.normaliser(torch.tensor([50.0, -50.0, 3.0])).tolist() == [10, -10, 3]
    far, farther = (actor(torch.tensor([x, -x, 3.0])).mean for x in (50.0, 500.0))
    assert torch.equal(far, farther)


def test_the_inverse_of_a_normaliser_undoes_it() -> None:
    """Mean 20, standard deviation 10: three of them above the mean is 50."""
    normaliser = RunningNormaliser(())
    normaliser.update(torch.tensor([10.0, 30.0]))
    torch.testing.assert_close(normaliser.inverse(torch.tensor(3.0)), torch.tensor(50.0))
    torch.testing.assert_close(normaliser(torch.tensor(50.0)), torch.tensor(3.0))


def test_the_value_scale_follows_the_returns_and_the_value_is_in_units_of_reward() -> None:
    critic = ValueCritic(2, (4,), generator())
    critic.return_normaliser.update(torch.tensor([90.0, 110.0]))  # mean 100, standard deviation 10
    x = torch.randn(5, 2, generator=generator())
    torch.testing.assert_close(critic.value(x), 100 + 10 * critic(x))
