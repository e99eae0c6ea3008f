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
PICTURES = "rgb_array"
"""The `render_mode` of a PettingZoo environment that gives pictures as arrays."""


class Options:
    """The options of a task."""

    def named(self) -> dict[str, Any]:
        """Every option by name."""
        return asdict(self)  # type: ignore[call-overload]

    @property
    def limit(self) -> int | None:
        """Steps after which an episode is truncated; None: only the environment ends it."""
        return None


@dataclass(frozen=True)
class Family:
    """Tasks that are named, configured and made in the same way.

    Its functions are module-level functions, so that a task can be pickled.
    """

    form: str
    """The form of its task names, for messages."""
    has: Callable[[str], bool]
    """Whether a name has that form."""
    names: Callable[[], list[str]]
    """The tasks to list."""
    options: Callable[[str, Mapping[str, Any]], Options]
    """(name, options by name) -> the checked options; raises SettingError."""
    defaults: Callable[[str], Mapping[str, Any]]
    """(name) -> the default of every option."""
    make: Callable[..., EnvBatch]
    """(name, options, seeds, auto_reset, env_threads, drawn) -> one environment per seed, as one batch."""
    origin: Callable[[str], dict[str, Any]]
    """(name) -> the versions that its numbers depend on, as they enter a trial's config hash."""
    environment: Callable[[str, Any], Callable[[], Any]] | None = None
    """(name, options) -> a function that makes the single PettingZoo environment; None: there is none."""
    robot: Callable[[str], str] | None = None
    """(name) -> the MuJoCo robot whose physics it runs on; None: it runs without MuJoCo."""
    exact_scores: Callable[[str, Any], tuple[float, float]] | None = None
    """(name, options) -> the mean returns of uniformly random and of the best actions; None: they are not known."""
