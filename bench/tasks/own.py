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
from bench.envs.errors import EnvError, error_line_with_place
from bench.envs.parallel import ParallelBatch
from bench.tasks import plugins
from bench.tasks.family import MAX_STEPS, PICTURES, Family, Options
from bench.tasks.games import GAMES
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
    """Every option is the factory's, but `episode_length` where the factory does not ask for it by that name."""
    arguments, parameters = dict(options), _parameters(_factory(name))
    if "episode_length" in parameters and arguments.get("episode_length", 0) is None:  # labels would not tell it
        raise SettingError("episode_length", f"None (null) cannot be told to {name}, which takes it; leave it out")
    length = None if "episode_length" in parameters else arguments.pop("episode_length", None)
    if length is not None and (type(length) is not int or not 1 <= length <= MAX_STEPS):
        raise SettingError("episode_length", f"{length!r} is not a whole number from 1 to {MAX_STEPS}")
    _refuse_unknown(name, parameters, arguments)
    for key, value in arguments.items():
        if not _plain(value):
            raise SettingError(key, f"{value!r} is neither a number, a word, true, false or null nor a list of such")
    return FactoryOptions(episode_length=length, arguments=json.dumps(arguments, sort_keys=True))


def _parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a factory takes by name; one that does not say, being written in C, is taken to accept anything."""
    try:
        parameters = inspect.signature(factory).parameters
    except ValueError:
        return {"options": inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)}
    return {key: p for key, p in parameters.items() if p.kind not in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)}


def _refuse_unknown(name: str, parameters: Mapping[str, inspect.Parameter], arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that the factory does not take, and missing ones that it needs."""
    named = {key: p for key, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
    valid = ", ".join(dict.fromkeys(["episode_length", *named]))
    for key in arguments:
        if key not in named and len(named) == len(parameters):
            raise SettingError(key, f"unknown option {key!r} of {name}; valid: {valid}")
    for key, p in named.items():
        if p.default is p.empty and key not in arguments:
            raise SettingError(key, f"missing: {name} needs it; valid: {valid}")


def _plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, str | bool | int | float)


def _factory_environment(name: str, options: FactoryOptions) -> Callable[[], Any]:
    return partial(_factory(name), **json.loads(options.arguments))


def _factory_batch(
    name: str,
    options: FactoryOptions,
    seeds: Sequence[np.random.SeedSequence],
    *,
    auto_reset: bool,
    env_threads: int,
    drawn: bool,
) -> EnvBatch:
    """One environment per seed; whatever the user's code raises becomes a SettingError of one line.

    Where it is to be drawn, a factory that takes `render_mode` is told.
    """
    make: Callable[..., Any] = _factory_environment(name, options)
    if drawn and "render_mode" in _parameters(_factory(name)):
        make = partial(make, render_mode=PICTURES)
    try:
        return ParallelBatch(make, seeds, episode_length=options.episode_length, auto_reset=auto_reset)
    except EnvError as error:
        raise SettingError("name", f"{name}: {error}") from error
    except (Exception, SystemExit) as error:
        raise SettingError("name", f"{name}: raised {error_line_with_place(error)} when it was made") from error


def own_names() -> list[str]:
    """The entry points of the group, without those that have the name of a built-in task."""
    listed = {*MUJOCO.names(), *PETTINGZOO.names(), *GAMES.names()}
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
