"""Episodes of random actions in a single PettingZoo environment, recorded for the checks of the contract."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pettingzoo import ParallelEnv

from bench.envs.batch import EnvBatch
from bench.envs.closing import close
from bench.envs.errors import EnvError
from bench.envs.parallel_calls import reset, state_of
from bench.envs.random_play import random_action
from bench.envs.rules import form_error
from bench.envs.spaces import ActionDecoder, write_mask

EPISODES, STEPS, SECONDS = 3, 10_000, 10.0
"""Episodes that are checked, and steps and seconds after which one is considered endless."""
SHORT = 60
"""Steps after which two runs are compared."""


class ContractError(Exception):
    """A violation of the contract, in one line."""


@dataclass
class EnvOutput:
    """The output of an environment at a reset (`acted` is empty) or at a step."""

    where: str
    acted: list[str]
    observations: Any
    rewards: Any
    terminated: Any
    truncated: Any
    infos: Any
    agents: list[str]
    """`environment.agents` afterwards."""
    state: Any


@dataclass
class TaskUnderCheck:
    """A task that is checked, and what the checks so far found of it."""

    make: Callable[[], Any] | None
    """Makes the single environment; None: the family has none."""
    make_batch: Callable[..., EnvBatch]
    """(seeds) -> a batch of it."""
    limit: int | None
    controls: dict[str, ActionDecoder] = field(default_factory=dict)
    episodes: list[list[EnvOutput]] = field(default_factory=list)
    ended: bool = False
    """Whether every episode was ended by the environment."""
    opened: ExitStack = field(default_factory=ExitStack)
    """Closes what the current check has made."""

    def batch(self, seeds: Sequence[np.random.SeedSequence]) -> EnvBatch:
        """A batch of it, which is closed when the check is over."""
        return self.opened.enter_context(closing(self.make_batch(seeds)))

    def outputs(self) -> Iterator[EnvOutput]:
        """Every output of all episodes."""
        for episode in self.episodes:
            yield from episode


def seed_sequences(count: int, entropy: int = 0) -> list[np.random.SeedSequence]:
    return np.random.SeedSequence(entropy).spawn(count)


def new_environment(subject: TaskUnderCheck) -> Any:
    """An environment, which is closed when the check is over."""
    assert subject.make is not None
    made = subject.make()
    subject.opened.callback(close, made)
    if not isinstance(made, ParallelEnv):
        raise ContractError(f"{type(made).__name__} is no pettingzoo.ParallelEnv")
    return made


def playing(subject: TaskUnderCheck) -> str:
    """Episodes of random actions run to their ends."""
    environment = new_environment(subject)
    if not subject.controls:
        raise ContractError("nothing to act with")
    random = np.random.default_rng(0)
    subject.ended = True
    for seed in range(EPISODES):
        subject.episodes.append([])
        subject.ended &= play_episode(subject, environment, seed, random, subject.episodes[-1])
    return f"{sum(map(len, subject.episodes)) - EPISODES} steps in {EPISODES} episodes"


def play_episode(
    subject: TaskUnderCheck,
    environment: Any,
    seed: int,
    random: np.random.Generator,
    into: list[EnvOutput],
    most: int | None = None,
) -> bool:
    """Record an episode of random actions; whether the environment ended it."""
    seen, infos = reset(environment, seed, [*subject.controls])
    start, most = time.perf_counter(), most or STEPS
    into.append(output_of(environment, f"reset to seed {seed}", [], (seen, {}, {}, {}, infos)))
    for step in range(1, min(most, subject.limit or most) + 1):
        acted = list(environment.agents)
        answer = environment.step({name: _action(subject, name, seen, infos, random) for name in acted})
        if wrong := form_error(answer):
            raise ContractError(f"{wrong}, at step {step} of seed {seed}")
        seen, infos = answer[0], answer[4]
        into.append(output_of(environment, f"step {step} of seed {seed}", acted, answer))
        if not environment.agents:
            return True
        if time.perf_counter() - start > SECONDS:
            break
    return False


def output_of(environment: Any, where: str, acted: list[str], answer: Sequence[Any]) -> EnvOutput:
    """A copy of what `reset` or `step` returned, and of the state."""
    seen, reward, terminated, truncated, infos = map(deep_copy, answer)
    try:
        now: Any = deep_copy(state_of(environment))
    except EnvError as error:  # reported by the check `state`, if `state()` is used
        now = str(error).removeprefix("state ")
    return EnvOutput(where, acted, seen, reward, terminated, truncated, infos, list(environment.agents), now)


def deep_copy(x: Any) -> Any:
    """A copy of what an environment may write into later: dicts, lists, tuples and arrays."""
    if isinstance(x, dict):
        return {key: deep_copy(value) for key, value in x.items()}
    if type(x) in (list, tuple):
        return type(x)(map(deep_copy, x))
    return x.copy() if isinstance(x, np.ndarray) else x


def _action(subject: TaskUnderCheck, name: str, seen: Any, infos: Any, random: np.random.Generator) -> Any:
    """A random action that the agent's mask allows."""
    own, mask = subject.controls[name], None
    allowed = mask_of(seen.get(name), infos.get(name))
    if allowed is not None and not hasattr(own.space, "choices"):
        raise ContractError(f"{name} has an action_mask and no choices: its action space is a Box")
    if allowed is not None:
        mask = read_mask(own.space, allowed, f"the action_mask of {name}")[None]
    return own.convert(random_action(own.space, mask, 1, random))[0]


def read_mask(space: Any, mask: Any, what: str) -> Any:
    """The mask [choice_count]; refuses one of another size and one that allows nothing."""
    row = np.zeros(space.choice_count, dtype=np.bool_)
    try:
        write_mask(row, mask)
    except ValueError as error:
        raise ContractError(f"{what}: {error}") from None
    if not all(part.any() for part in np.split(row, np.cumsum(space.choices)[:-1])):
        raise ContractError(f"{what} allows nothing")
    return row


def mask_of(observation: Any, info: Any) -> Any:
    """The action mask in an agent's observation or info."""
    if isinstance(observation, dict) and "action_mask" in observation:
        return observation["action_mask"]
    return info.get("action_mask") if isinstance(info, dict) else None
