"""More steps for trials that have ended or stopped: they go on from their checkpoints, to the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cli.command import counted
from bench.store import files
from bench.store.places import shared, shown, working
from bench.store.remote import Remote
from bench.store.trials import CHECKPOINTS, EARLIER_BUDGETS, KEPT
from bench.suite.model import SuiteError
from bench.suite.trial import Trial
from bench.trial.status import at_work, read_status

NAMED = 3
"""So many trials are named in one line."""


def lengthened(planned: Sequence[Trial], folder: Path) -> list[Trial]:
    """Those of which the folder holds the same trial with fewer steps."""
    return [t for t in planned if _is_shorter(read_status(t, folder), t)]


def _is_shorter(about: dict[str, Any], trial: Trial) -> bool:
    if about.get("status", "waiting") == "waiting" or not 0 < about["steps"] < trial.steps:
        return False
    return bool(about["config_hash"] == replace(trial, steps=about["steps"]).config_hash())


def reached(trial: Trial, folder: Path) -> int:
    """About how many steps of a trial need not be computed again."""
    about, progress = read_status(trial, folder), trial.folder(folder) / "progress.json"
    if about.get("status") == "done":
        return int(about["steps"]) if about.get(KEPT) else 0
    return int(files.read_json(progress)["step"]) if progress.exists() else 0


def refuse_to_start_over(longer: Sequence[Trial], results: Path | Remote) -> None:
    """Raise SuiteError where trials have ended without keeping a checkpoint."""
    lost = [t for t in longer if not _goes_on(t, results)]
    if lost:
        names = ", ".join(t.name for t in lost[:NAMED])
        more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
        steps = read_status(lost[0], working(results))["steps"]
        raise SuiteError(
            f"{results}: {counted(len(lost), 'trial')} ended at {steps:,} steps and kept no checkpoint to go on from: "
            f"{names}{more}; --restart starts them over, --set name=... leaves them as they are, and --keep keeps "
            "checkpoints from now on"
        )


def _goes_on(trial: Trial, results: Path | Remote) -> bool:
    """Whether a trial loses nothing: it stopped on its way, or has kept its checkpoint."""
    about = read_status(trial, working(results))
    if about["status"] != "done":
        return True
    # checkpoints in a store are not brought here to look
    there = isinstance(results, Remote) or (trial.folder(results) / CHECKPOINTS[0]).exists()
    return there and bool(about.get(KEPT))


def lengthen(longer: Sequence[Trial], results: Path | Remote) -> None:
    """Note in `trial.json` that trials have more steps; what they have so far is that of an earlier budget from now on.

    Raises SuiteError for one at which another process is at work, and for one that is published only.
    """
    with shared(results) as folder:
        for trial in longer:
            place = trial.folder(folder)
            if not (place / "trial.json").exists():
                raise SuiteError(f"{results}: published trials cannot be given more steps; choose another --results")
            if at_work(trial, results):
                raise SuiteError(
                    f"{shown(results, place)}: another process is at work on this trial with fewer steps; wait for it"
                )
        for trial in longer:
            about = read_status(trial, folder)
            if _is_shorter(about, trial):
                files.write_sealed_json(trial.folder(folder) / "trial.json", _with_more_steps(about, trial))


def _with_more_steps(about: dict[str, Any], trial: Trial) -> dict[str, Any]:
    before = {"steps": about["steps"], "config_hash": about["config_hash"]}
    return {key: value for key, value in about.items() if key not in ("files", "finished", KEPT)} | {
        "status": "failed" if about["status"] == "failed" else "stopped",
        "steps": trial.steps,
        "config_hash": trial.config_hash(),
        EARLIER_BUDGETS: [*about.get(EARLIER_BUDGETS, []), before],
    }
