"""The PPO step of one actor: the objective of each sample, the entropy bonus, and what it reports."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from helpers import acted, build, generator, record_turns, team

from algorithms import Samples
from algorithms.clip import clip_objective, clip_step
from algorithms.config import ClipSettings
from algorithms.networks import GaussianActor, give_optimisers


def gaussian_actor(log_std: float, lr: float) -> GaussianActor:
    """An actor with an optimiser, that observes three numbers and acts in two."""
    actor = GaussianActor(3, 2, (8, 8), log_std, generator(1))
    give_optimisers("actor", [actor], lr, eps=1e-8)
    return actor


def random_samples(count: int) -> Samples:
    observation, action = (torch.randn(count, size, generator=generator(size)) for size in (3, 2))
    return Samples(observation, action, None)


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


@pytest.mark.parametrize("minibatches", [1, 3])
def test_a_step_climbs_the_advantage_as_it_is_given_neither_centred_nor_scaled(minibatches: int) -> None:
    """At a ratio of 1 the objective is the mean of M: -4 in one minibatch of six, and -4 in each of three alike."""
    actor = gaussian_actor(-0.5, 0.0)
    c = ClipSettings(actor_epochs=1, actor_minibatches=minibatches)
    _, row = clip_step(actor, random_samples(6), torch.full((6,), -4.0), c, generator())
    assert row["objective"] == pytest.approx(-4.0)
    M = torch.tensor([5.0, -1.0, 2.0, 8.0, 0.5, -2.5])
    _, row = clip_step(actor, random_samples(6), M, replace(c, actor_minibatches=1), generator())
    assert row["objective"] == pytest.approx(2.0)


@pytest.mark.parametrize("B", [6, 600])
def test_the_entropy_bonus_pulls_equally_hard_whatever_the_batch_size(B: int) -> None:
    """With M = 0 only the bonus is left: its slope is the coefficient c in both log-stds: |g| = c sqrt 2."""
    actor, c = gaussian_actor(-0.5, 5e-4), ClipSettings(entropy_coef=0.01, actor_epochs=1)
    _, row = clip_step(actor, random_samples(B), torch.zeros(B), c, generator())
    assert row["gradient_norm"] == pytest.approx(0.01 * math.sqrt(2), rel=1e-5)


def test_learning_can_raise_a_standard_deviation_above_one_half() -> None:
    actor, c = gaussian_actor(math.log(0.45), 0.05), ClipSettings(entropy_coef=1.0, actor_epochs=20)
    clip_step(actor, random_samples(12), torch.zeros(12), c, generator())
    assert actor.log_std.min().item() > math.log(0.5)
