"""What the tests of `algorithms` share: teams, random rollouts, seeds, small settings, a recorder of actors' steps."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector

import algorithms
from algorithms import PURPOSES, Continuous, Diagnostics, Discrete, Learner, Rollout, Samples, Team
from algorithms.config import OnPolicySettings
from algorithms.distributions import one_hot
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
    "n_step": 1,
}


def generator(seed: int = 0) -> torch.Generator:
    """A generator of a test's own."""
    return torch.Generator().manual_seed(seed)


def saved_and_loaded(state: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint gives back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def seeds(**changes: int) -> dict[str, int]:
    """One seed per purpose, all different; `seeds(order=7)` changes one of them."""
    return {purpose: 100 + k for k, purpose in enumerate(PURPOSES)} | changes


def team(
    observations: Sequence[int] = (5, 3, 4),
    actions: Sequence[int | Discrete] = (2, 1, 3),
    state: int = 6,
    observes_id: bool = False,
    leaves: bool = False,
    masked: bool = False,
) -> Team:
    """A team of agents that differ in all their sizes, unless told otherwise; a whole number is a continuous action."""
    spaces = tuple(Continuous(space) if isinstance(space, int) else space for space in actions)
    has_mask = tuple(isinstance(space, Discrete) for space in spaces) if masked else ()
    return Team(tuple(observations), spaces, state, observes_id, agents_leave=leaves, has_mask=has_mask)


def equal_team(size: int = 3, observes_id: bool = False) -> Team:
    """Agents of equal sizes, which may share an actor."""
    return team((4,) * size, (2,) * size, observes_id=observes_id)


def build(name: str, team: Team, *, seed: dict[str, int] | None = None, **given: Any) -> Any:
    """A learner with small networks; `given` are settings."""
    small = SMALL_MADDPG if name == "maddpg" else SMALL if name in ("hatrpo", "matrpo") else SMALL_CLIP
    return algorithms.build(name, team, algorithms.settings(name, {**small, **given}), seed or seeds())


def rollout(team: Team, seed: int = 0, T: int = 10, E: int = 3, ending: float = 0.2) -> Rollout:
    """T random steps of E environments, of which a share `ending` ends an episode, half of those by termination.

    Numbers are of the default dtype.
    """
    g = torch.Generator().manual_seed(seed)
    end = torch.rand(T, E, generator=g) < ending
    terminated = end & (torch.rand(T, E, generator=g) < 0.5)
    ends = end.nonzero()
    K = len(ends)
    data = Rollout(
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
    for i, space in enumerate(team.action_spaces):
        if isinstance(space, Discrete):
            data.actions[i] = choices(space, (T, E), g)
    if any(team.has_mask):
        _mask(data, team, g)
    if team.agents_leave:
        _leave(data, team, g)
    return data


def choices(space: Discrete, shape: tuple[int, ...], g: torch.Generator) -> Tensor:
    """Uniformly random choices [*shape, C]."""
    indices = torch.stack([torch.randint(n, shape, generator=g) for n in space.choices], dim=-1)
    return indices.to(torch.get_default_dtype())


def _mask(data: Rollout, team: Team, g: torch.Generator) -> None:
    """Forbid some of the choices that were not made."""
    data.masks, data.end_masks = [], []
    for space, action in zip(team.action_spaces, data.actions, strict=True):
        made: list[Tensor | None] = [None, None]
        if isinstance(space, Discrete):
            last, after = (choices(space, (n,), g) for n in (action.shape[1], len(data.ends)))
            free = [one_hot(x, space.choices).bool() for x in (torch.cat([action, last[None]]), after)]
            made = [x | (torch.rand(x.shape, generator=g) < 0.5) for x in free]
        data.masks.append(made[0])
        data.end_masks.append(made[1])


def _leave(data: Rollout, team: Team, g: torch.Generator) -> None:
    """Let agents be away at random steps, but never all of them, with zeros for what they see and do."""
    shapes = [data.state.shape[:2], data.end_state.shape[:1]]
    data.active, data.end_active = (torch.rand(*shape, team.size, generator=g) < 0.6 for shape in shapes)
    data.active[..., 0] |= ~data.active.any(-1)
    for i in range(team.size):
        data.observations[i][~data.active[..., i]] = 0
        data.end_observations[i][~data.end_active[..., i]] = 0
        data.actions[i][~data.active[:-1, :, i]] = 0
        for masks, there in ((data.masks, data.active), (data.end_masks, data.end_active)):
            if masks and (mask := masks[i]) is not None:
                mask[~there[..., i]] = False


def masks_at(data: Rollout, t: int) -> list[Tensor | None] | None:
    """What the agents may do at step t."""
    return data.masks and [mask if mask is None else mask[t] for mask in data.masks]


def acted(learner: Learner, team: Team, seed: int = 0, T: int = 10, E: int = 3) -> Rollout:
    """A random rollout whose actions are the learner's own samples, zeros of those who are not there."""
    data = rollout(team, seed, T, E)
    actions = [learner.act([x[t] for x in data.observations], True, masks_at(data, t)) for t in range(T)]
    data.actions = [torch.stack(agent) for agent in zip(*actions, strict=True)]
    if data.active is not None:
        for i, action in enumerate(data.actions):
            action[~data.active[:-1, :, i]] = 0
    return data


def cut_every(
    limit: int, T: int, E: int, observation: Callable[[int], Sequence[float]], *, terminated: bool
) -> Rollout:
    """Reward 1 at every step of one agent whose episodes last `limit` steps; `observation` says what it sees."""
    end = torch.zeros(T, E, dtype=torch.bool)
    end[limit - 1 :: limit] = True
    ends = end.nonzero()
    x = torch.tensor([observation(t % limit) for t in range(T + 1)], dtype=torch.get_default_dtype())
    x = x[:, None, :].expand(-1, E, -1).contiguous()
    after = x.new_tensor([observation(limit)]).expand(len(ends), -1).contiguous()
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


def finite(rows: list[Diagnostics]) -> bool:
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
    samples: Samples
    M: Tensor
    ratio: Tensor
    row: dict[str, Any]

    def recomputed_ratio(self) -> Tensor:
        """new(a|o) / old(a|o) from the copies."""
        x = self.samples
        with torch.no_grad():
            new, old = (actor(x.observation, x.mask).log_prob(x.action) for actor in (self.new, self.old))
            return torch.exp(new - old)


def record_turns(learner: OnPolicy) -> list[Turn]:
    """A list that fills with the turns of the learner's actors, in the order in which they move."""
    turns: list[Turn] = []
    step = learner.actor_step

    def recording(
        actor: Any, samples: Samples, M: Tensor, c: OnPolicySettings, generator: torch.Generator
    ) -> tuple[Tensor, Diagnostics]:
        agent = next(k for k, other in enumerate(learner.actors) if other is actor)
        old, handed = copy.deepcopy(actor), M.clone()
        ratio, row = step(actor, samples, M, c, generator)
        turns.append(Turn(agent, old, copy.deepcopy(actor), samples, handed, ratio.clone(), dict(row)))
        return ratio, row

    learner.actor_step = recording
    return turns


def hessian_of_the_mean_kl(actor: Any, samples: Samples) -> Tensor:
    """The dense Hessian of E[KL(old, new)] in the parameters of new, at new = old."""
    x = (samples.observation, samples.mask)
    shapes = {name: p.shape for name, p in actor.named_parameters()}
    with torch.no_grad():
        old = actor(*x)

    def mean_kl(theta: Tensor) -> Tensor:
        parts = theta.split([shape.numel() for shape in shapes.values()])
        named = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        return old.kl_divergence(functional_call(actor, named, x)).mean()

    H = torch.autograd.functional.hessian(mean_kl, parameters_to_vector(list(actor.parameters())).detach())
    assert isinstance(H, Tensor)
    return H
