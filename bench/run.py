"""`python -m bench.run SUITE.yaml`: train and evaluate every trial of a suite, as many at once as there are jobs."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: trials are the unit of parallelism

from bench import command

if __name__ == "__main__":
    command.begin()

import argparse
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import ProcessPoolExecutor, get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from bench import golden, store, trial
from bench.command import BAD_INPUT, INTERRUPTED, counted, positive
from bench.display import clock
from bench.monitor import Monitor
from bench.plan import Cost, costs, refuse_replays_beyond_memory
from bench.suite import Suite, SuiteError, Trial, load, only, trials
from bench.trial import MAX_ATTEMPTS, Outcome, read_status

LOCK = ".lock"
"""The file in a suite's results that the run at work there holds."""


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every selected trial is done, 1 when one failed, 2 for bad input, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        suite, document = load(options.suite, options.set, options.include)
        planned = trials(suite, options.suite)
        selected = only(planned, options.only)
        folder = options.results / suite.name
        _refuse_changed(suite, planned, folder)
        todo = [t for t in selected if read_status(t, folder).get("status") != "done"]
        jobs = options.jobs or max((os.cpu_count() or 1) // options.env_threads, 1)
        refuse_replays_beyond_memory(todo, jobs)
        if not options.dry_run and (folder / LOCK).exists():
            with _locked(folder):
                pass  # a folder at which another run is at work is refused before the costs are measured
        prices = costs(todo, options.env_threads)
    except (SuiteError, store.StoreError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    print(plan(selected, prices, folder, jobs), flush=True)
    if warning := physics_warning(todo):
        print(warning, file=sys.stderr)
    if options.dry_run:
        return 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            store.write_text(folder / "suite.yaml", yaml.safe_dump(document, sort_keys=False))
            for t in planned:
                trial.register(t, folder)
            return run(todo, folder, jobs, options.env_threads, prices)
    except SuiteError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except store.StoreError as error:
        print(error, file=sys.stderr)
        return 1


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a suite's results; refused while another process holds it."""
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout:
        raise SuiteError(
            f"{folder}: another bench.run is at work there; wait for it or use another --results"
        ) from None


def run(todo: Sequence[Trial], folder: Path, jobs: int, env_threads: int, prices: dict[Trial, Cost]) -> int:
    """Run the trials, say how each ended, and join their tables."""
    failed = 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C
    try:
        with Monitor(todo, folder, [prices[t].seconds for t in todo], jobs) as monitor:
            for outcome in outcomes(todo, folder, jobs, env_threads):
                monitor.ended(outcome)
                failed += outcome.status == "failed"
    except KeyboardInterrupt:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
        store.merge(folder)
        print("Stopped. The same command goes on from the last evaluation of each trial.", file=sys.stderr)
        return INTERRUPTED
    store.merge(folder)
    print(f"Records: {folder / 'records.parquet'}   Report: python -m bench.report {shlex.quote(str(folder))}")
    if failed:
        again = "tries it again" if failed == 1 else "tries them again"
        print(f"{failed} of {counted(len(todo), 'trial')} failed; the same command {again}", file=sys.stderr)
    return int(failed > 0)


def outcomes(todo: Sequence[Trial], folder: Path, jobs: int, env_threads: int) -> Iterator[Outcome]:
    """Run trials in joblib's workers, each outcome as it comes.

    joblib gives up its whole pool when one worker dies (killed, out of memory). The pool is built anew and the trials
    without an outcome go on from their checkpoints, unless one has died too often without getting further.
    """
    pending = list(todo)
    while pending:
        try:
            with parallel_config(backend="loky", inner_max_num_threads=1):
                work = Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)
                for outcome in work(delayed(trial.run)(t, folder, os.getpid(), env_threads) for t in pending):
                    pending = [t for t in pending if t != outcome.trial]
                    yield outcome
        except TerminatedWorkerError:
            print(
                "A worker died (killed, or out of memory?); its trials go on from their checkpoints.", file=sys.stderr
            )
            for lost in [t for t in pending if _is_hopeless(t, folder)]:
                pending.remove(lost)
                yield _alone(lost, folder, env_threads)


def _is_hopeless(lost: Trial, folder: Path) -> bool:
    about = read_status(lost, folder)
    return about.get("status") == "running" and about["attempts"] >= MAX_ATTEMPTS


def _alone(lost: Trial, folder: Path, env_threads: int) -> Outcome:
    """Run a trial that was at work whenever a pool died by itself: now a death is its own."""
    executor = ProcessPoolExecutor(max_workers=1)
    try:
        outcome: Outcome = executor.submit(trial.run, lost, folder, os.getpid(), env_threads).result()
    except TerminatedWorkerError:
        outcome = _give_up(lost, folder)
    finally:
        executor.shutdown(wait=True, kill_workers=True)
    return outcome


def _give_up(lost: Trial, folder: Path) -> Outcome:
    about = read_status(lost, folder)
    error = "its process died again and again, at last when it ran alone (killed, or out of memory?)"
    store.write_json(lost.folder(folder) / "trial.json", about | {"status": "failed", "error": error})
    return Outcome(lost, "failed", error)


def plan(selected: Sequence[Trial], prices: dict[Trial, Cost], folder: Path, jobs: int) -> str:
    """What will be run and what it will cost."""
    todo = list(prices)
    tasks = list(dict.fromkeys(t.task.label for t in selected))
    labels = list(dict.fromkeys(t.label for t in selected))
    seeds = list(dict.fromkeys(t.seed for t in selected))
    skipped = len(tasks) * len(labels) - len({(t.task, t.label) for t in selected})
    less = f", {counted(skipped, 'pairing')} skipped" if skipped else ""
    matrix = " x ".join([counted(len(tasks), "task"), counted(len(labels), "algorithm"), counted(len(seeds), "seed")])
    lines = [
        f"{counted(len(selected), 'trial')}: {matrix}{less} -> {folder}",
        f"  tasks       {', '.join(tasks)}",
        f"  algorithms  {', '.join(labels)}",
        f"  seeds       {', '.join(map(str, seeds))}",
    ]
    if tuned := {t.label: t.tuning for t in selected if t.tuning}:
        said = [
            f"{label} ({counted(x.trials, 'trial')} of {x.study}{x.overridden and f'; by --set: {x.overridden}'})"
            for label, x in tuned.items()
        ]
        lines.append(
            f"  tuned       {', '.join(said)}; untuned: {', '.join(x for x in labels if x not in tuned) or 'none'}"
        )
    if done := len(selected) - len(todo):
        lines.append(f"  {done} {'is' if done == 1 else 'are'} done already, {len(todo)} to run")
    if todo:
        seconds = [prices[t].seconds for t in todo]
        at_once = min(jobs, os.cpu_count() or 1, len(todo))
        memory = sum(sorted((prices[t].memory for t in todo), reverse=True)[:jobs])
        checkpoints = sum(sorted((prices[t].checkpoint for t in todo), reverse=True)[:jobs])
        disk = sum(prices[t].disk for t in todo) + checkpoints
        lines += [
            f"  steps       {todo[0].steps:,} per trial, {sum(t.steps for t in todo):,} in all",
            f"  time        about {clock(max(sum(seconds) / at_once, max(seconds)))}, {at_once} at once",
            f"  memory      about {memory / 1e9:.1f} GB",
            f"  disk        about {disk / 1e6:,.0f} MB, {checkpoints / 1e6:,.0f} MB of it only while it runs",
        ]
    return "\n".join(lines)


def physics_warning(todo: Sequence[Trial]) -> str:
    """One line where the physics of some robot are not those of golden.json: nobody should train in vain."""
    verdicts = {t.task.robot: golden.verdict(t.task.robot) for t in todo if t.task.robot is not None}
    wrong = "; ".join(f"{robot}: {verdict}" for robot, verdict in verdicts.items() if verdict != store.GOLDEN)
    return wrong and (
        f"Warning: other physics than golden.json's ({wrong}); bench.report will refuse these trials. "
        "Install what constraints.txt names"
    )


def _refuse_changed(suite: Suite, planned: Sequence[Trial], folder: Path) -> None:
    """A stored trial of the same name must have meant the same, and all in the folder the same budget."""
    if (folder / "study.yaml").exists():
        raise SuiteError(f"{folder}: holds the results of a study; give the suite another name")
    for stored in store.read_trials(folder):
        budget: dict[str, Any] = {"steps": suite.steps, "evaluate": suite.evaluate.model_dump()}
        was = {key: stored[key] for key in budget}
        if stored["status"] != "waiting" and was != budget:
            raise SuiteError(
                f"{folder}: holds trials with {was}, the suite now says {budget} (config {stored['config_hash']}, now "
                f"{planned[0].config_hash()}); give the suite another name or use another --results"
            )
    for t in planned:
        about = read_status(t, folder)
        hash_then = about.get("config_hash")
        if about.get("status", "waiting") != "waiting" and hash_then != t.config_hash():
            raise SuiteError(
                f"{t.folder(folder)}: holds a trial with other settings (config {hash_then}, now {t.config_hash()}); "
                f"give the suite another name, use another --results, or delete {t.folder(folder).parent}"
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__, allow_abbrev=False)
    parser.add_argument("suite", type=Path, metavar="SUITE.yaml")
    parser.add_argument("--jobs", type=positive, metavar="N", help="trials at once; default: cores / env-threads")
    parser.add_argument(
        "--env-threads",
        type=positive,
        default=1,
        metavar="N",
        help="threads for the physics of each trial; default: 1",
    )
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
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
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    return parser


if __name__ == "__main__":
    sys.exit(main())
