"""The benchmark from Python: train one trial, act with the team it trained, read results.

`bench.train`, `bench.load_team` and `bench.read` are these functions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from torch import Tensor

from algorithms import Discrete, Learner, SettingError, Team
from algorithms.registry import Settings
from bench.runner.folder import join_tables, refuse_changed
from bench.runner.monitor import Bar
from bench.store.files import StoreError
from bench.store.results import Results, read
from bench.store.trials import read_trial, trial_table
from bench.suite.methods import method
from bench.suite.model import Suite, SuiteError
from bench.suite.reading import validated
from bench.suite.resolving import trials
from bench.suite.restored import restored
from bench.suite.trial import Trial
from bench.tasks import registry
from bench.tasks.checker import first_failure
from bench.tasks.registry import Task
from bench.trial import worker
from bench.trial.collect import play_episodes
from bench.trial.link import Link, Progress
from bench.trial.session import OTHER_LAYOUT
from bench.trial.setup import EVALUATION_SEED, seeds
from bench.trial.status import read_status

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
    if "://" in str(results):
        raise ValueError(f"results: {str(results)!r} is no folder; bench.run trains into stores")
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
    with TemporaryDirectory() if results is None else nullcontext(results) as folder, _one_thread():
        return _records(trial, Path(folder), shown)


def _trial(suite: dict[str, Any], algorithm: str, given: dict[str, Any]) -> Trial:
    """The one trial of a suite that still lacks its algorithm, and perhaps its grid."""
    where = Path("train")  # what a suite's errors begin with
    try:
        settings = method(algorithm).configure(given)
        suite["algorithms"] = {algorithm.rpartition(":")[2]: {"algorithm": algorithm, **given}}
        if suite["evaluate"]["every"] is None:
            suite["evaluate"]["every"] = _every(suite["steps"], settings)
        (trial,) = trials(validated(Suite, suite, where), where)
    except SettingError as error:
        raise ValueError(f"{where}: {error.key}: {error}") from None
    except SuiteError as error:
        raise ValueError(str(error)) from None
    return trial


def _every(steps: Any, settings: Settings) -> int:
    """The least multiple of a rollout that divides `steps` into at most 25 parts; a rollout where there is none."""
    rollout = settings.rollout_length * settings.envs
    updates = steps // rollout if isinstance(steps, int) else 0
    dividing = (n for n in range(1, updates + 1) if updates % n == 0 and updates <= n * MOST_EVALUATIONS)
    return rollout * next(dividing, 1)


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


@contextmanager
def _one_thread() -> Iterator[None]:
    """As trials compute: more threads add in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, eq=False)
class TrainedTeam:
    """N agents as a trial trained them; `load_team` makes it."""

    task: Task
    """What it was trained on: `task.name`, `task.label`, and what `bench.tasks.registry.make` takes."""
    algorithm: str
    """The label of the algorithm."""
    seed: int
    """The seed of the trial."""
    policy: str
    """`best` or `last`."""
    settings: Settings = field(repr=False)
    """The settings of the algorithm."""
    sizes: Team = field(repr=False)
    """N (`sizes.size`), `observation_sizes`, `action_spaces` and `state_size`."""
    learner: Learner = field(repr=False)
    """The learner, with the networks in `learner.policy`; critics and optimisers are untrained."""

    def act(
        self, observations: Sequence[ArrayLike], masks: Sequence[ArrayLike | None] | None = None
    ) -> list[NDArray[Any]]:
        """The deterministic actions of all agents.

        Args:
            observations: N arrays `[E, O_i]` of E environments, or `[O_i]` of one, as the task's batch has them
                (`bench.tasks.registry.make`).
            masks: N arrays `[E, L_i]` or `[L_i]` of which choices are allowed, L_i being those of all components of
                an action; None for an agent, or for all of them, that may choose anything.

        Returns:
            N arrays `[E, A_i]` or `[A_i]`: float32 in [-1, 1], which the task maps to its own bounds, or, of discrete
            actions, int64 indices, one for each component.

        Raises:
            ValueError: Another number of arrays, or another shape.
        """
        spaces = self.sizes.action_spaces
        seen = _tensors("observations", observations, self.sizes.observation_sizes, np.float32)
        choices = [space.logits if isinstance(space, Discrete) else 0 for space in spaces]
        allowed = None if masks is None else _tensors("masks", masks, choices, np.bool_)
        if len({len(x) for x in [*seen, *(allowed or [])] if x is not None}) > 1:
            raise ValueError("observations and masks: of different numbers of environments")
        actions = self.learner.act([x for x in seen if x is not None], explore=False, masks=allowed)
        made = [
            action.numpy().astype(np.int64) if isinstance(space, Discrete) else action.clamp(-1, 1).numpy()
            for action, space in zip(actions, spaces, strict=True)
        ]
        return [action[0] for action in made] if np.ndim(observations[0]) == 1 else made

    def evaluate(self, episodes: int = 20, seed: int = 0) -> NDArray[np.float64]:
        """The undiscounted team return of each of so many deterministic episodes, [episodes].

        Equal seeds give equal episodes, which no trial trains or is evaluated on. Raises ValueError for a number of
        episodes below 1 or a negative seed.
        """
        if episodes < 1:
            raise ValueError(f"episodes: {episodes} is not at least 1")
        drawn = np.random.SeedSequence([EVALUATION_SEED, seed]).spawn(episodes)
        with _one_thread():
            return play_episodes(self.learner, self.task, drawn).returns


