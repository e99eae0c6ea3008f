"""The TRPO step of one actor (Schulman et al. 2015), used by HATRPO."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from algorithms import fast
from algorithms.config import TrustRegionSettings
from algorithms.distributions import Policy, policy_change
from algorithms.networks import Actor
from algorithms.rollout import Diagnostics, Samples


def trust_region_step(
    actor: Actor, samples: Samples, M: Tensor, c: TrustRegionSettings, generator: torch.Generator
) -> tuple[Tensor, Diagnostics]:
    """theta + alpha^j sqrt(2 delta / x^T H x) x with x = H^-1 g, and the smallest j that the line search accepts.

    g is the gradient of the surrogate E[ratio M], ratio = new(a|o) / old(a|o), and H the Hessian of E[KL(old, new)] at
    the old policy; for TRPO M is the advantage, for HATRPO the factor times it. Takes B samples and M [B], returns the
    final ratio [B] and diagnostics.

    All samples enter H, damped by the identity, which the published code weights by 0.1. Measured after 400,000 steps
    with delta 0.01: returns on HalfCheetah-2x3 and Ant-4x2 (means over three seeds), training steps/s and, on Ant-4x2,
    the greatest KL of an update over the samples (median):

    | samples in H                   | damping | HalfCheetah | Ant   | steps/s | greatest KL |
    |--------------------------------|---------|-------------|-------|---------|-------------|
    | all                            | 0.1     | 2,800       | 1,420 | 10,700  | 0.29        |
    | all                            | 1       | 3,150       | 1,580 | 11,100  | 0.10        |
    | those of every fifth step      | 0.1     | 2,720       | 1,240 | 13,600  | 0.27        |
    | those for x, all for x^T H x   | 0.1     | 2,980       | 1,230 | 15,900  | 0.28        |
    | those for x, all for x^T H x   | 1       | 3,230       | 1,450 | 14,900  | 0.10        |
    | those for x, all for x^T H x   | 3       | 3,410       | 1,360 | 15,300  | 0.07        |
    """
    old = actor(samples.observation, samples.mask)
    log_prob = old.log_prob(samples.action)
    surrogate = (torch.exp(log_prob - log_prob.detach()) * M).mean()
    g = parameters_to_vector(torch.autograd.grad(surrogate, list(actor.parameters())))

    H = fisher_vector_product(actor, samples, c.damping)
    x = conjugate_gradient(H, g, c.cg_steps)
    curvature = g.dot(x)  # x^T H x, for every iterate of conjugate gradients that start from 0
    step = x * torch.sqrt(2 * c.delta / curvature.clamp(min=1e-12))

    new, ratio, row = line_search(actor, samples, M, old, step, g.dot(step).item(), c)
    return ratio, {**policy_change(old, new, ratio), **row, "gradient_norm": g.norm().item()}


@torch.no_grad()
def line_search(
    actor: Actor, samples: Samples, M: Tensor, old: Policy, step: Tensor, predicted: float, c: TrustRegionSettings
) -> tuple[Policy, Tensor, Diagnostics]:
    """Try theta + alpha^j step, j = 0, 1, ...; accept where KL <= delta and the gain is accept_ratio of the predicted.

    The gain is that of the surrogate, E[ratio M] - E[M] = E[(ratio - 1) M]. Where no step is accepted the parameters
    are as before, bit for bit, and so are the policy and its ratio of 1.
    """
    parameters = list(actor.parameters())
    theta = parameters_to_vector(parameters)
    old_log_prob = old.log_prob(samples.action)
    row: Diagnostics
    for j in range(c.max_backtracks):
        scale = c.backtrack**j
        assign(parameters, theta + scale * step)
        new = actor(samples.observation, samples.mask)
        ratio = torch.exp(new.log_prob(samples.action) - old_log_prob)
        gain = ((ratio - 1) * M).mean().item()
        kl = old.kl_divergence(new).mean().item()
        if kl <= c.delta and gain > 0 and gain >= c.accept_ratio * scale * predicted:
            row = {"accepted": 1, "backtracks": j, "predicted_gain": scale * predicted, "gain": gain}
            return new, ratio, row
    assign(parameters, theta)
    row = {"accepted": 0, "backtracks": c.max_backtracks, "predicted_gain": predicted, "gain": 0.0}
    return old, torch.ones_like(M), row


def fisher_vector_product(actor: Actor, samples: Samples, damping: float) -> Callable[[Tensor], Tensor]:
    """The map v -> (H + damping I) v, H the Hessian of E[KL(old, new)] at new = old.

    There H = J^T F J / B exactly (TRPO, appendix C), with J the Jacobian of the distribution's parameters and F their
    Fisher matrix: second derivatives of the network are multiplied by the KL's slope, which is 0.
    """
    J = fast.Jacobian(actor.network, actor.normaliser(samples.observation))
    policy = actor.distribution(J.outputs, samples.mask)
    parameters = list(actor.parameters())
    free = len(parameters) - len(J.parameters)  # first come those that no observation enters, a Gaussian's log std

    def product(v: Tensor) -> Tensor:
        parts = split(v, parameters)
        F_outputs, *F_free = policy.fisher_product(J.times(parts[free:]), *parts[:free])
        Hv = [*F_free, *J.transposed_times(F_outputs / len(samples))]
        return parameters_to_vector(Hv) + damping * v

    return product


def conjugate_gradient(product: Callable[[Tensor], Tensor], b: Tensor, steps: int) -> Tensor:
    """x with A x = b for a positive definite A given as v -> A v; stops early where nothing is left to solve."""
    x = torch.zeros_like(b)
    residual, p = b.clone(), b.clone()
    rr = residual.dot(residual)
    for _ in range(steps):
        if rr <= 1e-20:  # a guard, not a tolerance: the divisions below need what they divide by
            break
        Ap = product(p)
        alpha = rr / p.dot(Ap).clamp(min=1e-20)
        x += alpha * p
        residual -= alpha * Ap
        rr, previous = residual.dot(residual), rr
        p = residual + rr / previous * p
    return x


def split(v: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """The parts of a vector, each of its parameter's shape: the inverse of `parameters_to_vector`."""
    parts = v.split([p.numel() for p in parameters])
    return [part.view_as(p) for p, part in zip(parameters, parts, strict=True)]


def assign(parameters: Sequence[nn.Parameter], theta: Tensor) -> None:
    """Write a vector into the parameters where they lie (`vector_to_parameters` would make them views of it)."""
    for p, part in zip(parameters, split(theta, parameters), strict=True):
        p.copy_(part)
