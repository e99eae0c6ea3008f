"""Actors and critics: MLPs that normalise their input by its running mean and variance.

Inputs are raw observations or states. Stochastic actors return a distribution of `algorithms.distributions`, MADDPG's
actors a tensor. Networks trained by gradient descent have an Adam of their own as `optimiser`; actors of trust-region
methods and target networks have none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from algorithms import fast
from algorithms.distributions import DiagonalGaussian, MaskedCategorical, encoded_size
from algorithms.rollout import Discrete, Space

HIDDEN_GAIN = math.sqrt(2)
POLICY_GAIN = 0.01
"""Gain of an actor's output layer: so small that initial means are near 0 and logits nearly equal."""
OBSERVATION_CLIP = 10.0
"""In standard deviations."""


def mlp(sizes: Sequence[int], output_gain: float, generator: torch.Generator) -> nn.Sequential:
    """Linear, ReLU, LayerNorm for each hidden layer, then a linear layer; orthogonal weights, zero biases."""
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        is_output = index == len(sizes) - 2
        linear = nn.utils.skip_init(fast.Linear, fan_in, fan_out)  # the default would draw from the global generator
        nn.init.orthogonal_(linear.weight, output_gain if is_output else HIDDEN_GAIN, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear] if is_output else [linear, nn.ReLU(), nn.LayerNorm(fan_out)]
    return nn.Sequential(*layers)


