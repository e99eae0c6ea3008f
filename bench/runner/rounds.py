"""Rounds of seeds: as many as the claims of a suite need, and only for the algorithms still in question."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path

from bench.cli.command import INTERRUPTED, counted
from bench.runner import folder
from bench.runner.attempt import Effort
from bench.runner.backends import Backend
from bench.runner.pool import run_trials
from bench.runner.preparing import Prepared
from bench.store.places import working
from bench.store.remote import Remote
from bench.suite.model import SuiteError
from bench.trial.status import read_status

Pairings = Collection[tuple[str, str]]
"""Of tasks and labels."""


def run_rounds(
    found: Prepared,
    results: Path | Remote,
    effort: Effort,
    backend: Backend,
    judge: Callable[[Path], tuple[Pairings, Collection[str]]],
) -> int:
    """Run the seeds of the suite, then one seed after the other until none would decide anything any more.

    A trial that fails is not run again in later rounds. `judge` names the pairings on which more seeds may decide what
    is undecided, and the undecided claims. Returns the code of the command: that of the worst round.
    """
    code, first = 0, found.resolved.first_seed
    asked: Pairings = {(t.task.label, t.label) for t in found.planned}
    untried = {*found.prices}
    rounds = range(found.own_seeds, max(t.seed for t in found.planned) - first + 2)
    for seeds in rounds:
        planned = [t for t in found.planned if t.seed < first + seeds and (t.task.label, t.label) in asked]
        folder.prepare(planned, found.document, found.resolved, results)
        todo = [t for t in planned if t in untried and read_status(t, working(results)).get("status") != "done"]
        untried -= {*todo}
        if todo:
            code = max(code, run_trials(todo, results, effort, found.prices, backend))
        if code == INTERRUPTED:
            return code
        try:
            asked, undecided = judge(working(results))
        except SuiteError as error:
            if not code:
                raise
            print(error, file=sys.stderr)  # of trials that failed
            return code
        if undecided and not asked:
            print(f"With {counted(seeds, 'seed')} undecided, and no more seeds would decide: {', '.join(undecided)}.")
            return code
        if not asked:
            left = sum(t.seed >= first + seeds for t in found.planned)
            print(f"Decided with {counted(seeds, 'seed')}: at least {counted(left, 'trial')} of the plan not needed.")
            return code
        labels = ", ".join(sorted({label for _, label in asked}))
        print(f"With {counted(seeds, 'seed')} claims about {labels} are undecided.", flush=True)
    print(f"Undecided with {counted(rounds[-1], 'seed')}, the most that --max-seeds allows.")
    return code
