"""A place for results in an object store: `s3://bucket/prefix`, `gs://bucket/prefix` or `file:///folder`.

All access goes through obstore, the Python face of Rust's object_store, for three reasons. What locks need, writing an
object only if it is not there or only if it is still the version that was read, is one argument there, the same for
S3 and Google's store; in fsspec only the first has a common name, and the second is an argument of S3's interface and
another one of Google's. It is one wheel without dependencies instead of s3fs, gcsfs, aiobotocore and aiohttp. And a
write is there whole or not at all.

Credentials are looked up by these libraries where the store's own tools look, in each process anew. They are in no
object of ours, so none can get into a file, a message or another process. Nothing here imports torch or gymnasium.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from filelock import FileLock

from bench.store.client import client, closed, no_panic, passing, reason
from bench.store.files import StoreError, write_bytes

T = TypeVar("T")
SCHEMES = ("s3", "gs", "file")
PART, PARTS_AT_ONCE = 16 << 20, 4
"""Bytes that one request transfers at most, of a file that goes in parts, and how many of them are in memory."""
MOST_COPIED = 5_000_000_000
"""Bytes that S3 copies within itself in one request."""
LONGEST_PAUSE = 15.0
"""Seconds between two attempts to reach a store."""
BRIEFLY = 12.0
"""Seconds for which a lost store is tried again by those who lose nothing: readers, and a run before it has begun."""
CLOCK = ".clock"
"""An object that is written to learn what time it is in the store."""


class StoreGone(StoreError):
    """A store that was not reached for as long as one waits for it."""


class Closed(StoreGone):
    """A store that answers, and does not let us in, or has no such bucket."""


class Changed(StoreError):
    """An object was replaced or deleted since it was listed."""


class Version(NamedTuple):
    """Which content of an object is meant: its entity tag, and in Google's store the generation."""

    e_tag: str
    generation: str = ""


class Entry(NamedTuple):
    """An object in a listing."""

    name: str
    """Below the place that was listed, with `/` between its parts."""
    version: Version
    size: int
    """Bytes."""


class Found(NamedTuple):
    """A small object that was read."""

    content: bytes
    version: Version
    modified: float
    """When it was written, in seconds, by the store's clock."""


