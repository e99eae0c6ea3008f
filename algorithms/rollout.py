"""What passes between the environments and a learner: the Team (sizes), the Rollout (data), the Learner (protocol).

A rollout's tensors have the axes time T, environments E, features; what differs between agents is a list of N tensors.
Of agent i, O_i is the size of an observation, A_i that of an action (1 per component where it is discrete), L_i the
number of choices of all its components. S is the size of the state.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

PURPOSES = ("initialisation", "exploration", "order", "minibatches")
"""What a learner draws random numbers for. Each purpose has a generator of its own, so draws for one do not shift those
for another. `minibatches` also serves the Gumbel noise of MADDPG's actor steps."""

Diagnostics = dict[str, float | int | str]
"""What one update reports for one agent (`agent` is its index, or "team" for what belongs to all)."""


@dataclass(frozen=True)
class Continuous:
    """An action of `size` real numbers; policies act in [-1, 1] and the environment maps that to its own bounds."""

    size: int

    def __str__(self) -> str:
        return str(self.size)


@dataclass(frozen=True)
class Discrete:
    """An action of one choice among several in each component; a plain discrete action has one component."""

    choices: tuple[int, ...]
    """How many choices each component has."""

    @property
    def size(self) -> int:
        """How many numbers an action has: the index chosen in each component, held as float32."""
        return len(self.choices)

    @property
    def choice_count(self) -> int:
        """L: how many choices all components have together."""
        return sum(self.choices)

    def __str__(self) -> str:
        return f"Discrete({', '.join(map(str, self.choices))})"


Space = Continuous | Discrete


@dataclass(frozen=True, eq=False)
class Model:
    """What makes a finite Markov game, where that is known. float64. Here S counts states and A_i agent i's actions."""

    transition: Tensor
    """[S, A_1, ..., A_N, S]: the probability of the next state, on the last axis."""
    reward: Tensor
    """[S, A_1, ..., A_N]: the team reward."""
    initial: Tensor
    """[S]: the probability of the first state."""

    @classmethod
    def of(cls, *arrays: Any) -> Model:
        """Of numpy arrays, in this order."""
        return cls(*(torch.as_tensor(array, dtype=torch.float64) for array in arrays))


@dataclass(frozen=True)
class Team:
    """The sizes and spaces of N agents that share one reward."""

    observation_sizes: tuple[int, ...]
    """O_i: how many numbers agent i observes."""
    action_spaces: tuple[Space, ...]
    """The action space of each agent."""
    state_size: int
    """S: how many numbers the state has that a central critic sees."""
    observes_id: bool = False
    """Whether each observation already ends with the agent's one-hot index."""
    first_equal_feature: tuple[int, ...] = ()
    """For each feature of [state | o_1 | ... | o_N] the first of them that always equals it; empty: none is known."""
    agents_leave: bool = False
    """Whether agents may leave before the episode ends."""
    has_mask: tuple[bool, ...] = ()
    """For each agent whether the environment masks its choices; empty: none has a mask."""
    model: Model | None = field(default=None, compare=False, repr=False)
    """The game itself where it is known, which only exact learning looks at. Observations are then its states, one-hot,
    without the terminal one; in one-step games a single 0."""

    @property
    def size(self) -> int:
        """N, the number of agents."""
        return len(self.observation_sizes)

    def __post_init__(self) -> None:
        """Raises ValueError for a team without agents, lists of different lengths, and choices among nothing."""
        N = self.size
        for name, counts in (("action_spaces", {N}), ("has_mask", {0, N})):
            if (count := len(getattr(self, name))) not in counts or not N:
                raise ValueError(f"a team with {N} observation_sizes and {count} {name}")
        for space in self.action_spaces:
            if isinstance(space, Discrete) and min(space.choices, default=0) < 1:
                raise ValueError(f"an action without a choice: {space}")


@dataclass
class Rollout:
    """T steps of E environments: only what happened. Log-probabilities and values are the learner's business."""

    observations: list[Tensor]
    """N x [T + 1, E, O_i]; row t is what agent i acted on at step t, row T what it acts on next."""
    state: Tensor
    """[T + 1, E, S]"""
    actions: list[Tensor]
    """N x [T, E, A_i], unclipped samples, or indices of choices."""
    reward: Tensor
    """[T, E], the team reward."""
    terminated: Tensor
    """[T, E] bool: the episode ended in a state whose value is 0."""
    truncated: Tensor
    """[T, E] bool: the episode was cut by a time limit; its last state still has a value."""
    ends: Tensor
    """[K, 2] long: the (t, e) of every step that ended an episode, row t + 1 being a new episode's start."""
    end_observations: list[Tensor]
    """N x [K, O_i]: the true successors of those steps, before any reset."""
    end_state: Tensor
    """[K, S]"""
    masks: list[Tensor | None] | None = None
    """N x [T + 1, E, L_i] bool, True where agent i may make that choice, or None where it always may make any."""
    end_masks: list[Tensor | None] | None = None
    """N x [K, L_i]: the masks at the true successors."""
    active: Tensor | None = None
    """[T + 1, E, N] bool: whether agent i was there to act at step t; where it was not its observation and action are
    zeros. None: everyone always was."""
    end_active: Tensor | None = None
    """[K, N]: who is still there at the true successors, nobody after termination."""

    def check(self, team: Team) -> None:
        """Raise ValueError unless shapes are those of the team, and `ends` has a row for each end of an episode."""
        (T, E), K = self.reward.shape, int((self.terminated | self.truncated).sum())
        sizes, S = team.observation_sizes, team.state_size
        shapes: dict[str, Any] = {
            "observations": [[T + 1, E, size] for size in sizes],
            "state": [T + 1, E, S],
            "actions": [[T, E, space.size] for space in team.action_spaces],
            "ends": [K, 2],
            "end_observations": [[K, size] for size in sizes],
            "end_state": [K, S],
        }
        for name, shape in shapes.items():
            x = getattr(self, name)
            found = [[*each.shape] for each in x] if isinstance(x, list) else [*x.shape]
            if found != shape:
                raise ValueError(f"{name} of the rollout: {found}, not {shape}")

    def successors(self, x: Tensor, x_end: Tensor) -> Tensor:
        """The row after each step: `x[t + 1]`, or `x_end` where the episode ended.  [T + 1, E, ...] -> [T, E, ...]"""
        after = x[1:].clone()
        after[self.ends[:, 0], self.ends[:, 1]] = x_end
        return after

    def active_samples(self, agents: Sequence[int]) -> Tensor:
        """At which of the samples of these agents, side by side, they were there to act.  [T, E len(agents)] bool"""
        if self.active is None:
            return torch.ones(len(self.reward), self.reward.shape[1] * len(agents), dtype=torch.bool)
        return torch.cat([self.active[:-1, :, i] for i in agents], dim=1)


