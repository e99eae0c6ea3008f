"""Settings of the algorithms: frozen dataclasses, which hold every default.

"Published" are the settings for Multi-Agent MuJoCo in HARL, the code of Zhong et al. (JMLR 2024), whose authors are
those of HATRPO and HAPPO.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from algorithms.validation import Bounds, Count, Fraction, NonNegative, Positive, Steps

NUMERICS = 1
"""Incremented whenever a change of this package alters results; part of every configuration's hash."""

# Upper bounds only catch typing errors that would fill the memory or never finish.
Envs = Annotated[int, Bounds(1, 10_000)]
Length = Annotated[int, Bounds(1, 100_000)]
Minibatches = Annotated[int, Bounds(1, 10_000)]
Units = Annotated[int, Bounds(1, 4096)]


@dataclass(frozen=True)
class OnPolicySettings:
    """What IPPO, MAPPO, HAPPO and HATRPO share; `share_actors` is for simultaneous updates alone, `order` and
    `factor_bound` are for sequential ones."""

    envs: Envs = 20
    """E: environments stepped together; published: 20."""
    rollout_length: Length = 200
    """T: steps of each environment between two updates; published: 200, once 100."""
    gamma: Fraction = 0.99
    """Discount per step; published: 0.99."""
    gae_lambda: Fraction = 0.95
    """Lambda of generalised advantage estimation (Schulman et al. 2016); published: 0.95."""
    hidden_sizes: tuple[Units, ...] = (128, 128, 128)
    """Units of each hidden layer of actors and critics; published: 128, 128, 128."""
    initial_log_std: Annotated[float, Bounds(-20, 10)] = -1.0
    """Logarithm of the initial standard deviation of actions, whose range is [-1, 1]; published: log 0.37 = -1."""
    critic_lr: NonNegative = 5e-4
    """Adam's learning rate for critics; published: 5e-4, twice 1e-3."""
    critic_epochs: Count = 5
    """Epochs: passes of the critic over a rollout; published: 5 to 15."""
    critic_minibatches: Minibatches = 1
    """Minibatches of each epoch of the critic, one gradient step each, at most one per sample; published: 1 or 2."""
    value_clip: NonNegative = 0.0
    """Epsilon of `on_policy.value_loss`, in standard deviations of returns; 0: off. Published: 0.05 to 0.2."""
    lr_decay_steps: Steps = 0
    """Environment steps over which learning rates fall linearly to zero; 0: they are constant. Published: as many as
    the trial has, or 0. Trust-region actors have no learning rate."""
    huber_delta: Positive = 10.0
    """Error at which the critic's loss turns from quadratic to linear, in standard deviations of returns; published:
    10."""
    max_grad_norm: Positive = 10.0
    """Greatest norm of a network's gradient, which is scaled down to it; the gradient of a trust-region step is not.
    Published: 10."""
    share_actors: Literal[False, True, "without_index"] = False
    """Parameter sharing: one actor for all agents, which observes their index too; IPPO then shares its critic.
    `without_index`: it does not, so that agents with equal observations have equal policies (Kuba et al. 2022,
    proposition 1)."""
    order: Literal["random", "fixed", "greedy"] = "random"
    """Order in which a sequential update visits agents. `random`: drawn anew at each update; `fixed`: by index;
    `greedy`: next the agent whose surrogate E[ratio M] has the largest gradient. (A2PO, Wang et al. 2023, ranks agents
    by E|A^i|, which with one joint advantage is the same for all.) Published: random."""
    factor_bound: NonNegative = 0.0
    """Greatest weight that the factor of a sequential update may give to a sample; 0: any. Published: 0."""


@dataclass(frozen=True)
class ClipSettings(OnPolicySettings):
    """Settings of algorithms whose actors take PPO steps (Schulman et al. 2017)."""

    actor_lr: NonNegative = 5e-4
    """Adam's learning rate for actors; published: 5e-4, twice 1e-3."""
    actor_epochs: Count = 5
    """Epochs: passes of each actor over a rollout; published: 5 to 15."""
    actor_minibatches: Minibatches = 1
    """Minibatches of each of an actor's epochs, one gradient step each; published: 1, twice 2."""
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
    kl_budget: Literal["agent", "joint"] = "agent"
    """`agent`: delta bounds the KL of each agent. `joint`: delta bounds the sum over the team (Shek et al. 2025, arXiv
    2508.10340); each agent may use what those before it left, divided by the number of agents still to be updated.
    Published: agent."""
    cg_steps: Count = 10
    """Conjugate-gradient steps towards the natural gradient; published: 10."""
    damping: NonNegative = 1.0
    """Multiple of the identity added to the Fisher matrix; published: 0.1. Returns after 400,000 steps with delta 0.01,
    means over seeds 1000 to 1002 (damping 3: two of them), and the median over updates of the largest KL of any sample:

    | damping | HalfCheetah-2x3 | Ant-4x2 | largest KL, Ant-4x2 |
    |---------|-----------------|---------|---------------------|
    | 0.1     | 2,800           | 1,420   | 0.29                |
    | 1       | 3,150           | 1,580   | 0.10                |
    | 3       | 3,000           | 1,490   | 0.07                |

    KL is in nats."""
    backtrack: Annotated[float, Bounds(0, 0.999, open_low=True)] = 0.8
    """Alpha: each step that the backtracking line search tries is this times the one before; published: 0.8."""
    max_backtracks: Count = 10
    """Steps that the line search tries before it rejects the update; published: 10."""
    accept_ratio: Fraction = 0.5
    """Share of the predicted gain that a step must realise to be accepted; published: 0.5."""


