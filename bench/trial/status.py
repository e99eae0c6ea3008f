"""`trial.json`: the configuration, provenance and status of a trial."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import algorithms
from bench.envs import fingerprint
from bench.store import files
from bench.store.mirror import Mirror
from bench.store.places import trial_free, trial_held, working
from bench.store.provenance import provenance
from bench.store.remote import Remote
from bench.store.trials import EARLIER_BUDGETS, LOCK, NO_PHYSICS, published, read_trial_in_place
from bench.suite import methods
from bench.suite.trial import Trial
from bench.tasks.registry import Task


class Hold:
    """The right to write the files of a trial."""

    def __init__(self, mirror: Mirror | None = None):
        self._mirror = mirror

    def save(self) -> None:
        """Let the store have what has changed, where results lie in one. Raises TakenOver if it is another's by now."""
        if self._mirror:
            self._mirror.save()

    def shown(self, text: str) -> str:
        """A text as `trial.json` has it: in a store without the folders of this machine."""
        return self._mirror.shown(text) if self._mirror else text


@contextmanager
def held(trial: Trial, results: Path | Remote, beat: Callable[[], None] = lambda: None) -> Iterator[Hold | None]:
    """Hold the lock of a trial, which only the process that runs it holds; None if another process does.

    Of results in a store the trial is brought to this machine first, and taken there at the end. `beat` is called
    every few seconds meanwhile.
    """
    folder = trial.folder(working(results))
    with files.locked(folder / LOCK) as free:
        if not free:
            yield None
        elif isinstance(results, Remote):
            with trial_held(results, folder, beat) as mirror:
                yield Hold(mirror) if mirror else None
        else:
            yield Hold()


@contextmanager
def held_here(trial: Trial, results: Path | Remote) -> Iterator[bool]:
    """Hold the lock file of a trial on this machine; False if a process is at work on the trial, also on another."""
    folder = trial.folder(working(results))
    with files.locked(folder / LOCK) as free:
        yield free and not (isinstance(results, Remote) and not trial_free(results, folder))


def at_work(trial: Trial, results: Path | Remote) -> bool:
    """Whether another process is at work on a trial."""
    with held_here(trial, results) as free:
        return not free


def register(trial: Trial, suite_folder: Path) -> None:
    """Write the `trial.json` of a trial that has not started, so that reports know what is missing."""
    stub = _about(trial) | {"status": "waiting", "attempts": 0}
    if _known(trial, suite_folder, stub):
        return
    with held(trial, suite_folder) as free:
        if free and not _known(trial, suite_folder, stub):
            _write(trial.folder(suite_folder), stub)


def _known(trial: Trial, suite_folder: Path, stub: dict[str, Any]) -> bool:
    """Whether a trial has started, or its stub is there as it would be written now: a flush to disk takes time."""
    path = trial.folder(suite_folder) / "trial.json"
    own = read_trial_in_place(path) if path.exists() else {"status": "waiting"}
    if own["status"] != "waiting" or own == json.loads(json.dumps(stub)):  # which makes lists of tuples
        return True
    return bool(read_status(trial, suite_folder).get("status", "waiting") != "waiting")


def read_status(trial: Trial, suite_folder: Path) -> dict[str, Any]:
    """What is known of a trial; empty if nothing is, or if it is done and has lost one of its files."""
    folder = trial.folder(suite_folder)
    path = folder / "trial.json"
    if not path.exists():
        return published(suite_folder).get(folder, {})
    about = read_trial_in_place(path)
    if about["status"] == "waiting":
        return published(suite_folder).get(folder, about)
    whole = about["status"] != "done" or all((folder / name).exists() for name in about["files"])
    return about if whole else {}


def record_failure(trial: Trial, results: Path | Remote, error: str) -> None:
    """Note why the process of a trial ended, unless another process has taken the trial up."""
    with held(trial, results) as hold:
        about = read_status(trial, working(results))
        if hold and about.get("status") != "done":
            about = about or _about(trial) | {"attempts": 1}
            close_attempt(trial.folder(working(results)), about, "failed", error=hold.shown(error))


def open_attempt(trial: Trial, folder: Path) -> dict[str, Any]:
    """Count an attempt in `trial.json` before anything is computed; returns its contents."""
    for left in folder.glob(".*.tmp"):  # left by a write that was killed
        left.unlink(missing_ok=True)
    path = folder / "trial.json"
    old = read_trial_in_place(path) if path.exists() else {}
    about = _about(trial) | {
        "status": "running",
        "attempts": old.get("attempts", 0) + 1,
        "started": old.get("started", now()),
        "earlier_provenance": old.get("earlier_provenance", []),
        EARLIER_BUDGETS: old.get(EARLIER_BUDGETS, []),
    }
    if old and any(folder.glob("checkpoint*.pt")) and old["provenance"] != about["provenance"]:
        about["earlier_provenance"].append(old["provenance"])  # resumed under another commit, machine or physics
    _write(folder, about)
    return about


def close_attempt(folder: Path, about: dict[str, Any], status: str, **more: Any) -> dict[str, Any]:
    """Write how an attempt ended into `trial.json`; returns its contents."""
    about = about | {"status": status} | more
    _write(folder, about)
    return about


def _write(folder: Path, about: dict[str, Any]) -> None:
    files.write_sealed_json(folder / "trial.json", about)


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
        "learner_threads": trial.learner_threads,
        "settings": asdict(trial.settings),
        "options": trial.task.options.named(),
        "config_hash": trial.config_hash(),
        "tuning": trial.tuning and trial.tuning.model_dump(),
        "error": "",
        "provenance": provenance_of(trial),
    }


def differences(about: Mapping[str, Any], trial: Trial) -> list[str]:
    """What a trial means now and its `trial.json` does not: "clip 0.2, now 0.1"."""
    then, now = (_flat(x) for x in (about, _about(trial)))
    keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    return [f"{key} {then.get(key)}, now {now.get(key)}" for key in keys]


def _flat(about: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a `trial.json` that its numbers depend on, each under its own name."""
    parts = {key: about.get(key) for key in ("method", "steps", "evaluation_seeds", "learner_threads")}
    parts |= {f"evaluate.{key}": value for key, value in about["evaluate"].items()}
    parts |= {"NUMERICS": about["provenance"].get("numerics"), **about["provenance"].get("task", {})}
    parts |= {"algorithm_versions": about["provenance"].get("algorithm_versions")}
    found: dict[str, Any] = json.loads(json.dumps(parts | about["options"] | about["settings"]))  # lists of tuples
    return found


def provenance_of(trial: Trial) -> dict[str, Any]:
    """Where the numbers of a trial come from if it runs here and now."""
    return provenance() | {
        "physics": physics(trial.task),
        "task": trial.task.origin(),
        **methods.origin(trial.method),
        "numerics": algorithms.NUMERICS,
        "matmul": algorithms.matmul_library(),
    }


def physics(task: Task) -> str:
    """The verdict of `bench.golden` on the physics of a task."""
    return NO_PHYSICS if task.robot is None else fingerprint.verdict(task.robot)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
