"""Policies as distributions over actions: diagonal Gaussians, and categorical choices of which a mask may forbid some.

Log-probability, entropy and KL divergence are one number per sample: sums over the dimensions of an action. The Fisher
matrix is the Hessian of KL(self, new) in the distribution's parameters at new = self.

Of discrete actions the logits of all components stand side by side, [.., L] with L the number of all choices, and so do
masks (True: allowed) and one-hot vectors. An action [.., C] holds the index chosen in each of the C components.
"""

from __future__ import annotations

from itertools import accumulate
from math import log, pi

import torch
from torch import Tensor

from algorithms.rollout import Diagnostics, Discrete, Space


class DiagonalGaussian:
    """N(mean, diag(std^2)) over actions of A dimensions.  mean [.., A], log_std [A], the same for all samples."""

    def __init__(self, mean: Tensor, log_std: Tensor):
        self.mean, self.log_std = mean, log_std.clone()  # a copy, as steps overwrite parameters

    @property
    def mode(self) -> Tensor:
        """[.., A]"""
        return self.mean

    def sample(self, noise: Tensor) -> Tensor:
        """mean + std z for standard normal z.  [.., A] -> [.., A]"""
        return self.mean + self.log_std.exp() * noise

    def log_prob(self, action: Tensor) -> Tensor:
        """sum_k -z_k^2 / 2 - log std_k - log(2 pi) / 2, z = (a - mean) / std.  [.., A] -> [..]"""
        z = (action - self.mean) * torch.exp(-self.log_std)
        return -0.5 * z.square().sum(-1) - self.log_std.sum() - 0.5 * log(2 * pi) * len(self.log_std)

    def entropy(self) -> Tensor:
        """sum_k log std_k + (1 + log(2 pi)) / 2, in nats.  -> [..]"""
        one = self.log_std.sum() + 0.5 * (1 + log(2 * pi)) * len(self.log_std)
        return one.expand(self.mean.shape[:-1])

    def kl_divergence(self, new: DiagonalGaussian) -> Tensor:
        """KL(self, new) = sum_k log(s'_k / s_k) + (s_k^2 + (m_k - m'_k)^2) / (2 s'_k^2) - 1/2, in nats.  -> [..]"""
        d = self.log_std - new.log_std  # log(s / s')
        z = (self.mean - new.mean) * torch.exp(-new.log_std)
        return (0.5 * (torch.exp(2 * d) + z.square() - 1) - d).sum(-1)

    def fisher_product(self, *v: Tensor) -> tuple[Tensor, ...]:
        """diag(1 / std^2, 2) times a vector of (mean, log std).  [.., A], [A]"""
        dmean, dlog_std = v
        return dmean * torch.exp(-2 * self.log_std), 2 * dlog_std


class MaskedCategorical:
    """p(a) = prod_c softmax(logits of component c)[a_c], where forbidden choices have probability 0.  [.., L]

    One component is the plain categorical distribution.
    """

    def __init__(self, logits: Tensor, choices: tuple[int, ...], mask: Tensor | None = None):
        self.logits, self.choices = masked(logits, mask), choices
        self.log_p = torch.cat([x.log_softmax(-1) for x in self.logits.split(choices, -1)], dim=-1)  # [.., L]

    @property
    def mode(self) -> Tensor:
        """The likeliest choice in each component.  -> [.., C]"""
        return argmax(self.logits, self.choices)

    def sample(self, noise: Tensor) -> Tensor:
        """argmax of logits + Gumbel noise, made of standard normal noise.  [.., L] -> [.., C]"""
        return argmax(self.logits + gumbel(noise), self.choices)

    def log_prob(self, action: Tensor) -> Tensor:
        """sum_c log p_c(a_c).  [.., C] -> [..]"""
        return self.log_p.gather(-1, _flat_indices(action, self.choices)).sum(-1)

    def entropy(self) -> Tensor:
        """-sum_c sum_k p_c(k) log p_c(k), in nats.  -> [..]"""
        return -(self.log_p.exp() * self.log_p).sum(-1)

    def kl_divergence(self, new: MaskedCategorical) -> Tensor:
        """KL(self, new) = sum_c sum_k p_c(k) (log p_c(k) - log p'_c(k)), in nats, weighted by p.  -> [..]"""
        return (self.log_p.exp() * (self.log_p - new.log_p)).sum(-1)

    def fisher_product(self, *v: Tensor) -> tuple[Tensor, ...]:
        """diag(p) - p p^T of each component, times a vector of logits.  [.., L]"""
        (dlogits,) = v
        pairs = zip(self.log_p.exp().split(self.choices, -1), dlogits.split(self.choices, -1), strict=True)
        return (torch.cat([p * (d - (p * d).sum(-1, keepdim=True)) for p, d in pairs], dim=-1),)