@dataclass
class Samples:
    """What one actor observed and did: B samples of a rollout, those at which its agents were active."""

    observation: Tensor
    """[B, O]"""
    action: Tensor
    """[B, A]"""
    mask: Tensor | None
    """[B, L] bool, True where a choice was allowed; None: every choice always is."""

    def __len__(self) -> int:
        return len(self.observation)

    def __getitem__(self, index: Tensor | slice) -> Samples:
        """A minibatch."""
        return Samples(self.observation[index], self.action[index], None if self.mask is None else self.mask[index])


class Learner(Protocol):
    """What the runner asks of an algorithm."""

    gradient_updates: int
    """Gradient steps so far: of each critic in the on-policy methods (actor steps are not counted), of every network in
    MADDPG, always 0 in exact learning."""

    @property
    def policy(self) -> nn.Module:
        """The actors with their normalisers: all that is needed to act."""
        ...

    def act(
        self, observations: Sequence[Tensor], explore: bool, masks: Sequence[Tensor | None] | None = None
    ) -> list[Tensor]:
        """N x [E, O_i] -> N x [E, A_i]; sampled if `explore`, else deterministic and without using any generator.

        `masks` are N x [E, L_i] bool, or None for an agent that may make any choice; a forbidden one is never made.
        """
        ...

    def update(self, rollout: Rollout) -> list[Diagnostics]:
        """Learn from one rollout. Raises `Diverged` when a loss, KL or parameter is no longer finite."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on as if never interrupted, generators included. Copy it to keep it: the next
        update, or load, changes its tensors."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state given by `state_dict`. Raises ValueError where it lacks a part, as another method's may."""
        ...


class Diverged(ArithmeticError):
    """A number that must be finite is not; `rows` are the update's diagnostics up to there."""

    def __init__(self, message: str, rows: list[Diagnostics]):
        super().__init__(message)
        self.rows = rows


def check_finite(rows: list[Diagnostics], networks: Iterable[nn.Module]) -> None:
    """Refuse to go on with a diagnostic, a parameter or a normaliser's moment that is not finite."""
    for row in rows:
        bad = [key for key, value in row.items() if isinstance(value, float) and not math.isfinite(value)]
        if bad:
            raise Diverged(f"{', '.join(bad)} of agent {row['agent']} not finite", rows)
    values = [x for network in networks for x in (*network.parameters(), *network.buffers())]
    if not torch.stack([x.sum(dtype=torch.float64) for x in values]).isfinite().all():
        raise Diverged("a network's parameters or moments are not finite", rows)


def generators(seeds: Mapping[str, int]) -> dict[str, torch.Generator]:
    """One generator per purpose from one seed per purpose; raises ValueError where one lacks."""
    if not isinstance(seeds, Mapping) or any(purpose not in seeds for purpose in PURPOSES):
        raise ValueError(f"seeds are {seeds!r}, which must map each of {', '.join(PURPOSES)} to a whole number")
    return {purpose: torch.Generator().manual_seed(seeds[purpose]) for purpose in PURPOSES}


def minibatches(count: int, parts: int, generator: torch.Generator) -> Iterator[Tensor | slice]:
    """Indices of `parts` random, disjoint, nearly equal minibatches of `count` samples; of one, all samples in order.

    Of fewer samples than parts (an agent that was seldom active has few) each is a minibatch.
    """
    if parts == 1:
        yield slice(None)
    else:
        yield from torch.randperm(count, generator=generator).tensor_split(min(parts, count))


def pack(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The states of modules, optimisers, buffers and generators by name."""
    return {
        name: part.get_state() if isinstance(part, torch.Generator) else part.state_dict()
        for name, part in parts.items()
    }


def unpack(parts: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Give every part the state that `pack` took from it; raises ValueError before the first if one lacks."""
    if missing := [name for name in parts if name not in saved]:
        raise ValueError(f"the state is that of another learner: it lacks {', '.join(missing)}")
    for name, part in parts.items():
        if isinstance(part, torch.Generator):
            part.set_state(saved[name])
        elif isinstance(part, torch.optim.Optimizer):
            part.load_state_dict(copy.deepcopy(saved[name]))  # it would share the tensors with whoever saved them
        else:
            part.load_state_dict(saved[name])
