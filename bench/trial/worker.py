"""Bring one trial to its end, from its checkpoint if it has one."""

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
"""Starts without a new checkpoint in between after which a trial whose pool died runs alone, so a death is its own."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: `done`, or `failed` with the reason."""

    trial: Trial
    status: str
    error: str = ""
    seconds: float = 0.0
    """Of training."""
    evaluation: float | None = None
    """Mean return of the last evaluation."""
    diverged: bool = False
    """Failed by what its settings led to, which would happen again."""


def run(trial: Trial, suite_folder: Path, owner: int, env_threads: int = 1, until: int | None = None) -> Outcome:
    """Bring a trial to its end, from its checkpoint if it has one. Never raises: an error is the outcome.

    Given a step `until`, a point of the grid, it goes no further and plays no fresh episodes; before the last step
    the outcome is `running`, and the checkpoint stays.

    `owner` is the process that asked for it: this one, or the parent of this worker, which leaves Ctrl-C to the owner
    and ends itself when the owner is gone. `env_threads` step the environments; the numbers do not depend on it.
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
