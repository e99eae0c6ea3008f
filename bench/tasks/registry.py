"""Tasks by name: which exist, and how one becomes a batch of environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from algorithms import SettingError, Team
from bench.envs.batch import EnvBatch
from bench.tasks import plugins
from bench.tasks.family import Family, Options
from bench.tasks.games import GAMES
from bench.tasks.mujoco import MUJOCO, near_name
from bench.tasks.own import GROUP, OWN, own_names
from bench.tasks.pettingzoo import PETTINGZOO

FAMILIES = (MUJOCO, PETTINGZOO, GAMES, OWN)


def family(name: str) -> Family:
    """The family of the task of that name; refuses an unknown name and an entry point whose name is taken."""
    plugins.refuse_taken(name, GROUP, ("mamujoco/", "pettingzoo/", "games/", plugins.PREFIX), "name")
    for found in FAMILIES:
        if found.has(name):
            return found
    forms = "; ".join(known.form for known in FAMILIES)
    own = "".join(f"; {name}" for name in own_names())
    raise SettingError(
        "name", f"unknown task {name!r}{near_name(name)}; valid: {forms}{own}; `python -m bench.tasks` lists them"
    )


@dataclass(frozen=True)
class Task:
    """An environment with its options. Tasks are equal if name and options are."""

    name: str
    options: Options
    family: Family = field(compare=False, repr=False)

    @property
    def robot(self) -> str | None:
        """The MuJoCo robot whose physics it runs on; None: it runs without MuJoCo."""
        return self.family.robot and self.family.robot(self.name)

    @property
    def episode_length(self) -> int | None:
        """Steps after which an episode is truncated; None: only the environment ends it."""
        return self.options.limit

    @property
    def label(self) -> str:
        """The name with every option that is not at its default: what tables call this task."""
        default = self.family.defaults(self.name)
        own = [
            f"{key}={value}"
            for key, value in self.options.named().items()
            if key not in default or value != default[key]
        ]
        return ":".join([self.name, *own])

    def environment(self) -> Callable[[], Any] | None:
        """A function that makes the single PettingZoo environment; None: the family has no such environments."""
        return self.family.environment and self.family.environment(self.name, self.options)

    def exact_scores(self) -> tuple[float, float] | None:
        """The mean returns of uniformly random and of the best actions, where they are known."""
        return self.family.exact_scores and self.family.exact_scores(self.name, self.options)

    def origin(self) -> dict[str, Any]:
        """The versions that its numbers depend on: part of a trial's config hash."""
        return self.family.origin(self.name)


def names() -> list[str]:
    """Every task that can be listed; of robots with any number of segments only the partitions of the papers."""
    return [name for known in FAMILIES for name in known.names()]


def task(name: str, options: Mapping[str, Any]) -> Task:
    """The task of that name; raises SettingError for an unknown name or option."""
    own = family(name)
    return Task(name, own.options(name, options), own)


def make(
    task: Task,
    seeds: Sequence[np.random.SeedSequence],
    *,
    auto_reset: bool = True,
    env_threads: int = 1,
    drawn: bool = False,
) -> EnvBatch:
    """One environment per seed, as one batch; those of MuJoCo are stepped by `env_threads` threads.

    `drawn`: made so that `bench.envs.rendering` can take pictures of it.
    """
    own = {"auto_reset": auto_reset, "env_threads": env_threads, "drawn": drawn}
    return task.family.make(task.name, task.options, seeds, **own)


@cache
def team(task: Task) -> Team:
    """The sizes and spaces of a task's agents."""
    with closing(make(task, [np.random.SeedSequence(0)])) as batch:
        return batch.team
