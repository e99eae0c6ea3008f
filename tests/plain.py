"""The names of `algorithms.fast` in a few lines of plain torch each; test_fast holds whole updates equal on both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

Linear = nn.Linear


class BatchedActors:
    """The networks of N actors, one after the other."""

    def __init__(self, actors: Sequence[Any]):
        self.actors = actors

    def __call__(self, observations: Sequence[Tensor]) -> list[Tensor]:
        """N x [E, O_i] -> N x [E, W_i]"""
        pairs = zip(self.actors, observations, strict=True)
        return [actor.network(actor.normaliser(x)) for actor, x in pairs]


class Jacobian:
    """J, the derivative of a network's outputs [B, O] at inputs x in its parameters."""

    def __init__(self, network: nn.Module, x: Tensor):
        self.network, self.x = network, x.detach()
        self.parameters = list(network.parameters())
        self.outputs = network(x).detach()

    def times(self, v: Sequence[Tensor]) -> Tensor:
        """J v [B, O], v holding a tensor of each parameter's shape."""
        theta = {name: p.detach() for name, p in self.network.named_parameters()}
        direction = dict(zip(theta, v, strict=True))
        _, Jv = jvp(lambda theta: functional_call(self.network, theta, self.x), (theta,), (direction,))  # type: ignore[misc]
        return Jv

    def transposed_times(self, u: Tensor) -> list[Tensor]:
        """J^T u, a tensor of each parameter's shape.  [B, O]"""
        return list(torch.autograd.grad(self.network(self.x), self.parameters, u))
