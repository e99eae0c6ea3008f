"""`python -m bench.tune STUDY.yaml`: tune every algorithm with the same budget, on seeds that are never reported."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: tuning trials are the unit of parallelism

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import argparse
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool, TerminatedWorkerError
from optuna.trial import TrialState

from bench.cli.command import BAD_INPUT, INTERRUPTED, counted, positive
from bench.cli.display import clock
from bench.runner.cost import costs, refuse_replays_beyond_memory
from bench.runner.pool import load_error
from bench.runner.summary import physics_warning
from bench.store import files
from bench.suite.model import SuiteError
from bench.suite.resolving import resolved
from bench.suite.shipped import find
from bench.trial.worker import MAX_ATTEMPTS
from bench.tune import results
from bench.tune.progress import Progress
from bench.tune.queue import Queue
from bench.tune.storage import finished_trials, hide_password
from bench.tune.study import Plan, load
from bench.tune.work import TuningOutcome, put_aside, work

WAIT_SECONDS = 1.0


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every budget is used up, 1 when a tuning trial was put aside, 2 for bad input, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    changes = [*options.set, *([f"trials={options.trials}"] if options.trials else [])]
    try:
        plan, document = load(options.study, changes)
        folder = options.results / plan.study.name
        where = options.storage or str(folder / "journal.log")
        left = Counter({label: plan.study.trials - n for label, n in finished_trials(plan, folder, where).items()})
        todo = [t for label, own in plan.defaults.items() if left[label] for t in own]
        refuse_replays_beyond_memory(todo, options.jobs)
        print(describe(plan, left, folder, where, options.jobs), flush=True)
        if warning := physics_warning(todo):
            print(warning, file=sys.stderr)
        if options.dry_run:
            return 0
        folder.mkdir(parents=True, exist_ok=True)
        queue = Queue(plan, folder, where)
        files.write_text(folder / "study.yaml", yaml.safe_dump(document, sort_keys=False))
        resolved([t for own in plan.defaults.values() for t in own]).write(folder)
    except (SuiteError, files.StoreError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        print(f"{error.filename or options.results}: {error.strerror}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("Stopped before anything was run.", file=sys.stderr)
        return INTERRUPTED
    try:
        return run(plan, queue, where, min(options.jobs, max(left.total(), 1)))
    except (SuiteError, files.StoreError) as error:  # of the storage
        print(error, file=sys.stderr)
        return BAD_INPUT


def run(plan: Plan, queue: Queue, where: str, jobs: int) -> int:
    """Use up the budgets, print how each tuning trial ended, and write the results."""
    since, aside = time.time(), 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C
    try:
        with Progress(plan, queue) as progress:
            for outcome in outcomes(plan, queue, where, jobs, since):
                progress.ended(outcome)
                aside += outcome.state == "aside"
    except KeyboardInterrupt:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
        results.write(plan, queue)
        print("Stopped. The same command goes on from the last evaluation of each trial.", file=sys.stderr)
        return INTERRUPTED
    except BrokenProcessPool as broken:
        print(f"A worker cannot load the study: {load_error(broken)}", file=sys.stderr)
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
        if aside > 1:
            again = "were put aside; the same command tries them again"
        print(f"{counted(aside, 'tuning trial')} {again}", file=sys.stderr)
    return int(aside > 0)


def outcomes(plan: Plan, queue: Queue, where: str, jobs: int, since: float) -> Iterator[TuningOutcome]:
    """Tuning trials as they end, until every budget is used up and no other process works on one.

    joblib gives up its whole pool when one worker dies. The pool is built anew, and interrupted tuning trials are
    resumed by whichever process claims them first. One that dies repeatedly without a new checkpoint is put aside.
    """
    announced = False
    while True:
        try:
            yield from _claimed(plan, queue.folder, where, jobs, since)
        except TerminatedWorkerError:
            print(
                "A worker died (killed, or out of memory?); its tuning trials go on from their checkpoints.",
                file=sys.stderr,
            )
            yield from _hopeless(plan, queue)
            continue
        if not _others_at_work(plan, queue, since):
            return
        if not announced:
            print("Waiting for the tuning trials of another process.", flush=True)
        announced = True
        time.sleep(WAIT_SECONDS)


def _claimed(plan: Plan, folder: Path, where: str, jobs: int, since: float) -> Iterator[TuningOutcome]:
    """Claim and run tuning trials until there is none left to claim."""
    with parallel_config(backend="loky", inner_max_num_threads=1):
        parallel = Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)
        more = [True]
        tasks = (delayed(work)(plan, folder, where, os.getpid(), since) for _ in iter(lambda: more[0], False))
        for outcome in parallel(tasks):
            if outcome is None:
                more[0] = False
            else:
                yield outcome


def _hopeless(plan: Plan, queue: Queue) -> Iterator[TuningOutcome]:
    """Put aside tuning trials whose process died too often without a new checkpoint."""
    for label in plan.labels:
        for t in queue.trials(label, TrialState.RUNNING):
            folder = queue.trial_folder(label, t.number)
            abouts = files.read_trials(folder)
            worst = max((a["attempts"] for a in abouts if a["status"] == "running"), default=0)
            if worst >= MAX_ATTEMPTS and not queue.busy(label, t.number):
                yield put_aside(label, t.number, folder, "its process died again and again (killed, or out of memory?)")


def _others_at_work(plan: Plan, queue: Queue, since: float) -> bool:
    """Whether other processes still work on tuning trials, which must be resumed here if those processes die."""
    return any(
        queue.time_put_aside(label, t.number) < since
        for label in plan.labels
        for t in queue.trials(label, TrialState.RUNNING)
    )


def describe(plan: Plan, left: Counter[str], folder: Path, where: str, jobs: int) -> str:
    """The plan of a study: what is tuned, and the time for the `left` tuning trials of each algorithm."""
    study = plan.study
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
        f"  storage     {hide_password(where)}",
    ]
    if not left.total():
        lines.append(f"  done        all {counted(study.trials, 'trial')} of each algorithm")
        return "\n".join(lines)
    if done := budget - left.total():
        by_label = ", ".join(f"{label} {study.trials - left[label]}" for label in plan.labels)
        lines.append(f"  done        {done} ({by_label}), {left.total()} to run")
    return "\n".join([*lines, f"  time        {_time(plan, left, jobs)}"])


def _time(plan: Plan, left: Counter[str], jobs: int) -> str:
    """The time that the remaining tuning trials take, each counted from its beginning."""
    one = {label: costs(plan.defaults[label], fresh_episodes=False) for label in plan.labels if left[label]}
    seconds = sum(left[label] * cost.seconds for label, own in one.items() for cost in own.values())
    at_once = min(jobs, os.cpu_count() or 1, left.total())
    return f"about {clock(seconds / at_once)}, {at_once} at once"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.tune", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "study", type=find, metavar="STUDY.yaml", help="a file, or the name of a study that comes with the benchmark"
    )
    parser.add_argument("--jobs", type=positive, default=os.cpu_count() or 1, metavar="N", help="tuning trials at once")
    parser.add_argument("--trials", type=positive, metavar="K", help="budget of each algorithm, instead of the file's")
    parser.add_argument("--storage", metavar="URL", help="file of Optuna's journal, or URL of a database")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="change the study: steps=20000"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    return parser


if __name__ == "__main__":
    sys.exit(main())
