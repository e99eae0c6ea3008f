"""Generalised advantage estimation (Schulman et al. 2016) that tells termination from truncation."""

from __future__ import annotations

import torch
from torch import Tensor


def gae(
    reward: Tensor, value: Tensor, next_value: Tensor, terminated: Tensor, truncated: Tensor, gamma: float, lam: float
) -> Tensor:
    """A_t = sum_k (gamma lam)^k delta_{t+k} within the episode, delta_t = r_t + gamma V(s'_t) - V(s_t).

    s'_t is the true successor, before any reset. V(s'_t) counts as 0 after a terminated step, and only there; the sum
    is cut after terminated and truncated steps alike. `reward`, `value`, `next_value` and the result are [T, E], in
    units of reward; `terminated` and `truncated` are [T, E] bool.
    """
    delta = reward + gamma * next_value.masked_fill(terminated, 0) - value  # 0 times NaN would be NaN
    decay = gamma * lam * ~(terminated | truncated)
    advantage = torch.zeros_like(delta)
    following = torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        following = advantage[t] = delta[t] + decay[t] * following
    return advantage


def standardise(advantage: Tensor, active: Tensor | None = None) -> Tensor:
    """(A - mean A) / std A, mean and std over the samples [T, E] at which the agent was active (None: all).

    Once per update, before any factor is multiplied in.
    """
    counted = advantage if active is None else advantage[active]
    if not counted.numel():  # an agent that was never there
        return advantage
    std, mean = torch.std_mean(counted, correction=0)
    return (advantage - mean) / (std + 1e-8)


def explained_variance(value: Tensor, returns: Tensor) -> float:
    """1 - Var(returns - V) / Var(returns): 1 is perfect, 0 no better than a constant."""
    return 1.0 - (returns - value).var(correction=0).item() / (returns.var(correction=0).item() + 1e-8)
