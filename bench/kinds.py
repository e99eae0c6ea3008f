"""The kinds of tasks, one row each: how a task is called, what it can be told, how it is made.

A kind gives a task's options as a frozen dataclass, so that tasks can be compared, hashed and sent to workers.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import metadata
from typing import Annotated, Any

import numpy as np

from algorithms import SettingError
from algorithms.validation import Bounds, Count, strict
from bench import plugins
from bench.envs.batch import EnvBatch
from bench.envs.mujoco import MujocoBatch, ObservationMode
from bench.envs.pettingzoo import EnvError, ParallelBatch
from bench.envs.raised import traced
from bench.envs.robots import MAX_SEGMENTS, ROBOTS
from bench.provenance import mujoco_version

GROUP = "bench.tasks"
"""The entry points that are tasks: the name is the task's, the object a function that makes a ParallelEnv."""


MAX_OBSK, MAX_STEPS = 100, 10**9
Steps = Annotated[int, Bounds(1, MAX_STEPS)]


class Options:
    """What a task was told."""

    def named(self) -> dict[str, Any]:
        """Every option by name."""
        return asdict(self)  # type: ignore[call-overload]

    @property
    def limit(self) -> int | None:
        """Steps after which an episode is cut; None where only the environment knows."""
        return None


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
    """Steps after which an episode is cut; unless told Gymnasium's: 1000, Reacher's 50, Pusher's 100."""

    @property
    def limit(self) -> int | None:
        return self.episode_length


@dataclass(frozen=True, kw_only=True)
class ParticleOptions(Options):
    """Options of a particle task of mpe2."""

    continuous_actions: bool = False
    """Actions in [0, 1] for each direction and word instead of one choice."""
    max_cycles: Steps = 25
    """Steps after which an episode is cut."""

    @property
    def limit(self) -> int | None:
        return self.max_cycles


@dataclass(frozen=True, kw_only=True)
class SpreadOptions(ParticleOptions):
    """Options of simple_spread."""

    N: Count = 3
    """Agents, and landmarks."""


@dataclass(frozen=True, kw_only=True)
class WalkerOptions(Options):
    """Options of multiwalker."""

    n_walkers: Annotated[int, Bounds(2)] = 3
    """Walkers that carry the package."""
    max_cycles: Steps = 500
    """Steps after which an episode is cut. The environment itself would call that a termination."""

    @property
    def limit(self) -> int | None:
        return self.max_cycles


@dataclass(frozen=True, kw_only=True)
class FactoryOptions(Options):
    """Options of a task of the user's own."""

    episode_length: int | None = None
    """Steps after which an episode is cut, on top of the environment's own ends; None: only those."""
    arguments: str = "{}"
    """What its factory is told, as JSON."""

    def named(self) -> dict[str, Any]:
        return {"episode_length": self.episode_length, **json.loads(self.arguments)}

    @property
    def limit(self) -> int | None:
        return self.episode_length


@dataclass(frozen=True)
class Kind:
    """One row: everything that is asked of a kind of tasks."""

    form: str
    """How its tasks are called."""
    has: Callable[[str], bool]
    """Whether a name is one of its tasks', by its form."""
    names: Callable[[], list[str]]
    """The tasks that can be listed."""
    options: Callable[[str, Mapping[str, Any]], Options]
    """The options of the task of that name, refusing what does not exist."""
    defaults: Callable[[str], Mapping[str, Any]]
    """What each option is unless told."""
    make: Callable[..., EnvBatch]
    """(name, options, seeds, auto_reset, env_threads) -> one environment per seed, as one batch"""
    origin: Callable[[str], dict[str, Any]]
    """The versions that its numbers follow from, as they enter a trial's identity."""
    environment: Callable[[str, Any], Callable[[], Any]] | None = None
    """(name, options) -> what makes the bare PettingZoo environment, where there is one."""


# mamujoco/


