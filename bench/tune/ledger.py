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
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
from sqlalchemy import create_engine, inspect, make_url
from sqlalchemy.exc import ArgumentError

from bench import store
from bench.command import counted
from bench.suite import SuiteError
from bench.tune.space import ask, point
from bench.tune.study import Plan

STARTUP = 5
"""Tuning trials, the defaults among them, before TPE models the space. It must not depend on the budget: a study that
grew is the one that had the larger budget from the start."""
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
            self.identity = _identity(plan, folder, where)
            _refuse_strangers(plan, folder, where, self.identity, self.storage)
            if not (folder / "study.json").exists():
                store.write_json(folder / "study.json", self.identity)
            self._create()

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
            study_name=study_name(self.plan, label),
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
        return TPESampler(n_startup_trials=STARTUP, multivariate=True, group=True, seed=seed)

    def _pruner(self) -> optuna.pruners.BasePruner:
        study = self.plan.study
        if study.pruner == "median":
            points = study.steps // study.evaluate.every
            return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=study.steps * (points // 4) // points)
        return optuna.pruners.WilcoxonPruner() if study.pruner == "wilcoxon" else optuna.pruners.NopPruner()

    def _create(self) -> None:
        """The Optuna studies where there are none yet, the defaults first in line."""
        names = set(optuna.get_all_study_names(self.storage))
        for label in self.plan.labels:
            name = study_name(self.plan, label)
            if name not in names:
                ways = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
                directions = ways[: len(self.plan.study.objectives)]
                made = optuna.create_study(storage=self.storage, study_name=name, directions=directions)
                made.set_metric_names(list(self.plan.study.objectives))
                made.set_user_attr("folder", self.identity["folder"])
            if not self.trials(label):
                first = point(self.plan.spaces[label], self.plan.defaults[label][0].settings)
                self.study(label).enqueue_trial(first)


def study_name(plan: Plan, label: str) -> str:
    """What an algorithm's Optuna study is called."""
    return f"{plan.study.name}/{label}"


def look(plan: Plan, folder: Path, where: str) -> dict[str, int]:
    """label -> tuning trials that have finished. Refuses, before anything is written, what could not go on."""
    quiet()
    if (folder / "trials").exists():
        raise SuiteError(f"{folder}: holds the results of a suite; give the study another name")
    refuse_in_memory(where)
    _refuse_file_as_folder(folder)
    lock = folder / ".ledger.lock"
    with FileLock(lock) if lock.exists() else nullcontext():  # another process may be making the storage
        identity, storage = _identity(plan, folder, where), _existing(where)
        _refuse_strangers(plan, folder, where, identity, storage)
        return {label: _finished(plan, folder, label, storage) for label in plan.labels}


def _finished(plan: Plan, folder: Path, label: str, storage: BaseStorage | None) -> int:
    """How many tuning trials of an algorithm have finished; refuses a budget below what was begun."""
    name = study_name(plan, label)
    if storage is None or name not in optuna.get_all_study_names(storage):
        return 0
    trials = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    finished = sum(t.state in OPTUNA_FINISHED for t in trials)
    begun = finished + sum(t.state == TrialState.RUNNING for t in trials)
    if begun > plan.study.trials:
        raise SuiteError(
            f"{folder}: trials: {plan.study.trials} is too few: {counted(begun, 'trial')} of {label} have "
            f"{'finished' if begun == finished else 'begun'} already; a study only grows; valid: --trials {begun} or "
            "more"
        )
    return finished


def _identity(plan: Plan, folder: Path, where: str) -> dict[str, str]:
    """What tells this folder from any other, so that a storage and the folder of its checkpoints stay together."""
    path = folder / "study.json"
    storage = hide_password(where) if "://" in where else os.path.relpath(where, folder)
    new = {"folder": uuid.uuid4().hex, "hash": plan.hash, "storage": storage}
    about: dict[str, str] = store.read_json(path) if path.exists() else new
    if about["storage"] != storage:
        raise SuiteError(
            f"{folder}: holds a study whose storage is {about['storage']}, not {storage} (a file's name is "
            "relative to the folder); use that --storage, or another --results"
        )
    if about["hash"] != plan.hash:
        raise SuiteError(
            f"{folder}: holds a study of the same name that means something else (hash {about['hash']}, now "
            f"{plan.hash}); only trials may change: give it another name or use another --results"
        )
    return about


def _refuse_strangers(
    plan: Plan, folder: Path, where: str, identity: dict[str, str], storage: BaseStorage | None
) -> None:
    """A storage must know the tuning trials of its folder, and those of no other under the same name."""
    names = set(optuna.get_all_study_names(storage)) if storage else set()
    for label in plan.labels:
        if storage and (name := study_name(plan, label)) in names:
            owner = optuna.load_study(study_name=name, storage=storage).user_attrs.get("folder")
            if owner != identity["folder"]:
                raise SuiteError(
                    f"{hide_password(where)}: its study {name} belongs to another folder than {folder}; use "
                    "another --storage, or give the study another name"
                )
        elif (folder / "tuning" / store.slug(label)).exists():
            raise SuiteError(
                f"{folder}: holds tuning trials of {label} that {hide_password(where)} does not know; "
                f"bring the storage back, or delete {folder}"
            )


def _refuse_file_as_folder(folder: Path) -> None:
    """A folder that is to be made cannot lie below a file."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise SuiteError(f"{path}: is a file, not a folder; use another one")


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


def refuse_in_memory(where: str) -> None:
    """A database in memory is another one in every worker."""
    try:
        url = make_url(where)
    except ArgumentError:  # a file, or what opening it will complain of
        return
    database = url.database or ":memory:"
    if url.get_backend_name() == "sqlite" and (":memory:" in database or url.query.get("mode") == "memory"):
        raise SuiteError(
            f"--storage {where}: a database in memory is not shared by workers and is gone afterwards; give a file: "
            "sqlite:///path"
        )


def _existing(where: str) -> BaseStorage | None:
    """The storage, to be read; None where there is none yet. Writes nothing, where opening it would make it."""
    if "://" not in where:
        path = Path(where)
        _refuse_file_as_folder(path.parent)
        return open_storage(where) if path.exists() else None
    with _said(where):
        url = make_url(where)
        engine = create_engine(url)  # refuses an unknown database or driver
        file = Path((url.database or "").removeprefix("file:"))
        if url.get_backend_name() == "sqlite" and not file.exists():
            if not file.parent.is_dir():
                raise FileNotFoundError(f"{file.parent} is not a folder")
            return None
        try:
            begun = inspect(engine).has_table("studies")
        finally:
            engine.dispose()
    return open_storage(where) if begun else None


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
    with _said(where):
        return RDBStorage(where, engine_kwargs=arguments)


@contextmanager
def _said(where: str) -> Iterator[None]:
    """Any error of a database in one line: each driver has errors of its own."""
    try:
        yield
    except Exception as error:
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
