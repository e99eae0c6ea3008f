"""`trial.json`: the configuration, provenance and status of a trial."""

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
    """Write the `trial.json` of a trial that has not started, so that reports know what is missing."""
    if read_status(trial, suite_folder).get("status", "waiting") == "waiting":
        about = _about(trial) | {"status": "waiting", "attempts": 0}
        files.write_json(trial.folder(suite_folder) / "trial.json", about)


def read_status(trial: Trial, suite_folder: Path) -> dict[str, Any]:
    """The trial's `trial.json`; empty if it has none, or is done but its records are lost."""
    path = trial.folder(suite_folder) / "trial.json"
    about = files.read_trial(path) if path.exists() else {}
    return {} if about.get("status") == "done" and not (path.parent / "records.parquet").exists() else about


def open_attempt(trial: Trial, folder: Path) -> dict[str, Any]:
    """Count an attempt in `trial.json` before anything is computed; returns its contents."""
    for left in folder.glob(".*.tmp"):  # left by a write that was killed
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
        about["earlier_provenance"].append(old["provenance"])  # resumed under another commit, machine or physics
    files.write_json(path, about)
    return about


def _about(trial: Trial) -> dict[str, Any]:
    """The configuration and provenance of a trial."""
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
    """The verdict of `bench.golden` on the physics of a task."""
    return files.NO_PHYSICS if task.robot is None else fingerprint.verdict(task.robot)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
