"""Many trials at once, wherever they run: handed to a back end in their order, and told of as they end."""

from __future__ import annotations

import shlex
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.cli import command
from bench.cli.command import INTERRUPTED, counted, first_of, positive, up_to
from bench.runner import backends
from bench.runner.attempt import Attempt, Effort, give_up
from bench.runner.backends import Backend, Channel, Lost, NotBegun, Work, place
from bench.runner.cost import Cost
from bench.runner.folder import join_tables
from bench.runner.monitor import Monitor
from bench.store import files
from bench.store.files import StoreError
from bench.store.places import working
from bench.store.remote import BRIEFLY, Remote, StoreGone
from bench.suite.trial import Trial
from bench.trial.status import at_work, read_status
from bench.trial.worker import Outcome

STORE_PAUSE = 5.0
"""Seconds at least before one looks again at trials of another run in a store: to look takes requests, which cost."""


def add_effort(parser: ArgumentParser) -> None:
    """The options of a command that say where it runs trials, and how long it tries."""
    parser.add_argument(
        "--on", choices=backends.NAMES, default="local", help="the engine that runs the trials; default: this machine"
    )
    parser.add_argument(
        "--address", help="where it is: tcp://HOST:8786 of Dask, HOST:6379 of Ray; for Slurm slurm_partition=NAME,..."
    )
    parser.add_argument("--jobs", type=positive, metavar="N", help="trials at once; default: as many as have room")
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


def run_trials(
    todo: Sequence[Trial], results: Path | Remote, effort: Effort, prices: Mapping[Trial, Cost], backend: Backend
) -> int:
    """Run the trials, print how each ended, and join their tables.

    Raises StoreGone where that is why it has to end, and StoreError where the tables cannot be joined.
    """
    failed, left, seconds = 0, len(todo), [prices[t].seconds_left for t in todo]
    done: list[Trial] = []
    command.end_as_after_ctrl_c()
    try:
        with (
            Monitor(todo, seconds, backend.in_parallel(effort.cores(*todo))) as monitor,
            closing(outcomes(todo, results, effort, prices, backend, monitor)) as ended,
        ):
            for outcome in ended:
                monitor.ended(outcome)
                failed, left = failed + (outcome.status == "failed"), left - 1
                done += [outcome.trial] * (outcome.status == "done")
        if failed:
            again = "tries it again" if failed == 1 else "tries them again"
            print(f"{failed} of {counted(len(todo), 'trial')} failed; the same command {again}", file=sys.stderr)
        _join(results)
    except StoreGone as gone:
        what = f"{left} of {counted(len(todo), 'trial')} not done" if left else "the tables are not joined"
        raise StoreGone(f"Stopped: {what}: {gone}") from None
    except KeyboardInterrupt:
        with suppress(StoreError):  # readers join tables themselves
            _join(_briefly(results))
        print("Stopped. The same command goes on from the last evaluation of each trial.", file=sys.stderr)
        return INTERRUPTED
    print(f"Records: {results / 'records.parquet'}   Report: python -m bench.report {shlex.quote(str(results))}")
    if deleted := [t.name for t in done if not read_status(t, working(results))]:
        print(
            f"{first_of(deleted)}: done, and deleted in {results} meanwhile; the same command starts over",
            file=sys.stderr,
        )
    return int(failed > 0 or bool(deleted))


def _join(results: Path | Remote) -> None:
    """Join the tables of all trials. Raises StoreError where one cannot be read, or they cannot be written."""
    try:
        join_tables(results)
    except OSError as error:  # a full disk; trials have run, so this is no bad input
        raise StoreError(f"{error.filename or results}: {error.strerror or error}") from error


