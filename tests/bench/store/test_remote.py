"""Places in stores: how they are written, and what becomes of a store that is away."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from object_store import BUCKET, S3, SECRET, serving

from bench.store.client import _aws, client
from bench.store.files import StoreError
from bench.store.places import patient
from bench.store.remote import Changed, Remote, StoreGone, Version, local_folder, location


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serving() as server:
        yield server


@pytest.fixture(params=["s3", "file"])
def place(request: pytest.FixtureRequest, s3: S3, tmp_path: Path) -> Remote:
    return Remote(f"s3://{BUCKET}/{tmp_path.name}" if request.param == "s3" else f"file://{tmp_path}/a store")


def test_an_address_is_a_folder_or_a_place_in_a_store() -> None:
    assert location("results/mine") == Path("results/mine")
    assert location("s3://bucket//a/b/") == Remote("s3://bucket/a/b")
    assert location("gs://bucket") / "suite" == Remote("gs://bucket/suite")
    assert str(location("file:///data/results")) == "file:///data/results"


@pytest.mark.parametrize("wrong", ["http://a/b", "s3://", "s3:///a", "file://host/a", "file:///"])
def test_another_address_is_refused_with_what_is_valid(wrong: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"s3://|file:///FOLDER"):
        location(wrong)


@pytest.mark.parametrize("wrong", ["s3://bucket/a/../b", "s3://bucket/./a", "s3://two words/a", "s3://bucket/a\x1bb"])
def test_an_address_that_no_store_can_have_is_refused(wrong: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"is no address: a bucket is of letters, digits and \.-_, and no part"):
        location(wrong)


def test_an_address_that_lost_a_slash_is_no_folder() -> None:
    with pytest.raises(ArgumentTypeError, match=r"'s3:/bucket/a' is neither a folder nor an address"):
        location(str(Path("s3://bucket/a")))


@pytest.mark.parametrize("wrong", [f"s3://key:{SECRET}@bucket/a", f"s3://bucket/a?secret={SECRET}"])
def test_credentials_in_an_address_are_refused_and_not_shown(wrong: str) -> None:
    with pytest.raises(ArgumentTypeError, match="credentials come from the environment") as refused:
        location(wrong)
    assert SECRET not in str(refused.value)


def test_commands_that_need_a_folder_refuse_a_store() -> None:
    with pytest.raises(ArgumentTypeError, match=r"'s3://b/c' is no folder"):
        local_folder("s3://b/c")


def test_a_missing_package_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StoreError, match=r"obstore is not installed; pip install -e '.\[store\]'"):
        Remote("s3://bucket/without-package").read("x")


def test_a_missing_bucket_and_a_missing_profile_are_said_at_once(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match=r"s3://missing/a: there is no such bucket \(NoSuchBucket\)"):
        Remote("s3://missing/a").entries()
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreError, match=r"s3://missing/b: AWS_PROFILE=nobody: there is no such profile; there are: "):
        Remote("s3://missing/b").entries()


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"])
@pytest.mark.parametrize("value", ["foo", "localhost:9000", "ftp://host", "http://", "http://a b", "http://a:99999"])
def test_an_endpoint_that_is_none_is_refused_with_what_is_valid(
    s3: S3, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv(name, value)
    wanted = f"s3://b/x: {name}='{value}' is not http://HOST:PORT or https://HOST, the endpoint of a store"
    with pytest.raises(StoreError, match=f"^{wanted}$"):
        Remote("s3://b/x").entries()


def test_an_endpoint_with_credentials_is_refused_and_not_shown(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://somebody:{SECRET}@host")
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL holds an @") as refused:
        Remote("s3://endpoint-with-secret/x").entries()
    assert SECRET not in str(refused.value)


def test_a_panic_of_obstore_is_an_error_like_others_without_what_it_held(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"{SECRET}\n")  # which fits into no header
    with pytest.raises(StoreError, match=r"^s3://panic/x: obstore broke down before it") as refused:
        Remote("s3://panic/x").entries()
    assert SECRET not in str(refused.value)


def test_credentials_may_come_from_a_profile(s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in s3.environment():
        monkeypatch.delenv(name)
    file = tmp_path / "config"
    file.write_text(
        f"[profile lab]\nregion = us-east-1\nendpoint_url = http://127.0.0.1:{s3.port}\n"
        f"aws_access_key_id = a\naws_secret_access_key = {SECRET}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert Remote(f"s3://{BUCKET}/profile").entries() == []


def test_an_object_is_created_once(place: Remote) -> None:
    first = place.create("a/one", b"1")
    found = place.read("a/one")
    assert found
    assert found[:2] == (b"1", first)
    assert place.create("a/one", b"2") is None
    assert [(e.name, e.size) for e in place.entries("a")] == [("a/one", 1)]


def test_a_version_is_replaced_once(place: Remote) -> None:
    first = place.create("one", b"1")
    assert first
    assert place.replace("one", b"22", first)
    assert place.replace("one", b"3", first) is None
    assert place.replace("two", b"3", Version('"nothing"')) is None
    found = place.read("one")
    assert found
    assert found.content == b"22"


def test_a_large_object_comes_in_parts_of_one_version(
    place: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.store.remote.PART", 5 << 20)  # S3 takes no smaller ones
    content = bytes(range(256)) * 25_000
    place.write("big", content)
    (entry,) = place.entries("big") or place.entries()
    place.download("big", entry, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    place.write("big", content[:-1])
    with pytest.raises(Changed):
        place.download("big", entry, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_clock_of_the_store_dates_what_is_written(place: Remote) -> None:
    before = place.now()
    place.write("one", b"1")
    found = place.read("one")
    assert found
    assert before <= found.modified <= place.now()


def test_a_store_without_conditional_writes_is_refused(place: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    place.refuse_without_conditions()
    monkeypatch.setattr(Remote, "replace", lambda self, name, content, version: self.write(name, content))
    with pytest.raises(StoreError, match="knows no conditional writes"):
        place.refuse_without_conditions()


def test_a_store_that_comes_back_is_asked_again(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Remote(f"s3://{BUCKET}/away")
    place.write("one", b"1")
    s3.stop()
    pauses = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            s3.start()

    monkeypatch.setattr(time, "sleep", sleep)
    assert place.read("one")
    assert pauses[:2] == [0.5, 1.0]


def test_a_store_that_stays_away_is_said_in_one_line(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Remote(f"s3://{BUCKET}/away", patience=30)
    place.write("one", b"1")
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    s3.stop()
    try:
        with pytest.raises(StoreGone, match=rf"^s3://{BUCKET}/away: not reached for 16 s \(Connection refused\)$"):
            place.read("one")
        now[0] = 0.0
        with pytest.raises(StoreGone, match="not reached for 0 s"):
            place.hasty().read("one")
    finally:
        s3.start()


def test_readers_and_runs_that_have_not_begun_give_up_soon(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    s3.stop()
    try:
        with pytest.raises(StoreGone, match="not reached for 8 s"):
            Remote(f"s3://{BUCKET}/away").entries()
        now[0] = 0.0
        with pytest.raises(StoreGone, match="not reached for 166 s"):
            patient(Remote(f"s3://{BUCKET}/away")).entries()  # type: ignore[union-attr]
    finally:
        s3.start()


def test_a_store_that_takes_calls_and_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.store.client.LISTING_SECONDS", 0.5)
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": SECRET}.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(StoreGone, match="s3://silent/x: not reached for"):
            Remote("s3://silent/x", patience=0.1).entries()


REFUSALS = {
    "ExpiredToken": (400, "the credentials have expired"),
    "AccessDenied": (403, "the credentials do not allow it"),
    "InvalidAccessKeyId": (403, "the credentials are not accepted"),
}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_store_that_lets_nobody_in_is_said_at_once_and_is_as_one_that_is_gone(
    code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, words = REFUSALS[code]

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())

        do_PUT = do_GET

        def log_message(self, *_: object) -> None: ...

    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": SECRET}.items():
        monkeypatch.setenv(name, value)
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        place = Remote(f"s3://closed/{code}", patience=180)
        said = rf"^{place}: {words} \({code}\)$"
        for ask in (place.entries, lambda: place.read("one"), lambda: place.write("one", b""), place.now):
            with pytest.raises(StoreGone, match=said):
                ask()
        assert re.match(said, place.trouble())
        server.shutdown()


def test_messages_have_addresses_in_the_place_of_folders_of_this_machine() -> None:
    results = Remote("s3://bucket/marl")
    suite = results / "quick"
    assert results.shown(f"{suite.folder}/trials: no") == f"{suite}/trials: no"
    assert (suite / "task/happo/0").shown(f"{suite.copy}: no") == f"{suite}: no"
    assert results.shown(f"{Remote('s3://other/x').folder}") == str(Remote("s3://other/x").folder)


def test_no_credentials_are_in_what_is_sent_to_other_processes(s3: S3) -> None:
    place = Remote(f"s3://{BUCKET}/sent")
    place.write("one", b"1")
    assert SECRET not in repr(vars(place)) + repr(client(place.url)[1])


def test_an_empty_endpoint_is_none(monkeypatch: pytest.MonkeyPatch, s3: S3) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "")
    assert "endpoint" not in _aws(f"s3://{BUCKET}")
    assert "AWS_ENDPOINT_URL" not in os.environ, "obstore, which reads it too, panics at an empty one"
