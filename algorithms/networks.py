"""Networks: actors, critics, and the running moments that normalise what they see.

An actor maps normalised observations to a `torch.distributions` object, whose `log_prob`, `entropy` and KL are one
number per sample: they are sums over action dimensions (`Independent`), never per dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log, pi

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from algorithms.categorical import MultiCategorical, allowed, width
from algorithms.layers import MLP, FlatAdam, Passage, folded, mlp, pieces
from algorithms.rollout import Discrete, Row, Space

POLICY_GAIN = 0.01  # nearly equal means at first: exploration is the noise's, not the initial network's
OBSERVATION_CLIP = 10.0


class RunningMoments(nn.Module):
    """Mean and variance per feature of all that was seen; they change only in `update` and are saved as buffers.

    Merging a batch with what was seen before follows Chan et al. (1979): for counts n and b,
    `mean += d b/(n+b)` with d the difference of means, and `n var` gains `b var_b + d^2 n b/(n+b)`.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("var", torch.ones(shape))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def normalise(self, x: Tensor) -> Tensor:
        """(x - mean) / std, with a constant feature mapped to 0."""
        return (x - self.mean) * torch.rsqrt(self.var + 1e-8)

    def restore(self, x: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return x * torch.sqrt(self.var + 1e-8) + self.mean

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take in a batch whose trailing axes are the features."""
        x = x.reshape(-1, *self.mean.shape)
        if not len(x):  # of an agent that was never there
            return
        share = x.shape[0] / (self.count.item() + x.shape[0])  # b / (n + b)
        mean = x.mean(0)
        var = (x - mean).square_().mean(0, dtype=torch.float64)  # var_mean takes several times as long
        difference = mean - self.mean
        self.mean += difference * share
        self.var.copy_(self.var * (1 - share) + var * share + difference**2 * share * (1 - share))
        self.count += x.shape[0]


class Normalised(nn.Module):
    """A network with the running moments of its input, and the optimiser that moves it where it has one."""

    optimiser: FlatAdam

    def __init__(self, input_size: int):
        super().__init__()
        self.moments = RunningMoments((input_size,))

    def see(self, x: Tensor) -> Tensor:
        """The input as the network gets it: normalised and clipped to +-10 standard deviations."""
        return self.moments.normalise(x).clamp(-OBSERVATION_CLIP, OBSERVATION_CLIP)

    def observation(self, seen: Tensor) -> Tensor:
        """What of `seen` the network takes: all but a mask behind it."""
        return seen[..., : len(self.moments.mean)]

    def move(self, max_grad_norm: float) -> Tensor:
        """One step of the optimiser along the gradient, cut to a greatest norm; its norm before."""
        gradient = self.optimiser.gradient
        norm = torch.linalg.vector_norm(gradient)
        gradient *= (max_grad_norm / (norm + 1e-6)).clamp(max=1)
        self.optimiser.step()
        return norm


class DiagonalGaussian(Independent):
    """N(mu, diag(sigma^2)) with one sigma for all samples, which saves its log-probability most of the logarithms."""

    def __init__(self, mean: Tensor, log_std: Tensor):
        super().__init__(Normal(mean, log_std.exp(), validate_args=False), 1, validate_args=False)
        self.log_std = log_std

    def log_prob(self, action: Tensor) -> Tensor:
        """-|z|^2 / 2 - sum log sigma - A log(2 pi) / 2, z = (a - mu) / sigma.  [..., A] -> [...]"""
        z = (action - self.mean) * torch.exp(-self.log_std)
        return -0.5 * z.square().sum(-1) - (self.log_std.sum() + 0.5 * log(2 * pi) * len(self.log_std))

    def fisher(self, dmean: Tensor, dlog_std: Tensor) -> tuple[Tensor, Tensor]:
        """The Fisher matrix in (mu, log sigma), diag(1 / sigma^2, 2), times a vector.  [..., A], [A]"""
        return dmean * torch.exp(-2 * self.log_std), 2 * dlog_std


class GaussianActor(Normalised):
    """pi(a|o) = N(mu(o), diag(sigma^2)), with log sigma a free parameter that does not depend on the state."""

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden_sizes: Sequence[int],
        initial_log_std: float,
        generator: torch.Generator,
    ):
        super().__init__(observation_size)
        self.mean = mlp([observation_size, *hidden_sizes, action_size], POLICY_GAIN, generator)
        self.log_std = nn.Parameter(torch.full((action_size,), initial_log_std))

    @property
    def network(self) -> MLP:
        """What maps normalised observations to means."""
        return self.mean

    @property
    def noise_scale(self) -> Tensor:
        """What Gaussian noise is multiplied by before it is added to a mean: sigma [A]."""
        return self.log_std.exp()

    def forward(self, seen: Tensor) -> DiagonalGaussian:
        """The policy at normalised observations.  [..., O] -> distribution over [..., A]"""
        return self.given(self.mean(seen), seen)

    def given(self, mean: Tensor, seen: Tensor) -> DiagonalGaussian:
        """The policy where the network's outputs are there already."""
        return DiagonalGaussian(mean, self.log_std)


class CategoricalActor(Normalised):
    """pi(a|o) = prod_c softmax(logits_c(o))[a_c] over the components c of a discrete action.

    What it sees is the normalised observation, and behind it, where choices are masked, the mask: [..., O] or O + L.
    """

    def __init__(
        self, observation_size: int, choices: tuple[int, ...], hidden_sizes: Sequence[int], generator: torch.Generator
    ):
        super().__init__(observation_size)
        self.choices = choices
        self.logits = mlp([observation_size, *hidden_sizes, sum(choices)], POLICY_GAIN, generator)

    @property
    def network(self) -> MLP:
        """What maps normalised observations to logits."""
        return self.logits

    @property
    def noise_scale(self) -> Tensor:
        """What Gumbel noise is multiplied by before it is added to logits: 1 [L]."""
        return torch.ones(sum(self.choices))

    def forward(self, seen: Tensor) -> MultiCategorical:
        """The policy at what is seen.  -> distribution over [..., C]"""
        return self.given(self.logits(self.observation(seen)), seen)

    def given(self, logits: Tensor, seen: Tensor) -> MultiCategorical:
        """The policy where the network's outputs are there already."""
        return MultiCategorical(allowed(logits, self._mask(seen)), self.choices)

    def _mask(self, seen: Tensor) -> Tensor | None:
        size = len(self.moments.mean)
        return None if seen.shape[-1] == size else seen[..., size:].bool()


StochasticActor = GaussianActor | CategoricalActor


def stochastic_actor(
    observation_size: int,
    space: Space,
    hidden_sizes: Sequence[int],
    initial_log_std: float,
    generator: torch.Generator,
) -> StochasticActor:
    """The policy class for an action space: with `deterministic_actor` all that knows which belongs to which."""
    if isinstance(space, Discrete):
        return CategoricalActor(observation_size, space.choices, hidden_sizes, generator)
    return GaussianActor(observation_size, space.size, hidden_sizes, initial_log_std, generator)


class Stack:
    """N networks as one, to act with: a copy of their weights, stacked and padded with zeros to common sizes.

    The scale and shift of a layer norm are folded into the layer after it, so outputs differ from theirs by rounding.
    """

    def __init__(self, networks: Sequence[Normalised], layers: Sequence[nn.Sequential]):
        self.equal = len({len(network.moments.mean) for network in networks}) == 1
        self.mean = stacked([network.moments.mean[None] for network in networks])  # [N, 1, F]
        self.scale = stacked([torch.rsqrt(network.moments.var + 1e-8)[None] for network in networks])
        rows = [[(V.t(), c[None]) for V, c in folded(mlp)] for mlp in layers]
        self.layers = [(stacked([V for V, _ in row]), stacked([c for _, c in row])) for row in zip(*rows, strict=True)]

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        """Each network's outputs for its own inputs.  N x [E, F_i] -> [N, E, O]"""
        x = (
            (torch.stack(list(inputs)) if self.equal else stacked(inputs))
            .sub_(self.mean)
            .mul_(self.scale)
            .clamp_(-OBSERVATION_CLIP, OBSERVATION_CLIP)
        )
        for W, b in self.layers[:-1]:
            x = torch.baddbmm(b, x, W).relu_()
            x = torch.layer_norm(x, x.shape[-1:])
        W, b = self.layers[-1]
        return torch.baddbmm(b, x, W)


def stacked(matrices: Sequence[Tensor]) -> Tensor:
    """Matrices [r_i, c_i] padded with zeros to the largest, as one [N, r, c]."""
    rows, columns = (max(m.shape[axis] for m in matrices) for axis in (0, 1))
    padding = [(0, columns - m.shape[1], 0, rows - m.shape[0]) for m in matrices]
    return torch.stack([nn.functional.pad(m, p) if any(p) else m for m, p in zip(matrices, padding, strict=True)])


class DeterministicActor(Normalised):
    """a = tanh(f(o)), as in MADDPG."""

    def __init__(
        self, observation_size: int, action_size: int, hidden_sizes: Sequence[int], generator: torch.Generator
    ):
        super().__init__(observation_size)
        self.action = mlp([observation_size, *hidden_sizes, action_size], POLICY_GAIN, generator)

    def forward(self, seen: Tensor) -> Tensor:
        """The action at normalised observations.  [..., O] -> [..., A] in [-1, 1]"""
        return torch.tanh(self.action(seen))


class ScoringActor(DeterministicActor):
    """A score for each choice of a discrete action: the greatest allowed one of each component is the action."""

    def forward(self, seen: Tensor) -> Tensor:
        """The scores at normalised observations.  [..., O] -> [..., L]"""
        return self.action(seen)


def deterministic_actor(
    observation_size: int, space: Space, hidden_sizes: Sequence[int], generator: torch.Generator
) -> DeterministicActor:
    """The actor class of MADDPG for an action space."""
    kind = ScoringActor if isinstance(space, Discrete) else DeterministicActor
    return kind(observation_size, width(space), hidden_sizes, generator)


class ValueCritic(Normalised):
    """V(x) of the state or of one agent's observation; the network's output is in standard deviations of returns."""

    def __init__(self, input_size: int, hidden_sizes: Sequence[int], generator: torch.Generator):
        super().__init__(input_size)
        self.scaled_value = mlp([input_size, *hidden_sizes, 1], 1.0, generator)
        self.returns = RunningMoments(())

    def forward(self, seen: Tensor) -> Tensor:
        """The standardised value at normalised inputs.  [..., F] -> [...]"""
        return self.scaled_value(seen).squeeze(-1)

    def value(self, x: Tensor) -> Tensor:
        """The value at raw inputs, in units of reward.  [..., F] -> [...]"""
        return self.returns.restore(self(self.see(x)))


class ActionValueCritic(Normalised):
    """Q(s, a) of the state and the actions of all agents, as in MADDPG."""

    def __init__(
        self, state_size: int, joint_action_size: int, hidden_sizes: Sequence[int], generator: torch.Generator
    ):
        super().__init__(state_size)
        self.value = mlp([state_size + joint_action_size, *hidden_sizes, 1], 1.0, generator)

    def forward(self, seen: Tensor, actions: Sequence[Tensor]) -> Tensor:
        """Q at normalised states.  [B, S], N x [B, A_i] -> [B]"""
        return self.value(torch.cat([seen, *actions], dim=-1)).squeeze(-1)


def optimisers(kind: str, networks: Sequence[Normalised], lr: float, eps: float) -> dict[str, torch.optim.Optimizer]:
    """Give each network an Adam optimiser of its own; the result names them for checkpoints."""
    for network in networks:
        network.optimiser = FlatAdam(network, lr, eps)
    return {f"{kind} optimiser {k}": network.optimiser for k, network in enumerate(networks)}


def differentiate(layers: MLP, loss: Callable[..., Tensor], data: Sequence[Tensor]) -> float:
    """The mean of `loss(y, *rest)` [B], with its gradient left where zeros were, in `grad` of all that it depends on.

    `data` are B rows each, of the first of which y are the outputs of `layers`.
    """
    rows, value = len(data[0]), 0.0
    there = Passage(layers)
    for x, *rest in pieces(*data):
        y = there.forward(x).detach().requires_grad_()
        part = loss(y, *rest).sum() / rows
        part.backward()
        assert y.grad is not None
        there.backward(y.grad)
        value += part.item()
    there.finish()
    return value


def descend(
    network: Normalised, layers: MLP, loss: Callable[..., Tensor], data: Sequence[Tensor], max_grad_norm: float
) -> tuple[float, float]:
    """One step of Adam down the mean of a loss, as in `differentiate`; its value and gradient norm."""
    network.optimiser.gradient.zero_()
    value = differentiate(layers, loss, data)
    return value, network.move(max_grad_norm).item()


def policy_change(old: Distribution, new: Distribution, ratio: Tensor) -> Row:
    """How far one update moved a policy: KL(old, new) in nats over the visited states, and the ratio new/old."""
    kl = kl_divergence(old, new)
    return {
        "kl_mean": kl.mean().item(),
        "kl_max": kl.max().item(),
        "ratio_max": ratio.max().item(),
        "entropy": new.entropy().mean().item(),
    }
