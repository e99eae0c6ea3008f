"""Places in stores: how they are written, and what becomes of a store that is away."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import BUCKET, S3, SECRET, serving

from bench.store.client import client
from bench.store.files import StoreError
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
    with pytest.raises(StoreError, match=r"obstore is not installed; pip install '.\[store\]'"):
        Remote("s3://bucket/without-package").read("x")


def test_a_missing_bucket_and_a_missing_profile_are_said_at_once(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="s3://missing/a: NoSuchBucket"):
        Remote("s3://missing/a").entries()
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreError, match=r"s3://missing/b: .*profile \(nobody\) could not be found"):
        Remote("s3://missing/b").entries()


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


def test_no_credentials_are_in_what_is_sent_to_other_processes(s3: S3) -> None:
    place = Remote(f"s3://{BUCKET}/sent")
    place.write("one", b"1")
    assert SECRET not in repr(vars(place)) + repr(client(place.url)[1])
