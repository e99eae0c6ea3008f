"""The ledger of a study: one Optuna study per algorithm in one storage, and who works on which tuning trial.

A tuning trial is one point of an algorithm's space, tried on every task and seed. Whoever works on one holds the lock
file in its folder, which the system releases at once when the process dies, however it dies. A tuning trial that is
running by the storage and whose lock is free was left behind: the next who asks for work takes it over, under its
number and with its checkpoints, so that a budget is never exceeded and nothing is counted twice. All asking happens
under one lock per study, so the budget holds for any number of processes that share the folder.
"""

from __future__ import annotations

import logging
import os
import uuid
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bench import store
from bench.suite import SuiteError
from bench.tune.space import ask, point
from bench.tune.study import Plan

STARTUP = 10
"""Points drawn at random before TPE models the space; of small budgets a third."""
OPTUNA_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class Claim:
    """A tuning trial that this process has to work on, with the lock that says so."""

    label: str
    trial: optuna.Trial
    values: dict[str, Any]
    folder: Path
    lock: FileLock

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.label} trial {self.trial.number}"


class Ledger:
    """What is known of a study's tuning trials, and the only one who hands them out."""

    def __init__(self, plan: Plan, folder: Path, where: str):
        quiet()
        self.plan, self.folder = plan, folder
        with FileLock(folder / ".ledger.lock"):
            self.storage = open_storage(where)
            self._create(where)

    def claim(self, since: float) -> Claim | None:
        """The next tuning trial: one that was left behind, else a new one of the algorithm that has had the fewest.

        None where every budget is used up. What was put aside after the time `since` is left alone.
        """
        with FileLock(self.folder / ".ledger.lock"):
            for label in self.plan.labels:
                for left in self.trials(label, TrialState.RUNNING):
                    lock = self._free(label, left.number)
                    if lock and self.put_aside(label, left.number) < since:
                        return self._claim(label, left.number, left, lock)
                    if lock:
                        lock.release()
            spent = {label: len(self.trials(label, TrialState.RUNNING, *OPTUNA_FINISHED)) for label in self.plan.labels}
            label = min(spent, key=lambda label: spent[label])
            if spent[label] >= self.plan.study.trials:
                return None
            waiting = self.trials(label, TrialState.WAITING)
            number = waiting[0].number if waiting else len(self.trials(label))
            lock = self._free(label, number)
            assert lock is not None
            return self._claim(label, number, None, lock)

    def _claim(self, label: str, number: int, left: FrozenTrial | None, lock: FileLock) -> Claim:
        """Ask Optuna for a point, or for the rest of one that was left before all of it was written down."""
        study = self.study(label, number)
        trial = optuna.Trial(study, left._trial_id) if left else study.ask()
        assert trial.number == number
        return Claim(label, trial, ask(trial, self.plan.spaces[label]), self.trial_folder(label, number), lock)

    def busy(self, label: str, number: int) -> bool:
        """Whether a living process works on it."""
        if lock := self._free(label, number):
            lock.release()
        return lock is None

    def _free(self, label: str, number: int) -> FileLock | None:
        """The lock of a tuning trial, held from now on; None where another process holds it."""
        folder = self.trial_folder(label, number)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock

    def put_aside(self, label: str, number: int) -> float:
        """When it was last put aside because something other than its settings failed; 0.0 for never."""
        path = self.trial_folder(label, number) / "aside.json"
        return path.stat().st_mtime if path.exists() else 0.0

    def trial_folder(self, label: str, number: int) -> Path:
        """Where the trials of a tuning trial lie, as those of a suite do."""
        return self.folder / "tuning" / store.slug(label) / f"trial-{number:04d}"

    def trials(self, label: str, *states: TrialState) -> list[FrozenTrial]:
        """Its tuning trials in the order of their numbers; those in some states, or all."""
        return self.study(label).get_trials(deepcopy=False, states=states or None)

    def study(self, label: str, number: int = 0) -> optuna.Study:
        """The Optuna study of an algorithm, with the sampler of its tuning trial `number`.

        A sampler per tuning trial, seeded by its number, gives the same points however often a study was interrupted.
        """
        return optuna.load_study(
            study_name=f"{self.plan.study.name}/{label}",
            storage=self.storage,
            sampler=self._sampler(label, number),
            pruner=self._pruner(),
        )

    def _sampler(self, label: str, number: int) -> BaseSampler:
        study = self.plan.study
        purpose = np.random.SeedSequence([study.sampler_seed, zlib.crc32(label.encode()), number])
        seed = int(purpose.generate_state(1)[0])
        if study.sampler == "random":
            return RandomSampler(seed)
        return TPESampler(n_startup_trials=min(STARTUP, study.trials // 3), multivariate=True, group=True, seed=seed)

    def _pruner(self) -> optuna.pruners.BasePruner:
        study = self.plan.study
        if study.pruner == "median":
            points = study.steps // study.evaluate.every
            return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=study.steps * (points // 4) // points)
        return optuna.pruners.WilcoxonPruner() if study.pruner == "wilcoxon" else optuna.pruners.NopPruner()

    def _create(self, where: str) -> None:
        """The Optuna studies where there are none yet, the defaults first in line, and one folder for one storage."""
        identity = self._identity(where)
        names = set(optuna.get_all_study_names(self.storage))
        for label in self.plan.labels:
            name = f"{self.plan.study.name}/{label}"
            if name in names:
                found = self.study(label)
                owner, first = found.user_attrs.get("folder"), found.get_trials(deepcopy=False)[:1]
                if owner != identity:
                    raise SuiteError(
                        f"{hide_password(where)}: its study {name} belongs to another folder than {self.folder}; use "
                        "another --storage, or give the study another name"
                    )
            else:
                if (self.folder / "tuning" / store.slug(label)).exists():
                    raise SuiteError(
                        f"{self.folder}: holds tuning trials of {label} that {hide_password(where)} does not know; "
                        f"bring the storage back, or delete {self.folder}"
                    )
                ways = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
                directions = ways[: len(self.plan.study.objectives)]
                found = optuna.create_study(storage=self.storage, study_name=name, directions=directions)
                found.set_metric_names(list(self.plan.study.objectives))
                found.set_user_attr("folder", identity)
                first = []
            if not first:
                found.enqueue_trial(point(self.plan.spaces[label], self.plan.defaults[label][0].settings))

    def _identity(self, where: str) -> str:
        """What tells this folder from any other, so that a storage and the folder of its checkpoints stay together."""
        path = self.folder / "study.json"
        storage = hide_password(where) if "://" in where else os.path.relpath(where, self.folder)
        new = {"folder": uuid.uuid4().hex, "hash": self.plan.hash, "storage": storage}
        about = store.read_json(path) if path.exists() else new
        if about["storage"] != storage:
            raise SuiteError(
                f"{self.folder}: holds a study whose storage is {about['storage']}, not {storage} (a file's name is "
                "relative to the folder); use that --storage, or another --results"
            )
        if about["hash"] != self.plan.hash:
            raise SuiteError(
                f"{self.folder}: holds a study of the same name that means something else (hash {about['hash']}, now "
                f"{self.plan.hash}); only trials may change: give it another name or use another --results"
            )
        if not path.exists():
            store.write_json(path, about)
        return str(about["folder"])


class _Lock(JournalFileOpenLock):
    """The journal's lock, which dies with its holder, where Optuna's own makes all others wait for half a minute."""

    def __init__(self, path: Path):
        super().__init__(str(path))
        self.path, self.lock = path, FileLock(f"{path}.flock", thread_local=False)

    def acquire(self) -> bool:
        """Wait for the lock, and cut off the line that a holder was writing when it was killed."""
        self.lock.acquire()
        with self.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            whole = size
            while whole and (file.seek(whole - 1), file.read(1))[1] != b"\n":
                whole -= 1
            if whole < size:
                file.truncate(whole)
        return True

    def release(self) -> None:
        """Let others write."""
        self.lock.release()


def open_storage(where: str) -> BaseStorage:
    """A journal file, or the database at a URL."""
    if "://" not in where:
        path = Path(where)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return JournalStorage(JournalFileBackend(str(path), _Lock(path)))
        except (ValueError, KeyError, OSError) as error:
            raise SuiteError(f"{path}: not a journal of Optuna's ({type(error).__name__}: {error})") from None
    arguments = {"connect_args": {"timeout": 60}} if where.startswith("sqlite") else {}
    try:
        return RDBStorage(where, engine_kwargs=arguments)
    except Exception as error:  # each driver has errors of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SuiteError(f"--storage {hide_password(where)}: cannot be opened: {reason}") from None


def hide_password(url: str) -> str:
    """A URL as it may be shown."""
    scheme, _, rest = url.partition("://")
    login, at, host = rest.rpartition("@")
    return f"{scheme}://{login.partition(':')[0]}{':***' if ':' in login else ''}{at}{host}" if at else url


def quiet() -> None:
    """Optuna's own lines and warnings are not for the terminal: what happens is said by us."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    warnings.filterwarnings("ignore", "PedAnovaImportanceEvaluator computes")
