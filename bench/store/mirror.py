"""A folder of results and its copy in a store: what travels, in which order.

A trial works in a folder of this machine as it always does. The store gets what has changed after every evaluation:
the tables, then the checkpoint, `trial.json` last, so that it always holds a trial that can go on. A file is replaced
there only if it still is what this machine last saw; where it is not, the holder of the trial's lease looks whether it
still holds it before it goes on. A note in the folder says which version of each file was brought or taken away, and
how the file looked here then, so that only what has changed travels.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.store import files, lease
from bench.store.lease import Lease, TakenOver
from bench.store.remote import MOST_COPIED, PART, Changed, Entry, Remote, StoreGone, Version
from bench.store.trials import CHECKPOINTS, TABLES

NOTE = ".store.json"
"""In a folder: what is known of its files in the store."""
STAYS = ("progress.json",)
WRITTEN = ("trial.json", *(f"{name}.parquet" for name in TABLES), "policy.pt", *CHECKPOINTS)
"""What a trial writes and a store gets."""
BEAT_SECONDS = 5.0
Beat = Callable[[], object]
"""Called every few seconds while files travel."""


class Mirror:
    """A folder, not those in it, and its copy in a store."""

    def __init__(self, suite: Remote, name: str, folder: Path, held: Lease | None = None, beat: Beat = lambda: None):
        self.suite, self.name, self.folder, self.held, self.beat = suite, name, folder, held, beat
        self.lost = False
        """Whether there is no use in another attempt to save."""
        self._note = folder / NOTE
        self._known: dict[str, dict[str, Any]] = {}
        if self._note.exists():
            noted = files.read_json(self._note)
            self._known = noted["files"] if noted.get("place") == str(suite) else {}

    def claim(self) -> bool:
        """Say that the folder belongs to the store; False if something else is in it already."""
        occupied = self.folder.exists() and any(not path.name.startswith(".") for path in self.folder.iterdir())
        if not occupied:
            self._write_note()
        return not occupied or (self._note.exists() and files.read_json(self._note).get("place") == str(self.suite))

    def pull(self, entries: Iterable[Entry], wanted: Callable[[str], bool], ahead: bool = False) -> None:
        """Make the wanted files those of the store.

        With `ahead` files that are newer here are kept where the store still is as this machine left it: a run that
        lost the store goes on from what it has.
        """
        listed = {e.name: e for e in entries if _travels(e.name) and wanted(e.name)}
        before = {name: self._version(name) for name in self._known if wanted(name)}
        ahead = ahead and before == {name: e.version.e_tag for name, e in listed.items()}
        for name, entry in listed.items():
            path = self.folder / name
            same = self._version(name) == entry.version.e_tag and (ahead or self._unchanged(name))
            if not (same and path.exists()):
                self.suite.download(self._path(name), entry, path)
                self._noted(name, entry.version)
        if not ahead:
            self._drop(name for name in (*before, *self._own(wanted)) if name not in listed)

    def _own(self, wanted: Callable[[str], bool]) -> list[str]:
        """Files of a trial here that trials write; people may put others there, and into the folder of a suite."""
        return [name for name in WRITTEN if self.name and wanted(name) and (self.folder / name).exists()]

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)
            self._noted(name, None)

    def save(self) -> None:
        """Take what has changed to the store, if the folder's lease is still ours. Raises TakenOver if it is not."""
        assert self.held
        try:
            with lease.repeatedly(self.beat, BEAT_SECONDS):
                self.held.renew()
                self._send_all()
        except (TakenOver, StoreGone):
            self.lost = True
            raise

    def _send_all(self) -> None:
        for name in sorted((p.name for p in self.folder.iterdir() if _travels(p.name)), key=_rank):
            if not self._unchanged(name):
                self._send(name)
        for name in CHECKPOINTS:  # which a trial deletes that is done
            if name in self._known and not (self.folder / name).exists():
                self.suite.delete(self._path(name))
                self._noted(name, None)

    def offer(self, names: Sequence[str]) -> None:
        """Take files to the store that have changed here and not there."""
        for name in names:
            path = self.folder / name
            if path.exists() and not self._unchanged(name):
                look = _look(path)
                large = self.held is not None and look[0] > PART
                version = self.suite.write(self._path(name), path) if large else self._replace(name, path.read_bytes())
                if version:
                    self._noted(name, version, look)

    def shown(self, text: str) -> str:
        """A text as others may read it: without the folders of this machine and its user."""
        text = self.suite.shown(text)
        roots = sorted({*filter(None, sys.path), str(Path.cwd())} - {"/"}, key=len, reverse=True)
        for root, short in (*((root, "") for root in roots), (str(Path.home()), "~/")):
            begins = rf"(?<![\w.~/-]){re.escape(root)}/"  # neither amid another path nor in the URL of a store
            text = re.sub(begins, short, text)
        return text

    def _send(self, name: str) -> None:
        path = self.folder / name
        look = _look(path)
        version = self._copied_if_renamed(name, look)
        if version is None and (name in CHECKPOINTS or look[0] > PART):  # in parts, which cannot be conditional
            version = self.suite.write(self._path(name), path)
        elif version is None:
            content = path.read_bytes()
            version = self._replace(name, content) or self._insist(name, content)
        self._noted(name, version, look)

    def _replace(self, name: str, content: bytes) -> Version | None:
        known = self._known.get(name)
        if known is None:
            return self.suite.create(self._path(name), content)
        return self.suite.replace(self._path(name), content, Version(*known["version"]))

    def _insist(self, name: str, content: bytes) -> Version:
        """Somebody else wrote this file: a former holder, while we hold the lease, or its present one."""
        assert self.held
        self.held.renew()
        return self.suite.write(self._path(name), content)

    def _copied_if_renamed(self, name: str, look: list[int]) -> Version | None:
        """Copy a file within the store that was renamed here; None if it was not, or is no longer there."""
        before = next((other for other, known in self._known.items() if other != name and known["look"] == look), None)
        if before is None or look[0] > MOST_COPIED:
            return None
        with suppress(Changed):
            return self.suite.duplicate(self._path(before), self._path(name))
        return None

    def _path(self, name: str) -> str:
        return f"{self.name}/{name}" if self.name else name

    def _version(self, name: str) -> str | None:
        known = self._known.get(name)
        return known["version"][0] if known else None

    def _unchanged(self, name: str) -> bool:
        path, known = self.folder / name, self._known.get(name)
        return known is not None and path.exists() and known["look"] == _look(path)

    def _noted(self, name: str, version: Version | None, look: list[int] | None = None) -> None:
        """Note at once what the store has, so that a kill in between leaves nothing wrong."""
        if version is None:
            self._known.pop(name, None)
        else:
            self._known[name] = {"version": [*version], "look": look or _look(self.folder / name)}
        self._write_note()

    def _write_note(self) -> None:
        files.write_json(self._note, {"place": str(self.suite), "files": self._known})


def _travels(name: str) -> bool:
    return not name.startswith(".") and name not in STAYS


def _rank(name: str) -> tuple[int, str]:
    """In which order files are sent: the checkpoint before is moved away before the new one takes its place."""
    order = ("checkpoint.previous.pt", "checkpoint.pt", "trial.json")
    return (order.index(name) + 1 if name in order else 0, name)


def _look(path: Path) -> list[int]:
    """What tells a file from the one before: every write makes another file, however coarse the times are."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]
