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
    """A ring of T rows, E environments wide, in preallocated float32; the memory is taken as the ring fills.

    Every number is stored once. Of features that always agree (`Team.sources`) one is kept; and the successor of a step
    is the row after it, the newest step's being one row more, but for the ends of episodes, which are kept apart.
    """

    def __init__(self, team: Team, capacity: int, envs: int):
        self.rows = max(capacity // envs, 1)
        self.envs = envs
        self.added = 0
        self.sizes = [team.state_size, *team.observation_sizes]
        self.action_sizes = [space.size for space in team.action_spaces]
        sources = torch.tensor(team.sources or range(sum(self.sizes)))
        self.kept, self.place = sources.unique(return_inverse=True)  # F features from the U that are stored
        slots, U = self.rows + 1, len(self.kept)
        self.features = torch.empty(slots, envs, U)
        self.actions = torch.empty(slots, envs, sum(self.action_sizes))
        self.reward = torch.empty(slots, envs)
        self.terminated, self.ended = torch.empty(2, slots, envs, dtype=torch.bool)
        self.end_times = torch.empty(0, dtype=torch.long)  # [K] t E + e of the stored steps that ended, ascending
        self.end_features = torch.empty(0, U)  # [K, U] their true successors

    @property
    def filled(self) -> int:
        """How many rows hold data."""
        return min(self.added, self.rows)

    def add(self, rollout: Rollout) -> None:
        """Append the rollout's T rows and the successors of the last, over the oldest where the ring is full."""
        T = len(rollout.reward)
        features = torch.cat([rollout.state, *rollout.observations], dim=-1)[..., self.kept]  # [T + 1, E, U]
        ends = torch.cat([rollout.end_state, *rollout.end_observations], dim=-1)[:, self.kept]  # [K, U]
        keep = min(T, self.rows)  # of a rollout longer than the ring only the end stays
        slots = torch.arange(self.added + T - keep, self.added + T + 1) % len(self.features)
        self.features[slots] = features[-keep - 1 :]
        for buffer, x in (
            (self.actions, torch.cat(rollout.actions, dim=-1).clamp(-1, 1)),
            (self.reward, rollout.reward),
            (self.terminated, rollout.terminated),
            (self.ended, rollout.terminated | rollout.truncated),
        ):
            buffer[slots[:-1]] = x[-keep:]
        times, order = ((self.added + rollout.ends[:, 0]) * self.envs + rollout.ends[:, 1]).sort()
        self.added += T
        gone = int(torch.searchsorted(self.end_times, (self.added - self.filled) * self.envs))
        self.end_times = torch.cat([self.end_times[gone:], times])
        self.end_features = torch.cat([self.end_features[gone:], ends[order]])

    def sample(self, size: int, n: int, gamma: float, generator: torch.Generator) -> Batch:
        """`size` transitions drawn uniformly from those whose n steps are stored."""
        starts, slots = self.filled - n + 1, len(self.features)
        t = self.added - self.filled + torch.randint(starts, (size,), generator=generator)
        e = torch.randint(self.envs, (size,), generator=generator)
        first, last = t % slots, t
        returns = self.reward[first, e]
        discount = torch.full_like(returns, gamma)
        for _ in range(1, n):
            going = ~self.ended[last % slots, e]
            last = last + going
            returns = returns + going * discount * self.reward[last % slots, e]
            discount = torch.where(going, discount * gamma, discount)
        over = self.ended[last % slots, e]
        successors = self.features[(last + 1) % slots, e]
        successors[over] = self.end_features[torch.searchsorted(self.end_times, (last * self.envs + e)[over])]
        state, *observations = self._rebuilt(self.features[first, e])
        next_state, *next_observations = self._rebuilt(successors)
        return Batch(
            observations=observations,
            state=state,
            actions=list(self.actions[first, e].split(self.action_sizes, dim=-1)),
            returns=returns,
            discount=discount * ~self.terminated[last % slots, e],
            next_observations=next_observations,
            next_state=next_state,
        )

    def _rebuilt(self, features: Tensor) -> Sequence[Tensor]:
        """State and observations from what is stored of them.  [B, U] -> [B, S], N x [B, O_i]"""
        return features[:, self.place].split(self.sizes, dim=-1)

    def _buffers(self) -> Sequence[Tensor]:
        return [self.features, self.actions, self.reward, self.terminated, self.ended]

    def state_dict(self) -> dict[str, Any]:
        """The rows that hold data, of features one row more, the ends among them, and how many were ever added."""
        ends = {"end_times": self.end_times, "end_features": self.end_features}
        held = [x[: self.added + (x is self.features)].clone() for x in self._buffers()]
        return {"added": self.added, "buffers": held, **ends}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.added, self.end_times, self.end_features = state["added"], state["end_times"], state["end_features"]
        for buffer, saved in zip(self._buffers(), state["buffers"], strict=True):
            buffer[: len(saved)] = saved


def transition_bytes(team: Team) -> int:
    """The memory that one stored transition takes, apart from the ends of episodes."""
    ring = Replay(team, 1, 1)
    return sum(x[0].nbytes for x in ring._buffers())