def _tensors(
    what: str, arrays: Sequence[ArrayLike | None], sizes: Sequence[int], dtype: type[np.generic]
) -> list[Tensor | None]:
    """N arrays [E, F_i] or [F_i] as copies [E, F_i]; a mask may be None."""
    if len(arrays) != len(sizes):
        raise ValueError(f"{what}: {len(arrays)} arrays for {len(sizes)} agents")
    made: list[Tensor | None] = []
    for i, (x, size) in enumerate(zip(arrays, sizes, strict=True)):
        if x is None and dtype is np.bool_:
            made.append(None)
            continue
        rows = np.array(x, dtype, ndmin=2)
        if rows.ndim > 2 or rows.shape[1] != size:
            raise ValueError(f"{what}: agent {i} has an array of shape {np.shape(x)}, not ({size},) or (E, {size})")  # type: ignore[arg-type]
        made.append(torch.from_numpy(rows))
    return made


def load_team(folder: str | Path, policy: Literal["best", "last"] = "best") -> TrainedTeam:
    """The team that a finished trial trained.

    Args:
        folder: Folder of the trial, `results/<suite>/trials/<task>/<algorithm>/seed-<seed>`: the column `folder` of
            `read(...).trials`.
        policy: `best`: the policy with the highest mean return on the evaluation grid; `last`: the last one.

    Raises:
        ValueError: Another policy than these, or a task or an algorithm that is not installed here.
        bench.store.files.StoreError: The folder holds no finished trial, or one of another version of the benchmark.
    """
    if policy not in ("best", "last"):
        raise ValueError(f"policy: {policy!r} is neither 'best' nor 'last'")
    about, path = _about(Path(folder)), Path(folder) / "policy.pt"
    try:
        trial = restored(about)
        sizes = registry.team(trial.task)
        learner = trial.method.build(sizes, trial.settings, seeds(trial.seed)[0])
        _check_policy(path, about)
        learner.policy.load_state_dict(torch.load(path, weights_only=True)[policy])
    except SettingError as error:
        raise ValueError(f"{folder}: {error.key}: {error}") from error
    except (*OTHER_LAYOUT, OSError) as error:
        raise StoreError(f"{path}: cannot be read, or is of another version of the benchmark ({error})") from error
    return TrainedTeam(trial.task, trial.label, trial.seed, policy, trial.settings, sizes, learner)


def _check_policy(path: Path, about: Mapping[str, Any]) -> None:
    """Refuse networks that are not those with which the trial ended."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != about["files"].get(path.name):
        raise StoreError(f"{path}: was damaged or changed after it was written: its checksum differs")


def _about(folder: Path) -> dict[str, Any]:
    """What the `trial.json` of a finished trial says."""
    if not (folder / "trial.json").exists():
        raise StoreError(
            f"{folder}: not the folder of a trial, results/<suite>/trials/<task>/<algorithm>/seed-<seed>: no trial.json"
        )
    about = read_trial(folder / "trial.json")
    if about.get("status") != "done":
        raise StoreError(f"{folder}: this trial is {about.get('status')}, not done; a trial leaves its team at its end")
    return about