@dataclass(frozen=True)
class Remote:
    """A place in a store, and how long its leases last. Holds no connection: it can be sent to other processes."""

    url: str
    lease: float = 180.0
    """Seconds after which what was not renewed is free."""
    patience: float = BRIEFLY
    """Seconds for which a lost store is tried again."""

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> Remote:
        return replace(self, url=f"{self.url}/{name}")

    def shown(self, text: object) -> str:
        """A message with addresses instead of this machine's folders for what lies here, above and below."""
        shown, url = str(text), self.url
        while "/" in url:
            for purpose in ("work", "read"):
                shown = shown.replace(str(_cached(purpose, url)), url)
            url = url.rpartition("/")[0]
        return shown

    def waiting(self, seconds: float) -> Remote:
        """The same place for those who try a lost store again for so long: a run at work as long as leases last."""
        return replace(self, patience=seconds)

    def hasty(self) -> Remote:
        """The same place for those who cannot wait."""
        return self.waiting(0)

    def trouble(self) -> str:
        """Why the store cannot be used now; empty if it can."""
        try:
            self.hasty().read(CLOCK)
        except Closed as refusal:
            return str(refusal)
        except StoreGone:
            return f"{self.url} does not answer"
        return ""

    @property
    def folder(self) -> Path:
        """Where this machine works on what lies there."""
        return self._cache("work")

    @property
    def copy(self) -> Path:
        """Where this machine keeps a copy for those who only read."""
        return self._cache("read")

    def _cache(self, purpose: str) -> Path:
        parent, _, name = self.url.rpartition("/")
        return _cached(purpose, parent) / name

    def entries(self, below: str = "") -> list[Entry]:
        """All objects, or those below a name, in the order of their names."""
        if self._no_folder():
            return []
        listed = self._patiently(
            lambda api, store: [x for part in api.list(store, prefix=below or None) for x in part],
            small=True,
        )
        return sorted(Entry(x["path"], _version(x), x["size"]) for x in listed)

    def read(self, name: str) -> Found | None:
        """A small object; None if it is not there."""

        def get(api: Any, store: Any) -> Found:
            got = api.get(store, name)
            return Found(bytes(got.bytes()), _version(got.meta), got.meta["last_modified"].timestamp())

        return None if self._no_folder() else self._patiently(get, small=True, absent=None)

    def _no_folder(self) -> bool:
        """Of a folder that is used as a store: whether it is not there, where to ask would make it."""
        return self.url.startswith("file:") and not Path(urlsplit(self.url).path).is_dir()

    def download(self, name: str, entry: Entry, path: Path) -> None:
        """Write an object to a file, whole or not at all. Raises Changed if it is not as it was listed any more."""

        def parts(file: Any) -> None:
            for start in range(0, max(entry.size, 1), PART):
                options: Any = {"if_match": entry.version.e_tag}
                if entry.size:
                    options["range"] = (start, min(start + PART, entry.size))
                file.write(self._patiently(partial(_part, name, options)))

        write_bytes(path, parts)

    def write(self, name: str, content: bytes | Path) -> Version:
        """Write an object, whatever was there; a large file goes in parts, and is there when the last one is."""
        how: Any = {"chunk_size": PART, "max_concurrency": PARTS_AT_ONCE}
        return self._patiently(lambda api, store: _version(api.put(store, name, content, **how)))

    def create(self, name: str, content: bytes) -> Version | None:
        """Write an object that is not there yet; None if it is."""
        return self._conditionally(name, content, "create")

    def replace(self, name: str, content: bytes, version: Version) -> Version | None:
        """Write an object in place of that version; None if it is another one by now, or gone."""
        if self.url.startswith("s3:"):
            return self._conditionally(name, content, {"e_tag": version.e_tag})
        if self.url.startswith("gs:"):  # compares generations, which its listings do not have
            now = version if version.generation else self._patiently(_head(name), absent=None)
            if now is None or now.e_tag != version.e_tag:
                return None
            return self._conditionally(name, content, {"e_tag": now.e_tag, "version": now.generation})
        with FileLock(Path(urlsplit(self.url).path) / ".replace.lock"):  # a folder cannot compare and write in one
            found = self.read(name)
            return self.write(name, content) if found and found.version == version else None

    def duplicate(self, name: str, other: str) -> Version:
        """Copy an object within the store, over whatever was there."""
        self._patiently(lambda api, store: api.copy(store, name, other))
        return self._patiently(_head(other))

    def delete(self, name: str) -> None:
        """Delete an object, if it is there."""
        self._patiently(lambda api, store: api.delete(store, name), absent=None)

    def now(self) -> float:
        """What time it is by the store's clock, in seconds: when it says that something was written just now."""

        def ask(api: Any, store: Any) -> float:
            api.put(store, CLOCK, b"")
            return float(api.head(store, CLOCK)["last_modified"].timestamp())

        return self._patiently(ask)

    def refuse_without_conditions(self) -> None:
        """Raise StoreError for a store that writes whatever the condition: nothing there tells two runs apart."""
        self.now()
        if self.create(CLOCK, b"") or self.replace(CLOCK, b"", Version('"another"')):
            raise StoreError(f"{self.url}: this store knows no conditional writes, without which nothing can be locked")

    def _conditionally(self, name: str, content: bytes, mode: Any) -> Version | None:
        def put(api: Any, store: Any) -> Version | None:
            try:
                return _version(api.put(store, name, content, mode=mode))
            except (api.exceptions.AlreadyExistsError, api.exceptions.PreconditionError):
                return None

        return self._patiently(put)

    def _patiently(self, ask: Callable[[Any, Any], T], small: bool = False, **absent: T) -> T:
        """What a request answers; tried again, with growing pauses, while the store cannot be reached.

        `small`: those who wait briefly give it up sooner. `absent`: the answer where there is no such object.
        """
        api, store = client(self.url, small and self.patience <= BRIEFLY)
        began, pause = time.monotonic(), 0.5
        while True:
            try:
                with no_panic(self.url):
                    return ask(api, store)
            except (FileNotFoundError, api.exceptions.BaseError) as error:
                if closed(error):
                    raise Closed(f"{self.url}: {reason(error)}") from None
                if isinstance(error, FileNotFoundError | api.exceptions.PreconditionError):
                    if absent:
                        return absent["absent"]
                    raise Changed(f"{self.url}: {reason(error)}") from None
                if not passing(error):
                    raise StoreError(f"{self.url}: {reason(error)}") from None
                if (waited := time.monotonic() - began) + pause > self.patience:
                    raise StoreGone(f"{self.url}: not reached for {waited:.0f} s ({reason(error)})") from None
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def location(text: str) -> Path | Remote:
    """A folder, or a place in a store, as people write it on a command line."""
    if "://" not in text:
        if re.match(rf"({'|'.join(SCHEMES)}):/", text):  # as a Path writes an address
            raise ArgumentTypeError(f"{text!r} is neither a folder nor an address, which has two slashes: s3://BUCKET")
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES:
        raise ArgumentTypeError(f"{text!r} is none of {', '.join(f'{scheme}://' for scheme in SCHEMES)}, nor a folder")
    if "@" in parts.netloc or parts.query or parts.fragment:
        hint = "credentials come from the environment or a profile, never from an address"
        raise ArgumentTypeError(f"{parts.scheme}://...: an address is a bucket and a prefix without @, ? and #; {hint}")
    if bool(parts.netloc) == (parts.scheme == "file") or (parts.scheme == "file" and parts.path in ("", "/")):
        wanted = "file:///FOLDER" if parts.scheme == "file" else f"{parts.scheme}://BUCKET/PREFIX"
        raise ArgumentTypeError(f"{text!r} is not {wanted}")
    path = "/".join(part for part in parts.path.split("/") if part)
    if not re.fullmatch(r"[\w.-]*", parts.netloc) or {".", ".."} & {*path.split("/")} or not path.isprintable():
        hint = "a bucket is of letters, digits and .-_, and no part of a prefix is . or .."
        raise ArgumentTypeError(f"{text!r} is no address: {hint}")
    return Remote(f"{parts.scheme}://{parts.netloc}/{path}".rstrip("/"))


