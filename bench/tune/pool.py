"""Many tuning trials at once, wherever they run."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from bench.runner.attempt import MEMORY_FACTOR, Effort
from bench.runner.backends import Backend, Channel, Lost, Work, place
from bench.runner.process import Died, Limits, call
from bench.suite.model import SuiteError
from bench.trial.worker import Stopped
from bench.tune.preparing import Prepared
from bench.tune.queue import Queue
from bench.tune.storage import OPTUNA_FINISHED, open_storage
from bench.tune.study import Plan
from bench.tune.work import TuningOutcome, put_aside, work

NOTHING_LEFT = "nothing left"
"""The result of work that found no tuning trial to claim."""
STOPPED = "stopped"


@dataclass(frozen=True)
class Turn:
    """The function that workers are given: claim a tuning trial and run it, in a process of its own within limits.

    Its result may also be NOTHING_LEFT, STOPPED or how the process died.
    """

    plan: Plan
    folder: Path
    where: str
    limits: Limits

    def __call__(self, since: float, channel: Channel) -> TuningOutcome | Died | str:
        """`since` is as in `Queue.claim`."""
        arguments = (self.plan, self.folder, self.where, since)
        try:
            outcome = call(work, *arguments, limits=self.limits, say=channel.tell, stop=channel)
        except Stopped:
            return STOPPED
        except Died as died:
            return died
        return NOTHING_LEFT if outcome is None else outcome


@dataclass
class _Workers:
    """What workers tell and hand back."""

    queue: Queue
    retries: int
    say: Callable[[str], None]
    idle: threading.Event = field(default_factory=threading.Event)
    """Set once one of them has found no tuning trial to claim."""
    deaths: Counter[str] = field(default_factory=Counter)
    """How often the process of each tuning trial has died."""

    def hear(self, message: Any) -> None:
        """Say lines; how far trials are is read from the folder, which the queue needs anyway."""
        if isinstance(message, str):
            self.say(message)

    def outcomes(self, result: Any) -> Iterator[TuningOutcome]:
        """The tuning trial that ended with a result, if one did. Raises Died where none can be worked on."""
        if result == NOTHING_LEFT:
            self.idle.set()
        elif isinstance(result, TuningOutcome):
            yield result
        elif isinstance(result, Died) and result.doing:
            yield from self._after(result)
        elif isinstance(result, Died):
            raise result
        elif isinstance(result, Lost):
            raise Died(result.reason, "")

    def _after(self, death: Died) -> Iterator[TuningOutcome]:
        """A tuning trial is put aside once its process has died too often; until then it is tried again."""
        self.deaths[death.doing] += 1
        if self.deaths[death.doing] <= self.retries:
            self.say(f" again  {death}")
            return
        if self.deaths[death.doing] > self.retries + 1:
            return  # claimed again before it was put aside
        label, _name, number = death.doing.rpartition(" trial ")
        yield put_aside(label, int(number), self.queue.trial_folder(label, int(number)), death.reason)


def outcomes(
    found: Prepared, queue: Queue, effort: Effort, backend: Backend, say: Callable[[str], None]
) -> Generator[TuningOutcome]:
    """Tuning trials as they end, until every budget is used up and no other process works on one.

    One whose process died goes on in whichever process claims it first; if that has happened too often, it is put
    aside.
    """
    since, announced = time.time(), False
    folder, where = queue.folder.absolute(), reachable(found.where, backend)
    memory = max((cost.memory for cost in found.prices.values()), default=inf)
    turn = Turn(found.plan, folder, where, Limits(effort.stall, MEMORY_FACTOR * memory))
    each = Work(since, found.plan.study.learner_threads, 0 if memory == inf else round(memory))
    workers = _Workers(queue, effort.retries, say)
    while True:
        workers.idle.clear()
        endless = itertools.repeat(each) if backend.endless else itertools.repeat(each, _left(found.plan, queue))
        turns = itertools.takewhile(lambda _: not workers.idle.is_set(), endless)
        with closing(backend.run(turn, turns, partial(circumstances, folder, where), workers.hear)) as results:
            for result in results:
                yield from workers.outcomes(result)
        if not backend.endless and not workers.idle.is_set() and _left(found.plan, queue):
            continue  # some turns ended before their tuning trials did
        if not _others_at_work(found.plan, queue, since):
            return
        if not announced:
            say("Waiting for the tuning trials of another process.")
        announced = True
        time.sleep(backend.pause)


def reachable(where: str, backend: Backend) -> str:
    """A storage under the name by which workers find it too. Raises SuiteError where other machines cannot."""
    if "://" not in where:
        return str(Path(where).absolute())
    if backend.remote and where.startswith("sqlite") and not where.startswith("sqlite:////"):
        raise SuiteError(
            f"--storage {where}: workers look for it in folders of their own; give a file for Optuna's journal or an "
            "absolute sqlite:////PATH, in a folder that they share, or the URL of a database server"
        )
    return where


def circumstances(folder: Path, where: str) -> dict[str, Any]:
    """What must be equal on all workers of a study, which must reach its storage too."""
    found = place.here(folder)
    if "://" in where:
        open_storage(where)  # raises SuiteError with the reason
    else:
        found["storage"] = "reached" if Path(where).exists() else "not there"
    return found


def _left(plan: Plan, queue: Queue) -> int:
    """How many tuning trials of all budgets have not finished."""
    finished = sum(len(queue.trials(label, *OPTUNA_FINISHED)) for label in plan.labels)
    return plan.study.trials * len(plan.labels) - finished


def _others_at_work(plan: Plan, queue: Queue, since: float) -> bool:
    """Whether other processes still work on tuning trials, which must be resumed here if those processes die."""
    return any(
        queue.time_put_aside(label, t.number) < since
        for label in plan.labels
        for t in queue.trials(label, TrialState.RUNNING)
    )
