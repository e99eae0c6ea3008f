"""Games of which everything is known: `games/<game>`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from algorithms import SettingError
from algorithms.validation import Bounds, Positive, near, strict
from bench.envs import games
from bench.envs.batch import EnvBatch
from bench.envs.game_batch import RidgeBatch, TableBatch
from bench.envs.games import Ridge, Table
from bench.tasks.family import Family, Options, Steps

MOST_AGENTS = 16
LARGEST = 10**7
"""Numbers in a table, 80 megabytes."""


@dataclass(frozen=True, kw_only=True)
class OneStepOptions(Options):
    """A game of one step has no options."""


@dataclass(frozen=True, kw_only=True)
class RandomOptions(Options):
    """Options of a random Markov game."""

    agents: Annotated[int, Bounds(1, MOST_AGENTS)] = 3
    """N."""
    states: Annotated[int, Bounds(1, 1000)] = 5
    """S, which all agents observe."""
    actions: Annotated[int, Bounds(1, 100)] = 3
    """Actions of each agent."""
    episode_length: Steps = 20
    """Steps after which an episode is truncated. The game itself has no end."""

    @property
    def limit(self) -> int | None:
        return self.episode_length


@dataclass(frozen=True, kw_only=True)
class RidgeOptions(Options):
    """Options of the ridge."""

    agents: Annotated[int, Bounds(2, MOST_AGENTS)] = 4
    """N."""
    steepness: Positive = 10.0
    """Weight of the squared error of the sum of all actions; that of each agent's own error is 1."""


@dataclass(frozen=True)
class Kind:
    """A kind of game."""

    form: str
    """The form of its names, a regular expression whose group, if it has one, is a number."""
    shown: str
    """The form of its names, for people."""
    listed: tuple[str, ...]
    options: type[Options]
    make: Callable[[int, Any], Table | Ridge]
    """(number in the name, options) -> what is known of it."""


KINDS = (
    Kind(
        r"random-(0|[1-9][0-9]{0,8})",
        "random-<seed>",
        ("random-0", "random-1"),
        RandomOptions,
        lambda seed, o: games.random_game(seed, o.agents, o.states, o.actions),
    ),
    Kind(
        r"coordination-(2|4|6|8|10|12|14|16)",
        f"coordination-<even number of agents up to {MOST_AGENTS}>",
        ("coordination-2", "coordination-4", "coordination-6"),
        OneStepOptions,
        lambda agents, _: games.coordination(agents),
    ),
    Kind("driving", "driving", ("driving",), OneStepOptions, lambda *_: games.driving()),
    Kind("ridge", "ridge", ("ridge",), RidgeOptions, lambda _, o: Ridge(o.agents, o.steepness)),
)
PREFIX = "games/"


def known(name: str, options: Options) -> Table | Ridge:
    """All that is known of a game: its table, or the ridge."""
    game, number = _game(name)
    return game.make(number, options)


def exact_scores(name: str, options: Options) -> tuple[float, float]:
    """The mean return of uniformly random actions, and that of the best ones."""
    found = known(name, options)
    return (found.uniform(), 0.0) if isinstance(found, Ridge) else found.returns(options.limit or 1)


def _game(name: str) -> tuple[Kind, int]:
    """The game of that name, and the number in it."""
    for game in KINDS:
        if match := re.fullmatch(game.form, name.removeprefix(PREFIX)):
            return game, int(match[1]) if match.lastindex else 0
    valid = ", ".join(PREFIX + game.shown for game in KINDS)
    raise SettingError("name", f"unknown game {name!r}{near(name, _names())}; valid: {valid}")


def _options(name: str, options: Mapping[str, Any]) -> Options:
    kind = _game(name)[0].options
    if options and kind is OneStepOptions:
        raise SettingError(next(iter(options)), f"{name} has no options")
    made = strict(kind, options)
    if isinstance(made, RandomOptions):
        numbers = made.states**2 * made.actions**made.agents
        if numbers > LARGEST:
            raise SettingError(
                "agents", f"states^2 x actions^agents are {numbers:,} probabilities, more than {LARGEST:,}"
            )
    return made


def _batch(
    name: str,
    options: Options,
    seeds: Sequence[np.random.SeedSequence],
    *,
    auto_reset: bool,
    env_threads: int,
    drawn: bool,
) -> EnvBatch:
    found = known(name, options)
    if isinstance(found, Ridge):
        return RidgeBatch(found, seeds, auto_reset=auto_reset)
    return TableBatch(found, seeds, episode_length=options.limit, auto_reset=auto_reset)


def _is_game(name: str) -> bool:
    return name.startswith(PREFIX)


def _names() -> list[str]:
    return [PREFIX + name for game in KINDS for name in game.listed]


def _defaults(name: str) -> dict[str, Any]:
    return _game(name)[0].options().named()


def _origin(name: str) -> dict[str, Any]:
    return {"games": games.VERSION}


GAMES = Family(
    form="games/<game>",
    has=_is_game,
    names=_names,
    options=_options,
    defaults=_defaults,
    make=_batch,
    origin=_origin,
    exact_scores=exact_scores,
)
