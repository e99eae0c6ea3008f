"""The user's own environments: `python:package.module:factory`, or entry points of installed packages."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from algorithms import SettingError
from bench.envs.batch import EnvBatch
from bench.envs.errors import EnvError, one_line_with_place
from bench.envs.parallel import ParallelBatch
from bench.tasks import plugins
from bench.tasks.family import MAX_STEPS, Family, Options
from bench.tasks.mujoco import MUJOCO
from bench.tasks.pettingzoo import PETTINGZOO

GROUP = "bench.tasks"
"""The group of entry points that are tasks: each names a task and loads a function that makes a ParallelEnv."""


@dataclass(frozen=True, kw_only=True)
class FactoryOptions(Options):
    """Options of a task of the user's own."""

    episode_length: int | None = None
    """Steps after which an episode is truncated, unless the environment ends it earlier; None: only the latter."""
    arguments: str = "{}"
    """The arguments of its factory, as JSON, so that lists can be hashed too."""

    def named(self) -> dict[str, Any]:
        return {"episode_length": self.episode_length} | json.loads(self.arguments)

    @property
    def limit(self) -> int | None:
        return self.episode_length


def _factory(name: str) -> Callable[..., Any]:
    found: Any = plugins.find(name, GROUP, "name")
    if not callable(found):
        raise SettingError("name", f"{name}: is no function that makes an environment but {found!r}")
    return found


def _factory_options(name: str, options: Mapping[str, Any]) -> FactoryOptions:
    arguments = dict(options)
    factory = _factory(name)
    length = None if "episode_length" in _parameters(factory) else arguments.pop("episode_length", None)
    if length is not None and (type(length) is not int or not 1 <= length <= MAX_STEPS):
        raise SettingError("episode_length", f"{length!r} is not a whole number from 1 to {MAX_STEPS}")
    _refuse_unknown(name, factory, arguments)
    for key, value in arguments.items():
        if not _plain(value):
            raise SettingError(key, f"{value!r} is neither a number, a word, true, false or null nor a list of such")
    return FactoryOptions(episode_length=length, arguments=json.dumps(arguments, sort_keys=True))


def _refuse_unknown(name: str, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that the factory does not take, and missing ones that it needs."""
    try:
        signature = inspect.signature(factory)
    except ValueError:  # of some that are written in C
        return
    parameters = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    valid = ", ".join(dict.fromkeys(["episode_length", *(p.name for p in parameters)]))
    if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        for key in arguments:
            if key not in [p.name for p in parameters]:
                raise SettingError(key, f"unknown option {key!r} of {name}; valid: {valid}")
    for p in parameters:
        if p.default is p.empty and p.name not in arguments:
            raise SettingError(p.name, f"missing: {name} needs it; valid: {valid}")


def _parameters(factory: Callable[..., Any]) -> list[str]:
    """The names of the arguments that a factory takes by name; none of one that does not say."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # of some that are written in C
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def _plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, str | bool | int | float)


def _factory_environment(name: str, options: FactoryOptions) -> Callable[[], Any]:
    return partial(_factory(name), **json.loads(options.arguments))


def _factory_batch(
    name: str, options: FactoryOptions, seeds: Sequence[np.random.SeedSequence], *, auto_reset: bool, env_threads: int
) -> EnvBatch:
    """One environment per seed; whatever the user's code raises becomes a SettingError of one line."""
    make = _factory_environment(name, options)
    try:
        return ParallelBatch(make, seeds, episode_length=options.episode_length, auto_reset=auto_reset)
    except EnvError as error:
        raise SettingError("name", f"{name}: {error}") from error
    except (Exception, SystemExit) as error:
        raise SettingError("name", f"{name}: raised {one_line_with_place(error)} when it was made") from error


def own_names() -> list[str]:
    """The entry points of the group, without those that have the name of a built-in task."""
    listed = {*MUJOCO.names(), *PETTINGZOO.names()}
    return [name for name in plugins.points(GROUP) if name not in listed]


def _is_own(name: str) -> bool:
    return name.startswith(plugins.PREFIX) or name in plugins.points(GROUP)


def _factory_defaults(name: str) -> dict[str, Any]:
    return {"episode_length": None}


def _factory_origin(name: str) -> dict[str, Any]:
    return {"versions": plugins.versions(name, GROUP)}


OWN = Family(
    form="python:package.module:factory",
    has=_is_own,
    names=own_names,
    options=_factory_options,
    defaults=_factory_defaults,
    make=_factory_batch,
    origin=_factory_origin,
    environment=_factory_environment,
)