@dataclass(frozen=True)
class MADDPGSettings:
    """Settings of MADDPG (Lowe et al. 2017)."""

    envs: Envs = 20
    """E: environments stepped together; published: 10."""
    rollout_length: Length = 10
    """T: steps of each environment between two rounds of gradient steps."""
    update_to_data: Annotated[float, Bounds(0, 100, open_low=True)] = 0.03
    """Gradient steps of every network per environment step; published: 0.05 to 0.1. Returns after 100,000 steps on
    HalfCheetah-2x3, seeds 1000 and 1001:

    | update_to_data | batch_size | n_step | returns      |
    |----------------|------------|--------|--------------|
    | 0.03           | 500        | 20     | 2,200, 1,620 |
    | 0.03           | 500        | 10     | 1,320, 1,060 |
    | 0.02           | 1000       | 20     | 2,080, 1,070 |
    | 0.05           | 256        | 20     | 780, 1,150   |
    | 0.05           | 256        | 10     | 2,040, 1,000 |
    | 0.05           | 256        | 1      | 610, 750     |
    | 0.05           | 1000       | 20     | 1,710, 2,230 |
    | 0.1            | 1000       | 20     | 2,550, 860   |

    The last line is HARL's, with 10 environments, 50 steps between rounds and no limit on gradients."""
    batch_size: Annotated[int, Bounds(1, 100_000)] = 500
    """Transitions of one gradient step's minibatch; published: 1000."""
    buffer_size: Annotated[int, Bounds(1, 10**9)] = 1_000_000
    """Transitions kept in the replay buffer; published: 1e6."""
    warmup_steps: Steps = 10_000
    """Environment steps of uniformly random actions before learning starts; published: 1e4."""
    n_step: Annotated[int, Bounds(1, 10_000)] = 20
    """Rewards summed before the bootstrap; above 1 the return is off-policy and uncorrected. Published: 10 to 20."""
    gamma: Fraction = 0.99
    """Discount per step; published: 0.99."""
    tau: Fraction = 0.005
    """Soft update: the share of the way that target networks move to their networks at each gradient step;
    published: 0.005."""
    exploration_noise: NonNegative = 0.1
    """Standard deviation of the Gaussian noise on actions, whose range is [-1, 1]; published: 0.05 to 0.1."""
    gumbel_temperature: Positive = 1.0
    """Temperature of the softmax through which the gradient of discrete actions passes (Jang et al. 2017); lower: less
    bias, more variance. Lowe et al. use 1 and a soft sample; HARL has no discrete actions. Exploration draws discrete
    actions from the softmax at temperature 1."""
    hidden_sizes: tuple[Units, ...] = (256, 256)
    """Units of each hidden layer of actors and critics; published: 256, 256."""
    actor_lr: NonNegative = 5e-4
    """Adam's learning rate for actors; published: 5e-4."""
    critic_lr: NonNegative = 1e-3
    """Adam's learning rate for critics; published: 1e-3."""
    max_grad_norm: Positive = 10.0
    """Greatest norm of a network's gradient, which is scaled down to it."""


@dataclass(frozen=True)
class ExactSettings:
    """Settings of exact learning, which knows the game. A rollout only sets how often it updates."""

    envs: Envs = 20
    """E: environments stepped together."""
    rollout_length: Length = 200
    """T: steps of each environment between two updates."""
    gamma: Annotated[float, Bounds(0, 0.999999)] = 0.99
    """Discount per step, below 1: the theory's returns are sums without end."""
    update: Literal["sequential", "simultaneous"] = "sequential"
    """Whether each agent takes the new policies of those before it into account (Kuba et al. 2022, algorithm 1), or all
    agents step against the old joint policy."""
    delta: NonNegative = 0.0
    """Bound on the mean KL divergence (nats) of each agent's step; 0: instead, the penalty C KLmax of the theory."""
