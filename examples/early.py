"""A method of your own: HAPPO whose actors stop early, once the mean KL divergence has passed a target."""

from dataclasses import dataclass
from functools import partial

from algorithms.clip import clip_objective
from algorithms.config import ClipSettings, Positive
from algorithms.networks import descend, policy_change
from algorithms.on_policy import OnPolicy
from algorithms.registry import Method


@dataclass(frozen=True)
class EarlySettings(ClipSettings):
    target_kl: Positive = 0.01


def early_step(actor, seen, action, M, c, generator):
    """A PPO step whose epochs end once the mean KL(old, new) has passed target_kl."""
    old = actor(seen)
    old_log_prob = old.log_prob(action).detach()
    data = [x.flatten(0, -2) for x in (actor.observation(seen), seen, action)]
    data += [old_log_prob.flatten(), M.flatten()]

    def loss(outputs, seen, action, old_log_prob, M):
        policy = actor.given(outputs, seen)
        ratio = (policy.log_prob(action) - old_log_prob).exp()
        return -clip_objective(ratio, M, c.clip) - c.entropy_coef * policy.entropy()

    for _ in range(c.actor_epochs):
        descend(actor, actor.network, loss, data, c.max_grad_norm)
        new = actor(seen)
        ratio = (new.log_prob(action) - old_log_prob).exp().detach()
        row = policy_change(old, new, ratio)
        if row["kl_mean"] > c.target_kl:
            break
    return ratio, row


make = partial(OnPolicy, critic_sees="state", actors_move="one by one", step=early_step)
EARLY = Method(make, EarlySettings, "HAPPO that stops early", moves_at_once=False)
