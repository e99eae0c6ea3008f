"""Tasks by name: "mamujoco/HalfCheetah-2x3" with options -> a batch of environments.

`python -m bench.tasks` lists them.
"""

from __future__ import annotations

from bench import command

if __name__ == "__main__":
    command.begin()

import argparse
import difflib
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Annotated, Any

import numpy as np

from algorithms import SettingError, Team
from algorithms.config import Bounds, strict
from bench.envs.batch import EnvBatch
from bench.envs.mujoco import MujocoBatch, ObservationMode
from bench.envs.robots import MAX_SEGMENTS, ROBOTS

MAX_OBSK, MAX_EPISODE_LENGTH = 100, 10**9

KUBA, ZHONG = "Kuba et al. 2022", "Zhong et al. 2024"
PAPERS: dict[str, tuple[str, ...]] = {
    "mamujoco/Ant-2x4": (KUBA,),
    "mamujoco/Ant-4x2": (KUBA, ZHONG),
    "mamujoco/Ant-8x1": (KUBA,),
    "mamujoco/HalfCheetah-2x3": (KUBA, ZHONG),
    "mamujoco/HalfCheetah-3x2": (KUBA,),
    "mamujoco/HalfCheetah-6x1": (KUBA,),
    "mamujoco/Hopper-3x1": (ZHONG,),
    "mamujoco/Walker2d-2x3": (KUBA, ZHONG),
    "mamujoco/Walker2d-3x2": (KUBA,),
    "mamujoco/Walker2d-6x1": (KUBA, ZHONG),
    "mamujoco/Humanoid-17x1": (KUBA, ZHONG),
    "mamujoco/HumanoidStandup-17x1": (KUBA,),
    "mamujoco/ManySegmentSwimmer-10x2": (KUBA,),
}
"""Whose comparison of these methods a task is part of."""


@dataclass(frozen=True, kw_only=True)
class MujocoOptions:
    """Options of a Multi-Agent MuJoCo task."""

    observation: ObservationMode = "local"
    """What an agent observes: `local` its own joints, those up to `obsk` joints away and the torso, as in MaMuJoCo;
    `global` the whole state and its own index; `paper` the same standardised over the features of each sample, as
    the wrapper of Kuba et al. (2022) did."""
    obsk: Annotated[int, Bounds(0, MAX_OBSK)] = 1
    """How many joints away an agent sees, for `local` observations."""
    episode_length: Annotated[int, Bounds(1, MAX_EPISODE_LENGTH)]
    """Steps after which an episode is cut; unless told Gymnasium's: 1000, Reacher's 50, Pusher's 100."""


@dataclass(frozen=True)
class Task:
    """A name and its options."""

    name: str
    options: MujocoOptions

    @property
    def robot(self) -> str:
        """Whose physics it runs on."""
        return _parts(self.name)[0]

    @property
    def label(self) -> str:
        """The name with every option that is not at its default: what tables call this task."""
        default = task(self.name, {}).options
        own = [
            f"{f.name}={getattr(self.options, f.name)}"
            for f in fields(self.options)
            if getattr(self.options, f.name) != getattr(default, f.name)
        ]
        return ":".join([self.name, *own])


def names() -> list[str]:
    """Every task there is, and of robots that have any number of segments those of the papers."""
    return [f"mamujoco/{robot}-{partition}" for robot, spec in ROBOTS.items() for partition in spec.listed()]


def task(name: str, options: Mapping[str, Any]) -> Task:
    """The task of that name, refusing what does not exist."""
    robot, partition = _parts(name)
    spec = ROBOTS[robot]
    if "obsk" in options and partition.startswith("1x"):
        raise SettingError("obsk", f"has no meaning for {name}, whose one agent observes the whole state")
    if "obsk" in options and options["obsk"] is None:
        whole = f"1x{math.prod(map(int, partition.split('x')))}" if spec.segments else spec.whole
        valid = f"valid: whole numbers from 0 to {MAX_OBSK}, or task mamujoco/{robot}-{whole}"
        raise SettingError("obsk", f"None (null) would make one agent of the whole robot; {valid}")
    made = Task(name, strict(MujocoOptions, {"episode_length": spec.episode_length, **options}))
    if "obsk" in options and made.options.observation != "local":
        raise SettingError("obsk", f"has no meaning for {made.options.observation!r} observations, only for 'local'")
    return made


