"""Many tuning trials at once, each in a process of its own."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from math import inf

from optuna.trial import TrialState

from bench.runner.pool import MEMORY_FACTOR, WAIT_SECONDS, Effort, fan_out
from bench.runner.process import Died, Limits, call
from bench.trial.worker import Stopped
from bench.tune.preparing import Prepared
from bench.tune.queue import Queue
from bench.tune.study import Plan
from bench.tune.work import TuningOutcome, put_aside, work


def outcomes(found: Prepared, queue: Queue, effort: Effort, say: Callable[[str], None]) -> Generator[TuningOutcome]:
    """Tuning trials as they end, until every budget is used up and no other process works on one.

    One whose process died goes on in whichever process claims it first; if that has happened too often, it is put
    aside.
    """
    since, deaths, empty, announced = time.time(), Counter[str](), threading.Event(), False
    limits = Limits(effort.stall, MEMORY_FACTOR * max((cost.memory for cost in found.prices.values()), default=inf))

    def attempt(_: int, stop: threading.Event) -> TuningOutcome | None:
        try:
            outcome: TuningOutcome | None = call(
                work, found.plan, queue.folder, found.where, since, limits=limits, say=say, stop=stop
            )
        except Stopped:
            return None
        except Died as died:
            if not died.doing:
                raise
            deaths[died.doing] += 1
            if deaths[died.doing] <= effort.retries:
                say(f" again  {died}")
                return None
            label, _name, number = died.doing.rpartition(" trial ")
            return put_aside(label, int(number), queue.trial_folder(label, int(number)), died.reason)
        if outcome is None:
            empty.set()
        return outcome

    while True:
        empty.clear()
        with closing(
            fan_out(attempt, itertools.takewhile(lambda _: not empty.is_set(), itertools.count()), effort.jobs)
        ) as ended:
            yield from (outcome for outcome in ended if outcome is not None)
        if not _others_at_work(found.plan, queue, since):
            return
        if not announced:
            say("Waiting for the tuning trials of another process.")
        announced = True
        time.sleep(WAIT_SECONDS)


def _others_at_work(plan: Plan, queue: Queue, since: float) -> bool:
    """Whether other processes still work on tuning trials, which must be resumed here if those processes die."""
    return any(
        queue.time_put_aside(label, t.number) < since
        for label in plan.labels
        for t in queue.trials(label, TrialState.RUNNING)
    )
