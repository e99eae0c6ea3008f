"""Where work runs: on this machine, or on an engine that people already run. One interface, one small file for each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from importlib import import_module
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from bench.cli.installation import installing
from bench.suite.model import SuiteError
from bench.trial.link import Progress

T = TypeVar("T")
NAMES = ("local", "dask", "ray", "slurm")
NEEDS = {"dask": "distributed", "ray": "ray", "slurm": "submitit"}
"""The package without which an engine cannot be spoken to."""

Message = str | Progress
"""What work tells while it goes on: a line for the user, or how far a trial is."""


class Channel(Protocol):
    """The way from work back to the command, and whether the command or the worker wants it to end."""

    def tell(self, message: Message) -> None: ...

    def is_set(self) -> bool: ...


Function = Callable[[T, Channel], Any]
"""What workers are given besides each piece of work."""
Ask = Callable[[], dict[str, Any]]
"""What a worker is; it gets no work where the answer is another one than here."""
Hear = Callable[[Message], None]
"""Where messages go."""


@dataclass(frozen=True)
class Work(Generic[T]):
    """What a worker is given, and what it needs there."""

    item: T
    cores: int = 1
    memory: int = 0
    """Bytes."""


@dataclass(frozen=True)
class Lost(Generic[T]):
    """Work that could not be done: its workers were lost again and again, or the function itself raised."""

    item: T
    reason: str


class NotBegun(Lost[T]):
    """Work that was not begun because its worker is not in order."""


class Backend(ABC):
    """Where work runs. A context: what it holds is let go at the end, nothing of the engine itself is shut down."""

    jobs: int
    """The most pieces of work at once; 0: as many as there is room for."""
    remote = True
    """Whether work may run on other machines."""
    endless = True
    """Whether work may have no end; else all of it is handed over at the beginning."""
    pause = 1.0
    """Seconds before work is tried again that another run holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _k: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self.close()

    def share_out(self, cores: int) -> None:  # noqa: B027 engines know the cores of their workers
        """Make room for work that needs so many cores each, unless the user has said how much goes on at once."""

    def close(self) -> None:  # noqa: B027 this machine and Slurm are not left
        """Leave the engine."""

    @abstractmethod
    def at_once(self, cores: int) -> int:
        """How many pieces of work that need so many cores run at once, as things are now; 0 where nobody knows."""

    def in_parallel(self, cores: int) -> int:
        """How many of those that run at once have cores of their own."""
        return self.at_once(cores)

    @abstractmethod
    def run(self, function: Function[T], work: Iterable[Work[T]], ask: Ask, hear: Hear) -> Generator[Any]:
        """`function(item, channel)` for all work, which begins in its order; yields results, or Lost, as they come.

        Function, items and `ask` are pickled. `work` is asked for when there is room. A worker gets none unless `ask`
        gives there what it gives here. `hear` gets what work tells, in any thread. Whoever leaves early waits until no
        work goes on any more.
        """


def connect(name: str, address: str | None, jobs: int | None) -> Backend:
    """The back end of a name. Raises SuiteError where it is not installed, or nobody answers at `address`.

    `jobs`: pieces of work at once; None: as many as there is room for.
    """
    try:
        module = import_module(f"bench.runner.backends.{name}")
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != NEEDS.get(name):
            raise
        raise SuiteError(f"--on {name}: the package {NEEDS[name]} is not installed; {installing(name)}") from None
    backend: Backend = module.connect(address, jobs)
    return backend
