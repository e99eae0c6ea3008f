"""The TRPO step of one actor (Schulman et al. 2015), used by HATRPO and MATRPO."""

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
    """theta <- theta + alpha^j s with s = sqrt(2 delta / x^T H x) x and x = H^-1 g, for the smallest j that the line
    search accepts; theta stays if it accepts none.

    g is the gradient of the surrogate E[ratio M] at the old policy, ratio = new(a|o) / old(a|o), and H = F + damping I,
    where F, the Fisher matrix, is the Hessian of E[KL(old, new)] there. For MATRPO M is the advantage, for HATRPO the
    factor times it. old is the policy that acted, recomputed here: neither the actor's parameters nor its normaliser
    have changed since. alpha is `c.backtrack`, delta `c.delta`.

    Takes B samples and M [B], returns the final ratio [B] and diagnostics. `generator` is not used: there are no
    minibatches.
    """
    old = actor(samples.observation, samples.mask)
    log_prob = old.log_prob(samples.action)  # [B]
    surrogate = (torch.exp(log_prob - log_prob.detach()) * M).mean()
    g = parameters_to_vector(torch.autograd.grad(surrogate, list(actor.parameters())))

    H_times = fisher_vector_product(actor, samples, c.damping)
    x = conjugate_gradient(H_times, g, c.cg_steps)
    curvature = g.dot(x)  # x^T H x: conjugate gradients from 0 keep x orthogonal to the residual g - H x
    step = x * torch.sqrt(2 * c.delta / curvature.clamp(min=1e-12))

    new, ratio, row = line_search(actor, samples, M, old, step, g.dot(step).item(), c)
    return ratio, {**policy_change(old, new, ratio), **row, "gradient_norm": g.norm().item()}


@torch.no_grad()
def line_search(
    actor: Actor, samples: Samples, M: Tensor, old: Policy, step: Tensor, predicted_gain: float, c: TrustRegionSettings
) -> tuple[Policy, Tensor, Diagnostics]:
    """Try theta + alpha^j step, j = 0, 1, ...; accept the first with E[KL] <= delta and a gain above 0 and at least
    accept_ratio of the predicted alpha^j g^T step.

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
        if kl <= c.delta and gain > 0 and gain >= c.accept_ratio * scale * predicted_gain:
            row = {"accepted": 1, "backtracks": j, "predicted_gain": scale * predicted_gain, "gain": gain}
            return new, ratio, row
    assign(parameters, theta)
    row = {"accepted": 0, "backtracks": c.max_backtracks, "predicted_gain": scale * predicted_gain, "gain": 0.0}
    return old, torch.ones_like(M), row


def fisher_vector_product(actor: Actor, samples: Samples, damping: float) -> Callable[[Tensor], Tensor]:
    """The map v -> (F + damping I) v, F the Hessian of E[KL(old, new)] at new = old.

    There F = J^T F_d J / B exactly (TRPO, appendix C), with J the Jacobian of the distribution's parameters and F_d
    their Fisher matrix: second derivatives of the network are multiplied by the gradient of the KL, which is 0.
    """
    J = fast.Jacobian(actor.network, actor.normaliser(samples.observation))
    policy = actor.distribution(J.outputs, samples.mask)
    parameters = list(actor.parameters())
    k = len(parameters) - len(J.parameters)  # `parameters` lists a Gaussian's log std first, which the network lacks

    def product(v: Tensor) -> Tensor:
        parts = split(v, parameters)
        Jv = J.times(parts[k:])  # [B, outputs of the network]
        F_outputs, *F_log_std = policy.fisher_product(Jv, *parts[:k])
        # log std is common to all samples: the mean of B equal blocks is one block, so it has no 1 / B
        Fv = [*F_log_std, *J.transposed_times(F_outputs / len(samples))]
        return parameters_to_vector(Fv) + damping * v

    return product


def conjugate_gradient(product: Callable[[Tensor], Tensor], b: Tensor, steps: int) -> Tensor:
    """x with A x = b for a positive definite A given as v -> A v; stops early where nothing is left to solve."""
    x = torch.zeros_like(b)
    residual, p = b.clone(), b.clone()
    rr = residual.dot(residual)
    for _ in range(steps):
        if rr <= 1e-20:  # prevents a division by 0, and is no tolerance of convergence; x is 0 where |b| <= 1e-10
            break
        Ap = product(p)
        length = rr / p.dot(Ap).clamp(min=1e-20)
        x += length * p
        residual -= length * Ap
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
