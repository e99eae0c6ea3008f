"""Where results lie: a folder, or a place in a store that one works on in a folder of this machine.

What a trial, a suite and a reader need, for both: a trial is brought here and held, what belongs to a suite is brought
and taken back while nobody else writes it, and readers get a copy.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from bench.store import files, lease
from bench.store.files import StoreError
from bench.store.mirror import BEAT_SECONDS, NOTE, Beat, Mirror
from bench.store.remote import Changed, Entry, Remote, by_folder
from bench.store.resolved import NAME
from bench.store.trials import CHECKPOINTS, LOCK, find_trial, trial_files

LEASE, TOKEN = ".lease", ".owner"
"""In a store: the lease of a trial, or of what belongs to no single one. In a folder here: the owner that it names."""
SUITE = ("suite.yaml", "resolved.json", "records.parquet", "updates.parquet")
"""What belongs to no single trial."""
AT_ONCE = 8
"""Folders that are brought or taken away at once."""
ATTEMPTS = 5
"""So often a folder is listed that changes while it is brought."""
POLL_SECONDS = 1.0


def shown(results: Path | Remote, text: object) -> str:
    """A message with the address of results in a store instead of the folder where this machine has them."""
    return results.shown(text) if isinstance(results, Remote) else str(text)


@contextmanager
def naming(results: Path | Remote) -> Iterator[None]:
    """Let each StoreError name the address of results in a store."""
    try:
        yield
    except StoreError as error:
        raise type(error)(shown(results, error)) from error


def working(results: Path | Remote) -> Path:
    """The folder of this machine in which one works on results."""
    return results.folder if isinstance(results, Remote) else results


def patient(results: Path | Remote) -> Path | Remote:
    """The same results for a run that would lose work: it tries a lost store again for as long as leases last."""
    return results.waiting(results.lease) if isinstance(results, Remote) else results


@contextmanager
def trial_held(suite: Remote, folder: Path, beat: Beat) -> Iterator[Mirror | None]:
    """Hold a trial's lease and bring its folder here; None if another machine holds it. At the end it is saved.

    `folder`: that of the trial on this machine, whose lock file the caller holds.
    """
    name = _name(suite, folder)
    held = lease.take(suite, f"{name}/{LEASE}", _token(folder))
    if held is None:
        yield None
        return
    with held.kept():
        mirror = Mirror(suite, name, folder, held, beat)
        with lease.repeatedly(beat, BEAT_SECONDS):
            mirror.pull(by_folder(suite.entries(name)).get(name, []), lambda _: True, ahead=True)
        yield mirror
        if not mirror.lost:
            mirror.save()


def trial_free(suite: Remote, folder: Path) -> bool:
    """Whether no other machine is at work on a trial."""
    own = folder / TOKEN
    return lease.is_free(suite, f"{_name(suite, folder)}/{LEASE}", own.read_text() if own.exists() else "")


def _name(suite: Remote, folder: Path) -> str:
    return folder.relative_to(suite.folder).as_posix()


def _token(folder: Path) -> str:
    """The owner of leases that are held in a folder: processes that have its lock file one after the other share it."""
    path = folder / TOKEN
    if not path.exists():
        files.write_text(path, uuid.uuid4().hex)
    return path.read_text()


@contextmanager
def shared(results: Path | Remote) -> Iterator[Path]:
    """The folder of a suite while nobody else writes what belongs to no single trial.

    Of results in a store it is brought here first, and what was written is taken there at the end.
    """
    folder = working(results)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK):
        if not isinstance(results, Remote):
            yield folder
            return
        results.refuse_without_conditions()
        while (held := lease.take(results, LEASE, _token(folder))) is None:
            time.sleep(POLL_SECONDS)
        with held.kept():
            fetch(results, folder)
            yield folder
            held.renew()
            Mirror(results, "", folder, held).offer(SUITE)
            _each(lambda path: _offer_stub(results, path.parent), trial_files(folder, "trial.json"))


def _offer_stub(suite: Remote, folder: Path) -> None:
    with files.locked(folder / LOCK) as free:
        if free:
            Mirror(suite, _name(suite, folder), folder).offer(["trial.json"])


def fetch(suite: Remote, folder: Path) -> Path:
    """Bring everything but checkpoints here: what has changed since the last time. Trials at work here are left out.

    The `trial.json` of all trials come first and the rest, as it is listed after that, second: a trial that says that
    it is done has all its files in the store before.
    """
    for wanted in (_is_status, _is_result):
        listed = by_folder(suite.entries())
        here = {path.parent.relative_to(folder).as_posix() for path in trial_files(folder, NOTE)}
        bring = partial(_fetch, suite, folder, wanted)
        _each(bring, [(name, listed.get(name, [])) for name in sorted({*listed, *here, ""})])
    return folder


def fetched(results: Path | Remote) -> Path:
    """The folder of this machine in which one works on results, with what a store has of them."""
    folder = working(results)
    if isinstance(results, Remote):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK):
            fetch(results, folder)
    return folder


def copied(results: Path | Remote, folder: Path | None = None) -> Path:
    """A folder with results as they are now, for those who read: of a store a copy here, in `folder` if that is given.

    Raises StoreError where nothing is there, and for a folder that holds other results.
    """
    if not isinstance(results, Remote):
        return results
    folder = folder or results.copy
    if not results.entries():
        raise StoreError(f"{results}: no results there")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK):
        if not Mirror(results, "", folder).claim():
            raise StoreError(f"{folder}: holds other results than those of {results}; move them, or run it elsewhere")
        return fetch(results, folder)


def trial_copied(named: Path | Remote) -> Path:
    """The folder of a trial, as `find_trial` has it; of one in a store with a copy of its suite.

    Raises StoreError for what names none.
    """
    if not isinstance(named, Remote):
        return find_trial(named)
    with naming(named):
        suite, rest = named, ""
        while suite.read(NAME) is None:
            url, _, last = suite.url.rpartition("/")
            if url.endswith(("/", ":")):
                raise StoreError(f"{named}: no suite's results there; a trial is SUITE/task/algorithm/seed")
            suite, rest = replace(suite, url=url), f"{last}/{rest}"
        return find_trial(copied(suite) / rest)


def _is_status(name: str) -> bool:
    return name == "trial.json"


def _is_result(name: str) -> bool:
    return name not in ("trial.json", *CHECKPOINTS)


def _fetch(suite: Remote, folder: Path, wanted: Callable[[str], bool], listed: tuple[str, list[Entry]]) -> None:
    """Bring one folder; listed again where a trial that is at work elsewhere has replaced a file meanwhile."""
    name, entries = listed
    with files.locked(folder / name / LOCK) if name else nullcontext(True) as free:
        for left in reversed(range(ATTEMPTS)) if free else ():
            try:
                return Mirror(suite, name, folder / name).pull(entries, wanted)
            except Changed:
                if not left:
                    raise
                entries = by_folder(suite.entries(name)).get(name, [])


def _each(work: Callable[[Any], None], items: Sequence[Any]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(work, items))
