"""A family of tasks: what they are called, which options they have, how they are made.

Options are a frozen dataclass, so that tasks can be compared, hashed and sent to workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from algorithms.validation import Bounds
from bench.envs.batch import EnvBatch

MAX_STEPS = 10**9
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
