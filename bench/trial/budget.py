"""More steps for trials that have ended or stopped: they go on from their checkpoints, to the same numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cli.command import counted, first_of
from bench.store import files
from bench.store.checksums import Damaged, check_archive
from bench.store.files import StoreError
from bench.store.places import shared, shown, working
from bench.store.remote import Remote
from bench.store.trials import CHECKPOINTS, EARLIER_BUDGETS, KEPT, earlier_steps, identity
from bench.suite.model import SuiteError
from bench.suite.trial import Trial
from bench.trial.status import held_here, read_status


def lengthened(planned: Sequence[Trial], folder: Path) -> set[Trial]:
    """Those of which the folder holds the same trial with fewer steps."""
    return {t for t in planned if _is_shorter(read_status(t, folder), t)}


def _is_shorter(about: dict[str, Any], trial: Trial) -> bool:
    if about.get("status", "waiting") == "waiting" or not 0 < about["steps"] < trial.steps:
        return False
    return bool(about["config_hash"] == replace(trial, steps=about["steps"]).config_hash())


def reached(trial: Trial, folder: Path) -> int:
    """About how many steps of a trial need not be computed again."""
    about, own = read_status(trial, folder), trial.folder(folder)
    if about.get("status") == "done":
        return int(about["steps"]) if about.get(KEPT) else 0
    if not any((own / name).exists() for name in CHECKPOINTS):
        return 0
    with suppress(StoreError, LookupError, TypeError, ValueError):  # none yet, or an empty file: nothing depends on it
        return int(files.read_json(own / "progress.json")["step"])
    return max((int(budget["steps"]) for budget in about.get(EARLIER_BUDGETS, [])), default=0)


def starting_over(selected: Sequence[Trial], results: Path | Remote) -> set[Trial]:
    """Those that have ended with fewer steps, and have no whole checkpoint to go on from."""
    return {t for t in selected if _starts_over(t, results)}


def refuse_to_start_over(lost: Set[Trial], results: Path | Remote) -> None:
    """Raise SuiteError where any trial would lose what it has."""
    if not lost:
        return
    raise SuiteError(
        f"{results}: {counted(len(lost), 'trial')} ended with fewer steps and kept no whole checkpoint: "
        f"{first_of(sorted(trial.name for trial in lost), 1)}; --restart starts them over, "
        "--set name=NEW begins a suite of its own"
    )


def _starts_over(trial: Trial, results: Path | Remote) -> bool:
    about = read_status(trial, working(results))
    done = about.get("status") == "done"
    had_ended = _is_shorter(about, trial) if done else any("files" in x for x in about.get(EARLIER_BUDGETS, ()))
    if not had_ended:
        return False
    if isinstance(results, Remote):  # checkpoints in a store are not brought here to look
        return done and not about.get(KEPT)
    own = trial.folder(results)
    if not own.joinpath("trial.json").exists():
        return False  # it is published, and `lengthen` refuses it
    if not done and own.joinpath("records.parquet").exists() and not _is_of_earlier_budget(own, about):
        return False  # it has begun
    return not _whole_checkpoint(own)


def _is_of_earlier_budget(own: Path, about: dict[str, Any]) -> bool:
    owner = files.read_table_with_metadata(own / "records.parquet")[1]
    return earlier_steps(owner, identity(about), about[EARLIER_BUDGETS]) is not None


def _whole_checkpoint(own: Path) -> bool:
    for name in CHECKPOINTS:
        with suppress(Damaged, FileNotFoundError):
            check_archive(own / name)
            return True
    return False


def lengthen(planned: Sequence[Trial], lost: Set[Trial], results: Path | Remote) -> None:
    """Note in `trial.json` that trials have more steps; what they have so far is that of an earlier budget from now on.

    `lost`: those that start over; damaged checkpoints of theirs are deleted. Raises SuiteError for a trial at which
    another process is at work with fewer steps, and for one that is published only.
    """
    with shared(results) as folder:
        longer = lengthened(planned, folder)  # another run may have been first
        chosen = [t for t in planned if t in longer or t in lost]
        for trial in chosen:
            if not (trial.folder(folder) / "trial.json").exists():
                raise SuiteError(f"{results}: published trials cannot be given more steps; choose another --results")
            with _held(trial, results):
                pass  # before anything is written; one lock at a time, as a process may have only so many open files
        for trial in chosen:
            place = trial.folder(folder)
            with _held(trial, results):
                if trial in longer:
                    files.write_sealed_json(place / "trial.json", _with_more_steps(read_status(trial, folder), trial))
                for name in CHECKPOINTS if trial in lost else ():
                    (place / name).unlink(missing_ok=True)


@contextmanager
def _held(trial: Trial, results: Path | Remote) -> Iterator[None]:
    """Hold the lock file of a trial. Raises SuiteError where another process is at work on it."""
    with held_here(trial, results) as free:
        if not free:
            who = "another process is at work on this trial with fewer steps"
            raise SuiteError(f"{shown(results, trial.folder(working(results)))}: {who}; wait for it")
        yield


def _with_more_steps(about: dict[str, Any], trial: Trial) -> dict[str, Any]:
    before = {"steps": about["steps"], "config_hash": about["config_hash"]}
    if about["status"] == "done":
        before["files"] = about["files"]
    return {key: value for key, value in about.items() if key not in ("files", "finished", KEPT)} | {
        "status": "failed" if about["status"] == "failed" else "stopped",
        "steps": trial.steps,
        "config_hash": trial.config_hash(),
        EARLIER_BUDGETS: [*about.get(EARLIER_BUDGETS, []), before],
    }
