"""Finite Markov games for tests: random ones that hypothesis draws, and small ones that punish simultaneous steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import pytest
import torch
from helpers import generator
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from algorithms.exact import Game, JointPolicy

DRIVERS = [[-2.0, 2.0], [2.0, -1.0]]
"""Two drivers before a tree. Straight on they hit it (-2), one of them turning passes it (2), both turning is nearly as
bad (-1). Found among the 2 x 2 games with rewards from -2 to 2, as the one whose return falls most."""

DRIVERS_DELTA = 0.2

BY_COUNT = [-1.0, 2.0, -1.0, -1.0]
"""The reward of three agents of whom k act, k = 0, ..., 3: one must, and only one. Found by search, too."""


@dataclass
class Case:
    """A game, two joint policies for it, and an order of its agents."""

    game: Game
    old: list[Tensor]
    new: list[Tensor]
    order: list[int]
    random: torch.Generator

    @property
    def n(self) -> int:
        return len(self.order)

    @property
    def scale(self) -> float:
        """The largest value that the game can have."""
        return float(self.game.reward.abs().max()) / (1 - self.game.gamma)


def normal(random: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=random, dtype=torch.float64)


def random_policy(game: Game, random: torch.Generator, sharpness: float = 1) -> list[Tensor]:
    return [(sharpness * normal(random, len(game.initial), a)).softmax(-1) for a in game.actions]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """1 to 4 agents of 2 or 3 actions, 1 to 5 states, from even to almost deterministic; new policies near and far."""
    actions = draw(st.lists(st.integers(2, 3), min_size=1, max_size=4))
    S, gamma = draw(st.integers(1, 5)), draw(st.sampled_from([0.0, 0.02, 0.1, 0.5, 0.9, 0.99]))
    sharpness, distance = draw(st.sampled_from([0.5, 1, 4])), draw(st.sampled_from([1e-3, 0.1, 1]))
    order = draw(st.permutations(range(len(actions))))
    random = generator(draw(st.integers(0, 2**31)))
    transition = (sharpness * normal(random, S, *actions, S)).softmax(-1)
    game = Game(transition, normal(random, S, *actions), normal(random, S).softmax(-1), gamma)
    old, other = random_policy(game, random, sharpness), random_policy(game, random, sharpness)
    new = [(1 - distance) * p + distance * q for p, q in zip(old, other, strict=True)]
    return Case(game, old, new, [*order], random)


def on_random_games(holds: Callable[[Case], None]) -> Callable[[int], None]:
    """The test that `holds` raises for no case."""

    @pytest.mark.parametrize("examples", [12, pytest.param(1000, marks=pytest.mark.long)])
    def test(examples: int) -> None:
        how = settings(max_examples=examples, derandomize=True, deadline=None, phases=[Phase.generate])  # no shrinking
        how(given(cases())(holds))()

    test.__name__, test.__doc__ = holds.__name__, holds.__doc__
    return test


def close(found: Tensor | float, expected: Tensor | float, tolerance: float = 1e-10) -> None:
    """Absolutely and relatively."""
    found, expected = (torch.as_tensor(x, dtype=torch.float64) for x in (found, expected))
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def every(old: JointPolicy, new: JointPolicy, agents: list[int]) -> list[Tensor]:
    """The joint policy in which these agents have their new policies and the rest their old ones."""
    return [new[i] if i in agents else old[i] for i in range(len(old))]


def joint(policies: JointPolicy) -> Tensor:
    """[S, A_1, ..., A_n], written out action by action."""
    S, sizes = len(policies[0]), [p.shape[1] for p in policies]
    table = torch.ones(S, *sizes, dtype=torch.float64)
    for s, a in product(range(S), product(*map(range, sizes))):
        for policy, action in zip(policies, a, strict=True):
            table[s, *a] *= policy[s, action]
    return table


def per_state(table: Tensor) -> Tensor:
    """The sum over all joint actions.  [S, ...] -> [S]"""
    return table.flatten(1).sum(1)


def policy(*probabilities: float) -> Tensor:
    """Of one state.  [1, A]"""
    return torch.tensor([probabilities], dtype=torch.float64)


def matrix_game(reward: object, gamma: float) -> Game:
    """One state, for ever."""
    r = torch.tensor([reward], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    return Game(one.expand(*r.shape, 1), r, one, gamma)


def random_game(seed: int, actions: tuple[int, ...], S: int, gamma: float) -> tuple[Game, list[Tensor]]:
    random = generator(seed)
    transition, initial = normal(random, S, *actions, S).softmax(-1), normal(random, S).softmax(-1)
    game = Game(transition, normal(random, S, *actions), initial, gamma)
    return game, random_policy(game, random)


def three_agents(gamma: float = 0.9) -> tuple[Game, list[Tensor]]:
    return random_game(0, (2, 3, 2), S=4, gamma=gamma)