def robot_parts(name: str) -> tuple[str, str]:
    """The robot and the partition in a task's name, refusing either with what there is instead."""
    robot, _, partition = name.partition("/")[2].partition("-")
    if robot not in ROBOTS:
        raise SettingError(
            "name",
            f"unknown robot {robot!r} in {name!r}{_near(name)}; valid: {MUJOCO.form}; "
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
) -> EnvBatch:
    robot, partition = robot_parts(name)
    return MujocoBatch(robot, partition, seeds, auto_reset=auto_reset, env_threads=env_threads, **asdict(options))


MUJOCO = Kind(
    form=f"mamujoco/<robot>-<partition> with robots {', '.join(ROBOTS)}",
    has=lambda name: name.startswith("mamujoco/"),
    names=lambda: [f"mamujoco/{robot}-{cut}" for robot, spec in ROBOTS.items() for cut in spec.listed()],
    options=_mujoco_options,
    defaults=lambda name: _mujoco_options(name, {}).named(),
    make=_mujoco_batch,
    origin=lambda name: {"mujoco": mujoco_version()},
)

# pettingzoo/


@dataclass(frozen=True)
class Zoo:
    """A cooperative environment of PettingZoo's family."""

    module: str
    options: type[Options]
    packages: tuple[str, ...]
    """Whose versions its numbers follow from."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """What it is always told."""
    cuts: bool = True
    """Whether it cuts its episodes itself, and says that it did."""
    extra: str = ""
    """The extra of this project that brings what it needs."""


SHARED = {"local_ratio": 0.0}
"""All of the reward is the team's."""
ZOO = {
    "simple_spread_v3": Zoo("mpe2.simple_spread_v3", SpreadOptions, ("mpe2",), SHARED),
    "simple_reference_v3": Zoo("mpe2.simple_reference_v3", ParticleOptions, ("mpe2",), SHARED),
    "simple_speaker_listener_v4": Zoo("mpe2.simple_speaker_listener_v4", ParticleOptions, ("mpe2",)),
    "multiwalker_v9": Zoo(
        "pettingzoo.sisl.multiwalker.multiwalker",
        WalkerOptions,
        ("pettingzoo", "box2d", "box2d-py"),
        {"shared_reward": True},
        cuts=False,
        extra="sisl",
    ),
}


def _zoo(name: str) -> Zoo:
    known = name.removeprefix("pettingzoo/")
    if known not in ZOO:
        valid = ", ".join(f"pettingzoo/{there}" for there in ZOO)
        raise SettingError("name", f"unknown task {name!r}; valid: {valid}, or python:package.module:factory")
    return ZOO[known]


def _zoo_environment(name: str, options: Options) -> Callable[[], Any]:
    zoo = _zoo(name)
    try:
        module = importlib.import_module(zoo.module)
    except ImportError as error:  # of its own or, in PettingZoo's words, of a dependency
        if not zoo.extra:
            raise
        raise SettingError("name", f"{name} needs the extra {zoo.extra}: pip install '.[{zoo.extra}]'") from error
    told = {**zoo.fixed, **options.named()}
    if not zoo.cuts:
        told["max_cycles"] = told["max_cycles"] + 1
    return partial(module.parallel_env, **told)


def _zoo_batch(
    name: str, options: Options, seeds: Sequence[np.random.SeedSequence], *, auto_reset: bool, env_threads: int
) -> EnvBatch:
    zoo = _zoo(name)
    return ParallelBatch(
        _zoo_environment(name, options),
        seeds,
        episode_length=None if zoo.cuts else options.limit,
        own_state=False,  # mpe2's are all observations, and multiwalker's fails once a walker fell
        leaves=False,
        auto_reset=auto_reset,
    )


def _zoo_origin(name: str) -> dict[str, Any]:
    installed = {}
    for package in _zoo(name).packages:
        with suppress(metadata.PackageNotFoundError):  # one package has two names, depending on the Python version
            installed[package] = metadata.version(package)
    return {"versions": installed}


