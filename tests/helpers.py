"""What the tests of `algorithms` share: teams, random rollouts, seeds, small settings, a recorder of actors' steps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import algorithms
from algorithms import PURPOSES, Continuous, Learner, Rollout, Row, Team
from algorithms.config import OnPolicySettings
from algorithms.on_policy import OnPolicy

torch.set_num_threads(1)  # the order of sums, and so their last bits, depends on the number of threads

ON_POLICY = ["ippo", "mappo", "happo", "hatrpo", "matrpo", "haippo"]
EVERY = [*ON_POLICY, "maddpg"]
SMALL: dict[str, Any] = {"hidden_sizes": [16, 16], "critic_epochs": 2}
SMALL_CLIP: dict[str, Any] = {**SMALL, "actor_epochs": 2}
SMALL_MADDPG: dict[str, Any] = {
    "envs": 3,
    "hidden_sizes": [16, 16],
    "batch_size": 8,
    "buffer_size": 90,
    "warmup_steps": 0,
    "update_to_data": 0.1,
}


def seeds(**changes: int) -> dict[str, int]:
    """One seed per purpose, all different; `seeds(order=7)` changes one of them."""
    return {purpose: 100 + k for k, purpose in enumerate(PURPOSES)} | changes


def team(
    observations: Sequence[int] = (5, 3, 4),
    actions: Sequence[int] = (2, 1, 3),
    state: int = 6,
    observes_id: bool = False,
) -> Team:
    """A team of agents that differ in all their sizes, unless told otherwise."""
    return Team(tuple(observations), tuple(Continuous(size) for size in actions), state, observes_id)


def equal_team(size: int = 3, observes_id: bool = False) -> Team:
    """Agents of equal sizes, which may share an actor."""
    return team((4,) * size, (2,) * size, observes_id=observes_id)


def build(name: str, team: Team, *, seed: dict[str, int] | None = None, **given: Any) -> Any:
    """A learner with small networks; `given` are settings."""
    small = SMALL_MADDPG if name == "maddpg" else SMALL if name in ("hatrpo", "matrpo") else SMALL_CLIP
    return algorithms.build(name, team, algorithms.settings(name, {**small, **given}), seed or seeds())


def rollout(team: Team, seed: int = 0, T: int = 10, E: int = 3, ending: float = 0.2) -> Rollout:
    """T random steps of E environments, of which a share `ending` ends an episode, half of those by termination."""
    g = torch.Generator().manual_seed(seed)
    end = torch.rand(T, E, generator=g) < ending
    terminated = end & (torch.rand(T, E, generator=g) < 0.5)
    ends = end.nonzero()
    K = len(ends)
    return Rollout(
        observations=[torch.randn(T + 1, E, size, generator=g) for size in team.observation_sizes],
        state=torch.randn(T + 1, E, team.state_size, generator=g),
        actions=[0.6 * torch.randn(T, E, space.size, generator=g) for space in team.action_spaces],
        reward=torch.randn(T, E, generator=g),
        terminated=terminated,
        truncated=end & ~terminated,
        ends=ends,
        end_observations=[torch.randn(K, size, generator=g) for size in team.observation_sizes],
        end_state=torch.randn(K, team.state_size, generator=g),
    )


def acted(learner: Learner, team: Team, seed: int = 0, T: int = 10, E: int = 3) -> Rollout:
    """A random rollout whose actions are the learner's own samples."""
    data = rollout(team, seed, T, E)
    actions = [learner.act([x[t] for x in data.observations], explore=True) for t in range(T)]
    data.actions = [torch.stack(agent) for agent in zip(*actions, strict=True)]
    return data


def cut_every(
    limit: int, T: int, E: int, observation: Callable[[int], Sequence[float]], *, terminated: bool
) -> Rollout:
    """Reward 1 at every step of one agent whose episodes last `limit` steps; `observation` says what it sees."""
    end = torch.zeros(T, E, dtype=torch.bool)
    end[limit - 1 :: limit] = True
    ends = end.nonzero()
    x = torch.tensor([observation(t % limit) for t in range(T + 1)], dtype=torch.float32)
    x = x[:, None, :].expand(-1, E, -1).contiguous()
    after = torch.tensor([observation(limit)], dtype=torch.float32).expand(len(ends), -1).contiguous()
    no = torch.zeros_like(end)
    return Rollout(
        observations=[x],
        state=x.clone(),
        actions=[torch.zeros(T, E, 1)],
        reward=torch.ones(T, E),
        terminated=end if terminated else no,
        truncated=no if terminated else end,
        ends=ends,
        end_observations=[after],
        end_state=after.clone(),
    )


def parameters(learner: Any) -> list[Tensor]:
    """Copies of all parameters and moments of the actors and critics."""
    networks = [*learner.actors, *learner.critics]
    return [x.clone() for network in networks for x in network.state_dict().values()]


def same(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> bool:
    """Whether two lists of tensors are equal bit for bit."""
    return len(xs) == len(ys) and all(torch.equal(x, y) for x, y in zip(xs, ys, strict=True))


def finite(rows: list[Row]) -> bool:
    """Whether every number of the rows is finite."""
    numbers = [value for row in rows for value in row.values() if isinstance(value, float | int)]
    return bool(torch.tensor(numbers, dtype=torch.float64).isfinite().all())


@dataclass
class Turn:
    """What one actor was handed and what came of it."""

    agent: int
    old: Any
    """The actor before, a deep copy."""
    new: Any
    """The actor after, a deep copy."""
    seen: Tensor
    action: Tensor
    M: Tensor
    ratio: Tensor
    row: Row

    def recomputed_ratio(self) -> Tensor:
        """new(a|o) / old(a|o) from the copies."""
        with torch.no_grad():
            return torch.exp(self.new(self.seen).log_prob(self.action) - self.old(self.seen).log_prob(self.action))


def record_turns(learner: OnPolicy) -> list[Turn]:
    """A list that fills with the turns of the learner's actors, in the order in which they move."""
    turns: list[Turn] = []
    step = learner.step

    def recording(
        actor: Any, seen: Tensor, action: Tensor, M: Tensor, c: OnPolicySettings, generator: torch.Generator
    ) -> tuple[Tensor, Row]:
        agent = next(k for k, other in enumerate(learner.actors) if other is actor)
        old, handed = copy.deepcopy(actor), M.clone()
        ratio, row = step(actor, seen, action, M, c, generator)
        turns.append(Turn(agent, old, copy.deepcopy(actor), seen, action, handed, ratio.clone(), dict(row)))
        return ratio, row

    learner.step = recording
    return turns
