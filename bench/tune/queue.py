"""The queue of tuning trials of a study: one Optuna study per algorithm in one storage, claimed by worker processes.

A tuning trial is one point of an algorithm's search space, evaluated on every task and seed. The process that works on
it holds the lock file in its folder, which the operating system releases when the process ends, however it ends. If the
storage says that a tuning trial is running and its lock is free, its process has died: the next process that asks for
work takes it over, with its number and checkpoints, so that no budget is exceeded and nothing is counted twice. Work is
handed out under one lock per study, so budgets hold for any number of processes that share the folder.
"""

from __future__ import annotations

import uuid
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bench.store import files
from bench.store.trials import LOCK, read_trial
from bench.suite.model import SuiteError
from bench.suite.trial import Trial
from bench.tune.space import ask, point
from bench.tune.storage import (
    OPTUNA_FINISHED,
    folder_identity,
    hide_password,
    open_storage,
    refuse_foreign_storage,
    silence_optuna,
    study_name,
)
from bench.tune.study import Plan

STARTUP = 5
"""Tuning trials of each algorithm before TPE models the space: the defaults and random points, also those that failed.
Independent of the budget, so that a study that is extended gives the same trials as one that had the larger budget from
the start."""
DRAWS, BY_SAMPLER = 1000, 10
"""Points that are drawn for a tuning trial until one can be trained; after so many of them at random, in case the
sampler knows no others."""


@dataclass(frozen=True)
class Claim:
    """A tuning trial that this process works on, and the lock that it holds meanwhile."""

    label: str
    trial: optuna.Trial
    values: dict[str, Any]
    folder: Path
    lock: FileLock

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.label} trial {self.trial.number}"


