"""The PPO step of one actor (Schulman et al. 2017), used by IPPO, MAPPO, HAPPO and HAIPPO."""

from __future__ import annotations

import torch
from torch import Tensor

from algorithms.config import ClipSettings
from algorithms.distributions import policy_change
from algorithms.networks import Actor, minimise
from algorithms.rollout import Diagnostics, Samples, minibatches


def clip_step(
    actor: Actor, samples: Samples, M: Tensor, c: ClipSettings, generator: torch.Generator
) -> tuple[Tensor, Diagnostics]:
    """Climb E[min(ratio M, clip(ratio, 1 +- epsilon) M)] + entropy_coef H for a few epochs, epsilon = `c.clip`.

    ratio = new(a|o) / old(a|o); for MAPPO M is the advantage, for HAPPO the factor times it. old is the policy that
    acted, recomputed here: neither the actor's parameters nor its normaliser have changed since. Takes B samples and
    M [B], returns the final ratio [B] and diagnostics (`objective`: that of the last minibatch, with entropy).
    """
    with torch.no_grad():
        old = actor(samples.observation, samples.mask)
        old_log_prob = old.log_prob(samples.action)  # [B]

    for _ in range(c.actor_epochs):
        for index in minibatches(len(M), c.actor_minibatches, generator):
            batch = samples[index]
            policy = actor(batch.observation, batch.mask)
            ratio = torch.exp(policy.log_prob(batch.action) - old_log_prob[index])
            objective = clip_objective(ratio, M[index], c.clip) + c.entropy_coef * policy.entropy()
            loss = -objective.mean()
            gradient_norm = minimise(loss, actor, c.max_grad_norm)

    with torch.no_grad():
        new = actor(samples.observation, samples.mask)
        ratio = torch.exp(new.log_prob(samples.action) - old_log_prob)
    return ratio, {
        **policy_change(old, new, ratio),
        "objective": -loss.item(),
        "clip_fraction": ((ratio - 1).abs() > c.clip).float().mean().item(),
        "gradient_norm": gradient_norm,
    }


def clip_objective(ratio: Tensor, M: Tensor, epsilon: float) -> Tensor:
    """min(ratio M, clip(ratio, 1 +- epsilon) M) of each sample.  [B]"""
    return torch.min(ratio * M, ratio.clamp(1 - epsilon, 1 + epsilon) * M)
