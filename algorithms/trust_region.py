"""The TRPO step of one actor (Schulman et al. 2015), used by HATRPO."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence
from torch.nn.utils import parameters_to_vector

from algorithms.config import TrustRegionSettings
from algorithms.layers import Passage
from algorithms.networks import StochasticActor, differentiate, policy_change
from algorithms.rollout import Row


def trust_region_step(
    actor: StochasticActor, seen: Tensor, action: Tensor, M: Tensor, c: TrustRegionSettings, generator: torch.Generator
) -> tuple[Tensor, Row]:
    """theta + alpha^j sqrt(2 delta / g^T H^-1 g) H^-1 g, with the smallest j that is accepted.

    g is the gradient of the surrogate E[ratio M], H the Fisher matrix (the Hessian of the mean KL at the old policy).
    seen [T, E, O] (normalised observations, then the mask of a masked action), action [T, E, A], M [T, E] -> ratio =
    new(a|o) / old(a|o) [T, E]. Where an agent was not always there, the B samples with it stand in place of T, E.
    """
    outputs: list[Tensor] = []

    def loss(y: Tensor, seen: Tensor, action: Tensor, M: Tensor) -> Tensor:
        outputs.append(y.detach().clone())
        log_prob = actor.given(y, seen).log_prob(action)
        return -torch.exp(log_prob - log_prob.detach()) * M

    parameters = list(actor.parameters())
    for p in parameters:
        p.grad = torch.zeros_like(p)
    flat = [x.flatten(0, seen.dim() - 2) for x in (actor.observation(seen), seen, action, M)]
    differentiate(actor.network, loss, flat)
    g = -parameters_to_vector(p.grad for p in parameters)  # type: ignore[misc]
    with torch.no_grad():  # the pass that gave the gradient gives all that the new policy is compared with, too
        old = actor.given(torch.cat(outputs).unflatten(0, seen.shape[:-1]), seen)
        old_log_prob = old.log_prob(action)  # [T, E]

    def surrogate(policy: Distribution) -> tuple[Tensor, Tensor]:
        ratio = torch.exp(policy.log_prob(action) - old_log_prob)
        return (ratio * M).mean(), ratio

    theta = parameters_to_vector(parameters).detach()
    H = fisher_product(actor, parameters, seen[:: c.fisher_stride].flatten(0, -2), c.damping)
    direction = conjugate_gradient(H, g, c.cg_steps)  # x = H^-1 g
    curvature = g.dot(direction)  # x^T H x, for every iterate of conjugate gradients that start from 0
    step = direction * torch.sqrt(2 * c.delta / curvature.clamp(min=1e-12))

    new, ratio, row = line_search(actor, parameters, theta, step, g.dot(step).item(), old, surrogate, seen, c)
    row |= policy_change(old, new, ratio)
    row["gradient_norm"] = g.norm().item()
    return ratio, row


def line_search(
    actor: StochasticActor,
    parameters: list[torch.nn.Parameter],
    theta: Tensor,
    step: Tensor,
    predicted: float,
    old: Distribution,
    surrogate: Callable[[Distribution], tuple[Tensor, Tensor]],
    seen: Tensor,
    c: TrustRegionSettings,
) -> tuple[Distribution, Tensor, Row]:
    """Try theta + alpha^j step, j = 0, 1, ...; accept when KL <= delta and the gain is accept_ratio of the predicted.

    Where none is accepted the parameters are as before, bit for bit, and so are the policy and its ratio of 1.
    """
    with torch.no_grad():
        before, ratio = surrogate(old)
        for j in range(c.max_backtracks):
            scale = c.backtrack**j
            assign(theta + scale * step, parameters)
            new = actor(seen)
            value, ratio = surrogate(new)
            gain = (value - before).item()
            kl = kl_divergence(old, new).mean().item()
            if kl <= c.delta and gain > 0 and gain >= c.accept_ratio * scale * predicted:
                return new, ratio, {"accepted": 1, "backtracks": j, "predicted": scale * predicted, "gain": gain}
        assign(theta, parameters)
        before, ratio = surrogate(old)
    return old, ratio, {"accepted": 0, "backtracks": c.max_backtracks, "predicted": predicted, "gain": 0.0}


def assign(theta: Tensor, parameters: list[torch.nn.Parameter]) -> None:
    """Write theta into the parameters where they lie: as views of one vector their products would round otherwise."""
    for p, part in split(theta, parameters).items():
        p.copy_(part)


def split(v: Tensor, parameters: list[torch.nn.Parameter]) -> dict[Tensor, Tensor]:
    """The part of a vector that belongs to each parameter, of its shape: the inverse of `parameters_to_vector`."""
    parts = v.split([p.numel() for p in parameters])
    return {p: part.view_as(p) for p, part in zip(parameters, parts, strict=True)}


def fisher_product(
    actor: StochasticActor, parameters: list[torch.nn.Parameter], seen: Tensor, damping: float
) -> Callable[[Tensor], Tensor]:
    """The map v -> (H + damping I) v, H the Hessian of E[KL(old, new)] at new = old.  seen [B, O]

    There H = J^T F J / B exactly (TRPO, appendix C), with J the Jacobian of the network's outputs and a Gaussian's log
    sigma in the parameters, and F the KL's Hessian in those, their Fisher matrix: second derivatives of the network
    meet the KL's slope, which is 0. One pass forward gives J v, one backward the rest.
    """
    there = Passage(actor.network, own_memory=True)
    policy = actor.given(there.forward(actor.observation(seen)), seen)
    rows: dict[Tensor, Tensor] = {p: torch.empty_like(p) for p in parameters}
    free = [p for p in parameters if p not in {*actor.network.parameters()}]  # log sigma

    @torch.no_grad()
    def product(v: Tensor) -> Tensor:
        part = split(v, parameters)
        FJv, *of_free = policy.fisher(there.tangent(part), *(part[p] for p in free))
        there.backward(FJv / len(seen))
        there.finish(rows.__getitem__)
        rows.update(zip(free, of_free, strict=True))
        return parameters_to_vector(rows.values()) + damping * v

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
