"""Settings of the algorithms: frozen dataclasses with every default, and the strict reading of a mapping into one.

Published values are those of HARL (Zhong et al., JMLR 2024) for Multi-Agent MuJoCo unless a field says otherwise.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

S = TypeVar("S")

NUMERICS = 1
"""Raised whenever a change of this package alters results; part of every configuration's hash."""


@dataclass(frozen=True)
class Bounds:
    """The interval a number must lie in; `open_low` leaves the lower end out."""

    low: float
    high: float = math.inf
    open_low: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and value <= min(self.high, sys.float_info.max)

    def __str__(self) -> str:
        if self.high < math.inf:
            return f"from {'just above ' if self.open_low else ''}{self.low:.10g} to {self.high:.10g}"
        return f"{'above' if self.open_low else 'at least'} {self.low:.10g}"


Count = Annotated[int, Bounds(1)]
Positive = Annotated[float, Bounds(0, open_low=True)]
NonNegative = Annotated[float, Bounds(0)]
Fraction = Annotated[float, Bounds(0, 1)]
Number = Annotated[float, Bounds(-1e9, 1e9)]


class SettingError(ValueError):
    """A setting that does not exist or cannot have the value given; `key` names it."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class OnPolicySettings:
    """What IPPO, MAPPO, HAPPO and HATRPO share."""

    envs: Count = 20
    """E: environments stepped together; published: 20."""
    rollout_length: Count = 200
    """T: steps of each environment between two updates; published: 200."""
    gamma: Fraction = 0.99
    """Discount per step; published: 0.99."""
    gae_lambda: Fraction = 0.95
    """Lambda of generalised advantage estimation (Schulman et al. 2016); published: 0.95."""
    hidden_sizes: tuple[Count, ...] = (128, 128, 128)
    """Units of each hidden layer of actors and critics; published: 128, 128, 128."""
    initial_log_std: Number = -1.0
    """Logarithm of the initial standard deviation of actions, whose range is [-1, 1]; published: log 0.37 = -1."""
    critic_lr: NonNegative = 5e-4
    """Adam's learning rate for critics; published: 5e-4."""
    critic_epochs: Count = 5
    """Epochs: passes of the critic over a rollout; published: 5 to 15."""
    critic_minibatches: Count = 1
    """Minibatches of each of the critic's epochs, one gradient step each; published: 1."""
    value_clip: NonNegative = 0.0
    """Epsilon of `on_policy.value_loss`, in standard deviations of returns; 0: off. Published: 0.05 to 0.2."""
    lr_decay_steps: Annotated[int, Bounds(0)] = 0
    """Environment steps over which learning rates fall linearly to zero; 0: they are constant. Published: as many as
    the trial has, or 0. Trust-region actors have no learning rate."""
    huber_delta: Positive = 10.0
    """Error at which the critic's loss turns from quadratic to linear, in standard deviations of returns; published:
    10."""
    max_grad_norm: Positive = 10.0
    """Greatest norm of a network's gradient, which is scaled down to it; published: 10."""
    share_actors: bool = False
    """Parameter sharing: one actor for all agents, which observes their index too; IPPO then shares its critic."""


@dataclass(frozen=True)
class ClipSettings(OnPolicySettings):
    """Settings of algorithms whose actors take PPO steps (Schulman et al. 2017)."""

    actor_lr: NonNegative = 5e-4
    """Adam's learning rate for actors; published: 5e-4."""
    actor_epochs: Count = 5
    """Epochs: passes of each actor over a rollout; published: 5 to 15."""
    actor_minibatches: Count = 1
    """Minibatches of each of an actor's epochs, one gradient step each; published: 1."""
    clip: Positive = 0.2
    """Epsilon: ratios outside 1 +- epsilon gain nothing further; published: 0.05 to 0.2."""
    entropy_coef: NonNegative = 0.0
    """Weight of the mean entropy (nats) in the actor's objective; published: 0 or 0.01, the latter multiplied by the
    batch size through a broadcast error in the reference code, hence not comparable."""


