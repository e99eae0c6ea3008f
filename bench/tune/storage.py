"""Where Optuna keeps a study: a journal file or a database, and whose it is."""

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
        identity, storage = folder_identity(plan, folder, where), _existing(where)
        refuse_strangers(plan, folder, where, identity, storage)
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


def folder_identity(plan: Plan, folder: Path, where: str) -> dict[str, str]:
    """What tells this folder from any other, so that a storage and the folder of its checkpoints stay together."""
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


def refuse_strangers(
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
        elif (folder / "tuning" / files.slug(label)).exists():
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
