"""`trial.json`: a trial's identity, origin and how far it came."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import algorithms
from bench.envs import fingerprint
from bench.store import files
from bench.store.provenance import provenance
from bench.suite.trial import Trial
from bench.tasks.registry import Task


def register(trial: Trial, suite_folder: Path) -> None:
    """Write down a trial that has yet to start, so that a report knows what is missing."""
    if read_status(trial, suite_folder).get("status", "waiting") == "waiting":
        about = _about(trial) | {"status": "waiting", "attempts": 0}
        files.write_json(trial.folder(suite_folder) / "trial.json", about)


def read_status(trial: Trial, suite_folder: Path) -> dict[str, Any]:
    """The trial's `trial.json`; empty where it never started, or is done and lost what it recorded."""
    path = trial.folder(suite_folder) / "trial.json"
    about = files.read_trial(path) if path.exists() else {}
    return {} if about.get("status") == "done" and not (path.parent / "records.parquet").exists() else about


def open_attempt(trial: Trial, folder: Path) -> dict[str, Any]:
    """Count the attempt, and write it down before anything is computed."""
    for left in folder.glob(".*.tmp"):  # of a write that a kill cut short
        left.unlink(missing_ok=True)
    path = folder / "trial.json"
    old = files.read_trial(path) if path.exists() else {}
    about = _about(trial) | {
        "status": "running",
        "attempts": old.get("attempts", 0) + 1,
        "started": old.get("started", now()),
        "earlier_provenance": old.get("earlier_provenance", []),
    }
    if (folder / "checkpoint.pt").exists() and old["provenance"] != about["provenance"]:
        about["earlier_provenance"].append(old["provenance"])  # it goes on under another commit, machine or physics
    files.write_json(path, about)
    return about


def _about(trial: Trial) -> dict[str, Any]:
    """A trial's identity and origin."""
    return {
        "suite": trial.suite,
        "task": trial.task.label,
        "algorithm": trial.label,
        "method": trial.method.name,
        "seed": trial.seed,
        "steps": trial.steps,
        "evaluate": {"every": trial.every, "episodes": trial.episodes},
        "evaluation_seeds": trial.evaluation_seeds,
        "settings": asdict(trial.settings),
        "options": trial.task.options.named(),
        "config_hash": trial.config_hash(),
        "tuning": trial.tuning and trial.tuning.model_dump(),
        "error": "",
        "provenance": provenance()
        | {
            "physics": physics(trial.task),
            "task": trial.task.origin(),
            "numerics": algorithms.NUMERICS,
            "matmul": algorithms.matmul_library(),
        },
    }


def physics(task: Task) -> str:
    """The verdict of `bench.golden` on a task's robot."""
    return files.NO_PHYSICS if task.robot is None else fingerprint.verdict(task.robot)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
