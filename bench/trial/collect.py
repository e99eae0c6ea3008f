"""A learner acting in a batch of environments: `Collector` for training, `play` for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from algorithms import Learner, Rollout
from bench.envs.batch import EnvBatch
from bench.tasks import registry
from bench.tasks.registry import Task

AT_ONCE = 160
"""Episodes that `play_episodes` plays as one batch, at most: an environment in Python may take megabytes."""


def _no_beat() -> None:
    """Does nothing, where nobody waits for a sign of life."""


class Collector:
    """Collects rollouts of T steps into buffers that are reused."""

    def __init__(self, batch: EnvBatch, length: int, beat: Callable[[], None] = _no_beat):
        """`beat` is called after every step of the batch."""
        team, E = batch.team, batch.envs
        self.batch, self.length, self.beat = batch, length, beat
        self._observations = [np.zeros((length + 1, E, size), np.float32) for size in team.observation_sizes]
        self._state = np.zeros((length + 1, E, team.state_size), np.float32)
        self._actions = [np.zeros((length, E, space.size), np.float32) for space in team.action_spaces]
        self._reward = np.zeros((length, E), np.float32)
        self._terminated = np.zeros((length, E), np.bool_)
        self._truncated = np.zeros((length, E), np.bool_)
        masks = batch.masks or [None for _ in team.action_spaces]
        self._masks = [None if x is None else np.ones((length + 1, *x.shape), np.bool_) for x in masks]
        self._active = None if batch.active is None else np.ones((length + 1, E, team.size), np.bool_)

    def collect(self, learner: Learner) -> Rollout:
        """The next T steps of every environment; valid until the next call."""
        batch = self.batch
        ends: list[tuple[int, int]] = []
        last = [_Ends.of(batch, slice(0))]
        for t in range(self.length):
            self._write_observations(t)
            actions = _act(learner, [x[t] for x in self._observations], batch, explore=True)
            for i, (ours, action) in enumerate(zip(self._actions, actions, strict=True)):
                ours[t] = action
                if self._active is not None:
                    ours[t][~self._active[t, :, i]] = 0
            batch.step([x[t] for x in self._actions])
            self.beat()
            self._reward[t], self._terminated[t], self._truncated[t] = (
                batch.reward,
                batch.terminated,
                batch.truncated,
            )
            if len(batch.ended):
                ends += [(t, int(e)) for e in batch.ended]
                last.append(_Ends.of(batch, slice(None)))
        self._write_observations(self.length)
        return self._rollout(ends, last)

    def _rollout(self, ends: list[tuple[int, int]], last: list[_Ends]) -> Rollout:
        any_mask = any(mask is not None for mask in self._masks)
        return Rollout(
            observations=[torch.from_numpy(x) for x in self._observations],
            state=torch.from_numpy(self._state),
            actions=[torch.from_numpy(x) for x in self._actions],
            reward=torch.from_numpy(self._reward),
            terminated=torch.from_numpy(self._terminated),
            truncated=torch.from_numpy(self._truncated),
            ends=torch.tensor(ends, dtype=torch.long).reshape(-1, 2),
            end_observations=_joined([x.observations for x in last]),
            end_state=torch.from_numpy(np.concatenate([x.state for x in last])),
            masks=[_tensor(x) for x in self._masks] if any_mask else None,
            end_masks=_joined([x.masks for x in last]) if any_mask else None,
            active=_tensor(self._active),
            end_active=_joined([[x.active] for x in last])[0],
        )

    def _write_observations(self, t: int) -> None:
        self._state[t] = self.batch.state
        for ours, observation in zip(self._observations, self.batch.observations, strict=True):
            ours[t] = observation
        for mask, now in zip(self._masks, self.batch.masks or (), strict=False):
            if mask is not None:
                mask[t] = now
        if self._active is not None:
            self._active[t] = self.batch.active


@dataclass(frozen=True)
class _Ends:
    """Copies of the last observations, states, masks and presence of the episodes that ended."""

    observations: list[np.ndarray]
    state: np.ndarray
    masks: list[np.ndarray | None]
    active: np.ndarray | None

    @classmethod
    def of(cls, batch: EnvBatch, some: slice) -> _Ends:
        return cls(
            [x[some].copy() for x in batch.end_observations],
            batch.end_state[some].copy(),
            [None if x is None else x[some].copy() for x in batch.end_masks or ()],
            None if batch.end_active is None else batch.end_active[some].copy(),
        )


def _act(learner: Learner, observations: Sequence[np.ndarray], batch: EnvBatch, explore: bool) -> list[np.ndarray]:
    """The learner's actions, given the action masks if the environments have any."""
    seen = [torch.from_numpy(x) for x in observations]
    if batch.masks is None:
        actions = learner.act(seen, explore=explore)
    else:
        actions = learner.act(seen, explore=explore, masks=[_tensor(x) for x in batch.masks])
    return [action.numpy() for action in actions]


def _tensor(x: np.ndarray | None) -> Tensor | None:
    return None if x is None else torch.from_numpy(x)


def _joined(parts: list[list[Any]]) -> list[Any]:
    """Concatenate over j: lists of [K_j, F_i] -> one [K, F_i] for each i, None if there is none."""
    columns = zip(*parts, strict=True)
    return [None if column[0] is None else torch.from_numpy(np.concatenate(column)) for column in columns]


@dataclass(frozen=True)
class Episodes:
    """K episodes played to their ends: undiscounted team returns and lengths in steps, [K] each."""

    returns: np.ndarray
    lengths: np.ndarray


def play(learner: Learner, batch: EnvBatch, beat: Callable[[], None] = _no_beat, *, explore: bool = False) -> Episodes:
    """One episode in each environment of a batch made with `auto_reset=False`, deterministic unless it explores."""
    for so_far in moments(learner, batch, explore=explore):  # noqa: B007  (the last is the result)
        beat()
    return so_far


def moments(learner: Learner, batch: EnvBatch, *, explore: bool = False) -> Iterator[Episodes]:
    """Play as `play` does; yields what they have come to at the start and after each step, in reused arrays."""
    returns, lengths = np.zeros(batch.envs), np.zeros(batch.envs, dtype=np.int64)
    live = np.ones(batch.envs, dtype=np.bool_)
    so_far = Episodes(returns, lengths)
    yield so_far
    while live.any():
        batch.step(_act(learner, batch.observations, batch, explore))
        returns[live] += batch.reward[live]
        lengths += live
        live[batch.ended] = False
        yield so_far


def play_episodes(
    learner: Learner,
    task: Task,
    seeds: Sequence[np.random.SeedSequence],
    env_threads: int = 1,
    beat: Callable[[], None] = _no_beat,
) -> Episodes:
    """One deterministic episode of a task for each seed, some of them at once."""
    parts = []
    for k in range(0, len(seeds), AT_ONCE):
        made = registry.make(task, seeds[k : k + AT_ONCE], auto_reset=False, env_threads=env_threads)
        with closing(made) as batch:
            parts.append(play(learner, batch, beat))
    return Episodes(np.concatenate([x.returns for x in parts]), np.concatenate([x.lengths for x in parts]))