class Queue:
    """The tuning trials of a study, handed out to processes one at a time."""

    def __init__(self, plan: Plan, folder: Path, where: str):
        silence_optuna()
        self.plan, self.folder, self.where = plan, folder, hide_password(where)
        self._studies: dict[str, optuna.Study] = {}
        with FileLock(folder / ".queue.lock"):
            self.storage = open_storage(where)
            self.identity = folder_identity(plan, folder, where, self.storage)
            refuse_foreign_storage(plan, folder, where, self.identity, self.storage)
            if not (folder / "study.json").exists():
                self.identity.write(folder)
            (folder / "tuning").mkdir(exist_ok=True)
            self._create()

    def claim(self, since: float) -> Claim | None:
        """The next tuning trial: one whose process died, else a new one of the algorithm with the fewest so far.

        None when every budget is used up. Tuning trials that were put aside after the time `since` are skipped.
        """
        with FileLock(self.folder / ".queue.lock"):
            for label in self.plan.labels:
                for left in self.trials(label, TrialState.RUNNING):
                    lock = self._acquire(label, left.number)
                    if lock and self.time_put_aside(label, left.number) < since:
                        return self._claim(label, left.number, left, lock)
                    if lock:
                        lock.release()
            spent = {label: len(self.trials(label, TrialState.RUNNING, *OPTUNA_FINISHED)) for label in self.plan.labels}
            label = min(spent, key=lambda label: spent[label])
            if spent[label] >= self.plan.study.trials:
                return None
            if not self.trials(label, TrialState.WAITING):
                self._draw(label)
            number = self.trials(label, TrialState.WAITING)[0].number
            lock = self._acquire(label, number)
            assert lock is not None
            return self._claim(label, number, None, lock)

    def _draw(self, label: str) -> None:
        """Enqueue the next point of an algorithm that can be trained, with why those drawn before it cannot be.

        Points are drawn in memory: the storage has all values of one or none. A sampler per draw, seeded by the numbers
        of tuning trial and draw, gives the same points however often a study was interrupted.
        """
        number, refused = len(self.trials(label)), list[str]()
        while len(refused) < DRAWS:
            sampler = self._sampler(label, number, len(refused))
            drawn = optuna.create_study(directions=self.study(label).directions, sampler=sampler)
            drawn.add_trials(self.trials(label, *OPTUNA_FINISHED))
            trial = drawn.ask()
            reason = self.plan.refusal(label, ask(trial, self.plan.spaces[label]))
            if not reason:
                self.study(label).enqueue_trial(trial.params, user_attrs={"refused": refused} if refused else None)
                return
            refused.append(reason)
        raise SuiteError(
            f"{self.plan.path}: space: of {DRAWS:,} points drawn for trial {number} of {label} none can be trained; "
            f"narrow the ranges, in a study of another name; the last: {refused[-1]}"
        )

    def _claim(self, label: str, number: int, left: FrozenTrial | None, lock: FileLock) -> Claim:
        """Begin an enqueued tuning trial, or go on with one whose process died; release the lock where that fails."""
        with ExitStack() as unless_claimed:
            unless_claimed.callback(lock.release)
            study = self.study(label)
            trial = optuna.Trial(study, left._trial_id) if left else study.ask()
            assert trial.number == number
            values = ask(trial, self.plan.spaces[label])
            if reason := self.plan.refusal(label, values):
                raise SuiteError(
                    f"{self.where}: its trial {number} of {label} cannot be trained, nor was it drawn by this "
                    f"study: {reason}; bring back a copy of the storage"
                )
            folder = self.trial_folder(label, number)
            for t in self.plan.instances(label, values):
                _move_away_another(t, t.folder(folder))
            unless_claimed.pop_all()
            return Claim(label, trial, values, folder, lock)

    def _acquire(self, label: str, number: int) -> FileLock | None:
        """Acquire the lock of a tuning trial; None if another process holds it."""
        return files.try_lock(self.trial_folder(label, number) / LOCK)

    def time_put_aside(self, label: str, number: int) -> float:
        """Time at which it was last put aside because of an error that its settings did not cause; 0.0 for never."""
        path = self.trial_folder(label, number) / "aside.json"
        return float(files.read_json(path)["time"]) if path.exists() else 0.0

    def trial_folder(self, label: str, number: int) -> Path:
        """The folder of a tuning trial, which holds its trials as a suite's folder does."""
        return self.folder / "tuning" / files.slug(label) / f"trial-{number:04d}"

    def trials(self, label: str, *states: TrialState) -> list[FrozenTrial]:
        """The tuning trials of an algorithm by number: those in `states`, or all."""
        try:
            return self.study(label).get_trials(deepcopy=False, states=states or None)
        except KeyError:
            name = study_name(self.plan, label)
            raise SuiteError(f"{self.where}: somebody has deleted its study {name}") from None

    def study(self, label: str) -> optuna.Study:
        """The Optuna study of an algorithm. Its points are enqueued, so it needs no sampler of its own.

        It is loaded once: Optuna's cache of a database belongs to the study, and has to have seen a tuning trial
        before that goes on.
        """
        if label not in self._studies:
            name = study_name(self.plan, label)
            self._studies[label] = optuna.load_study(
                study_name=name, storage=self.storage, sampler=RandomSampler(), pruner=self._pruner()
            )
        return self._studies[label]

    def _sampler(self, label: str, number: int, draw: int) -> BaseSampler:
        study = self.plan.study
        again = [draw] if draw else []
        purpose = np.random.SeedSequence([study.sampler_seed, zlib.crc32(label.encode()), number, *again])
        seed = int(purpose.generate_state(1)[0])
        if study.sampler == "random" or number < STARTUP or draw >= BY_SAMPLER:
            return RandomSampler(seed)
        return TPESampler(n_startup_trials=0, multivariate=True, group=True, seed=seed)

    def _pruner(self) -> optuna.pruners.BasePruner:
        study = self.plan.study
        if study.pruner == "median":
            points = study.steps // study.evaluate.every
            return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=study.steps * (points // 4) // points)
        return optuna.pruners.WilcoxonPruner() if study.pruner == "wilcoxon" else optuna.pruners.NopPruner()

    def _create(self) -> None:
        """Create missing Optuna studies, with the default settings enqueued as their first tuning trial."""
        ways = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)[: len(self.plan.study.objectives)]
        existing = optuna.get_all_study_names(self.storage)
        for label in self.plan.labels:
            if (name := study_name(self.plan, label)) not in existing:  # else it would be one more line of the journal
                optuna.create_study(storage=self.storage, study_name=name, directions=ways, load_if_exists=True)
            made = self.study(label)
            if "folder" not in made.user_attrs:
                made.set_metric_names(list(self.plan.study.objectives))
                made.set_user_attr("hash", self.identity.hash)
                made.set_user_attr("folder", self.identity.folder)
            if not self.trials(label):
                first = point(self.plan.spaces[label], self.plan.defaults[label][0].settings)
                self.study(label).enqueue_trial(first)


def _move_away_another(t: Trial, folder: Path) -> None:
    """Rename the folder of a trial if it holds one with other settings.

    A storage that is an older copy of itself draws points for numbers that had others. With the folders of those, their
    returns would be taken for those of the new points.
    """
    about = folder / "trial.json"
    if not about.exists() and not (folder / "records.parquet").exists():
        return  # not begun
    try:
        same = read_trial(about).get("config_hash") == t.config_hash()
    except files.StoreError:
        same = False
    if not same:
        folder.rename(folder.with_name(f"other-{folder.name}-{uuid.uuid4().hex[:8]}"))
