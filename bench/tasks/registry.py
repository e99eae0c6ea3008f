"""Tasks by name: which there are, and how one becomes a batch of environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from algorithms import SettingError, Team
from bench.envs.batch import EnvBatch
from bench.tasks import plugins
from bench.tasks.family import Kind, Options
from bench.tasks.mujoco import MUJOCO, MujocoOptions, near_name, robot_parts
from bench.tasks.own import GROUP, OWN, own_names
from bench.tasks.pettingzoo import PETTINGZOO

KINDS = (MUJOCO, PETTINGZOO, OWN)


def kind(name: str) -> Kind:
    """The kind of the task of that name, refusing an entry point whose name is taken."""
    plugins.refuse_taken(name, GROUP, ("mamujoco/", "pettingzoo/", plugins.PREFIX), "name")
    for found in KINDS:
        if found.has(name):
            return found
    forms = "; ".join(known.form for known in KINDS)
    own = "".join(f"; {name}" for name in own_names())
    raise SettingError(
        "name", f"unknown task {name!r}{near_name(name)}; valid: {forms}{own}; `python -m bench.tasks` lists them"
    )


@dataclass(frozen=True)
class Task:
    """A name and its options."""

    name: str
    options: Options

    @property
    def robot(self) -> str | None:
        """Whose physics it runs on; None where it is none of MuJoCo's."""
        return robot_parts(self.name)[0] if isinstance(self.options, MujocoOptions) else None

    @property
    def episode_length(self) -> int | None:
        """Steps after which an episode is cut; None where only the environment knows."""
        return self.options.limit

    @property
    def label(self) -> str:
        """The name with every option that is not at its default: what tables call this task."""
        default = kind(self.name).defaults(self.name)
        own = [
            f"{key}={value}"
            for key, value in self.options.named().items()
            if key not in default or value != default[key]
        ]
        return ":".join([self.name, *own])

    def origin(self) -> dict[str, Any]:
        """The versions that its numbers follow from: part of a trial's identity."""
        return kind(self.name).origin(self.name)


def names() -> list[str]:
    """Every task that can be listed: of robots that have any number of segments those of the papers."""
    return [name for known in KINDS for name in known.names()]


def task(name: str, options: Mapping[str, Any]) -> Task:
    """The task of that name, refusing what does not exist."""
    return Task(name, kind(name).options(name, options))


def make(
    task: Task, seeds: Sequence[np.random.SeedSequence], *, auto_reset: bool = True, env_threads: int = 1
) -> EnvBatch:
    """One environment per seed, as one batch; MuJoCo's are stepped by `env_threads` threads."""
    made = kind(task.name).make
    return made(task.name, task.options, seeds, auto_reset=auto_reset, env_threads=env_threads)


@cache
def team(task: Task) -> Team:
    """The sizes of a task's agents."""
    return make(task, [np.random.SeedSequence(0)]).team
