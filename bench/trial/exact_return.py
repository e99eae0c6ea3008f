"""J, the expected return of the joint policy, exactly: in games of which everything is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from algorithms import exact
from algorithms.distributions import one_hot
from bench.envs.batch import EnvBatch
from bench.envs.game_batch import GameBatch, RidgeBatch
from bench.envs.games import Ridge


def exact_return(learner: Any, batch: EnvBatch, gamma: float) -> float | None:
    """J = E[sum_t gamma^t r_t] of a game that no time limit ends; None where the batch is no game or gamma is 1.

    Of the distributions that a learner samples from, where it says them by `policies`, else of its deterministic
    actions. In a game of one step J is the mean return; in one that is truncated it is not.
    """
    if not isinstance(batch, GameBatch):
        return None
    observations = [torch.from_numpy(batch.situations)] * batch.team.size
    if isinstance(batch, RidgeBatch):
        return _on_ridge(learner, observations, batch.ridge)
    model = batch.team.model
    assert model is not None
    if gamma == 1:  # J may be infinite
        return None
    game = exact.Game(model.transition, model.reward, model.initial, gamma)
    return exact.expected_return(game, _probabilities(learner, observations, game))


def _on_ridge(learner: Any, observations: Sequence[Tensor], ridge: Ridge) -> float:
    """J of the actions in the one situation that there is."""
    if not hasattr(learner, "policies"):
        actions = torch.cat([action[0] for action in learner.act(observations, explore=False)])
        return float(ridge.reward(actions.double().numpy()))
    policies = learner.policies(observations)
    mean = torch.cat([policy.mean[0] for policy in policies]).detach().double()
    std = torch.cat([policy.log_std.exp() for policy in policies]).detach().double()
    return ridge.J(mean.numpy(), std.numpy())


def _probabilities(learner: Any, observations: Sequence[Tensor], game: exact.Game) -> list[Tensor]:
    """N x [S, A_i]; in a state that ends the episode nobody acts, and all choices are equal there."""
    if hasattr(learner, "policies"):
        found = [policy.logits.detach().double().softmax(-1) for policy in learner.policies(observations)]
    else:
        actions = learner.act(observations, explore=False)
        found = [one_hot(a, (count,)).double() for a, count in zip(actions, game.actions, strict=True)]
    whole = [torch.full((len(game.initial), count), 1 / count).double() for count in game.actions]
    for table, part in zip(whole, found, strict=True):
        table[: len(part)] = part
    return whole
