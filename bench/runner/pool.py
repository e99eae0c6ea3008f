"""Many trials at once with joblib, including those whose process dies."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import ProcessPoolExecutor, get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool, TerminatedWorkerError

from bench.cli.command import INTERRUPTED, counted
from bench.runner.cost import Cost
from bench.runner.monitor import Monitor
from bench.store import files
from bench.suite.trial import Trial
from bench.trial import worker
from bench.trial.status import read_status
from bench.trial.worker import MAX_ATTEMPTS, Outcome


def run_trials(todo: Sequence[Trial], folder: Path, jobs: int, env_threads: int, prices: dict[Trial, Cost]) -> int:
    """Run the trials, print how each ended, and merge their tables."""
    failed = 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM acts as Ctrl-C
    try:
        with Monitor(todo, folder, [prices[t].seconds for t in todo], jobs) as monitor:
            for outcome in outcomes(todo, folder, jobs, env_threads):
                monitor.ended(outcome)
                failed += outcome.status == "failed"
    except KeyboardInterrupt:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
        files.merge(folder)
        print("Stopped. The same command goes on from the last evaluation of each trial.", file=sys.stderr)
        return INTERRUPTED
    files.merge(folder)
    print(f"Records: {folder / 'records.parquet'}   Report: python -m bench.report {shlex.quote(str(folder))}")
    if failed:
        again = "tries it again" if failed == 1 else "tries them again"
        print(f"{failed} of {counted(len(todo), 'trial')} failed; the same command {again}", file=sys.stderr)
    return int(failed > 0)


def outcomes(todo: Sequence[Trial], folder: Path, jobs: int, env_threads: int) -> Iterator[Outcome]:
    """Run trials in joblib's workers; yields outcomes as they come.

    joblib gives up its whole pool when one worker dies (killed, out of memory). The pool is built anew and the trials
    without an outcome resume from their checkpoints; one that has died too often without a new checkpoint runs alone.
    joblib also gives up when a worker cannot load a trial, because an import fails there; then every trial runs alone.
    """
    pending = list(todo)
    while pending:
        try:
            with parallel_config(backend="loky", inner_max_num_threads=1):
                work = Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)
                for outcome in work(delayed(worker.run)(t, folder, os.getpid(), env_threads) for t in pending):
                    pending = [t for t in pending if t != outcome.trial]
                    yield outcome
        except TerminatedWorkerError:
            print(
                "A worker died (killed, or out of memory?); its trials go on from their checkpoints.", file=sys.stderr
            )
            for lost in [t for t in pending if _is_hopeless(t, folder)]:
                pending.remove(lost)
                yield _alone(lost, folder, env_threads)
        except BrokenProcessPool:
            print("A worker cannot load a trial; from now on they run one after the other.", file=sys.stderr)
            yield from (_alone(t, folder, env_threads) for t in pending)
            return


def _is_hopeless(lost: Trial, folder: Path) -> bool:
    about = read_status(lost, folder)
    return about.get("status") == "running" and about["attempts"] >= MAX_ATTEMPTS


def _alone(lost: Trial, folder: Path, env_threads: int) -> Outcome:
    """Run a trial in a process of its own, so that it is the cause if that process dies."""
    executor = ProcessPoolExecutor(max_workers=1)
    try:
        outcome: Outcome = executor.submit(worker.run, lost, folder, os.getpid(), env_threads).result()
    except TerminatedWorkerError:
        error = "its process died again and again, at last when it ran alone (killed, or out of memory?)"
        outcome = _give_up(lost, folder, error)
    except BrokenProcessPool as broken:
        outcome = _give_up(lost, folder, load_error(broken))
    finally:
        executor.shutdown(wait=True, kill_workers=True)
    return outcome


def load_error(broken: BrokenProcessPool) -> str:
    """Why a worker could not load what it was sent: the last line of its traceback."""
    return str(broken.__cause__ or broken).strip(' \n"').splitlines()[-1]


def _give_up(lost: Trial, folder: Path, error: str) -> Outcome:
    about = read_status(lost, folder)
    files.write_json(lost.folder(folder) / "trial.json", about | {"status": "failed", "error": error})
    return Outcome(lost, "failed", error)
