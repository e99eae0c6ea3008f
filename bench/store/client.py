"""The way to an object store: obstore and what it is told of credentials, endpoint and patience.

Credentials are looked up where the store's own tools look, by boto3 for S3, as obstore alone reads no profiles. None
gets into a message: an endpoint that holds some is not shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from bench.cli.installation import installing
from bench.store.files import StoreError

CONNECT_SECONDS, REQUEST_SECONDS, LISTING_SECONDS = 5, 120, 15
"""After which one request is given up: nobody took the call, it is not over, it is not over and is small."""
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "endpoint_url", "AWS_ENDPOINT")
"""What names the endpoint, the first before the others: `endpoint_url` of the profile, obstore's own name last."""
CLOSED = ("NoSuchBucket", "The specified bucket does not exist", "ExpiredToken")
"""What stores say of a place of which nothing can be had, beside the statuses 401 and 403."""
WORDS = {
    "NoSuchBucket": "there is no such bucket",
    "ExpiredToken": "the credentials have expired",
    "AccessDenied": "the credentials do not allow it",
    "403 Forbidden": "the credentials do not allow it",
    "401 Unauthorized": "the credentials are not accepted",
    "InvalidAccessKeyId": "the credentials are not accepted",
    "SignatureDoesNotMatch": "the credentials are not accepted",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "404 Not Found": "there is no such object, or no store",
}
"""What codes of stores mean."""


@lru_cache
def client(url: str, brief: bool = False) -> tuple[Any, Any]:
    """obstore, and its way to a place. Raises StoreError for what environment or profile say and nobody can use.

    `brief`: for small requests, made once, of those who cannot wait.
    """
    parts = urlsplit(url)
    try:
        import obstore
        import obstore.exceptions  # so that the one name has all
        from obstore.store import GCSStore, LocalStore, S3Store
    except ModuleNotFoundError as missing:
        raise _not_installed(url, missing) from None
    timeouts: Any = {
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=LISTING_SECONDS if brief else REQUEST_SECONDS),
        "allow_http": True,  # where an endpoint was named so; no store's own endpoint is
    }
    # few attempts there, the others here: a process that waits there could not be told to stop
    options: Any = {"client_options": timeouts, "retry_config": {"max_retries": 0 if brief else 2}}
    prefix = parts.path.strip("/") or None
    try:
        with no_panic(url):
            if parts.scheme == "file":
                return obstore, LocalStore(parts.path, mkdir=True)
            if parts.scheme == "gs":
                return obstore, GCSStore(parts.netloc, prefix=prefix, **options)
            return obstore, S3Store(parts.netloc, prefix=prefix, **_aws(url), **options)
    except (ValueError, obstore.exceptions.BaseError) as error:
        raise StoreError(f"{url}: {reason(error)}") from None


def _not_installed(url: str, missing: ModuleNotFoundError) -> StoreError:
    package = (missing.name or "").partition(".")[0]
    return StoreError(f"{url}: the package {package} is not installed; {installing('store')}")


def _aws(url: str) -> dict[str, Any]:
    """Credentials, region and endpoint as AWS's own tools find them."""
    try:
        import boto3
        import botocore.session
        from botocore.exceptions import BotoCoreError, ProfileNotFound
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ModuleNotFoundError as missing:
        raise _not_installed(url, missing) from None
    try:
        session = boto3.Session()
        found: dict[str, Any] = {"credential_provider": Boto3CredentialProvider(session)}
        profile = session._session.get_scoped_config()
    except ProfileNotFound:
        profiles = ", ".join(botocore.session.Session().available_profiles) or "none"
        wanted = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
        raise StoreError(f"{url}: AWS_PROFILE={wanted}: there is no such profile; there are: {profiles}") from None
    except BotoCoreError as error:  # a file of profiles that cannot be read
        raise StoreError(f"{url}: {error}") from None
    except ValueError:
        raise StoreError(f"{url}: no credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret") from None
    for variable in ENDPOINTS:
        if os.environ.get(variable) == "":  # as good as not set for AWS's own tools, not for obstore
            del os.environ[variable]
    asked = {name: (profile if name == "endpoint_url" else os.environ).get(name) for name in ENDPOINTS}
    if name := next((name for name, value in asked.items() if value), None):
        found["endpoint"] = _endpoint(url, name, str(asked[name]))
    return found


def _endpoint(url: str, name: str, value: str) -> str:
    """A checked endpoint: of one that is none obstore panics only when it asks."""
    wanted = "http://HOST:PORT or https://HOST"
    called = "endpoint_url of the profile" if name == "endpoint_url" else name
    if "@" in value:
        hint = "credentials come from the environment or a profile, never from an endpoint"
        raise StoreError(f"{url}: {called} holds an @, and is not {wanted}; {hint}")
    try:
        parts = urlsplit(value)
        fine = bool(re.fullmatch(r"https?://[\w.:\[\]-]+(/[\w./~-]*)?", value) and parts.hostname and parts.port != 0)
    except ValueError:  # of a port beyond 65535, a bracket
        fine = False
    if not fine:
        raise StoreError(f"{url}: {called}={value!r} is not {wanted}, the endpoint of a store")
    return value


@contextmanager
def no_panic(url: str) -> Iterator[None]:
    """Raise StoreError where obstore panics, which is no Exception in Python. What it held is not said."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        hint = "perhaps the environment or the profile has an endpoint, region or key that no request can hold"
        raise StoreError(f"{url}: obstore broke down before it had an answer; {hint}") from None


def passing(error: Exception) -> bool:
    """Whether a request may succeed later: nobody answered, or the store had trouble of its own."""
    if type(error).__name__ not in ("GenericError", "JoinError"):
        return False
    status = _status(error)
    return status is None or status >= 500 or status in (408, 409, 429)


def _status(error: Exception) -> int | None:
    """What the store answered, as a status of HTTP."""
    found = re.search(r"status code: (\d+)", str(error))
    return int(found[1]) if found else None


def closed(error: Exception) -> bool:
    """Whether nothing of a place can be had: its bucket is not there, or whoever asks is not let in."""
    return _status(error) in (401, 403) or any(text in str(error) for text in CLOSED)


def reason(error: Exception) -> str:
    """What a store or obstore says, without what only its developers read."""
    text = str(error)
    for pattern in (r"<Code>(\w+)</Code>", r'message: "([^"]+)"', r"status code: (\d+ [A-Z][\w ]*)"):
        if found := re.search(pattern, text):
            said = found[1].strip()
            return f"{WORDS[said]} ({said})" if said in WORDS else said
    return text.split("\n", 1)[0].rpartition(" - ")[2][-200:]