@dataclass(frozen=True)
class TrustRegionSettings(OnPolicySettings):
    """Settings of algorithms whose actors take TRPO steps (Schulman et al. 2015)."""

    delta: Positive = 0.01
    """Bound on the mean KL divergence (nats) between an actor's old and new policy; published: 0.001 to 0.01."""
    cg_steps: Count = 10
    """Conjugate-gradient steps towards the natural gradient; published: 10."""
    damping: NonNegative = 0.1
    """Multiple of the identity added to the Fisher matrix; published: 0.1."""
    backtrack: Annotated[float, Bounds(0, 0.999, open_low=True)] = 0.8
    """Alpha: each step that the backtracking line search tries is this times the one before; published: 0.8."""
    max_backtracks: Count = 10
    """Steps that the line search tries before it rejects the update; published: 10."""
    accept_ratio: Fraction = 0.5
    """Share of the predicted gain that a step must realise to be accepted; published: 0.5."""


@dataclass(frozen=True)
class MADDPGSettings:
    """Settings of MADDPG (Lowe et al. 2017)."""

    envs: Count = 20
    """E: environments stepped together; published: 20, HARL 10."""
    rollout_length: Count = 10
    """T: steps of each environment between two rounds of gradient steps."""
    update_to_data: Positive = 0.05
    """Gradient steps of every network per environment step; HARL: 0.1."""
    batch_size: Count = 256
    """Transitions of one gradient step's minibatch; HARL: 1000."""
    buffer_size: Count = 1_000_000
    """Transitions kept in the replay buffer; HARL: 1e6."""
    warmup_steps: Annotated[int, Bounds(0)] = 10_000
    """Environment steps of uniformly random actions before learning starts; HARL: 1e4."""
    n_step: Count = 1
    """Rewards summed before the bootstrap; above 1 the return is off-policy and uncorrected. HARL: 10 to 20."""
    gamma: Fraction = 0.99
    """Discount per step; published: 0.99."""
    tau: Fraction = 0.005
    """Soft update: the share of the way that target networks move to their networks at each gradient step; HARL:
    0.005."""
    exploration_noise: NonNegative = 0.1
    """Standard deviation of the Gaussian noise on actions, whose range is [-1, 1]; HARL: 0.05 to 0.1."""
    gumbel_temperature: Positive = 1.0
    """Temperature of the softmax through which the gradient of discrete actions passes (Jang et al. 2017); lower: less
    bias, more variance. Published: 1. Exploration draws discrete actions from the softmax at temperature 1."""
    hidden_sizes: tuple[Count, ...] = (256, 256)
    """Units of each hidden layer of actors and critics; HARL: 256, 256."""
    actor_lr: NonNegative = 5e-4
    """Adam's learning rate for actors; HARL: 5e-4."""
    critic_lr: NonNegative = 1e-3
    """Adam's learning rate for critics; HARL: 1e-3."""
    max_grad_norm: Positive = 10.0
    """Greatest norm of a network's gradient, which is scaled down to it."""


def strict(cls: type[S], mapping: Mapping[str, Any]) -> S:
    """`mapping` as a `cls`, refusing keys that it does not have and values of another type or out of bounds."""
    hints = get_type_hints(cls, include_extras=True)
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    values = {}
    for key, value in mapping.items():
        if key not in known:
            raise SettingError(str(key), f"unknown setting {key!r}; valid: {', '.join(known)}")
        values[key] = _typed(key, value, hints[key])
    return cls(**values)


def _typed(key: str, value: Any, hint: Any) -> Any:
    """`value` as what `hint` says: a word of a list, a bool, a number within bounds or a tuple of such."""
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple) or not value:
            raise SettingError(key, f"{value!r} is not a list of numbers, for example [128, 128]")
        return tuple(_typed(key, item, get_args(hint)[0]) for item in value)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise SettingError(key, f"{value!r} is none of {', '.join(map(str, get_args(hint)))}")
        return value
    if hint is bool:
        if not isinstance(value, bool):
            raise SettingError(key, f"{value!r} is not true or false")
        return value
    kind, bounds = get_args(hint)
    allowed = int if kind is int else int | float
    if isinstance(value, bool) or not isinstance(value, allowed):
        raise SettingError(key, f"{value!r} is not {'a whole number' if kind is int else 'a number'} {bounds}")
    if value not in bounds:
        raise SettingError(key, f"{value!r} is out of range: must be {bounds}")
    return kind(value)
