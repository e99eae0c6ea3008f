"""The PPO step of one actor (Schulman et al. 2017), used by IPPO, MAPPO and HAPPO."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithms.config import ClipSettings
from algorithms.networks import StochasticActor, descend, policy_change
from algorithms.rollout import Row, minibatches


def clip_objective(ratio: Tensor, M: Tensor, clip: float) -> Tensor:
    """min(ratio M, clip(ratio, 1 +- epsilon) M) per sample."""
    return torch.min(ratio * M, ratio.clamp(1 - clip, 1 + clip) * M)


def clip_step(
    actor: StochasticActor,
    seen: Tensor,
    action: Tensor,
    M: Tensor,
    c: ClipSettings,
    generator: torch.Generator,
) -> tuple[Tensor, Row]:
    """Climb E[min(ratio M, clip(ratio, 1 +- epsilon) M)] + entropy_coef H for a few epochs.

    seen [T, E, O] (normalised observations, then the mask of a masked action), action [T, E, A], M [T, E] -> ratio =
    new(a|o) / old(a|o) [T, E]. Where an agent was not always there, the B samples with it stand in place of T, E.
    """
    samples = M.numel()
    with torch.no_grad():
        old = actor(seen)
        old_log_prob = old.log_prob(action)  # [T, E]
    inputs = actor.observation(seen).flatten(0, -2)
    flat = [inputs, seen.flatten(0, -2), action.flatten(0, -2), old_log_prob.flatten(), M.flatten()]

    def loss(outputs: Tensor, seen: Tensor, action: Tensor, old_log_prob: Tensor, M: Tensor) -> Tensor:
        policy = actor.given(outputs, seen)
        objective = clip_objective(torch.exp(policy.log_prob(action) - old_log_prob), M, c.clip)
        if c.entropy_coef:
            objective = objective + c.entropy_coef * policy.entropy()
        return -objective

    for _ in range(c.actor_epochs):
        for part in minibatches(samples, c.actor_minibatches, generator):
            value, norm = descend(actor, actor.network, loss, [x[part] for x in flat], c.max_grad_norm)

    with torch.no_grad():
        new = actor(seen)
        ratio = torch.exp(new.log_prob(action) - old_log_prob)
        row = policy_change(old, new, ratio)
    row["objective"] = -value
    row["clip_fraction"] = ((ratio - 1).abs() > c.clip).float().mean().item()
    row["gradient_norm"] = norm
    return ratio, row
