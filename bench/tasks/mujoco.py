"""Multi-Agent MuJoCo: `mamujoco/<robot>-<partition>`."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np

from algorithms import SettingError
from algorithms.validation import Bounds, strict
from bench.envs.batch import EnvBatch
from bench.envs.mujoco import MujocoBatch, ObservationMode
from bench.envs.robots import MAX_SEGMENTS, ROBOTS
from bench.store.provenance import mujoco_version
from bench.tasks.family import Family, Options, Steps

MAX_OBSK = 100


@dataclass(frozen=True, kw_only=True)
class MujocoOptions(Options):
    """Options of a Multi-Agent MuJoCo task."""

    observation: ObservationMode = "local"
    """What an agent observes: `local` its own joints, those up to `obsk` joints away and the torso, as in MaMuJoCo;
    `global` the whole state and its own index; `paper` the same standardised over the features of each sample, as
    the wrapper of Kuba et al. (2022) did."""
    obsk: Annotated[int, Bounds(0, MAX_OBSK)] = 1
    """How many joints away an agent sees, for `local` observations."""
    episode_length: Steps
    """Steps after which an episode is truncated. Default as in Gymnasium: 1000, Reacher 50, Pusher 100."""

    @property
    def limit(self) -> int | None:
        return self.episode_length


def robot_parts(name: str) -> tuple[str, str]:
    """The robot and the partition in a task's name; raises SettingError with the valid ones."""
    robot, _, partition = name.partition("/")[2].partition("-")
    if robot not in ROBOTS:
        raise SettingError(
            "name",
            f"unknown robot {robot!r} in {name!r}{near_name(name)}; valid: {MUJOCO.form}; "
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


def near_name(name: str) -> str:
    """The hint "did you mean ...?" for a misspelt robot, upper and lower case ignored; empty without a near match."""
    robot, _, partition = name.rpartition("/")[2].partition("-")
    known = {robot.lower(): robot for robot in ROBOTS}
    near = [known[match] for match in difflib.get_close_matches(robot.lower(), known)]
    meant = [f"mamujoco/{robot}-{partition}" for robot in near if ROBOTS[robot].has(partition)]
    return f"; did you mean {meant[0]}?" if meant else ""


def _mujoco_options(name: str, options: Mapping[str, Any]) -> MujocoOptions:
    robot, partition = robot_parts(name)
    spec = ROBOTS[robot]
    if "obsk" in options and partition.startswith("1x"):
        raise SettingError("obsk", f"has no meaning for {name}, whose one agent observes the whole state")
    if "obsk" in options and options["obsk"] is None:
        whole = f"1x{math.prod(map(int, partition.split('x')))}" if spec.segments else spec.whole
        valid = f"valid: whole numbers from 0 to {MAX_OBSK}, or task mamujoco/{robot}-{whole}"
        raise SettingError("obsk", f"None (null) would make one agent of the whole robot; {valid}")
    made = strict(MujocoOptions, {"episode_length": spec.episode_length, **options})
    if "obsk" in options and made.observation != "local":
        raise SettingError("obsk", f"has no meaning for {made.observation!r} observations, only for 'local'")
    return made


def _mujoco_batch(
    name: str,
    options: MujocoOptions,
    seeds: Sequence[np.random.SeedSequence],
    *,
    auto_reset: bool,
    env_threads: int,
    drawn: bool,
) -> EnvBatch:
    robot, partition = robot_parts(name)
    return MujocoBatch(robot, partition, seeds, auto_reset=auto_reset, env_threads=env_threads, **asdict(options))


def _is_mujoco(name: str) -> bool:
    return name.startswith("mamujoco/")


def _mujoco_names() -> list[str]:
    return [f"mamujoco/{robot}-{partition}" for robot, spec in ROBOTS.items() for partition in spec.listed()]


def _mujoco_defaults(name: str) -> dict[str, Any]:
    return _mujoco_options(name, {}).named()


def _mujoco_origin(name: str) -> dict[str, Any]:
    return {"mujoco": mujoco_version()}


def _robot(name: str) -> str:
    return robot_parts(name)[0]


MUJOCO = Family(
    form=f"mamujoco/<robot>-<partition> with robots {', '.join(ROBOTS)}",
    has=_is_mujoco,
    names=_mujoco_names,
    options=_mujoco_options,
    defaults=_mujoco_defaults,
    make=_mujoco_batch,
    origin=_mujoco_origin,
    robot=_robot,
)