class RunningNormaliser(nn.Module):
    """(x - mean) / std per feature, by the moments of all that `update` was given, which are buffers of the module.

    `clip` is the greatest absolute value of the result. Merging a batch follows Chan et al. (1979): for counts n and b,
    `mean += d b/(n+b)` with d the difference of means, and `n var` gains `b var_b + d^2 n b/(n+b)`.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, shape: tuple[int, ...], clip: float = math.inf):
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("var", torch.ones(shape))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Before the first update x itself, clipped; after it a constant feature is mapped to 0, but for rounding: in
        float32 a large one to a number of about 1 at most."""
        return ((x - self.mean) * torch.rsqrt(self.var + 1e-8)).clamp(-self.clip, self.clip)

    def inverse(self, x: Tensor) -> Tensor:
        """x std + mean."""
        return x * torch.sqrt(self.var + 1e-8) + self.mean

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take in a batch whose trailing axes are the features."""
        x = x.reshape(-1, *self.mean.shape)
        if not len(x):  # of an agent that was never active
            return
        share = x.shape[0] / (self.count.item() + x.shape[0])  # b / (n + b)
        mean = x.mean(0)
        var = (x - mean).square().mean(0, dtype=torch.float64)  # sums of squares near 1e36 overflow in float32
        difference = mean - self.mean
        self.mean += difference * share
        self.var.copy_(self.var * (1 - share) + var * share + difference**2 * share * (1 - share))
        self.count += x.shape[0]


class Network(nn.Module):
    """An MLP, `network`, behind the normaliser of its input."""

    optimiser: torch.optim.Optimizer

    def __init__(self, input_size: int):
        super().__init__()
        self.normaliser = RunningNormaliser((input_size,), OBSERVATION_CLIP)


class GaussianActor(Network):
    """pi(a|o) = N(mean(o), diag(std^2)), with log std a free parameter that does not depend on the observation."""

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden_sizes: Sequence[int],
        initial_log_std: float,
        generator: torch.Generator,
    ):
        super().__init__(observation_size)
        self.network = mlp([observation_size, *hidden_sizes, action_size], POLICY_GAIN, generator)
        self.log_std = nn.Parameter(torch.full((action_size,), float(initial_log_std)))

    def forward(self, observation: Tensor, mask: Tensor | None = None) -> DiagonalGaussian:
        """[.., O] -> distribution over [.., A]; there is no mask."""
        return self.distribution(self.network(self.normaliser(observation)))

    def distribution(self, mean: Tensor, mask: Tensor | None = None) -> DiagonalGaussian:
        """The policy with these outputs of the network.  [.., A]"""
        return DiagonalGaussian(mean, self.log_std)


class CategoricalActor(Network):
    """pi(a|o) = prod_c softmax(logits_c(o))[a_c] over the components c of a discrete action, without masked choices."""

    def __init__(
        self, observation_size: int, choices: tuple[int, ...], hidden_sizes: Sequence[int], generator: torch.Generator
    ):
        super().__init__(observation_size)
        self.choices = choices
        self.network = mlp([observation_size, *hidden_sizes, sum(choices)], POLICY_GAIN, generator)

    def forward(self, observation: Tensor, mask: Tensor | None = None) -> MaskedCategorical:
        """[.., O], [.., L] -> distribution over [.., C]"""
        return self.distribution(self.network(self.normaliser(observation)), mask)

    def distribution(self, logits: Tensor, mask: Tensor | None = None) -> MaskedCategorical:
        """The policy with these outputs of the network.  [.., L], [.., L]"""
        return MaskedCategorical(logits, self.choices, mask)


Actor = GaussianActor | CategoricalActor


def stochastic_actor(
    observation_size: int,
    space: Space,
    hidden_sizes: Sequence[int],
    initial_log_std: float,
    generator: torch.Generator,
) -> Actor:
    """The actor for an action space."""
    if isinstance(space, Discrete):
        return CategoricalActor(observation_size, space.choices, hidden_sizes, generator)
    return GaussianActor(observation_size, space.size, hidden_sizes, initial_log_std, generator)


class DeterministicActor(Network):
    """Of MADDPG: a = tanh(f(o)) in [-1, 1], or of a discrete action space the logits f(o), one for each choice."""

    def __init__(self, observation_size: int, space: Space, hidden_sizes: Sequence[int], generator: torch.Generator):
        super().__init__(observation_size)
        self.is_discrete = isinstance(space, Discrete)
        self.network = mlp([observation_size, *hidden_sizes, encoded_size(space)], POLICY_GAIN, generator)

    def forward(self, observation: Tensor) -> Tensor:
        """[.., O] -> [.., A] or [.., L]"""
        output: Tensor = self.network(self.normaliser(observation))
        return output if self.is_discrete else torch.tanh(output)


class ValueCritic(Network):
    """V(x) of the state or of one agent's observation; the network's output is in standard deviations of returns."""

    def __init__(self, input_size: int, hidden_sizes: Sequence[int], generator: torch.Generator):
        super().__init__(input_size)
        self.network = mlp([input_size, *hidden_sizes, 1], 1.0, generator)
        self.return_normaliser = RunningNormaliser(())

    def forward(self, x: Tensor) -> Tensor:
        """The standardised value.  [.., F] -> [..]"""
        value: Tensor = self.network(self.normaliser(x))
        return value.squeeze(-1)

    def value(self, x: Tensor) -> Tensor:
        """The value in units of reward.  [.., F] -> [..]"""
        return self.return_normaliser.inverse(self(x))


class ActionValueCritic(Network):
    """Q(s, a) of the state and the actions of all agents, as in MADDPG."""

    def __init__(
        self, state_size: int, joint_action_size: int, hidden_sizes: Sequence[int], generator: torch.Generator
    ):
        super().__init__(state_size)
        self.network = mlp([state_size + joint_action_size, *hidden_sizes, 1], 1.0, generator)

    def forward(self, state: Tensor, actions: Sequence[Tensor]) -> Tensor:
        """[B, S], N x [B, encoded size of a^i] -> [B]"""
        q: Tensor = self.network(torch.cat([self.normaliser(state), *actions], dim=-1))
        return q.squeeze(-1)


def give_optimisers(kind: str, networks: Sequence[Network], lr: float, eps: float) -> dict[str, torch.optim.Optimizer]:
    """Give each network an Adam of its own; returns them under the names that they have in checkpoints."""
    for network in networks:
        network.optimiser = torch.optim.Adam(network.parameters(), lr, eps=eps, fused=True)
    return {f"{kind} optimiser {k}": network.optimiser for k, network in enumerate(networks)}


def minimise(loss: Tensor, network: Network, max_grad_norm: float) -> float:
    """One Adam step of a network on `loss`, its gradient scaled down to a norm of at most `max_grad_norm`.

    Returns the norm before that.
    """
    network.optimiser.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), max_grad_norm)
    network.optimiser.step()
    return norm.item()