Policy = DiagonalGaussian | MaskedCategorical


def masked(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Logits with forbidden choices at the smallest finite float: their probability and gradient are exactly 0.

    With -inf p log p would be NaN. At least one choice of each component must be allowed: where none is, probabilities
    are uniform, and `mode` and samples are the first.
    """
    return logits if mask is None else logits.masked_fill(~mask, torch.finfo(logits.dtype).min)


def argmax(scores: Tensor, choices: tuple[int, ...]) -> Tensor:
    """The index of the greatest score in each component, as actions hold it.  [.., L] -> [.., C]"""
    return torch.stack([x.argmax(-1) for x in scores.split(choices, -1)], dim=-1).to(scores.dtype)


def gumbel(noise: Tensor) -> Tensor:
    """-log(-log Phi(z)) of standard normal z: argmax(logits + that) is a sample of softmax(logits) (Gumbel 1954)."""
    return -torch.log(-torch.special.log_ndtr(noise))


def gumbel_softmax(
    logits: Tensor, choices: tuple[int, ...], mask: Tensor | None, noise: Tensor, temperature: float
) -> Tensor:
    """A sample as one-hot vectors, with the gradient of softmax((logits + Gumbel noise) / temperature).

    The straight-through Gumbel-softmax estimator (Jang et al. 2017), from standard normal noise.  [.., L] -> [.., L]
    """
    scores = masked((logits + gumbel(noise)) / temperature, mask)
    soft = torch.cat([x.softmax(-1) for x in scores.split(choices, -1)], dim=-1)
    return one_hot(argmax(scores, choices), choices) + (soft - soft.detach())


def one_hot(action: Tensor, choices: tuple[int, ...]) -> Tensor:
    """[.., C] -> [.., L]"""
    zeros = torch.zeros(*action.shape[:-1], sum(choices), dtype=action.dtype)
    return zeros.scatter_(-1, _flat_indices(action, choices), 1.0)


def encoded_size(space: Space) -> int:
    """How many numbers an action is to a network: a one-hot vector for each component, or the action itself."""
    return space.choice_count if isinstance(space, Discrete) else space.size


def encode(action: Tensor, space: Space) -> Tensor:
    """An action as networks see it.  [.., size] -> [.., encoded_size]"""
    return one_hot(action, space.choices) if isinstance(space, Discrete) else action


def _flat_indices(action: Tensor, choices: tuple[int, ...]) -> Tensor:
    """The indices of an action's choices among the L of all components.  [.., C] -> [.., C] long"""
    first = torch.tensor([0, *accumulate(choices[:-1])])
    return action.long() + first


def policy_change(old: Policy, new: Policy, ratio: Tensor) -> Diagnostics:
    """How far an update moved a policy: KL(old, new) in nats over B samples, and the ratio new(a|o) / old(a|o) [B].

    `kl_top_share` is the share of the KL that the 1% of samples with the greatest KL hold, at least one: 0.01 where all
    are equal (1 / B where there are fewer than 100), 0 where nothing moved. KL is computed in the precision of the
    policies: in float32 what is below 1e-7 is rounding.
    """
    kl = old.kl_divergence(new).double()  # type: ignore[arg-type]
    top = kl.topk(max(len(kl) // 100, 1)).values
    return {
        "kl_mean": kl.mean().item(),
        "kl_max": kl.max().item(),
        "kl_top_share": (top.sum() / kl.sum().clamp(min=1e-30)).clamp(0, 1).item(),
        "ratio_max": ratio.max().item(),
        "entropy": new.entropy().mean().item(),
    }
