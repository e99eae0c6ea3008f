"""Run one trial to its end, from its checkpoint if it has one."""

from __future__ import annotations

import os
import signal
import traceback
from dataclasses import dataclass
from pathlib import Path

from algorithms import Diverged
from bench.store import files
from bench.suite.trial import Trial
from bench.trial.session import Session
from bench.trial.setup import prepare_process
from bench.trial.status import now, open_attempt

MAX_ATTEMPTS = 3
"""Attempts without a new checkpoint after which a trial runs alone, in case it is the one that kills the pool."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: `done`, or `failed` with the reason."""

    trial: Trial
    status: str
    error: str = ""
    seconds: float = 0.0
    """Seconds of training."""
    evaluation: float | None = None
    """Mean return of the last evaluation."""
    diverged: bool = False
    """Whether it failed because training diverged, which it would do again."""


def run(trial: Trial, suite_folder: Path, owner: int, env_threads: int = 1, until: int | None = None) -> Outcome:
    """Run a trial to its end, from its checkpoint if it has one. Never raises: an error is an outcome.

    With `until`, a step of the evaluation grid, it stops there and plays no final episodes; before the last step the
    outcome is `running`, and the checkpoint is kept.

    `owner` is the id of the process that asked for it: this one, or the parent of this worker, which then ignores
    Ctrl-C and exits when its parent is gone. `env_threads` threads step the environments; results do not depend on it.
    """
    folder = trial.folder(suite_folder)
    if os.getpid() != owner:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        prepare_process()
        about = open_attempt(trial, folder)
        try:
            session = Session(trial, folder, owner, env_threads)
            session.train_until(trial.steps if until is None else until)
            if until is None:
                session.play_fresh_episodes()
        except Exception as error:
            files.write_json(
                folder / "trial.json",
                about | {"status": "failed", "error": _reason(error), "traceback": traceback.format_exc()},
            )
            return Outcome(trial, "failed", _reason(error), diverged=isinstance(error, Diverged))
        if session.step < trial.steps:
            return Outcome(trial, "running", seconds=session.seconds, evaluation=session.evaluation)
        about |= {
            "status": "done",
            "seconds": session.seconds,
            "evaluation_seconds": session.evaluation_seconds,
            "finished": now(),
        }
        files.write_json(folder / "trial.json", about)
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        (folder / "progress.json").unlink(missing_ok=True)
        return Outcome(trial, "done", seconds=session.seconds, evaluation=session.evaluation)
    except Exception as error:  # not even the failure could be written: a full disk, a lost mount, a broken trial.json
        return Outcome(trial, "failed", _reason(error))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
