"""Leases: locks in a store, for machines that share nothing else.

A lease is an object with its owner's random token. It is made by a write that fails where the object is there, and
changed by writes that fail where it is not the version that was read, so of several processes one succeeds. Its owner
writes it anew several times while it lasts. One that was not written for as long as it lasts may be taken over. How
long that is, the store's clock says alone, which dates both the lease and an object that is written to ask what time
it is: the clocks of machines are never compared. An owner that was taken over learns so by its next write, which fails.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from bench.store.files import StoreError
from bench.store.remote import Found, Version

RENEWALS = 6
"""A lease is renewed so many times while it lasts."""
GRACE_SECONDS = 3.0


class TakenOver(StoreError):
    """Another process has a lease that was ours."""


class Conditional(Protocol):
    """What a lease needs of a store: `bench.store.remote.Remote` has it."""

    @property
    def lease(self) -> float: ...

    def create(self, name: str, content: bytes) -> Version | None: ...

    def replace(self, name: str, content: bytes, version: Version) -> Version | None: ...

    def read(self, name: str) -> Found | None: ...

    def now(self) -> float: ...

    def hasty(self) -> Conditional: ...


class Lease:
    """A lease that this process holds."""

    def __init__(self, store: Conditional, name: str, token: str, version: Version):
        self.store, self.name, self.token = store, name, token
        self._version, self._lost = version, False
        self._guard = threading.Lock()

    def renew(self, hasty: bool = False) -> None:
        """Make sure that it is ours still, and goes on to be. Raises TakenOver if it is not."""
        store = self.store.hasty() if hasty else self.store
        with self._guard:
            content = _content(self.token, store.lease)
            version = None if self._lost else _write(store, self.name, content, self._version)
            if version is None:
                self._lost = True
                raise TakenOver(f"{self.store}/{self.name}: another run took this over: it was not renewed in time")
            self._version = version

    def release(self) -> None:
        """Let others have it at once. If the store is away they have to wait until it has run out."""
        with self._guard, suppress(StoreError):
            if not self._lost:
                _write(self.store.hasty(), self.name, _content("", self.store.lease), self._version)
                self._lost = True

    @contextmanager
    def kept(self) -> Iterator[Lease]:
        """Renew it meanwhile, and release it at the end."""

        def renew() -> None:
            with suppress(StoreError):  # the owner learns of it when it next writes
                self.renew(hasty=True)

        with repeatedly(renew, self.store.lease / RENEWALS):
            try:
                yield self
            finally:
                self.release()


@contextmanager
def repeatedly(work: Callable[[], object], seconds: float) -> Iterator[None]:
    """Do something every so many seconds meanwhile, in a thread."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(seconds):
            work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(GRACE_SECONDS)  # a thread that is amid a request when Python ends may take the process with it


def take(store: Conditional, name: str, token: str) -> Lease | None:
    """The lease `name` if it is free, or was not renewed for as long as it lasts; None if another process holds it.

    A lease with our own `token` is free: it was held by a process that has ended, as the caller knows.
    """
    content = _content(token, store.lease)
    version = store.create(name, content)
    if version is None:
        found = store.read(name)
        if found is None or not _free(store, found, token):
            return None
        version = _write(store, name, content, found.version)
    return Lease(store, name, token, version) if version else None


def is_free(store: Conditional, name: str, token: str) -> bool:
    """Whether `take` would give a lease now."""
    found = store.read(name)
    return found is None or _free(store, found, token)


def _free(store: Conditional, found: Found, token: str) -> bool:
    try:
        about: dict[str, Any] = json.loads(found.content)
        owner, seconds = about["owner"], float(about["seconds"])
    except (ValueError, LookupError, TypeError):  # not a lease: left by somebody else's hand
        return True
    return owner in ("", token) or store.now() - found.modified > seconds


def _content(token: str, seconds: float) -> bytes:
    """No content is written twice, so each has an entity tag of its own."""
    return json.dumps({"owner": token, "seconds": seconds, "written": uuid.uuid4().hex}).encode()


def _write(store: Conditional, name: str, content: bytes, version: Version) -> Version | None:
    """Write a lease in place of a version, or anew where somebody has deleted it; None if it is another one by now.

    A write that was repeated because its answer was lost has succeeded.
    """
    if written := store.replace(name, content, version):
        return written
    found = store.read(name)
    if found is None:
        return store.create(name, content)
    return found.version if found.content == content else None