def _parts(name: str) -> tuple[str, str]:
    """The robot and the partition in a task's name, refusing either with what there is instead."""
    kind, _, rest = name.partition("/")
    robot, _, partition = rest.partition("-")
    if kind != "mamujoco" or robot not in ROBOTS:
        complaint = f"unknown task {name!r}" if kind != "mamujoco" else f"unknown robot {robot!r} in {name!r}"
        valid = ", ".join(ROBOTS)
        raise SettingError(
            "name",
            f"{complaint}{_near(name)}; valid: mamujoco/<robot>-<partition> with robots {valid}; "
            "`python -m bench.tasks` lists them",
        )
    spec = ROBOTS[robot]
    if not spec.has(partition):
        complaint = f"unknown partition {partition!r} of {robot}"
        form = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", partition)
        total = int(form[1]) * int(form[2]) if form else 0
        if form and not spec.segments and total != spec.joints:
            complaint += f": {form[1]} x {form[2]} joints are {total}, it has {spec.joints}"
        if spec.segments and total > MAX_SEGMENTS:
            complaint += f": {total} segments exceed {MAX_SEGMENTS}"
        valid = ", ".join(f"mamujoco/{robot}-{known}" for known in spec.listed())
        if spec.segments:
            valid += f", or any NxM of N agents with M segments each, 2 to {MAX_SEGMENTS} segments in all"
        raise SettingError("name", f"{complaint}; valid: {valid}")
    return robot, partition


def _near(name: str) -> str:
    """The question whether a task was meant whose robot has nearly that name, whatever the case of its letters."""
    robot, _, partition = name.rpartition("/")[2].partition("-")
    known = {robot.lower(): robot for robot in ROBOTS}
    near = [known[match] for match in difflib.get_close_matches(robot.lower(), known)]
    meant = [f"mamujoco/{robot}-{partition}" for robot in near if ROBOTS[robot].has(partition)]
    return f"; did you mean {meant[0]}?" if meant else ""


def make(
    task: Task, seeds: Sequence[np.random.SeedSequence], *, auto_reset: bool = True, env_threads: int = 1
) -> EnvBatch:
    """One environment per seed, as one batch, stepped by `env_threads` threads."""
    robot, partition = _parts(task.name)
    return MujocoBatch(robot, partition, seeds, auto_reset=auto_reset, env_threads=env_threads, **asdict(task.options))


@cache
def team(task: Task) -> Team:
    """The sizes of a task's agents."""
    return make(task, [np.random.SeedSequence(0)]).team


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """Print every task, or write them as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.tasks", description="List the tasks.", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="as a JSON list, for machines")
    as_json = parser.parse_args(arguments).json
    rows = [_describe(name) for name in names()]
    if as_json:
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{'task':<35} {'agents':>6}  {'state':>5}  {'observations':<20} {'actions':<15} papers")
    for row in rows:
        observations, actions = (_short(row[key]) for key in ("observation_sizes", "action_sizes"))
        papers = ", ".join(row["papers"]) or "-"
        print(
            f"{row['task']:<35} {row['agents']:>6}  {row['state_size']:>5}  {observations:<20} {actions:<15} {papers}"
        )
    for robot, spec in ROBOTS.items():
        if spec.segments:
            print(f"mamujoco/{robot}-NxM: any N agents with M segments each, 2 to {MAX_SEGMENTS} segments in all")
    return 0


def _describe(name: str) -> dict[str, Any]:
    sizes = team(task(name, {}))
    return {
        "task": name,
        "agents": sizes.size,
        "observation_sizes": list(sizes.observation_sizes),
        "action_sizes": [space.size for space in sizes.action_spaces],
        "state_size": sizes.state_size,
        "episode_length": task(name, {}).options.episode_length,
        "papers": list(PAPERS.get(name, ())),
    }


def _short(sizes: Sequence[int]) -> str:
    """Sizes per agent, one for all where they agree, a range where they are many."""
    if len({*sizes}) == 1:
        return str(sizes[0])
    return ", ".join(map(str, sizes)) if len(sizes) <= 4 else f"{min(sizes)} to {max(sizes)}"


if __name__ == "__main__":
    sys.exit(main())
