"""The most recent steps of E environments in a ring buffer, from which MADDPG samples n-step transitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from algorithms.distributions import encoded_size
from algorithms.rollout import Discrete, Rollout, Team


@dataclass
class Transitions:
    """B transitions over up to n steps."""

    state: Tensor
    """[B, S]"""
    observations: list[Tensor]
    """N x [B, O_i]"""
    masks: list[Tensor | None]
    """N x [B, L_i] bool: what each agent could choose, None where it always may choose anything."""
    active: Tensor | None
    """[B, N] bool: who was there to act; None: everyone always is."""
    actions: list[Tensor]
    """N x [B, A_i]"""
    reward_sum: Tensor
    """[B]: sum_{k<m} gamma^k r_{t+k}, m <= n steps, fewer where the episode ended."""
    discount: Tensor
    """[B]: gamma^m, or 0 where the episode terminated."""
    next_state: Tensor
    """[B, S]: here and below, the true successors of the last step."""
    next_observations: list[Tensor]
    """N x [B, O_i]"""
    next_masks: list[Tensor | None]
    """N x [B, L_i]"""
    next_active: Tensor | None
    """[B, N]"""


class ReplayBuffer:
    """A ring of `rows` rows, one per step of E environments, in preallocated float32; the operating system provides the
    memory as the ring fills.

    Every number is stored once. Of features that are always equal (`Team.first_equal_feature`) one is stored; the
    successor of a step is the row after it (the newest step has an extra row), except where an episode ended: those
    successors are stored separately. In teams that have masks or agents that leave, these are features too. Continuous
    actions are stored as environments see them, clipped to [-1, 1]; discrete ones as uint8 where all agents' are
    discrete with at most 256 choices per component.
    """

    def __init__(self, team: Team, capacity: int, envs: int):
        self.rows = max(capacity // envs, 1)
        self.envs = envs
        self.added = 0
        spaces = team.action_spaces
        self.has_mask, self.agents_leave = team.has_mask or [False] * team.size, team.agents_leave
        mask_sizes = [encoded_size(space) * has for space, has in zip(spaces, self.has_mask, strict=True)]
        self.sizes = [team.state_size, *team.observation_sizes, *mask_sizes, team.size * team.agents_leave]
        self.action_sizes = [space.size for space in spaces]
        self.discrete = [isinstance(space, Discrete) for space in spaces]
        in_bytes = all(isinstance(space, Discrete) and max(space.choices) <= 256 for space in spaces)
        first = torch.tensor([*team.first_equal_feature, *range(len(team.first_equal_feature), sum(self.sizes))])
        # the U columns that are stored, and for each of F features in which of them it is
        self.stored, self.column = first.unique(return_inverse=True)
        slots, U = self.rows + 1, len(self.stored)
        self.features = torch.empty(slots, envs, U)
        self.actions = torch.empty(slots, envs, sum(self.action_sizes), dtype=torch.uint8 if in_bytes else None)
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
        T, E = rollout.reward.shape
        if self.envs != E:
            raise ValueError(f"a rollout of {E} environments for a replay buffer of {self.envs}")
        features = self._features(rollout.state, rollout.observations, rollout.masks, rollout.active)  # [T + 1, E, U]
        ends = self._features(rollout.end_state, rollout.end_observations, rollout.end_masks, rollout.end_active)
        actions = [a if d else a.clamp(-1, 1) for a, d in zip(rollout.actions, self.discrete, strict=True)]
        keep = min(T, self.rows)  # of a rollout longer than the ring only the end stays
        slots = torch.arange(self.added + T - keep, self.added + T + 1) % len(self.features)
        self.features[slots] = features[-keep - 1 :]
        for buffer, x in (
            (self.actions, torch.cat(actions, dim=-1).to(self.actions.dtype)),
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

    def sample(self, size: int, n: int, gamma: float, generator: torch.Generator) -> Transitions:
        """`size` transitions drawn uniformly from those whose n steps are stored."""
        starts, slots = self.filled - n + 1, len(self.features)
        t = self.added - self.filled + torch.randint(starts, (size,), generator=generator)
        e = torch.randint(self.envs, (size,), generator=generator)
        first, last = t % slots, t
        reward_sum = self.reward[first, e]
        discount = torch.full_like(reward_sum, gamma)
        for _ in range(1, n):
            going = ~self.ended[last % slots, e]
            last = last + going
            reward_sum = reward_sum + going * discount * self.reward[last % slots, e]
            discount = torch.where(going, discount * gamma, discount)
        over = self.ended[last % slots, e]
        successors = self.features[(last + 1) % slots, e]
        successors[over] = self.end_features[torch.searchsorted(self.end_times, (last * self.envs + e)[over])]
        return Transitions(
            *self._split(self.features[first, e]),
            list(self.actions[first, e].to(reward_sum.dtype).split(self.action_sizes, dim=-1)),
            reward_sum,
            discount * ~self.terminated[last % slots, e],
            *self._split(successors),
        )

    def _features(self, state: Tensor, observations: Sequence[Tensor], masks: Any, active: Tensor | None) -> Tensor:
        """All that is stored of a row or of an end.  [.., S], N x [.., O_i], N x [.., L_i], [.., N] -> [.., U]"""
        extra = [x for x in (*(masks or []), active) if x is not None]
        return torch.cat([state, *observations, *extra], dim=-1)[..., self.stored]

    def _split(self, features: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor | None], Tensor | None]:
        """The inverse of `_features`.  [B, U] -> [B, S], N x [B, O_i], N x [B, L_i], [B, N]"""
        state, *parts = features[:, self.column].split(self.sizes, dim=-1)
        N = len(self.has_mask)
        masks = [x.bool() if has else None for x, has in zip(parts[N:-1], self.has_mask, strict=True)]
        return state, parts[:N], masks, parts[-1].bool() if self.agents_leave else None

    def _buffers(self) -> Sequence[Tensor]:
        return [self.features, self.actions, self.reward, self.terminated, self.ended]

    def state_dict(self) -> dict[str, Any]:
        """The rows that hold data (one more of features), the ends of episodes, and how many rows were ever added."""
        ends = {"end_times": self.end_times, "end_features": self.end_features}
        held = [x[: self.added + (x is self.features)].clone() for x in self._buffers()]
        return {"added": self.added, "buffers": held, **ends}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave; raises ValueError for the state of a buffer of another size."""
        held = [x[: state["added"] + (x is self.features)].shape for x in self._buffers()]
        if [x.shape for x in state["buffers"]] != held:
            raise ValueError(
                f"the state is not that of a replay buffer of {self.rows} rows of {self.envs} environments"
            )
        self.added, self.end_times, self.end_features = state["added"], state["end_times"], state["end_features"]
        for buffer, saved in zip(self._buffers(), state["buffers"], strict=True):
            buffer[: len(saved)] = saved


def transition_bytes(team: Team) -> int:
    """The memory that one stored transition takes, apart from the ends of episodes."""
    ring = ReplayBuffer(team, 1, 1)
    return sum(x[0].nbytes for x in ring._buffers())
