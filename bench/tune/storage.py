"""The storage of Optuna's studies: a journal file or a database, and checks that it belongs to the results folder."""

from __future__ import annotations

import logging
import os
import re
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.trial import TrialState
from pydantic import ValidationError
from sqlalchemy import create_engine, event, inspect, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, IntegrityError

from bench.cli.command import counted
from bench.store import files
from bench.suite.model import SuiteError
from bench.tune.identity import Identity
from bench.tune.journal import Journal
from bench.tune.study import Plan

LOCKED_SECONDS = 60
"""So long a process waits for others that write into the same SQLite file."""

SQLITE = b"SQLite format 3\0"
"""The first bytes of an SQLite file."""
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
        storage = _existing(where)
        identity = folder_identity(plan, folder, where, storage)
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


def folder_identity(plan: Plan, folder: Path, where: str, storage: BaseStorage | None) -> Identity:
    """What study.json says or, before there is one, will say; refuses another storage and another study.

    Where it is gone and tuning trials are there, it is what the storage says.
    """
    place = hide_password(where) if "://" in where else os.path.relpath(where, folder)
    about = Identity.read(folder)
    if about is None and storage and (folder / "tuning").exists():
        about = _identity_in(storage, plan, place)
    about = about or Identity(folder=uuid.uuid4().hex, hash=plan.hash, storage=place)
    if about.storage != place:
        raise SuiteError(
            f"{folder}: holds a study whose storage is {about.storage}, not {place} (a file's name is "
            "relative to the folder); use that --storage, or another --results"
        )
    if about.hash != plan.hash:
        raise SuiteError(
            f"{folder}: holds a study of the same name that means something else (hash {about.hash}, now "
            f"{plan.hash}); only trials may change: give it another name or use another --results"
        )
    return about


def _identity_in(storage: BaseStorage, plan: Plan, place: str) -> Identity | None:
    """The identity of the folder to which the study in a storage belongs."""
    for study in storage.get_all_studies():
        if study.study_name in [study_name(plan, label) for label in plan.labels]:
            told = study.user_attrs
            with suppress(KeyError, ValidationError):  # made by an earlier version
                return Identity(folder=told["folder"], hash=told["hash"], storage=place)
    return None


def refuse_foreign_storage(
    plan: Plan, folder: Path, where: str, identity: Identity, storage: BaseStorage | None
) -> None:
    """Refuse a storage that knows nothing of the folder's tuning trials, or holds those of another under its name."""
    names = set(optuna.get_all_study_names(storage)) if storage else set()
    known = False
    for name in [study_name(plan, label) for label in plan.labels]:
        if storage and name in names:
            found = optuna.load_study(study_name=name, storage=storage)
            owner = found.user_attrs.get("folder")
            if owner != identity.folder and (owner or found.trials):  # else who made it died before it said whose it is
                raise SuiteError(
                    f"{hide_password(where)}: its study {name} belongs to another folder than {folder}; use "
                    "another --storage, or give the study another name"
                )
            known = True
    begun = [label for label in plan.labels if (folder / "tuning" / files.slug(label)).exists()]
    if begun and not known:
        raise SuiteError(
            f"{folder}: holds tuning trials of {begun[0]} that {hide_password(where)} does not know; "
            f"bring the storage back, or delete {folder}"
        )


def _refuse_file_as_folder(folder: Path) -> None:
    """Refuse a path in which a parent of the new folder is a file."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise SuiteError(f"{path}: is a file, not a folder; use another one")


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
        _refuse_another_file(path)
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


def _refuse_another_file(path: Path) -> None:
    """Refuse a database given without its URL, and what is no regular file: reading a pipe would wait for ever."""
    if path.exists() and not path.is_file():
        raise SuiteError(f"{path}: is no regular file; give a file for Optuna's journal, or the URL of a database")
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(SQLITE)) == SQLITE:
                raise SuiteError(f"{path} is a database: write sqlite:///{path}")


def open_storage(where: str) -> BaseStorage:
    """A journal file, or the database at a URL. What fails in either, now or later, is a SuiteError."""
    if "://" not in where:
        path = Path(where)
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(Journal(path))
    arguments = {"connect_args": {"timeout": LOCKED_SECONDS}} if where.startswith("sqlite") else {}
    with _errors_in_one_line(where):
        storage = RDBStorage(where, engine_kwargs=arguments)

    def refuse(context: ExceptionContext) -> None:
        error = context.sqlalchemy_exception  # None for others than the database's, such as Ctrl-C
        if error is not None and not isinstance(error, IntegrityError):  # which Optuna expects where two were at once
            raise SuiteError(f"--storage {hide_password(where)}: {_reason(context.original_exception)}")

    event.listen(storage.engine, "handle_error", refuse)
    return storage


@contextmanager
def _errors_in_one_line(where: str) -> Iterator[None]:
    """Turn the error of any database driver into a SuiteError of one line."""
    try:
        yield
    except Exception as error:
        raise SuiteError(f"--storage {hide_password(where)}: cannot be opened: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """What an exception says, without the statement in SQL that SQLAlchemy adds."""
    return " ".join(str(getattr(error, "orig", None) or error).split()) or type(error).__name__


def hide_password(url: str) -> str:
    """The URL with its password masked, before the host or in the query."""
    url = re.sub(r"(?<=[?&]password=)[^&]*", "***", url)
    scheme, _, rest = url.partition("://")
    login, at, host = rest.rpartition("@")
    return f"{scheme}://{login.partition(':')[0]}{':***' if ':' in login else ''}{at}{host}" if at else url


def silence_optuna() -> None:
    """Turn off Optuna's log lines and experimental warnings: `bench.tune` reports progress itself."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    warnings.filterwarnings("ignore", "PedAnovaImportanceEvaluator computes")
