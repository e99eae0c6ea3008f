"""What a PettingZoo environment must keep to: checks of the bare environment, in several episodes of random actions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from bench.envs.batch import EnvBatch
from bench.envs.errors import said
from bench.envs.parallel import ParallelBatch
from bench.envs.parallel_calls import LARGEST, reset, state_of
from bench.envs.random_play import random_action
from bench.envs.spaces import Control, control, sense, write_mask

EPISODES, STEPS, SECONDS = 3, 10_000, 10.0
"""Episodes that are looked through, and steps and seconds after which one is taken not to end."""
SHORT = 60
"""Steps of every comparison of two ways."""


ANSWERS = ("observations", "rewards", "terminations", "truncations", "infos")
"""What a step returns."""


class Wrong(Exception):
    """What is wrong, in one line."""


@dataclass
class Moment:
    """What an environment said at a reset (`acted` is empty) or at a step."""

    where: str
    acted: list[str]
    observations: Any
    rewards: Any
    terminated: Any
    truncated: Any
    infos: Any
    agents: list[str]
    """Who is there next."""
    state: Any


@dataclass
class Subject:
    """A task under examination."""

    make: Callable[[], Any] | None
    """Makes the bare environment, of kinds that have one."""
    batch: Callable[..., EnvBatch]
    """(seeds) -> a batch of it"""
    limit: int | None
    controls: dict[str, Control] = field(default_factory=dict)
    episodes: list[list[Moment]] = field(default_factory=list)
    ended: bool = False
    """Whether every episode came to an end by itself."""

    def moments(self) -> Iterator[Moment]:
        for episode in self.episodes:
            yield from episode


def seed_sequences(count: int, entropy: int = 0) -> list[np.random.SeedSequence]:
    return np.random.SeedSequence(entropy).spawn(count)


def new_environment(subject: Subject) -> Any:
    assert subject.make is not None
    made = subject.make()
    if not isinstance(made, ParallelEnv):
        raise Wrong(f"{type(made).__name__} is no pettingzoo.ParallelEnv")
    return made


def agents(subject: Subject) -> str:
    """Names are different, and the same in every copy and after every reset."""
    first, second = new_environment(subject), new_environment(subject)
    names = list(first.possible_agents)
    if not names or len({*names}) < len(names):
        raise Wrong(f"possible_agents must be different names, at least one, not {names}")
    for seed, environment in ((0, first), (1, first), (0, second)):
        reset(environment, seed)
        if list(environment.possible_agents) != names:
            raise Wrong(f"possible_agents were {names} and became {list(environment.possible_agents)}")
        if strangers := [name for name in environment.agents if name not in names]:
            raise Wrong(f"{strangers[0]} is there after a reset and none of possible_agents")
        if not environment.agents:
            raise Wrong("nobody is there after a reset")
    return f"{len(names)}, the same after every reset"


def spaces_(subject: Subject) -> str:
    """Each agent's spaces are of use here, and the same whenever they are asked for."""
    first, second = new_environment(subject), new_environment(subject)
    for name in first.possible_agents:
        for what, of, use in (("observation", "observation_space", sense), ("action", "action_space", control)):
            space = getattr(first, of)(name)
            if getattr(first, of)(name) != space or getattr(second, of)(name) != space:
                raise Wrong(f"the {what} space of {name} is another one each time")
            try:
                made: Any = use(space)
            except (ValueError, AttributeError) as error:
                raise Wrong(f"the {what} space of {name}: {error}") from None
            if what == "action":
                subject.controls[name] = made
    kinds = {type(first.action_space(name)).__name__ for name in first.possible_agents}
    return f"actions {', '.join(sorted(kinds))}"


def playing(subject: Subject) -> str:
    """Episodes of random actions can be played to their ends."""
    environment = new_environment(subject)
    if not subject.controls:
        raise Wrong("nothing to act with")
    random = np.random.default_rng(0)
    subject.ended = True
    for seed in range(EPISODES):
        subject.episodes.append([])
        subject.ended &= _play(subject, environment, seed, random, subject.episodes[-1])
    return f"{sum(map(len, subject.episodes)) - EPISODES} steps in {EPISODES} episodes"


def _play(
    subject: Subject,
    environment: Any,
    seed: int,
    random: np.random.Generator,
    into: list[Moment],
    most: int | None = None,
) -> bool:
    """Write down an episode of random actions; whether it came to an end by itself."""
    seen, infos = reset(environment, seed)
    start, most = time.perf_counter(), most or STEPS
    into.append(_moment(environment, f"reset to seed {seed}", [], (seen, {}, {}, {}, infos)))
    for step in range(1, min(most, subject.limit or most) + 1):
        acted = list(environment.agents)
        answer = environment.step({name: _action(subject, name, seen, infos, random) for name in acted})
        if not isinstance(answer, tuple | list) or len(answer) != 5:
            raise Wrong(f"step must return {', '.join(ANSWERS[:-1])} and {ANSWERS[-1]}")
        for what, found in zip(ANSWERS, answer, strict=True):
            if not hasattr(found, "keys"):
                raise Wrong(f"step {step} of seed {seed}: {what} must be a dict of agents")
        seen, infos = answer[0], answer[4]
        into.append(_moment(environment, f"step {step} of seed {seed}", acted, answer))
        if not environment.agents:
            return True
        if time.perf_counter() - start > SECONDS:
            break
    return False


