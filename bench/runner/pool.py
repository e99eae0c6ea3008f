"""Many trials at once: joblib fans them out, each in a process of its own."""

from __future__ import annotations

import shlex
import sys
import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from joblib import Parallel, delayed

from bench.cli import command
from bench.cli.command import INTERRUPTED, counted, up_to
from bench.runner.cost import Cost
from bench.runner.folder import join_tables
from bench.runner.monitor import Monitor
from bench.runner.process import Died, Limits, call
from bench.store.files import StoreError, place, refuse_other_place
from bench.suite.trial import Trial
from bench.trial import worker
from bench.trial.status import held, record_failure
from bench.trial.worker import Outcome, Stopped

T = TypeVar("T")
R = TypeVar("R")
WAIT_SECONDS = 1.0
MEMORY_FACTOR = 4.0
"""A trial that takes so many times the memory that was expected is ended."""


@dataclass(frozen=True)
class Effort:
    """What a run may use, and how long it tries."""

    jobs: int
    """Trials at once."""
    env_threads: int = 1
    """Threads that step the environments of each."""
    stall: float = 600.0
    """Seconds without a step after which a trial is ended."""
    retries: int = 1
    """How often a trial is started again whose process died or was ended."""


def add_effort(parser: ArgumentParser) -> None:
    """The options of a command that say how long it tries."""
    parser.add_argument(
        "--stall",
        type=up_to(86_400),
        default=600,
        metavar="SECONDS",
        help="end a trial that makes no step for so long; default: 600",
    )
    parser.add_argument(
        "--retries",
        type=int,
        choices=range(11),
        default=1,
        metavar="N",
        help="how often a trial whose process died or was ended goes on from its checkpoint; default: 1",
    )


def run_trials(todo: Sequence[Trial], folder: Path, effort: Effort, prices: Mapping[Trial, Cost]) -> int:
    """Run the trials, print how each ended, and join their tables."""
    failed = 0
    command.end_as_after_ctrl_c()
    try:
        with (
            Monitor(todo, folder, [prices[t].seconds for t in todo], effort.jobs) as monitor,
            closing(outcomes(todo, folder, effort, prices, monitor.say)) as ended,
        ):
            for outcome in ended:
                monitor.ended(outcome)
                failed += outcome.status == "failed"
    except KeyboardInterrupt:
        join_tables(folder)
        print("Stopped. The same command goes on from the last evaluation of each trial.", file=sys.stderr)
        return INTERRUPTED
    join_tables(folder)
    print(f"Records: {folder / 'records.parquet'}   Report: python -m bench.report {shlex.quote(str(folder))}")
    if failed:
        again = "tries it again" if failed == 1 else "tries them again"
        print(f"{failed} of {counted(len(todo), 'trial')} failed; the same command {again}", file=sys.stderr)
    return int(failed > 0)


def outcomes(
    todo: Sequence[Trial], folder: Path, effort: Effort, prices: Mapping[Trial, Cost], say: Callable[[str], None]
) -> Generator[Outcome]:
    """Run trials, as many at once as there are jobs; yields outcomes as they come.

    A trial at which another run is at work is left to it, and taken up if that run ends before the trial does.
    """

    began = place(folder)

    def attempt(trial: Trial, stop: threading.Event) -> Outcome:
        try:
            refuse_other_place(folder, began)
            with held(trial, folder) as free:
                if not free:
                    return Outcome(trial, "busy")
        except (OSError, StoreError) as gone:  # a lost mount, a file system that became read-only
            return Outcome(trial, "failed", str(gone))
        limits = Limits(effort.stall, MEMORY_FACTOR * prices[trial].memory)
        for left in reversed(range(effort.retries + 1)):
            try:
                return call(worker.run, trial, folder, effort.env_threads, None, limits=limits, say=say, stop=stop)
            except Died as died:
                error = str(died)
                if left:
                    say(f" again  {trial.name}  {error}")
            except Stopped:
                return Outcome(trial, "running")
        with suppress(OSError, StoreError):
            record_failure(trial, folder, error)
        return Outcome(trial, "failed", error)

    pending, announced = in_order(todo, prices), False
    while pending:
        with closing(fan_out(attempt, list(pending), effort.jobs)) as ended:
            for outcome in ended:
                if outcome.status != "busy":
                    pending.remove(outcome.trial)
                    yield outcome
        if pending and not announced:
            say(f"Waiting for {counted(len(pending), 'trial')} of another run in {folder}")
            announced = True
        if pending:
            time.sleep(WAIT_SECONDS)


def in_order(trials: Iterable[Trial], prices: Mapping[Trial, Cost]) -> list[Trial]:
    """Trials in rounds by seed, the longest of each round first: short ones fill what is left at its end."""
    return sorted(trials, key=lambda t: (t.seed, -prices[t].seconds))


def fan_out(function: Callable[[T, threading.Event], R], items: Iterable[T], jobs: int) -> Generator[R]:
    """The results of a function that waits for a process, for many items, as they come.

    When it is left early it sets the event that the function is given, and waits until no call is at work any more.
    """
    stop, at_work = threading.Event(), list[threading.Event]()

    def noted(item: T) -> R:
        ended = threading.Event()
        at_work.append(ended)
        try:
            return function(item, stop)
        finally:
            ended.set()

    parallel = Parallel(
        n_jobs=jobs, backend="threading", return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1
    )
    results = parallel(delayed(noted)(item) for item in items)
    try:
        yield from results
    finally:
        stop.set()
        for ended in at_work:
            ended.wait()
