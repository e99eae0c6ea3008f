"""Games as batches: E copies, stepped at once by indexing into their tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algorithms import Continuous, Discrete, Model, Team
from bench.envs.games import Floats, Ridge, Table


class GameBatch:
    """E copies of a game. See `bench.envs.batch.EnvBatch` for the attributes.

    All agents observe the state, which is one number for each situation in which they act: 1 for the present one, 0 for
    the others. A game with a single such situation has nothing to observe, and the number is always 0: of a constant 1,
    the running normalisers would make a 0 too, but only after the first update, which would then be lost in part.
    """

    masks: list[NDArray[np.bool_] | None] | None = None
    end_masks: list[NDArray[np.bool_] | None] | None = None
    active: NDArray[np.bool_] | None = None
    end_active: NDArray[np.bool_] | None = None

    def __init__(
        self,
        spaces: Sequence[Continuous | Discrete],
        situations: int,
        seeds: Sequence[np.random.SeedSequence],
        *,
        model: Model | None = None,
        episode_length: int | None = None,
        auto_reset: bool = True,
    ):
        self.envs, self.episode_length, self.auto_reset = len(seeds), episode_length, auto_reset
        agents = len(spaces)
        self.team = Team(
            observation_sizes=(situations,) * agents,
            action_spaces=tuple(spaces),
            state_size=situations,
            first_equal_feature=(1 + agents) * tuple(range(situations)),
            model=model,
        )
        self._random = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
        # Of each situation its row; below them that of the end, which is no situation.
        self._rows = np.vstack([np.eye(situations), np.zeros(situations)]).astype(np.float32)
        if situations == 1:
            self._rows[:] = 0
        self._where = np.zeros(self.envs, dtype=np.intp)
        self._elapsed = np.zeros(self.envs, dtype=np.int64)
        self._live = np.ones(self.envs, dtype=np.bool_)
        self.reward = np.zeros(self.envs)
        self.terminated = np.zeros(self.envs, dtype=np.bool_)
        self.truncated = np.zeros(self.envs, dtype=np.bool_)
        self._begin(np.arange(self.envs))
        self._observe()
        self._no_ends()

    def _first(self, which: NDArray[np.intp]) -> NDArray[np.intp]:
        """The first situations of new episodes in these environments."""
        return np.zeros(len(which), dtype=np.intp)

    def _play(self, actions: Sequence[NDArray[Any]]) -> tuple[Floats, NDArray[np.intp]]:
        """The rewards and the next situations of all environments; the number of situations stands for the end."""
        raise NotImplementedError

    @property
    def situations(self) -> NDArray[np.float32]:
        """What an agent observes in each situation.  [situations, O]"""
        return self._rows[:-1]

    def step(self, actions: Sequence[NDArray[Any]]) -> None:
        """Step every environment that is live; those whose episode ended begin anew, or are no longer live."""
        reward, after = self._play(actions)
        self.reward = np.where(self._live, reward, 0.0)
        self._where = np.where(self._live, after, self._where)
        self._elapsed += self._live
        self.terminated = self._live & (self._where == self.team.state_size)
        self.truncated = self._live & ~self.terminated & (self._elapsed == self.episode_length)
        over = self.terminated | self.truncated
        if over.any():
            self._end(np.flatnonzero(over))
        elif len(self.ended):
            self._no_ends()
        self._observe()

    def _end(self, ended: NDArray[np.intp]) -> None:
        """Keep the last observations of the episodes that ended, and begin new ones or leave them be."""
        self.ended, self.end_state = ended, self._rows[self._where[ended]]
        self.end_observations = [self.end_state] * self.team.size
        if self.auto_reset:
            self._begin(ended)
        else:
            self._live[ended] = False

    def _begin(self, which: NDArray[np.intp]) -> None:
        self._where[which], self._elapsed[which] = self._first(which), 0

    def _no_ends(self) -> None:
        self.ended, self.end_state = np.zeros(0, dtype=np.intp), self._rows[:0]
        self.end_observations = [self.end_state] * self.team.size

    def _observe(self) -> None:
        self.state = self._rows[self._where]
        self.observations = [self.state] * self.team.size

    def _drawn(self, which: NDArray[np.intp]) -> Floats:
        """A number in [0, 1) from the generator of each of these environments."""
        return np.array([self._random[e].random() for e in which])

    def state_dict(self) -> dict[str, Any]:
        """Situations, clocks and generators."""
        return {
            "where": self._where.copy(),
            "elapsed": self._elapsed.copy(),
            "live": self._live.copy(),
            "random": [generator.bit_generator.state for generator in self._random],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on, bit for bit, where `state_dict` was taken."""
        self._where[:], self._elapsed[:], self._live[:] = state["where"], state["elapsed"], state["live"]
        for generator, kept in zip(self._random, state["random"], strict=True):
            generator.bit_generator.state = kept
        self._observe()
        self._no_ends()

    def close(self) -> None:
        """Nothing is open."""


class TableBatch(GameBatch):
    """E copies of the game in a table. One random number is drawn per step and per episode."""

    def __init__(self, table: Table, seeds: Sequence[np.random.SeedSequence], **options: Any):
        """`options`: `episode_length` and `auto_reset`."""
        joint, states = int(np.prod(table.actions)), table.states
        self._actions = table.actions
        self._rewards = table.reward.reshape(states, joint)
        self._to = _cumulative(table.transition.reshape(states, joint, states))
        self._from = _cumulative(table.initial)
        spaces = [Discrete((count,)) for count in table.actions]
        model = Model.of(table.transition, table.reward, table.initial)
        super().__init__(spaces, states - table.terminates, seeds, model=model, **options)

    def _first(self, which: NDArray[np.intp]) -> NDArray[np.intp]:
        return _chosen(self._from, self._drawn(which))

    def _play(self, actions: Sequence[NDArray[Any]]) -> tuple[Floats, NDArray[np.intp]]:
        chosen = [action[:, 0].astype(np.intp) for action in actions]
        a = np.ravel_multi_index(chosen, self._actions)
        # An environment that is no longer live may be past the last situation, where the table says that it stays.
        drawn = np.zeros(self.envs)
        live = np.flatnonzero(self._live)
        drawn[live] = self._drawn(live)
        return self._rewards[self._where, a], _chosen(self._to[self._where, a], drawn)


class RidgeBatch(GameBatch):
    """E copies of the ridge."""

    def __init__(self, ridge: Ridge, seeds: Sequence[np.random.SeedSequence], *, auto_reset: bool = True):
        self.ridge = ridge
        super().__init__([Continuous(1)] * ridge.agents, 1, seeds, auto_reset=auto_reset)

    def _play(self, actions: Sequence[NDArray[Any]]) -> tuple[Floats, NDArray[np.intp]]:
        return self.ridge.reward(np.concatenate(actions, axis=1, dtype=np.float64)), np.ones(self.envs, dtype=np.intp)


def _cumulative(probability: Floats) -> Floats:
    """Upper ends of intervals of these lengths; the last ends beyond 1, wherever rounding has left it.  [..., S]"""
    ends = np.cumsum(probability, axis=-1)
    ends[ends >= ends[..., -1:]] = 2.0  # nor can a state of probability 0 behind the last possible one be chosen
    return ends


def _chosen(ends: Floats, drawn: Floats) -> NDArray[np.intp]:
    """In which interval each drawn number lies.  [K, S] or [S], [K] -> [K]"""
    return np.asarray((drawn[:, None] >= ends).sum(axis=-1), dtype=np.intp)
