"""Run one trial to its end, from its checkpoint if it has one."""

from __future__ import annotations

import signal
import traceback
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from algorithms import Diverged
from bench.envs.errors import EnvError, error_line, error_line_with_place
from bench.store import files
from bench.store.files import FolderGone, StoreError
from bench.store.lease import TakenOver
from bench.store.places import shown, working
from bench.store.remote import Remote, StoreGone
from bench.store.trials import CHECKPOINTS, EARLIER_BUDGETS, KEPT
from bench.suite.trial import Trial
from bench.trial.link import Link
from bench.trial.session import Session
from bench.trial.setup import prepare_process
from bench.trial.status import Hold, close_attempt, held, now, open_attempt, read_status


class Stopped(BaseException):
    """The user does not want the trial to go on; it stops where it is, and closes what it opened."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: `done`, or `failed` with the reason; `running` where it stopped earlier as it was told to;
    `busy` where another process is at work on it; `cut off` where its store was not reached, with the reason."""

    trial: Trial
    status: str
    error: str = ""
    seconds: float = 0.0
    """Seconds of training."""
    evaluation: float | None = None
    """Mean return of the last evaluation."""
    diverged: bool = False
    """Whether it failed because training diverged, which it would do again."""


def run(
    trial: Trial,
    results: Path | Remote,
    env_threads: int = 1,
    until: int | None = None,
    link: Link | None = None,
) -> Outcome:
    """Run a trial to its end, from its checkpoint if it has one. Never raises an Exception: an error is an outcome.

    This process holds the trial's lock meanwhile, and nobody else writes its files. `results`: the folder of the suite,
    or its place in a store, which then gets the trial after each evaluation; one that another machine took over
    meanwhile is `busy`, one that did not reach the store is `cut off`, and left as if it had been killed. With `until`,
    a step of the evaluation grid, it stops there and plays no final episodes; before the last step the outcome is
    `running`, and the checkpoint is kept. `env_threads` threads step the environments; results do not depend on it.
    """
    suite_folder, link = working(results), link or Link()
    try:
        with held(trial, results, link.beat) as hold:
            if hold is None:
                return Outcome(trial, "busy")
            about = read_status(trial, suite_folder)
            if about.get("status", "waiting") != "waiting" and about["config_hash"] != trial.config_hash():
                other = f"{trial.folder(suite_folder)}: another run gave it other settings"
                return Outcome(trial, "failed", shown(results, other))
            if about.get("status") == "done":  # by another run, while this one waited for its lock
                return _done(trial, about)
            return _attempt(trial, suite_folder, env_threads, until, link, hold)
    except TakenOver as error:
        link.say(str(error))
        return Outcome(trial, "busy")
    except StoreGone as error:
        return Outcome(trial, "cut off", str(error))
    except Exception as error:  # not even the failure could be written: a full disk, a lost mount, a broken trial.json
        return Outcome(trial, "failed", shown(results, _reason(error)))


def _attempt(trial: Trial, suite_folder: Path, env_threads: int, until: int | None, link: Link, hold: Hold) -> Outcome:
    folder = trial.folder(suite_folder)
    prepare_process(trial.learner_threads)
    about, folder_id = open_attempt(trial, folder), files.folder_id(folder)
    try:
        hold.save()
        with closing(Session(trial, folder, env_threads, link, about[EARLIER_BUDGETS])) as session:
            _train(session, trial.steps if until is None else until, hold)
            if until is None:
                session.play_fresh_episodes()
            elif not session.checksums:  # it had got so far before, and was stopped before `trial.json` said so
                session.write_tables()
    except BaseException as error:  # the code of an environment may raise anything
        if isinstance(error, Stopped) or (isinstance(error, KeyboardInterrupt) and _interruptible()):
            _note_stop(folder, folder_id, about, hold)
            raise
        if isinstance(error, TakenOver | StoreGone):
            raise
        why = hold.shown(_reason(error))
        if not isinstance(error, FolderGone):
            close_attempt(folder, about, "failed", error=why, traceback=hold.shown(traceback.format_exc()))
        return Outcome(trial, "failed", why, diverged=isinstance(error, Diverged))
    if session.step < trial.steps:
        return Outcome(trial, "running", seconds=session.seconds, evaluation=session.evaluation)
    about = close_attempt(
        folder,
        about,
        "done",
        seconds=session.seconds,
        evaluation_seconds=session.evaluation_seconds,
        last_evaluation=session.evaluation,
        finished=now(),
        files=session.checksums,
        **({KEPT: True} if trial.keep else {}),
    )
    last, before = CHECKPOINTS
    for name in (*([] if trial.keep else [last]), before, "progress.json"):
        (folder / name).unlink(missing_ok=True)
    return _done(trial, about)


def _note_stop(folder: Path, folder_id: tuple[int, int], about: dict[str, Any], hold: Hold) -> None:
    """Say that nobody is at work on a trial any more, if that can be written."""
    with suppress(OSError, StoreError):
        files.refuse_other_folder(folder, folder_id)
        close_attempt(folder, about, "stopped")
        hold.save()


def _train(session: Session, until: int, hold: Hold) -> None:
    """Train to a step of the grid, and save at each point on the way also where others look."""
    session.begin()
    hold.save()
    while session.step < until:
        session.train_until(session.step + session.trial.every)
        hold.save()


def _done(trial: Trial, about: dict[str, Any]) -> Outcome:
    return Outcome(trial, "done", seconds=about["seconds"], evaluation=about["last_evaluation"])


def _interruptible() -> bool:
    """Whether Ctrl-C reaches this process; else a KeyboardInterrupt comes from an environment."""
    return signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def _reason(error: BaseException) -> str:
    """In one line; with the place in the code where it is not one of ours, whose messages say what is wrong."""
    if isinstance(error, StoreError):  # names a file or a place, and means no kind of error by its class
        return " ".join(str(error).split())
    ours = isinstance(error, Diverged | EnvError | OSError)
    return error_line(error) if ours else error_line_with_place(error)
