"""A place for results in an object store: `s3://bucket/prefix`, `gs://bucket/prefix` or `file:///folder`.

All access goes through obstore, the Python face of Rust's object_store, for three reasons. What locks need, writing an
object only if it is not there or only if it is still the version that was read, is one argument there, the same for
S3 and Google's store; in fsspec only the first has a common name, and the second is an argument of S3's interface and
another one of Google's. It is one wheel without dependencies instead of s3fs, gcsfs, aiobotocore and aiohttp. And a
write is there whole or not at all. boto3 finds credentials for S3, as obstore alone reads no profiles.

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
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from filelock import FileLock

from bench.store.files import StoreError, write_bytes

T = TypeVar("T")
SCHEMES = ("s3", "gs", "file")
CONNECT_SECONDS, REQUEST_SECONDS = 5, 120
PART, PARTS_AT_ONCE = 16 << 20, 4
"""Bytes that one request transfers at most, of a file that goes in parts, and how many of them are in memory."""
MOST_COPIED = 5_000_000_000
"""Bytes that S3 copies within itself in one request."""
LONGEST_PAUSE = 15.0
"""Seconds between two attempts to reach a store."""
CLOCK = ".clock"
"""An object that is written to learn what time it is in the store."""


class StoreGone(StoreError):
    """A store that was not reached for as long as one waits for it."""


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
    """Seconds after which what was not renewed is free; so long a lost store is tried again, too."""
    patient: bool = True
    """Whether a lost store is tried again."""

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> Remote:
        return replace(self, url=f"{self.url}/{name}")

    def shown(self, text: object) -> str:
        """A message with this place in it instead of the folder where this machine works on it."""
        return str(text).replace(str(self.folder), self.url)

    def hasty(self) -> Remote:
        """The same place for those who cannot wait."""
        return replace(self, patient=False)

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
        return cache() / purpose / hashlib.sha256(parent.encode()).hexdigest()[:12] / name

    def entries(self, below: str = "") -> list[Entry]:
        """All objects, or those below a name, in the order of their names."""
        if self.url.startswith("file:") and not Path(urlsplit(self.url).path).is_dir():
            return []
        listed = self._patiently(lambda api, store: [x for part in api.list(store, prefix=below or None) for x in part])
        return sorted(Entry(x["path"], _version(x), x["size"]) for x in listed)

    def read(self, name: str) -> Found | None:
        """A small object; None if it is not there."""

        def get(api: Any, store: Any) -> Found:
            got = api.get(store, name)
            return Found(bytes(got.bytes()), _version(got.meta), got.meta["last_modified"].timestamp())

        return self._patiently(get, absent=None)

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

    def _patiently(self, ask: Callable[[Any, Any], T], **absent: T) -> T:
        """What a request answers; tried again, with growing pauses, while the store cannot be reached.

        `absent`: the answer where there is no such object.
        """
        api, store = _client(self.url)
        began, pause = time.monotonic(), 0.5
        while True:
            try:
                return ask(api, store)
            except (FileNotFoundError, api.exceptions.PreconditionError) as error:
                if absent and "NoSuchBucket" not in str(error):
                    return absent["absent"]
                raise Changed(f"{self.url}: {_reason(error)}") from None
            except api.exceptions.BaseError as error:
                if not _passing(error):
                    raise StoreError(f"{self.url}: {_reason(error)}") from None
                if (waited := time.monotonic() - began) + pause > self.lease * self.patient:
                    raise StoreGone(f"{self.url}: not reached for {waited:.0f} s ({_reason(error)})") from None
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def location(text: str) -> Path | Remote:
    """A folder, or a place in a store, as people write it on a command line."""
    if "://" not in text:
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
    return Remote(f"{parts.scheme}://{parts.netloc}/{path}".rstrip("/"))


def local_folder(text: str) -> Path:
    """The same where only a folder will do."""
    found = location(text)
    if isinstance(found, Remote):
        raise ArgumentTypeError(f"{text!r} is no folder, which this needs; docs/object-stores.md: what works on stores")
    return found


def cache() -> Path:
    """The folder of this machine's copies of what lies in stores: MARL_BENCH_CACHE, or one in the user's cache."""
    if own := os.environ.get("MARL_BENCH_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "marl-trust-region-bench"


@lru_cache
def _client(url: str) -> tuple[Any, Any]:
    """obstore, and its way to a place."""
    parts = urlsplit(url)
    try:
        import obstore
        import obstore.exceptions  # so that the one name has all
        from obstore.store import GCSStore, LocalStore, S3Store

        timeouts: Any = {
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "timeout": timedelta(seconds=REQUEST_SECONDS),
            "allow_http": True,  # where an endpoint was named so; no store's own endpoint is
        }
        # few attempts there, the others here: a process that waits there could not be told to stop
        options: Any = {"client_options": timeouts, "retry_config": {"max_retries": 2}}
        prefix = parts.path.strip("/") or None
        if parts.scheme == "file":
            return obstore, LocalStore(parts.path, mkdir=True)
        if parts.scheme == "gs":
            return obstore, GCSStore(parts.netloc, prefix=prefix, **options)
        return obstore, S3Store(parts.netloc, prefix=prefix, **_aws(url), **options)
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        hint = "pip install '.[store]'"
        raise StoreError(f"{url}: the package {package} is not installed; {hint}") from None


def _aws(url: str) -> dict[str, Any]:
    """Credentials, region and endpoint as AWS's own tools find them."""
    import boto3
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        session = boto3.Session()
        found: dict[str, Any] = {"credential_provider": Boto3CredentialProvider(session)}
        profile = session._session.get_scoped_config()
    except BotoCoreError as error:  # no such profile, one that cannot be read
        raise StoreError(f"{url}: {error}") from None
    except ValueError:
        raise StoreError(f"{url}: no credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret") from None
    asked = (os.environ.get("AWS_ENDPOINT_URL_S3"), os.environ.get("AWS_ENDPOINT_URL"), profile.get("endpoint_url"))
    if endpoint := next(filter(None, asked), None):
        found["endpoint"] = endpoint
    return found


def _version(about: Any) -> Version:
    generation = about.get("version")
    return Version(about["e_tag"], "" if generation in (None, "null") else generation)


def _part(name: str, options: Any, api: Any, store: Any) -> Any:
    return api.get(store, name, options=options).bytes()


def _head(name: str) -> Callable[[Any, Any], Any]:
    return lambda api, store: _version(api.head(store, name))


def _passing(error: Exception) -> bool:
    """Whether a request may succeed later: nobody answered, or the store had trouble of its own."""
    if type(error).__name__ not in ("GenericError", "JoinError"):
        return False
    status = re.search(r"status code: (\d+)", str(error))
    return status is None or int(status[1]) >= 500 or int(status[1]) in (408, 409, 429)


def _reason(error: Exception) -> str:
    """What a store or obstore says, without what only its developers read."""
    text = str(error)
    for pattern in (r"<Code>(\w+)</Code>", r'message: "([^"]+)"', r"status code: (\d+ [A-Z][\w ]*)"):
        if found := re.search(pattern, text):
            return found[1]
    return text.split("\n", 1)[0][-200:]


def by_folder(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Folder -> the objects directly in it, which keep their last names alone; without hidden ones."""
    folders: dict[str, list[Entry]] = {}
    for entry in entries:
        folder, _, name = entry.name.rpartition("/")
        if not name.startswith("."):
            folders.setdefault(folder, []).append(entry._replace(name=name))
    return folders