def local_folder(text: str) -> Path:
    """What `location` gives, where only a folder will do."""
    found = location(text)
    if isinstance(found, Remote):
        raise ArgumentTypeError(
            f"{text!r} is no folder, which this needs; docs/object-stores.md says what takes an address"
        )
    return found


def cache() -> Path:
    """The folder of this machine's copies of what lies in stores: MARL_BENCH_CACHE, or one in the user's cache."""
    if own := os.environ.get("MARL_BENCH_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "marl-trust-region-bench"


def _cached(purpose: str, url: str) -> Path:
    """The folder of this machine for what lies directly in a place."""
    return cache() / purpose / hashlib.sha256(url.encode()).hexdigest()[:12]


def _version(about: Any) -> Version:
    generation = about.get("version")
    return Version(about["e_tag"], "" if generation in (None, "null") else generation)


def _part(name: str, options: Any, api: Any, store: Any) -> Any:
    return api.get(store, name, options=options).bytes()


def _head(name: str) -> Callable[[Any, Any], Any]:
    return lambda api, store: _version(api.head(store, name))


def by_folder(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Folder -> the objects directly in it, which keep their last names alone; without hidden ones."""
    folders: dict[str, list[Entry]] = {}
    for entry in entries:
        folder, _, name = entry.name.rpartition("/")
        if not name.startswith("."):
            folders.setdefault(folder, []).append(entry._replace(name=name))
    return folders