def _moment(environment: Any, where: str, acted: list[str], answer: Sequence[Any]) -> Moment:
    seen, given, terminated, truncated, infos = map(_copy, answer)
    try:
        now: Any = _copy(state_of(environment))
    except Exception as error:  # told by `state`, if it is of use
        now = said(error)
    return Moment(where, acted, seen, given, terminated, truncated, infos, list(environment.agents), now)


def _copy(x: Any) -> Any:
    if isinstance(x, dict):
        return {key: _copy(value) for key, value in x.items()}
    return x.copy() if isinstance(x, np.ndarray) else x


def _action(subject: Subject, name: str, seen: Any, infos: Any, random: np.random.Generator) -> Any:
    """A random action among those that the agent's mask allows."""
    own, mask = subject.controls[name], None
    given = _mask(seen.get(name), infos.get(name))
    if given is not None and not hasattr(own.space, "logits"):
        raise Wrong(f"{name} has an action_mask and no choices: its action space is a Box")
    if given is not None:
        mask = _read_mask(own.space, given, f"the action_mask of {name}")[None]
    return own.convert(random_action(own.space, mask, 1, random))[0]


def _read_mask(space: Any, given: Any, what: str) -> Any:
    """The mask [logits], refusing one of another size and one without a choice."""
    row = np.zeros(space.logits, dtype=np.bool_)
    try:
        write_mask(row, given)
    except ValueError as error:
        raise Wrong(f"{what}: {error}") from None
    if not all(part.any() for part in np.split(row, np.cumsum(space.choices)[:-1])):
        raise Wrong(f"{what} allows nothing")
    return row


def _mask(observation: Any, info: Any) -> Any:
    """The action mask in an agent's observation or info."""
    if isinstance(observation, dict) and "action_mask" in observation:
        return observation["action_mask"]
    return info.get("action_mask") if isinstance(info, dict) else None


def observations(subject: Subject) -> str:
    """Everybody who is there observes something of its space: shape, dtype, bounds, and finite."""
    environment = new_environment(subject)
    for moment in subject.moments():
        for name in dict.fromkeys([*moment.agents, *moment.acted]):
            if name not in moment.observations:
                raise Wrong(f"{name} got none at {moment.where}")
            space, seen = environment.observation_space(name), moment.observations[name]
            if isinstance(space, spaces.Box) and not isinstance(seen, np.ndarray | np.generic):
                raise Wrong(f"that of {name} at {moment.where} is no array but {type(seen).__name__}")
            if isinstance(space, spaces.Box):
                _refuse_unlike(space, np.asarray(seen), f"that of {name} at {moment.where}")
            elif not space.contains(seen):
                raise Wrong(f"that of {name} at {moment.where} is not in its space {space}: {seen!r}")
    return "complete, finite, and of their spaces"


def _refuse_unlike(space: spaces.Box, seen: Any, what: str) -> None:
    if seen.shape != space.shape:
        raise Wrong(f"{what} has shape {seen.shape}, its space {space.shape}")
    if seen.dtype != space.dtype:
        raise Wrong(f"{what} has dtype {seen.dtype}, its space {space.dtype}")
    for complaint, bad in (("finite", ~np.isfinite(seen)), (f"within {LARGEST:g}", ~(np.abs(seen) <= LARGEST))):
        if bad.any():
            k = int(np.flatnonzero(bad)[0])
            raise Wrong(f"{what} is not {complaint}: [{k}] is {seen.reshape(-1)[k]}")
    if not space.contains(seen):
        raise Wrong(f"{what} lies outside the bounds of its space {space}")


def rewards(subject: Subject) -> str:
    """Everybody who acted gets one finite number."""
    for moment in subject.moments():
        for name in moment.acted:
            if name not in moment.rewards:
                raise Wrong(f"{name} acted and got none at {moment.where}")
            reward = moment.rewards[name]
            if np.ndim(reward) or not isinstance(reward, int | float | np.number):
                raise Wrong(f"that of {name} at {moment.where} is no number but {reward!r}")
            if not np.isfinite(reward):
                raise Wrong(f"that of {name} at {moment.where} is {reward}")
            if abs(float(reward)) > LARGEST:
                raise Wrong(f"that of {name} at {moment.where} is {reward}, beyond {LARGEST:g}")
    return "complete and finite"