PETTINGZOO = Kind(
    form="pettingzoo/<environment>",
    has=lambda name: name.startswith("pettingzoo/"),
    names=lambda: [f"pettingzoo/{known}" for known in ZOO],
    options=lambda name, options: strict(_zoo(name).options, options),
    defaults=lambda name: _zoo(name).options().named(),
    make=_zoo_batch,
    origin=_zoo_origin,
    environment=_zoo_environment,
)

# Of the user's own


def _factory(name: str) -> Callable[..., Any]:
    found: Any = plugins.find(name, GROUP, "name")
    if not callable(found):
        raise SettingError("name", f"{name}: is no function that makes an environment but {found!r}")
    return found


def _factory_options(name: str, options: Mapping[str, Any]) -> FactoryOptions:
    arguments = dict(options)
    length = arguments.pop("episode_length", None)
    if length is not None and (not isinstance(length, int) or isinstance(length, bool) or length < 1):
        raise SettingError("episode_length", f"{length!r} is not a whole number at least 1")
    _refuse_unknown(name, _factory(name), arguments)
    for key, value in arguments.items():
        if not _plain(value):
            raise SettingError(key, f"{value!r} is neither a number, a word, true, false or null nor a list of such")
    return FactoryOptions(episode_length=length, arguments=json.dumps(arguments, sort_keys=True))


def _refuse_unknown(name: str, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Arguments that the factory does not take, and those that it needs and did not get."""
    try:
        signature = inspect.signature(factory)
    except ValueError:  # of some that are written in C
        return
    parameters = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    valid = ", ".join(["episode_length", *(p.name for p in parameters)])
    if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        for key in arguments:
            if key not in [p.name for p in parameters]:
                raise SettingError(key, f"unknown option {key!r} of {name}; valid: {valid}")
    for p in parameters:
        if p.default is p.empty and p.name not in arguments:
            raise SettingError(p.name, f"missing: {name} needs it; valid: {valid}")


def _plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, str | bool | int | float)


def _factory_environment(name: str, options: FactoryOptions) -> Callable[[], Any]:
    return partial(_factory(name), **json.loads(options.arguments))


def _factory_batch(
    name: str, options: FactoryOptions, seeds: Sequence[np.random.SeedSequence], *, auto_reset: bool, env_threads: int
) -> EnvBatch:
    """Whatever goes wrong in an environment that is new here is told in one line."""
    make = _factory_environment(name, options)
    try:
        return ParallelBatch(make, seeds, episode_length=options.episode_length, auto_reset=auto_reset)
    except EnvError as error:
        raise SettingError("name", f"{name}: {error}") from error
    except (Exception, SystemExit) as error:
        raise SettingError("name", f"{name}: raised {traced(error)} when it was made") from error


def _own_names() -> list[str]:
    """Without those that have the name of a task that is listed already."""
    listed = {*MUJOCO.names(), *PETTINGZOO.names()}
    return [name for name in plugins.points(GROUP) if name not in listed]


OWN = Kind(
    form="python:package.module:factory",
    has=lambda name: name.startswith(plugins.PREFIX) or name in plugins.points(GROUP),
    names=_own_names,
    options=_factory_options,
    defaults=lambda name: {"episode_length": None},
    make=_factory_batch,
    origin=lambda name: {"versions": plugins.versions(name, GROUP)},
    environment=_factory_environment,
)

KINDS = (MUJOCO, PETTINGZOO, OWN)


def kind(name: str) -> Kind:
    """The kind of the task of that name, refusing an entry point whose name is taken."""
    plugins.refuse_taken(name, GROUP, ("mamujoco/", "pettingzoo/", plugins.PREFIX), "name")
    for found in KINDS:
        if found.has(name):
            return found
    forms = "; ".join(known.form for known in KINDS)
    own = "".join(f"; {name}" for name in _own_names())
    raise SettingError(
        "name", f"unknown task {name!r}{_near(name)}; valid: {forms}{own}; `python -m bench.tasks` lists them"
    )
