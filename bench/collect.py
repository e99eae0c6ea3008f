"""The two ways a learner meets a batch of environments: `Collector` for training, `play` for evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from algorithms import Learner, Rollout
from bench.envs.batch import EnvBatch


class Collector:
    """Lets a learner act for T steps at a time and writes what happened into one reused Rollout."""

    def __init__(self, batch: EnvBatch, length: int):
        team, E = batch.team, batch.envs
        self.batch, self.length = batch, length
        self._observations = [np.zeros((length + 1, E, size), np.float32) for size in team.observation_sizes]
        self._state = np.zeros((length + 1, E, team.state_size), np.float32)
        self._actions = [np.zeros((length, E, space.size), np.float32) for space in team.action_spaces]
        self._reward = np.zeros((length, E), np.float32)
        self._terminated = np.zeros((length, E), np.bool_)
        self._truncated = np.zeros((length, E), np.bool_)

    def collect(self, learner: Learner) -> Rollout:
        """The next T steps of every environment; valid until the next call."""
        batch = self.batch
        ends: list[tuple[int, int]] = []
        last = [(batch.end_state[:0].copy(), [x[:0].copy() for x in batch.end_observations])]
        for t in range(self.length):
            self._write_observations(t)
            actions = learner.act([torch.from_numpy(x[t]) for x in self._observations], explore=True)
            for ours, action in zip(self._actions, actions, strict=True):
                ours[t] = action.numpy()
            batch.step([x[t] for x in self._actions])
            self._reward[t], self._terminated[t], self._truncated[t] = (
                batch.reward,
                batch.terminated,
                batch.truncated,
            )
            if len(batch.ended):
                ends += [(t, int(e)) for e in batch.ended]
                last.append((batch.end_state.copy(), [x.copy() for x in batch.end_observations]))
        self._write_observations(self.length)
        return Rollout(
            observations=[torch.from_numpy(x) for x in self._observations],
            state=torch.from_numpy(self._state),
            actions=[torch.from_numpy(x) for x in self._actions],
            reward=torch.from_numpy(self._reward),
            terminated=torch.from_numpy(self._terminated),
            truncated=torch.from_numpy(self._truncated),
            ends=torch.tensor(ends, dtype=torch.long).reshape(-1, 2),
            end_observations=_joined([observations for _, observations in last]),
            end_state=_joined([[state] for state, _ in last])[0],
        )

    def _write_observations(self, t: int) -> None:
        self._state[t] = self.batch.state
        for ours, observation in zip(self._observations, self.batch.observations, strict=True):
            ours[t] = observation


def _joined(parts: list[list[np.ndarray]]) -> list[Tensor]:
    """Lists of [K_j, F_i] over j -> one [K, F_i] for each i."""
    return [torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True)]


@dataclass(frozen=True)
class Episodes:
    """K episodes played to their ends: undiscounted team returns and lengths in steps, [K] each."""

    returns: np.ndarray
    lengths: np.ndarray


def play(learner: Learner, batch: EnvBatch) -> Episodes:
    """One deterministic episode in each environment of a fresh batch made with `auto_reset=False`."""
    returns, lengths = np.zeros(batch.envs), np.zeros(batch.envs, dtype=np.int64)
    live = np.ones(batch.envs, dtype=np.bool_)
    while live.any():
        actions = learner.act([torch.from_numpy(x) for x in batch.observations], explore=False)
        batch.step([action.numpy() for action in actions])
        returns[live] += batch.reward[live]
        lengths += live
        live[batch.ended] = False
    return Episodes(returns, lengths)
