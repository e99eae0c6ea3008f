"""Small cooperative games of which everything is known: tables of Markov games, and a ridge with continuous actions.

A table holds whole games as arrays, so that J, V, Q and advantages follow from it exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

VERSION = 1
"""Of what the games of a name are: raised whenever a transition, a reward or a start changes."""


@dataclass(frozen=True, eq=False)
class Table:
    """A cooperative Markov game of N agents with S states and A_i actions each."""

    transition: Floats
    """[S, A_1, ..., A_N, S]: the probability of the next state."""
    reward: Floats
    """[S, A_1, ..., A_N]: the team reward, which is not random."""
    initial: Floats
    """[S]: the probability of the first state."""
    terminates: bool = False
    """Whether the last state ends the episode. In the arrays it pays nothing and is never left, so that the discounted
    return of the endless game is that of the episode."""

    @property
    def states(self) -> int:
        """S, the last one counted also where it ends the episode."""
        return len(self.initial)

    @property
    def actions(self) -> tuple[int, ...]:
        """The number of actions of each agent."""
        return self.reward.shape[1:]

    def returns(self, length: int) -> tuple[float, float]:
        """The mean undiscounted return of `length` steps of uniformly random actions, and of the best ones.

        V_0 = 0, V_k(s) = mean or max over a of r(s, a) + sum_s' P(s'|s, a) V_{k-1}(s'). The best actions are chosen
        jointly and may depend on how many steps are left.
        """
        joint = tuple(range(1, self.reward.ndim))
        uniform, best = np.zeros(self.states), np.zeros(self.states)
        for _ in range(length):
            uniform = (self.reward + self.transition @ uniform).mean(axis=joint)
            best = (self.reward + self.transition @ best).max(axis=joint)
        return float(self.initial @ uniform), float(self.initial @ best)


def one_step(payoff: ArrayLike) -> Table:
    """The game that pays `payoff[a_1, ..., a_N]` once and is over: states 0 (to act in) and 1 (over)."""
    paid = np.asarray(payoff, dtype=np.float64)
    transition = np.zeros((2, *paid.shape, 2))
    transition[..., 1] = 1
    return Table(transition, np.stack([paid, np.zeros_like(paid)]), np.array([1.0, 0.0]), terminates=True)


def random_game(seed: int, agents: int, states: int, actions: int) -> Table:
    """Rewards uniform in [0, 1), next and first states from flat Dirichlet distributions, drawn in this order."""
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    joint = (actions,) * agents
    reward = random.random((states, *joint))
    # Exponential variables over their sum; `random` is the draw that NumPy keeps the same from version to version.
    transition = -np.log1p(-random.random((states, *joint, states)))
    initial = -np.log1p(-random.random(states))
    return Table(transition / transition.sum(axis=-1, keepdims=True), reward, initial / initial.sum())


def coordination(agents: int) -> Table:
    """1 where the first half of the agents choose 0 and the second half 1, or the other way round; 0 everywhere else.

    If all agents choose 1 with the same probability p, J = 2 (p (1 - p))^(n/2) <= 2 / 2^n of the optimum 1 (Kuba et
    al. 2022, proposition 1).
    """
    payoff = np.zeros((2,) * agents)
    half = agents // 2
    payoff[(0,) * half + (1,) * half] = payoff[(1,) * half + (0,) * half] = 1
    return one_step(payoff)


DRIVING = [[-1.0, 1.0], [1.0, 0.0]]
"""[first driver, second driver]: 0 lets go, 1 pulls the wheel to the own side. The car runs into the tree at full speed
(-1) if both let go, passes it (1) if one pulls, and slides into it (0) if both pull, because the wheel stays still."""


def driving() -> Table:
    """Two drivers before a tree, who pull the wheel to opposite sides.

    With probabilities p, q of pulling, J = 2 (p + q) - 3 p q - 1 and dJ/dp = 2 - 3 q. The first policies are nearly
    uniform: J(1/2, 1/2) = 1/4, and each driver's gradient says to pull, which alone leads to J(1, 1/2) = 1/2. Both
    together get J(1, 1) = 0. Along p = q there is a saddle at 2/3, where J = 1/3 and both gradients are 0.
    """
    return one_step(DRIVING)


@dataclass(frozen=True)
class Ridge:
    """One step of N agents with an action in [-1, 1] each:

        r(a) = -steepness (sum_i a_i - sum_i t_i)^2 - sum_i (a_i - t_i)^2

    with the peak t from 3/4 to -1/4 in equal steps. Where it is steep, each agent can do away with the whole error of
    the sum by itself; if all N do it, the error becomes N - 1 times as large.
    """

    agents: int
    steepness: float

    @property
    def peak(self) -> Floats:
        """t, [N]"""
        return np.linspace(0.75, -0.25, self.agents)

    def reward(self, actions: Floats) -> Floats:
        """[..., N], clipped to [-1, 1] -> [...]"""
        away = np.clip(actions, -1, 1) - self.peak
        error: Floats = self.steepness * away.sum(axis=-1) ** 2 + (away**2).sum(axis=-1)
        return -error

    def expected(self, mean: Floats, variance: Floats) -> float:
        """E[r] of independent actions with these moments, [N] each.

        E[(sum_i x_i)^2] = (sum_i E x_i)^2 + sum_i var x_i, x_i = a_i - t_i.
        """
        away, spread = mean - self.peak, variance.sum()
        return -float(self.steepness * (away.sum() ** 2 + spread) + (away**2).sum() + spread)

    def uniform(self) -> float:
        """J of uniformly random actions, whose variance is 1/3. The optimum is 0."""
        return self.expected(np.zeros(self.agents), np.full(self.agents, 1 / 3))

    def J(self, mean: Floats, std: Floats) -> float:
        """J of Gaussian policies, [N] each, whose samples are clipped to [-1, 1] as by the environment."""
        moments = [clipped_moments(m, s) for m, s in zip(mean.tolist(), std.tolist(), strict=True)]
        return self.expected(*np.array(moments).T)


def clipped_moments(mean: float, std: float) -> tuple[float, float]:
    """Mean and variance of a Gaussian that is clipped to [-1, 1].

    With l = (-1 - mean)/std, u = (1 - mean)/std, density phi and distribution function Phi of N(0, 1):
    E[x; inside] = mean (Phi(u) - Phi(l)) + std (phi(l) - phi(u)), E[x^2; inside] = (mean^2 + std^2) (Phi(u) - Phi(l))
    + std ((mean - 1) phi(l) - (mean + 1) phi(u)).
    """
    low, high = (-1 - mean) / std, (1 - mean) / std
    below, above = math.erfc(-low / math.sqrt(2)) / 2, math.erfc(high / math.sqrt(2)) / 2
    inside = 1 - below - above
    at_low, at_high = (math.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in (low, high))
    first = mean * inside + std * (at_low - at_high) + above - below
    second = (mean**2 + std**2) * inside + std * ((mean - 1) * at_low - (mean + 1) * at_high) + above + below
    return first, max(second - first**2, 0.0)
