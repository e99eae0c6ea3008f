"""A method of your own: HAPPO whose actors stop early, once the mean KL divergence has passed a target."""

from dataclasses import dataclass
from functools import partial

import torch

from algorithms.clip import clip_objective
from algorithms.config import ClipSettings, Positive
from algorithms.distributions import policy_change
from algorithms.networks import minimise
from algorithms.on_policy import OnPolicy
from algorithms.registry import Method
from algorithms.rollout import minibatches


@dataclass(frozen=True)
class EarlySettings(ClipSettings):
    target_kl: Positive = 0.01


def early_step(actor, samples, M, c, generator):
    """A PPO step whose epochs end once the mean KL(old, new) has passed target_kl."""
    with torch.no_grad():
        old = actor(samples.observation, samples.mask)
        old_log_prob = old.log_prob(samples.action)

    for _ in range(c.actor_epochs):
        for index in minibatches(len(M), c.actor_minibatches, generator):
            batch = samples[index]
            policy = actor(batch.observation, batch.mask)
            ratio = torch.exp(policy.log_prob(batch.action) - old_log_prob[index])
            objective = clip_objective(ratio, M[index], c.clip) + c.entropy_coef * policy.entropy()
            minimise(-objective.mean(), actor, c.max_grad_norm)
        with torch.no_grad():
            new = actor(samples.observation, samples.mask)
            ratio = torch.exp(new.log_prob(samples.action) - old_log_prob)
            diagnostics = policy_change(old, new, ratio)
        if diagnostics["kl_mean"] > c.target_kl:
            break
    return ratio, diagnostics


make = partial(OnPolicy, critic="centralised", update="sequential", step=early_step)
EARLY = Method(make, EarlySettings, "HAPPO that stops early", can_share_actors=False)
