"""What a run is to do and will cost. It makes environments, so commands do it in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.runner.cost import Cost, costs, refuse_replays_beyond_memory
from bench.runner.folder import refuse_changed
from bench.runner.process import Died, Limits, call
from bench.runner.summary import physics_warning
from bench.store.files import StoreError
from bench.suite.model import SuiteError
from bench.suite.overrides import only
from bench.suite.resolving import load, trials
from bench.suite.trial import Trial
from bench.trial.link import Link
from bench.trial.status import read_status

STALL_SECONDS = 120.0
"""Time within which an environment must have been made, and must have stepped."""


@dataclass(frozen=True)
class Prepared:
    """A suite that is ready to run."""

    document: dict[str, Any]
    """The suite file with everything that overrides it."""
    planned: Sequence[Trial]
    """All trials of the suite."""
    selected: Sequence[Trial]
    """Those that this run was asked for."""
    prices: Mapping[Trial, Cost]
    """What each of them costs that is not done yet."""
    warning: str
    """About physics that differ from golden.json; mostly empty."""


def prepared(
    suite: Path,
    folder: Path,
    changes: Sequence[str],
    includes: Sequence[Path],
    parts: Sequence[str],
    env_threads: int,
    jobs: int,
    link: Link,
) -> Prepared:
    """Read a suite and measure its costs. `folder` is where results of all suites lie."""
    link.at(f"reading {suite}")
    read, document = load(suite, changes, includes)
    planned = trials(read, suite)
    selected = only(planned, parts)
    own = folder / read.name
    refuse_changed(planned, own)
    todo = [t for t in selected if read_status(t, own).get("status") != "done"]
    refuse_replays_beyond_memory(todo, jobs)
    prices = costs(todo, env_threads, link=link)
    return Prepared(document, planned, selected, prices, physics_warning(todo))


def isolated(function: Callable[..., Any], *arguments: Any, say: Callable[[str], None]) -> Any:
    """The result of a function that makes environments, in a process of its own. Raises SuiteError where it fails."""
    try:
        result = call(_answer, function, arguments, limits=Limits(STALL_SECONDS), say=say)
    except Died as died:
        raise SuiteError(str(died)) from None
    if isinstance(result, SuiteError):
        raise result
    return result


def _answer(function: Callable[..., Any], arguments: Sequence[Any], link: Link) -> Any:
    """In the process: the result, or the error that the user is to read."""
    try:
        return function(*arguments, link=link)
    except (SuiteError, StoreError) as error:
        return SuiteError(str(error))