def outcomes(
    todo: Sequence[Trial],
    results: Path | Remote,
    effort: Effort,
    prices: Mapping[Trial, Cost],
    backend: Backend,
    monitor: Monitor,
) -> Generator[Outcome]:
    """Run trials, as many at once as the back end has room for; yields outcomes as they come.

    A trial at which another run is at work is left to it, and taken up if that run ends before the trial does. So is
    one whose worker is gone while the process that it started there still holds the trial's lock. A trial that was cut
    off from its store is taken up again, at most as often as there are retries, once the store answers. Before that
    none begins, and StoreGone is raised if it does not when all that was at work has ended.
    """
    if isinstance(results, Path) and backend.remote:
        results = results.absolute()
    began = None if backend.remote else files.folder_id(working(results))
    attempt = Attempt(results, effort, began)
    pending, held, announced = {t.name: t for t in in_order(todo, prices)}, set[str](), False
    cuts = _Cuts(results, effort.retries, monitor)
    function = attempt if backend.remote else cuts.noting(attempt)
    while pending:
        work = (
            Work((t, prices[t].memory), effort.cores(t), round(prices[t].memory))
            for t in [*pending.values()]
            if cuts.more_may_begin() and not (t.name in held and _still_held(t, results))
        )
        with closing(backend.run(function, work, partial(place.here, results), monitor.hear)) as ended:
            for outcome in ended:
                if isinstance(outcome, Lost):
                    outcome = _given_up(outcome, results)
                outcome = cuts.judged(outcome)
                if outcome.status == "busy":
                    held.add(outcome.trial.name)
                else:
                    held.discard(outcome.trial.name)
                if outcome.status not in ("busy", "running", "cut off"):
                    del pending[outcome.trial.name]
                    yield outcome
        if pending and not cuts.over() and held and not announced:
            monitor.say(f"Waiting for {counted(len(held), 'trial')} of another run in {results}")
            announced = True
        if pending:
            time.sleep(max(backend.pause, STORE_PAUSE) if isinstance(results, Remote) else backend.pause)


def _still_held(trial: Trial, results: Path | Remote) -> bool:
    """Whether another run is at work on a trial; False where that cannot be known, which an attempt will say."""
    with suppress(OSError, StoreError):
        return at_work(trial, _briefly(results))
    return False


def _briefly(results: Path | Remote) -> Path | Remote:
    """The same place, where a store that does not answer is soon given up."""
    return results.waiting(BRIEFLY) if isinstance(results, Remote) else results


class _Cuts:
    """The trials that were cut off from their store since it answered last, and how often each was."""

    def __init__(self, results: Path | Remote, most: int, monitor: Monitor):
        self.results, self.most, self.monitor = results, most, monitor
        self.now: set[str] = set()
        self.counts = Counter[str]()

    def noting(self, attempt: Attempt) -> Callable[[tuple[Trial, float], Channel], Outcome]:
        """The attempt, for threads of this process, where the next trial begins before outcomes are heard of."""

        def noted(priced: tuple[Trial, float], channel: Channel) -> Outcome:
            outcome = attempt(priced, channel)
            self._note(outcome)
            return outcome

        return noted

    def _note(self, outcome: Outcome) -> None:
        if outcome.status == "cut off" and outcome.trial.name not in self.now:
            if not self.now:
                self.monitor.say(f"{outcome.error}; no trial begins until it answers")
            self.now.add(outcome.trial.name)
            self.counts[outcome.trial.name] += 1

    def more_may_begin(self) -> bool:
        return not self.now or not self._trouble()

    def judged(self, outcome: Outcome) -> Outcome:
        """An outcome; one that was cut off too often while others reach the store has failed."""
        self._note(outcome)
        if outcome.status == "cut off" and self.counts[outcome.trial.name] > self.most and not self._trouble():
            return replace(outcome, status="failed")
        return outcome

    def over(self) -> bool:
        """Whether trials were cut off, which may begin again. Raises StoreGone if they may not."""
        cut, self.now = self.now, set()
        if cut and (trouble := self._trouble()):
            raise StoreGone(trouble)
        return bool(cut)

    def _trouble(self) -> str:
        return self.results.trouble() if isinstance(self.results, Remote) else ""


def _given_up(lost: Lost[tuple[Trial, float]], results: Path | Remote) -> Outcome:
    trial, _ = lost.item
    if not isinstance(lost, NotBegun):
        give_up(trial, results, lost.reason)
    return Outcome(trial, "failed", lost.reason)


def in_order(trials: Iterable[Trial], prices: Mapping[Trial, Cost]) -> list[Trial]:
    """Trials in rounds by seed, the longest of each round first: short ones fill what is left at its end."""
    return sorted(trials, key=lambda t: (t.seed, -prices[t].seconds_left))
