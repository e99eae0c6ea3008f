"""What a run is to do and will cost. It makes environments, so commands do it in a process of its own."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.cli.command import positive
from bench.runner.attempt import Effort
from bench.runner.backends.local import jobs_here
from bench.runner.cost import Cost, costs, refuse_replays_beyond_memory
from bench.runner.folder import continued, refuse_changed
from bench.runner.process import Died, Limits, call
from bench.runner.summary import physics_warning
from bench.runner.threads import what_pays
from bench.store.files import StoreError
from bench.store.lease import repeatedly
from bench.store.mirror import BEAT_SECONDS
from bench.store.places import fetched, naming
from bench.store.remote import Remote, location
from bench.store.resolved import Resolved
from bench.suite.claims import claims
from bench.suite.model import Suite, SuiteError
from bench.suite.overrides import only
from bench.suite.resolving import load, resolved, trials
from bench.suite.shipped import find
from bench.suite.trial import Trial
from bench.tasks import registry
from bench.trial.budget import lengthened, reached, refuse_to_start_over, starting_over
from bench.trial.link import Link
from bench.trial.setup import learner_and_batch
from bench.trial.status import read_status

STALL_SECONDS = 120.0
"""Time within which an environment must have been made, and must have stepped."""


@dataclass(frozen=True)
class Asked:
    """What a command was asked for."""

    suite: Path
    results: Path | Remote
    """Where those of all suites lie."""
    changes: Sequence[str]
    includes: Sequence[Path]
    parts: Sequence[str]
    env_threads: int
    most_seeds: int | None = None
    """Up to how many seeds are added until the claims of the suite are decided."""
    jobs: int | None = None
    """Trials at once; None: as many as there is room for."""
    here: bool = False
    """Whether they run on this machine, which must hold their replay buffers."""
    restart: bool = True
    """Whether trials that are given more steps, and have kept no checkpoint, may start over."""
    advised: bool = False
    """Whether one wants to know what threads do."""

    @classmethod
    def of(cls, options: Namespace, **others: Any) -> Asked:
        """What `add_suite` has read."""
        return cls(
            suite=options.suite,
            results=options.results,
            changes=options.set,
            includes=options.include,
            parts=options.only,
            env_threads=options.env_threads,
            **others,
        )


@dataclass(frozen=True)
class Prepared:
    """A suite that is ready to run."""

    document: dict[str, Any]
    """The suite file with everything that overrides it."""
    resolved: Resolved
    """What its names mean, and how its claims are decided."""
    own_seeds: int
    """The seeds that the suite itself asks for."""
    planned: Sequence[Trial]
    """All trials of the suite; where seeds are added until claims are decided, as many as there may be."""
    selected: Sequence[Trial]
    """Those that this run was asked for."""
    prices: Mapping[Trial, Cost]
    """What each of them costs that is not done yet."""
    longer: Set[Trial]
    """Those of the planned that have ended, or stopped on their way, with fewer steps."""
    lost: Set[Trial]
    """Those of the selected that have ended with fewer steps and start over."""
    cores: str
    """How this machine's cores are best used; empty if nobody asked."""
    warning: str
    """About physics that differ from golden.json; mostly empty."""


def add_suite(parser: ArgumentParser) -> None:
    """The arguments of a command that say which trials it is about."""
    parser.add_argument(
        "suite", type=find, metavar="SUITE.yaml", help="a file, or the name of a suite that comes with the benchmark"
    )
    parser.add_argument(
        "--env-threads",
        type=positive,
        default=1,
        metavar="N",
        help="threads for the physics of each trial; default: 1",
    )
    parser.add_argument(
        "--results",
        type=location,
        default=Path("results"),
        metavar="DIR",
        help="a folder, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, file:///FOLDER; default: results",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="change the suite: algorithms.happo.clip=0.1"
    )
    parser.add_argument(
        "--include",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="settings that a study found: results/<study>/best.yaml",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="KEY=NAMES", help="run a part: algorithm=happo,mappo or task=..."
    )


def prepared(asked: Asked, link: Link) -> Prepared:
    """Read a suite and measure its costs."""
    link.at(f"reading {asked.suite}")
    read, document = load(asked.suite, asked.changes, asked.includes)
    looks = _looks(read, asked.most_seeds, asked.suite)
    planned = trials(read.model_copy(update={"seeds": looks[-1]}), asked.suite, link.at)
    selected = only(planned, asked.parts)
    place = asked.results / read.name
    with naming(place):
        own = _own(place, link)
        longer = lengthened(planned, own)
        refuse_changed(planned, place, longer)
        lost = starting_over(selected, place)
        if not asked.restart:
            refuse_to_start_over(lost, place)
        agents = {t.task.label: registry.team(t.task).size for t in planned}
        meaning = replace(resolved(planned, agents), claims=claims(read, planned, asked.suite), looks=looks)
        meaning = continued(meaning, place)
        todo = [t for t in selected if t in longer or read_status(t, own).get("status") != "done"]
    at_once = jobs_here(asked.jobs, Effort(asked.env_threads).cores(*planned))
    refuse_replays_beyond_memory(todo, at_once if asked.here else 0)
    prices = costs(todo, asked.env_threads, link=link)
    prices = {t: replace(cost, share=1 - reached(t, own) / t.steps * (t not in lost)) for t, cost in prices.items()}
    cores = what_pays(prices, at_once, link) if asked.advised and prices else ""
    return Prepared(
        document, meaning, read.seeds, planned, selected, prices, longer, lost, cores, physics_warning(todo)
    )


def _own(results: Path | Remote, link: Link) -> Path:
    """The folder of a suite's results here, with what a store has of them."""
    if isinstance(results, Remote):
        link.at(f"reading {results}")
    with repeatedly(link.beat, BEAT_SECONDS):
        return fetched(results)


def _looks(suite: Suite, most_seeds: int | None, path: Path) -> list[int]:
    """At how many seeds the claims are decided: at those of the suite, or at each number from there up."""
    if most_seeds is None:
        return [suite.seeds]
    if not suite.claims:
        raise SuiteError(f"{path}: claims: missing; --until decided needs what is to be decided")
    if most_seeds <= suite.seeds:
        raise SuiteError(f"{path}: --max-seeds {most_seeds} is no more than the suite's own seeds: {suite.seeds}")
    return [*range(suite.seeds, most_seeds + 1)]


def isolated(function: Callable[..., Any], *arguments: Any, say: Callable[[str], None]) -> Any:
    """The result of a function that makes environments, in a process of its own. Raises SuiteError where it fails."""
    try:
        result = call(_answer, function, arguments, limits=Limits(STALL_SECONDS), say=say)
    except Died as died:
        raise SuiteError(str(died)) from None
    if isinstance(result, SuiteError):
        raise result
    return result


def start_seconds(trial: Trial, env_threads: int, say: Callable[[str], None]) -> float:
    """Seconds from the start of a trial's process until it trains: the process, its networks, its environments."""
    begun = time.perf_counter()
    isolated(_set_up, trial, env_threads, say=say)
    return time.perf_counter() - begun


def _set_up(trial: Trial, env_threads: int, link: Link) -> None:
    link.at(f"{trial.name}: starting")
    with closing(learner_and_batch(trial, env_threads)[1]):
        pass


def _answer(function: Callable[..., Any], arguments: Sequence[Any], link: Link) -> Any:
    """In the process: the result, or the error that the user is to read."""
    try:
        return function(*arguments, link=link)
    except (SuiteError, StoreError) as error:
        return SuiteError(str(error))
