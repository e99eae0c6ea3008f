"""The storage of Optuna's studies: a journal file or a database, and checks that it belongs to the results folder."""

from __future__ import annotations

import logging
import os
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState
from sqlalchemy import create_engine, inspect, make_url
from sqlalchemy.exc import ArgumentError

from bench.cli.command import counted
from bench.store import files
from bench.suite.model import SuiteError
from bench.tune.study import Plan

OPTUNA_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def study_name(plan: Plan, label: str) -> str:
    """The name of an algorithm's Optuna study."""
    return f"{plan.study.name}/{label}"


def finished_trials(plan: Plan, folder: Path, where: str) -> dict[str, int]:
    """label -> number of finished tuning trials. Writes nothing; refuses a folder or storage that cannot go on."""
    silence_optuna()
    if (folder / "trials").exists():
        raise SuiteError(f"{folder}: holds the results of a suite; give the study another name")
    refuse_in_memory(where)
    _refuse_file_as_folder(folder)
    lock = folder / ".queue.lock"
    with FileLock(lock) if lock.exists() else nullcontext():  # another process may be making the storage
        identity, storage = folder_identity(plan, folder, where), _existing(where)
        refuse_foreign_storage(plan, folder, where, identity, storage)
        return {label: _finished(plan, folder, label, storage) for label in plan.labels}


def _finished(plan: Plan, folder: Path, label: str, storage: BaseStorage | None) -> int:
    """How many tuning trials of an algorithm have finished; refuses a budget below the number already begun."""
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


def folder_identity(plan: Plan, folder: Path, where: str) -> dict[str, str]:
    """The contents of study.json, whose random id links the folder of the checkpoints to its storage."""
    path = folder / "study.json"
    storage = hide_password(where) if "://" in where else os.path.relpath(where, folder)
    new = {"folder": uuid.uuid4().hex, "hash": plan.hash, "storage": storage}
    about: dict[str, str] = files.read_json(path) if path.exists() else new
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


def refuse_foreign_storage(
    plan: Plan, folder: Path, where: str, identity: dict[str, str], storage: BaseStorage | None
) -> None:
    """Refuse a storage that lacks the tuning trials of the folder, or holds those of another folder under its name."""
    names = set(optuna.get_all_study_names(storage)) if storage else set()
    for label in plan.labels:
        if storage and (name := study_name(plan, label)) in names:
            found = optuna.load_study(study_name=name, storage=storage)
            unowned = "folder" not in found.user_attrs and not found.trials  # whoever made it died before it said so
            if not unowned and found.user_attrs.get("folder") != identity["folder"]:
                raise SuiteError(
                    f"{hide_password(where)}: its study {name} belongs to another folder than {folder}; use "
                    "another --storage, or give the study another name"
                )
        elif (folder / "tuning" / files.slug(label)).exists():
            raise SuiteError(
                f"{folder}: holds tuning trials of {label} that {hide_password(where)} does not know; "
                f"bring the storage back, or delete {folder}"
            )


def _refuse_file_as_folder(folder: Path) -> None:
    """Refuse a path in which a parent of the new folder is a file."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise SuiteError(f"{path}: is a file, not a folder; use another one")


class _Lock(JournalFileOpenLock):
    """A lock of the journal that is released when its holder dies; Optuna's own then blocks for half a minute."""

    def __init__(self, path: Path):
        super().__init__(str(path))
        self.path, self.lock = path, FileLock(f"{path}.flock", thread_local=False)

    def acquire(self) -> bool:
        """Acquire the lock, and remove a last line that is incomplete because its writer was killed."""
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
        """Release the lock."""
        self.lock.release()


def refuse_in_memory(where: str) -> None:
    """Refuse an in-memory database, which workers cannot share."""
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
    """The storage, for reading; None if there is none yet, which opening it would create."""
    if "://" not in where:
        path = Path(where)
        _refuse_file_as_folder(path.parent)
        return open_storage(where) if path.exists() else None
    with _errors_in_one_line(where):
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
    with _errors_in_one_line(where):
        return RDBStorage(where, engine_kwargs=arguments)


@contextmanager
def _errors_in_one_line(where: str) -> Iterator[None]:
    """Turn the error of any database driver into a SuiteError of one line."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SuiteError(f"--storage {hide_password(where)}: cannot be opened: {reason}") from None


def hide_password(url: str) -> str:
    """The URL with its password masked."""
    scheme, _, rest = url.partition("://")
    login, at, host = rest.rpartition("@")
    return f"{scheme}://{login.partition(':')[0]}{':***' if ':' in login else ''}{at}{host}" if at else url


def silence_optuna() -> None:
    """Turn off Optuna's log lines and experimental warnings: `bench.tune` reports progress itself."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    warnings.filterwarnings("ignore", "PedAnovaImportanceEvaluator computes")
