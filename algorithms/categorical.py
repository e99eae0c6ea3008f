"""Discrete actions: one choice in each of an action's components, of which a mask may forbid some.

The logits of all components stand side by side, [.., L] with L the number of all choices, and so do masks (True:
allowed) and one-hot vectors. An action [.., C] holds the index chosen in each of the C components.
"""

from __future__ import annotations

from itertools import accumulate
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl

from algorithms.rollout import Discrete, Space


def allowed(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Forbidden logits replaced by the least finite number, where probability and every gradient are exactly 0.

    With -inf in its place p log p would be 0 times infinity. Of an agent that may do nothing all choices are equal.
    """
    return logits if mask is None else logits.masked_fill(~mask, torch.finfo(logits.dtype).min)


class MultiCategorical(Distribution):
    """p(a) = prod_c softmax(logits of component c)[a_c]; one component is the plain categorical distribution."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, logits: Tensor, choices: tuple[int, ...]):
        super().__init__(logits.shape[:-1], torch.Size([len(choices)]), validate_args=False)
        self.choices = choices
        self.log_p = torch.cat([x.log_softmax(-1) for x in logits.split(choices, -1)], dim=-1)  # [.., L]

    def log_prob(self, action: Tensor) -> Tensor:
        """sum_c log p_c(a_c).  [.., C] -> [..]"""
        return self.log_p.gather(-1, _columns(action, self.choices)).sum(-1)

    def entropy(self) -> Tensor:
        """-sum_c sum_k p_c(k) log p_c(k) in nats.  -> [..]"""
        return -(self.log_p.exp() * self.log_p).sum(-1)

    def fisher(self, dlogits: Tensor) -> tuple[Tensor]:
        """The Fisher matrix in the logits, diag(p) - p p^T for each component, times a vector.  [.., L]"""
        pairs = zip(self.log_p.exp().split(self.choices, -1), dlogits.split(self.choices, -1), strict=True)
        return (torch.cat([p * (v - (p * v).sum(-1, keepdim=True)) for p, v in pairs], dim=-1),)


@register_kl(MultiCategorical, MultiCategorical)
def _kl(old: MultiCategorical, new: MultiCategorical) -> Tensor:
    """sum_c sum_k p_c(k) (log p_c(k) - log q_c(k)) in nats: the exact one, weighted by p.  -> [..]"""
    return (old.log_p.exp() * (old.log_p - new.log_p)).sum(-1)


def gumbel(z: Tensor) -> Tensor:
    """-log(-log Phi(z)) of normal numbers z: argmax(logits + that) is a sample of softmax(logits) (Gumbel 1954)."""
    return -torch.log(-torch.special.log_ndtr(z))


def decide(scores: Tensor, choices: tuple[int, ...], mask: Tensor | None = None) -> Tensor:
    """The index of the greatest allowed score in each component.  [.., L] -> [.., C]"""
    parts = allowed(scores, mask).split(choices, -1)
    return torch.stack([x.argmax(-1) for x in parts], dim=-1).to(scores.dtype)


def straight_through(
    logits: Tensor, choices: tuple[int, ...], mask: Tensor | None, noise: Tensor, temperature: float
) -> Tensor:
    """A sample of the softmax as one-hot vectors, with the gradient of softmax((logits + noise) / temperature).

    The straight-through Gumbel-softmax estimator (Jang et al. 2017), for Gumbel noise.  [.., L] -> [.., L]
    """
    scores = allowed((logits + noise) / temperature, mask)
    soft = torch.cat([x.softmax(-1) for x in scores.split(choices, -1)], dim=-1)
    return one_hot(decide(scores, choices), choices) + (soft - soft.detach())


def one_hot(action: Tensor, choices: tuple[int, ...]) -> Tensor:
    """[.., C] -> [.., L]"""
    zeros = torch.zeros(*action.shape[:-1], sum(choices), dtype=action.dtype)
    return zeros.scatter_(-1, _columns(action, choices), 1.0)


def width(space: Space) -> int:
    """How many numbers an action is to a network: a one-hot vector for each component, or the action itself."""
    return space.logits if isinstance(space, Discrete) else space.size


def encode(space: Space, action: Tensor) -> Tensor:
    """An action as a network sees it.  [.., size] -> [.., width]"""
    return one_hot(action, space.choices) if isinstance(space, Discrete) else action


def decode(space: Space, output: Tensor, mask: Tensor | None = None) -> Tensor:
    """The action that a network's output stands for; of one-hot vectors the inverse of `encode`.  -> [.., size]"""
    return decide(output, space.choices, mask) if isinstance(space, Discrete) else output


def _columns(action: Tensor, choices: tuple[int, ...]) -> Tensor:
    """Where the choices of an action stand among all.  [.., C] -> [.., C] long"""
    first = torch.tensor([0, *accumulate(choices[:-1])])
    return action.long() + first
