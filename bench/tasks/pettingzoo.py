"""Cooperative environments of PettingZoo's family: `pettingzoo/<environment>`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from typing import Annotated, Any

import numpy as np

from algorithms import SettingError
from algorithms.validation import Bounds, strict
from bench.cli.installation import installing
from bench.envs.batch import EnvBatch
from bench.envs.parallel import ParallelBatch
from bench.tasks.family import PICTURES, Family, Options, Steps

MOST_AGENTS = 30
"""Each observes all, or pushes on what all carry: with 100 a rollout and its update take minutes."""


@dataclass(frozen=True, kw_only=True)
class ParticleOptions(Options):
    """Options of a particle task of mpe2."""

    continuous_actions: bool = False
    """Actions in [0, 1] for each direction and word instead of one choice."""
    max_cycles: Steps = 25
    """Steps after which an episode is truncated."""

    @property
    def limit(self) -> int | None:
        return self.max_cycles


@dataclass(frozen=True, kw_only=True)
class SpreadOptions(ParticleOptions):
    """Options of simple_spread."""

    N: Annotated[int, Bounds(1, MOST_AGENTS)] = 3
    """Agents, and landmarks."""


@dataclass(frozen=True, kw_only=True)
class WalkerOptions(Options):
    """Options of multiwalker."""

    n_walkers: Annotated[int, Bounds(2, MOST_AGENTS)] = 3
    """Walkers that carry the package."""
    max_cycles: Steps = 500
    """Steps after which an episode is truncated. The environment itself would report a termination."""

    @property
    def limit(self) -> int | None:
        return self.max_cycles


@dataclass(frozen=True)
class Zoo:
    """A cooperative environment of PettingZoo's family."""

    module: str
    options: type[Options]
    packages: tuple[str, ...]
    """The packages whose versions its numbers depend on."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that are the same for every task."""
    truncates: bool = True
    """Whether it truncates its episodes itself and reports that as a truncation."""
    extra: str = ""
    """The optional dependencies (extra) of this project that it needs."""


SHARED = {"local_ratio": 0.0}
"""The reward of each agent is that of the team, without a part of its own."""


ZOO = {
    "simple_spread_v3": Zoo("mpe2.simple_spread_v3", SpreadOptions, ("mpe2",), SHARED),
    "simple_reference_v3": Zoo("mpe2.simple_reference_v3", ParticleOptions, ("mpe2",), SHARED),
    "simple_speaker_listener_v4": Zoo("mpe2.simple_speaker_listener_v4", ParticleOptions, ("mpe2",)),
    "multiwalker_v9": Zoo(
        "pettingzoo.sisl.multiwalker.multiwalker",
        WalkerOptions,
        ("pettingzoo", "box2d", "box2d-py"),
        {"shared_reward": True},
        truncates=False,
        extra="sisl",
    ),
}


def _zoo(name: str) -> Zoo:
    known = name.removeprefix("pettingzoo/")
    if known not in ZOO:
        valid = ", ".join(f"pettingzoo/{name}" for name in ZOO)
        raise SettingError("name", f"unknown task {name!r}; valid: {valid}, or python:package.module:factory")
    return ZOO[known]


def _zoo_environment(name: str, options: Options) -> Callable[[], Any]:
    zoo = _zoo(name)
    try:
        module = importlib.import_module(zoo.module)
    except ImportError as error:  # of its own or, in PettingZoo's words, of a dependency
        if not zoo.extra:
            raise
        raise SettingError("name", f"{name} needs the extra {zoo.extra}: {installing(zoo.extra)}") from error
    arguments = {**zoo.fixed, **options.named()}
    if not zoo.truncates:
        arguments["max_cycles"] += 1  # the batch truncates one step earlier
    return partial(module.parallel_env, **arguments)


def _zoo_batch(
    name: str,
    options: Options,
    seeds: Sequence[np.random.SeedSequence],
    *,
    auto_reset: bool,
    env_threads: int,
    drawn: bool,
) -> EnvBatch:
    zoo = _zoo(name)
    make: Callable[..., Any] = _zoo_environment(name, options)
    return ParallelBatch(
        partial(make, render_mode=PICTURES) if drawn else make,
        seeds,
        episode_length=None if zoo.truncates else options.limit,
        own_state=False,  # mpe2's is all observations, and multiwalker's fails once a walker has fallen
        leaves=False,
        auto_reset=auto_reset,
    )


def _zoo_origin(name: str) -> dict[str, Any]:
    installed = {}
    for package in _zoo(name).packages:
        with suppress(metadata.PackageNotFoundError):  # one package has two names, depending on the Python version
            installed[package] = metadata.version(package)
    return {"versions": installed}


def _is_pettingzoo(name: str) -> bool:
    return name.startswith("pettingzoo/")


def _zoo_names() -> list[str]:
    return [f"pettingzoo/{known}" for known in ZOO]


def _zoo_options(name: str, options: Mapping[str, Any]) -> Options:
    return strict(_zoo(name).options, options)


def _zoo_defaults(name: str) -> dict[str, Any]:
    return _zoo(name).options().named()


PETTINGZOO = Family(
    form="pettingzoo/<environment>",
    has=_is_pettingzoo,
    names=_zoo_names,
    options=_zoo_options,
    defaults=_zoo_defaults,
    make=_zoo_batch,
    origin=_zoo_origin,
    environment=_zoo_environment,
)