def ends(subject: Subject) -> str:
    """Agents go when they are terminated or truncated, only then, and do not come back; episodes end."""
    early = False
    for episode in subject.episodes:
        gone: set[str] = set()
        for before, moment in zip([episode[0], *episode], episode, strict=False):
            for name in moment.acted:
                for what, found in (("termination", moment.terminated), ("truncation", moment.truncated)):
                    if name not in found:
                        raise Wrong(f"{name} acted and got no {what} at {moment.where}")
            over = {name for name in moment.acted if moment.terminated[name] or moment.truncated[name]}
            if back := gone & {*moment.agents}:
                raise Wrong(f"{min(back)} came back at {moment.where}")
            if stays := over & {*moment.agents}:
                raise Wrong(f"{min(stays)} was terminated or truncated at {moment.where} and is still in agents")
            if left := {*before.agents} - over - {*moment.agents} if moment.acted else ():
                raise Wrong(f"{min(left)} left at {moment.where} and was neither terminated nor truncated")
            if strangers := {*moment.agents} - {*subject.controls}:
                raise Wrong(f"{min(strangers)} appeared at {moment.where} and is none of possible_agents")
            early |= bool(over and moment.agents)
            gone |= over
    if not subject.ended and subject.limit is None:
        steps = max(map(len, subject.episodes)) - 1
        raise Wrong(f"an episode had not ended after {steps} steps: give the task an episode_length")
    return "agents go one by one" if early else "all agents go at once"


def masks(subject: Subject) -> str:
    """A mask has a number for each choice and leaves at least one."""
    masked = set()
    for moment in subject.moments():
        for name in moment.agents:
            given = _mask(moment.observations.get(name), moment.infos.get(name))
            space: Any = subject.controls[name].space
            if given is None:
                continue
            masked.add(name)
            _read_mask(space, given, f"that of {name} at {moment.where}")
    for moment in subject.moments():
        for name in masked & {*moment.agents}:
            if _mask(moment.observations.get(name), moment.infos.get(name)) is None:
                raise Wrong(f"{name} has none at {moment.where}, but has one elsewhere")
    return f"of {len(masked)} agents, which always have a choice" if masked else "none"


def state(subject: Subject) -> str:
    """`state()`, where there is one and it is of use, is always there, finite and as long."""
    batch = subject.batch(seed_sequences(1))
    assert isinstance(batch, ParallelBatch)
    if not batch.own_state:
        return "all observations"
    sizes = set()
    for moment in subject.moments():
        if moment.state is None:
            raise Wrong(f"there is none at {moment.where}, but at a first reset")
        if isinstance(moment.state, str):
            raise Wrong(f"raised {moment.state} at {moment.where}")
        sizes.add(moment.state.size)
        if len(sizes) > 1:
            raise Wrong(f"has {' and '.join(map(str, sorted(sizes)))} numbers at {moment.where}")
        if not np.isfinite(moment.state).all():
            raise Wrong(f"is not finite at {moment.where}")
    return f"{sizes.pop()} numbers of its own"


def seeds(subject: Subject) -> str:
    """A reset to a seed gives one start, in this copy and in a new one."""
    environment = new_environment(subject)
    first = _copy(reset(environment, 0)[0])
    other = _copy(reset(environment, 1)[0])
    if where := difference(first, _copy(reset(environment, 0)[0])):
        raise Wrong(f"ignored: two resets to seed 0 differ in {where}")
    if where := difference(first, reset(new_environment(subject), 0)[0]):
        raise Wrong(f"a reset to seed 0 differs between two copies in {where}")
    return "tell episodes apart" if difference(first, other) else "every seed starts alike"


def replay(subject: Subject) -> str:
    """The same seed and actions give the same episode to the bit, in a new copy and after another episode."""
    environment = new_environment(subject)
    told: list[list[Moment]] = [[], [], []]
    for one, episode in zip((environment, new_environment(subject), environment), told, strict=True):
        _play(subject, one, 5, np.random.default_rng(5), episode, SHORT)
    for other, how in ((told[1], "in a new copy"), (told[2], "in the same copy, later")):
        for a, b in zip(told[0], other, strict=False):
            for what in ("observations", "rewards", "terminated", "truncated", "infos", "agents", "state"):
                if where := difference(getattr(a, what), getattr(b, what)):
                    raise Wrong(f"the same seed and actions {how}: {what} differ at {a.where} in {where}")
    return f"{len(told[0]) - 1} steps, the same to the bit"


def difference(a: Any, b: Any, where: str = "") -> str:
    """Where two things differ first; nothing where they are the same."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return next((found for key in a if (found := difference(a[key], b[key], f"{where} {key}"))), "")
    if isinstance(a, np.ndarray | np.number | float) and isinstance(b, np.ndarray | np.number | float):
        x, y = np.asarray(a), np.asarray(b)
        same = x.shape == y.shape and np.array_equal(x, y, equal_nan=x.dtype.kind == "f" == y.dtype.kind)
        return "" if same else where.strip() or "its numbers"
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return next((found for k, (x, y) in pairs if (found := difference(x, y, f"{where} [{k}]"))), "")
    return "" if type(a) is type(b) and a == b else where.strip() or "what there is"
