"""Tasks by name: "mamujoco/HalfCheetah-2x3" with options -> a batch of environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Annotated, Any

import numpy as np

from algorithms import SettingError, Team
from algorithms.config import Bounds, Count, strict
from bench.envs.batch import EnvBatch
from bench.envs.mujoco import ROBOTS, MujocoBatch, ObservationMode


@dataclass(frozen=True)
class MujocoOptions:
    """Options of a Multi-Agent MuJoCo task."""

    observation: ObservationMode = "local"
    """What an agent observes: `local` its own joints, those up to `obsk` joints away and the torso, as in MaMuJoCo;
    `global` the whole state and its own index; `paper` the same standardised over the features of each sample, as
    the wrapper of Kuba et al. (2022) did."""
    obsk: Annotated[int, Bounds(0)] = 1
    """How many joints away an agent sees, for `local` observations."""
    episode_length: Count = 1000
    """Steps after which an episode is cut."""


@dataclass(frozen=True)
class Task:
    """A name and its options."""

    name: str
    options: MujocoOptions = field(default_factory=MujocoOptions)

    @property
    def label(self) -> str:
        """The name with every option that is not at its default: what tables call this task."""
        own = [
            f"{f.name}={getattr(self.options, f.name)}"
            for f in fields(self.options)
            if getattr(self.options, f.name) != f.default
        ]
        return ":".join([self.name, *own])


def names() -> list[str]:
    """Every task there is."""
    return [f"mamujoco/{robot}-{partition}" for robot, spec in ROBOTS.items() for partition in spec.partitions]


def task(name: str, options: Mapping[str, Any]) -> Task:
    """The task of that name, refusing what does not exist."""
    if name not in names():
        raise SettingError("name", f"unknown task {name!r}; valid: {', '.join(names())}")
    made = Task(name, strict(MujocoOptions, options))
    if "obsk" in options and made.options.observation != "local":
        raise SettingError("obsk", f"has no meaning for {made.options.observation!r} observations, only for 'local'")
    return made


def make(task: Task, seeds: Sequence[np.random.SeedSequence], *, auto_reset: bool = True) -> EnvBatch:
    """One environment per seed, as one batch."""
    robot, _, partition = task.name.removeprefix("mamujoco/").partition("-")
    return MujocoBatch(robot, partition, seeds, auto_reset=auto_reset, **asdict(task.options))


@cache
def team(task: Task) -> Team:
    """The sizes of a task's agents."""
    return make(task, [np.random.SeedSequence(0)]).team
