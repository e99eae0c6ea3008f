"""The benchmark from Python: train one trial, act with the team it trained, read results.

`bench.train`, `bench.load_team` and `bench.read` are these functions.
"""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from rich.console import Console

from algorithms import SettingError
from algorithms.registry import Settings
from bench.runner.folder import join_tables, refuse_changed
from bench.runner.monitor import Bar
from bench.store.remote import local_folder
from bench.store.results import Results, read
from bench.store.trials import trial_table
from bench.suite.methods import method
from bench.suite.model import Suite, SuiteError
from bench.suite.reading import validated
from bench.suite.resolving import trials
from bench.suite.trial import Trial
from bench.tasks.checker import first_failure
from bench.trial import worker
from bench.trial.link import Link, Progress
from bench.trial.setup import one_thread
from bench.trial.status import read_status
from bench.trial.trained import TrainedTeam, load_team

__all__ = ["Results", "TrainedTeam", "load_team", "read", "train"]

MOST_EVALUATIONS = 25
"""Of a trial whose `evaluate_every` is not given."""


def train(
    algorithm: str,
    task: str | Mapping[str, Any],
    *,
    steps: int = 100_000,
    seed: int = 0,
    evaluate_every: int | None = None,
    episodes: int = 4,
    results: str | Path | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Train one algorithm on one task with one seed in this process, and return its records.

    The numbers are those of `python -m bench.run` with the same settings, to the bit. Meanwhile torch computes with
    one thread; afterwards with as many as before.

    Args:
        algorithm: A row of the table of methods, such as `"happo"`, or `"python:module:METHOD"`.
        task: The name of a task, or a mapping of `name` and the task's options:
            `{"name": "mamujoco/HalfCheetah-2x3", "observation": "global"}`.
        steps: Environment steps, summed over the parallel environments: a multiple of `evaluate_every`.
        seed: Seed of the trial.
        evaluate_every: Environment steps between two evaluations, a multiple of `rollout_length * envs`. By default
            as few as give a grid of at most 25 evaluations that ends at `steps`.
        episodes: Deterministic episodes of each evaluation; the last and the best policy play ten times as many.
        results: Folder of results that the trial is written to, as `bench.run` writes those of a suite:
            `<results>/trials/<task>/<algorithm>/seed-<seed>`. Trials of one folder must have equal `steps`,
            `evaluate_every` and `episodes`. One that is done there is not run again, one that was interrupted goes on.
            None: nothing is kept.
        progress: Whether to show progress: a bar on a terminal, a line every 15 seconds elsewhere. None: on a
            terminal only.
        **settings: Settings of the algorithm, such as `actor_lr=1e-3`; the others are at their defaults.

    Returns:
        One row per evaluation episode. The kinds are `grid` (every evaluation, the first at step 0), `final` (the last
        policy on fresh episodes) and `absolute` (the best one); `episode_return` is the undiscounted sum of the team
        reward, `seconds` those of training.

    Raises:
        ValueError: What is unknown or does not fit, in one line, named as in a suite file. Nothing is written then.
        RuntimeError: The training failed, for example because it diverged. What there is stays in `results`.
        bench.store.files.StoreError: A file in `results` cannot be read.
    """
    try:
        local_folder(str(results))
    except ArgumentTypeError as error:
        raise ValueError(f"results: {error}; bench.run trains into stores") from None
    suite = {
        "name": "train" if results is None else Path(results).resolve().name,
        "steps": steps,
        "seeds": 1,
        "first_seed": seed,
        "evaluate": {"every": evaluate_every, "episodes": episodes},
        "tasks": [dict(task) if isinstance(task, Mapping) else task],
    }
    trial = _trial(suite, str(algorithm), settings)
    shown = Console().is_terminal if progress is None else progress
    with TemporaryDirectory() if results is None else nullcontext(results) as folder, one_thread():
        return _records(trial, Path(folder), shown)


def _trial(suite: dict[str, Any], algorithm: str, values: dict[str, Any]) -> Trial:
    """The one trial of a suite that still lacks its algorithm, and perhaps its grid."""
    where = Path("train")  # what a suite's errors begin with
    try:
        settings = method(algorithm).configure(values)
        label = re.sub(r"[^A-Za-z0-9._+-]|^[^A-Za-z0-9]+", "", algorithm.rpartition(":")[2])
        suite["algorithms"] = {label: {"algorithm": algorithm, **values}}
        if suite["evaluate"]["every"] is None:
            suite["evaluate"]["every"] = _every(suite["steps"], settings)
        (trial,) = trials(validated(Suite, suite, where), where)
    except SettingError as error:
        raise ValueError(f"{where}: {error.key}: {error}") from None
    except SuiteError as error:
        raise ValueError(str(error).replace(f"{where}: name: ", f"{where}: results: ", 1)) from None
    return trial


def _every(steps: Any, settings: Settings) -> int:
    """The least multiple of a rollout that divides `steps` into at most 25 parts; a rollout where there is none."""
    rollout = settings.rollout_length * settings.envs
    updates = steps // rollout if isinstance(steps, int) else 0
    parts = next(n for n in range(MOST_EVALUATIONS, 0, -1) if updates % n == 0)
    return rollout * max(updates // parts, 1)


def _records(trial: Trial, folder: Path, shown: bool) -> pd.DataFrame:
    """The records of a trial in a folder of results, where it is run unless it is done."""
    try:
        if wrong := first_failure(trial.task):
            raise SuiteError(f"{trial.name}: {wrong}; `python -m bench.check` looks closer")
        refuse_changed([trial], folder)
        if read_status(trial, folder).get("status") != "done":
            folder.mkdir(parents=True, exist_ok=True)
            _run(trial, folder, shown)
    except SuiteError as error:
        raise ValueError(str(error)) from None
    return trial_table(folder, "records", read_status(trial, folder))


def _run(trial: Trial, folder: Path, shown: bool) -> None:
    """Bring a trial to its end, and say where it failed."""
    with Bar(trial) if shown else nullcontext() as bar:
        outcome = worker.run(trial, folder, link=_ToBar(bar) if bar else None)
        if outcome.status == "busy":
            raise SuiteError(f"{trial.folder(folder)}: another process is at work on this trial; wait for it")
        if bar:
            bar.ended(outcome)
    join_tables(folder)
    if outcome.status == "failed":
        error = RuntimeError(f"{trial.name}: {outcome.error}")
        error.add_note(read_status(trial, folder).get("traceback", ""))
        raise error


class _ToBar(Link):
    """From a trial in this process to the bar that shows it."""

    def __init__(self, bar: Bar):
        self._bar = bar

    def progress(self, progress: Progress) -> None:
        self._bar.hear(progress)
