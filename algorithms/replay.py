"""A ring of the most recent steps of E environments, from which MADDPG samples n-step transitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from algorithms.rollout import Rollout, Team


@dataclass
class Batch:
    """B transitions over up to n steps."""

    observations: list[Tensor]
    """N x [B, O_i]"""
    state: Tensor
    """[B, S]"""
    actions: list[Tensor]
    """N x [B, A_i]"""
    returns: Tensor
    """[B]: sum_{k<m} gamma^k r_{t+k}, m <= n steps, fewer where the episode ended."""
    discount: Tensor
    """[B]: gamma^m, or 0 where the episode terminated."""
    next_observations: list[Tensor]
    """N x [B, O_i], the true successors of the last step."""
    next_state: Tensor
    """[B, S]"""


class Replay:
    """Rows of time, E environments wide, in preallocated float32; the memory is taken as the ring fills."""

    def __init__(self, team: Team, capacity: int, envs: int):
        self.rows = max(capacity // envs, 1)
        self.envs = envs
        self.added = 0

        def buffer(size: int) -> Tensor:
            return torch.empty(self.rows, envs, size)

        self.observations = [buffer(size) for size in team.observation_sizes]
        self.next_observations = [buffer(size) for size in team.observation_sizes]
        self.actions = [buffer(space.size) for space in team.action_spaces]
        self.state, self.next_state = buffer(team.state_size), buffer(team.state_size)
        self.reward = torch.empty(self.rows, envs)
        self.terminated = torch.empty(self.rows, envs, dtype=torch.bool)
        self.ended = torch.empty(self.rows, envs, dtype=torch.bool)

    @property
    def filled(self) -> int:
        """How many rows hold data."""
        return min(self.added, self.rows)

    def add(self, rollout: Rollout) -> None:
        """Append the rollout's T rows, over the oldest where the ring is full."""
        T = len(rollout.reward)
        pairs = [
            (self.state, rollout.state[:-1]),
            (self.next_state, rollout.successors(rollout.state, rollout.end_state)),
            (self.reward, rollout.reward),
            (self.terminated, rollout.terminated),
            (self.ended, rollout.terminated | rollout.truncated),
        ]
        for i, x in enumerate(rollout.observations):
            pairs.append((self.observations[i], x[:-1]))
            pairs.append((self.next_observations[i], rollout.successors(x, rollout.end_observations[i])))
            pairs.append((self.actions[i], rollout.actions[i].clamp(-1, 1)))
        keep = min(T, self.rows)  # of a rollout longer than the ring only the end stays
        rows = torch.arange(self.added + T - keep, self.added + T) % self.rows
        for buffer, x in pairs:
            buffer[rows] = x[-keep:]
        self.added += T

    def sample(self, size: int, n: int, gamma: float, generator: torch.Generator) -> Batch:
        """`size` transitions drawn uniformly from those whose n steps are stored."""
        starts = self.filled - n + 1
        oldest = self.added - self.filled
        t = oldest + torch.randint(starts, (size,), generator=generator)
        e = torch.randint(self.envs, (size,), generator=generator)
        first, last = t % self.rows, t % self.rows
        returns = self.reward[first, e]
        discount = torch.full_like(returns, gamma)
        for k in range(1, n):
            going = ~self.ended[last, e]
            last = torch.where(going, (t + k) % self.rows, last)
            returns = returns + going * discount * self.reward[last, e]
            discount = torch.where(going, discount * gamma, discount)
        return Batch(
            observations=[x[first, e] for x in self.observations],
            state=self.state[first, e],
            actions=[x[first, e] for x in self.actions],
            returns=returns,
            discount=discount * ~self.terminated[last, e],
            next_observations=[x[last, e] for x in self.next_observations],
            next_state=self.next_state[last, e],
        )

    def _buffers(self) -> Sequence[Tensor]:
        return [
            *self.observations,
            *self.next_observations,
            *self.actions,
            self.state,
            self.next_state,
            self.reward,
            self.terminated,
            self.ended,
        ]

    def state_dict(self) -> dict[str, Any]:
        """The rows that hold data, and how many were ever added."""
        return {"added": self.added, "buffers": [x[: self.filled].clone() for x in self._buffers()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.added = state["added"]
        for buffer, saved in zip(self._buffers(), state["buffers"], strict=True):
            buffer[: len(saved)] = saved
