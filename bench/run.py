"""`python -m bench.run SUITE.yaml`: train and evaluate every trial of a suite, as many at once as there are jobs."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: trials are the unit of parallelism

import argparse
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import ProcessPoolExecutor, get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from bench import golden, store, trial
from bench.monitor import Monitor, clock
from bench.plan import Cost, costs, refuse_replays_beyond_memory
from bench.suite import Suite, SuiteError, Trial, load, only, trials
from bench.trial import MAX_ATTEMPTS, Outcome, read_status

BAD_INPUT, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every selected trial is done, 1 when one failed, 2 for bad input, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        suite, document = load(options.suite, options.set)
        planned = trials(suite, options.suite)
        selected = only(planned, options.only)
        folder = options.results / suite.name
        _refuse_changed(suite, planned, folder)
        todo = [t for t in selected if read_status(t, folder).get("status") != "done"]
        jobs = options.jobs or max((os.cpu_count() or 1) // options.env_threads, 1)
        refuse_replays_beyond_memory(todo, jobs)
        prices = costs(todo, options.env_threads)
    except (SuiteError, store.StoreError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        print(f"{error.filename or options.results}: {error.strerror}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("Stopped before anything was run.", file=sys.stderr)
        return INTERRUPTED
    print(plan(selected, prices, folder, jobs), flush=True)
    if warning := physics_warning(todo):
        print(warning, file=sys.stderr)
    if options.dry_run:
        return 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            store.write_text(folder / "suite.yaml", yaml.safe_dump(document, sort_keys=False))
            for t in planned:
                trial.register(t, folder)
            return run(todo, folder, jobs, options.env_threads, prices)
    except Timeout:
        print(f"{folder}: another bench.run is at work there; wait for it or use another --results", file=sys.stderr)
        return BAD_INPUT
    except store.StoreError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename or folder}: {error.strerror}", file=sys.stderr)
        return 1


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
        print(f"{failed} of {len(todo)} trials failed; the same command tries them again", file=sys.stderr)
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
    less = f", {skipped} pairing{'s' * (skipped > 1)} skipped" if skipped else ""
    lines = [
        f"{len(selected)} trials: {len(tasks)} tasks x {len(labels)} algorithms x {len(seeds)} seeds{less} -> {folder}",
        f"  tasks       {', '.join(tasks)}",
        f"  algorithms  {', '.join(labels)}",
        f"  seeds       {', '.join(map(str, seeds))}",
    ]
    if len(todo) < len(selected):
        lines.append(f"  {len(selected) - len(todo)} are done already, {len(todo)} to run")
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
    parser.add_argument("--jobs", type=_positive, metavar="N", help="trials at once; default: cores / env-threads")
    parser.add_argument(
        "--env-threads",
        type=_positive,
        default=1,
        metavar="N",
        help="threads for the physics of each trial; default: 1",
    )
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="change the suite: algorithms.happo.clip=0.1"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="KEY=NAMES", help="run a part: algorithm=happo,mappo or task=..."
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    return parser


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
