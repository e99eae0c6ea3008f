# PYTHON_ARGCOMPLETE_OK
"""`python -m bench.tune STUDY.yaml`: tune every algorithm with the same budget, on seeds that are never reported."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: tuning trials are the unit of parallelism

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from bench.cli.command import BAD_INPUT, INTERRUPTED, counted, positive
from bench.cli.display import clock
from bench.runner import backends
from bench.runner.attempt import Effort
from bench.runner.backends import Backend
from bench.runner.pool import add_effort
from bench.runner.preparing import isolated
from bench.runner.process import Died
from bench.store import files
from bench.store.remote import local_folder
from bench.suite.model import SuiteError
from bench.suite.resolving import resolved
from bench.suite.shipped import find
from bench.suite.yaml12 import dump
from bench.tune import results
from bench.tune.pool import outcomes, reachable
from bench.tune.preparing import Prepared, prepared
from bench.tune.progress import Progress
from bench.tune.queue import Queue
from bench.tune.storage import hide_password
from bench.tune.study import SEARCH


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every budget is used up, 1 when a tuning trial was put aside, 2 for bad input, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        with backends.connect(options.on, options.address, options.jobs) as backend:
            return _tune(options, backend)
    except (SuiteError, files.StoreError) as error:  # of the storage, too
        return command.refused(error)


def _tune(options: Namespace, backend: Backend) -> int:
    """Plan what is to do, say what it will cost, and do it."""
    changes = [*options.set, *([f"trials={options.trials}"] if options.trials else [])]
    try:
        found: Prepared = isolated(
            prepared,
            *(options.study, changes, options.results, options.storage, 0 if backend.remote else backend.jobs),
            say=command.say,
        )
        reachable(found.where, backend)
        plan, folder = found.plan, options.results / found.plan.study.name
        backend.share_out(plan.study.learner_threads)
        print(describe(found, folder, backend.in_parallel(plan.study.learner_threads)), flush=True)
        if found.warning:
            print(found.warning, file=sys.stderr)
        if options.dry_run:
            return 0
        folder.mkdir(parents=True, exist_ok=True)
        queue = Queue(plan, folder, found.where)
        said = found.document | plan.study.model_dump(include=SEARCH)
        files.write_text(folder / "study.yaml", dump(said))
        resolved([t for own in plan.defaults.values() for t in own]).write(folder)
    except OSError as error:
        print(f"{error.filename or options.results}: {error.strerror}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("Stopped before anything was run.", file=sys.stderr)
        return INTERRUPTED
    return run(found, queue, Effort(1, options.stall, options.retries), backend)


def run(found: Prepared, queue: Queue, effort: Effort, backend: Backend) -> int:
    """Use up the budgets, print how each tuning trial ended, and write the results."""
    plan, aside = found.plan, set[tuple[str, int]]()
    command.end_as_after_ctrl_c()
    try:
        with (
            Progress(plan, queue) as progress,
            closing(outcomes(found, queue, effort, backend, progress.say)) as ended,
        ):
            for outcome in ended:
                progress.ended(outcome)
                change = aside.add if outcome.state == "aside" else aside.discard
                change((outcome.label, outcome.number))
    except KeyboardInterrupt:
        results.write(plan, queue)
        print("Stopped. The same command goes on from the last evaluation of each trial.", file=sys.stderr)
        return INTERRUPTED
    except Died as died:
        print(f"The study cannot be worked on: {died}", file=sys.stderr)
        return 1
    try:
        table = results.write(plan, queue)
    except OSError as error:
        print(f"{error.filename or queue.folder}: {error.strerror}", file=sys.stderr)
        return 1
    print(results.summary(plan, table, queue.folder))
    print(f"Best: {queue.folder / 'best.yaml'}   Report: python -m bench.report {shlex.quote(str(queue.folder))}")
    if aside:
        again = "was put aside; the same command tries it again"
        if len(aside) > 1:
            again = "were put aside; the same command tries them again"
        print(f"{counted(len(aside), 'tuning trial')} {again}", file=sys.stderr)
    return int(bool(aside))


def describe(found: Prepared, folder: Path, at_once: int) -> str:
    """The plan of a study: what is tuned, and the time for the tuning trials that are left of each algorithm."""
    plan, left, study = found.plan, found.left, found.plan.study
    seeds = range(study.first_seed, study.first_seed + study.seeds)
    budget = study.trials * len(plan.labels)
    tasks = list(dict.fromkeys(t.task.label for own in plan.defaults.values() for t in own))
    pruner = "" if study.pruner == "none" else f", cut by the {study.pruner} pruner"
    each = f"{counted(len(tasks), 'task')} x {counted(len(seeds), 'seed')}"
    lines = [
        f"{counted(budget, 'tuning trial')}: {counted(len(plan.labels), 'algorithm')} x {study.trials} -> {folder}",
        f"  each        {each}, {study.steps:,} steps{pruner}",
        f"  tasks       {', '.join(tasks)}",
        f"  seeds       {', '.join(map(str, seeds))}: for tuning only",
        f"  objective   {' and '.join(study.objectives)}, {study.sampler} sampler",
        *(f"  {label:<11} {', '.join(space)}" for label, space in plan.spaces.items()),
        f"  storage     {hide_password(found.where)}",
    ]
    if not left.total():
        lines.append(f"  done        all {counted(study.trials, 'trial')} of each algorithm")
        return "\n".join(lines)
    if done := budget - left.total():
        by_label = ", ".join(f"{label} {study.trials - left[label]}" for label in plan.labels)
        lines.append(f"  done        {done} ({by_label}), {left.total()} to run")
    return "\n".join([*lines, f"  time        {_time(found, at_once)}"])


def _time(found: Prepared, at_once: int) -> str:
    """The time that the remaining tuning trials take, each counted from its beginning."""
    seconds = sum(found.left[trial.label] * cost.seconds for trial, cost in found.prices.items())
    at_once = max(min(at_once, found.left.total()), 1)
    return f"about {clock(seconds / at_once)}, {at_once} at once"


def _parser() -> command.Parser:
    parser = command.Parser(prog="python -m bench.tune", description=__doc__)
    parser.add_argument(
        "study", type=find, metavar="STUDY.yaml", help="a file, or the name of a study that comes with the benchmark"
    )
    parser.add_argument("--trials", type=positive, metavar="K", help="budget of each algorithm, instead of the file's")
    parser.add_argument("--storage", metavar="URL", help="file of Optuna's journal, or URL of a database")
    parser.add_argument("--results", type=local_folder, default=Path("results"), metavar="DIR", help="default: results")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="change the study: steps=20000"
    )
    add_effort(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    return parser


if __name__ == "__main__":
    sys.exit(main())
