"""What a study keeps on disk: damage is refused in one line, mended, or without effect, and the study goes on."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import event
from sqlalchemy.engine import Engine
from test_kills import SMALL, assert_equal_results
from test_tune import ONE, main, table

from bench.store import files
from bench.suite.model import SuiteError
from bench.trial import session
from bench.tune import __main__ as tune
from bench.tune import queue, storage
from bench.tune.identity import Identity
from bench.tune.journal import Journal

pytestmark = pytest.mark.usefixtures("sigterm_as_before")

SHORT = SMALL | {"trials": 2}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small study, without interruption."""
    folder = tmp_path_factory.mktemp("done")
    assert main(folder, **SMALL) == 0
    return folder


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(done / "tiny", tmp_path / "tiny")
    return tmp_path


def assert_short_of(done: Path, folder: Path) -> None:
    """The two tuning trials of a short study are the first of the whole one."""
    pd.testing.assert_frame_equal(table(folder), table(done).head(2), check_exact=True)


def journal(path: Path, records: int = 6) -> Path:
    opened = Journal(path)
    for number in range(records):
        opened.append_logs([{"op_code": 0, "number": number, "words": "a b c"}])
    return path


def read(path: Path) -> list[int]:
    return [record["number"] for record in Journal(path).read_logs(0)]


# The journal


def test_what_is_written_is_read_and_optuna_itself_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    made = optuna.create_study(storage=storage.open_storage(str(path)), study_name="one")
    made.add_trial(optuna.create_trial(value=float("-inf"), user_attrs={"word": "ä\n\0"}))
    for opened in (storage.open_storage(str(path)), JournalStorage(JournalFileBackend(str(path)))):
        only = optuna.load_study(storage=opened, study_name="one").trials[0]
        assert (only.value, only.user_attrs) == (float("-inf"), {"word": "ä\n\0"})


def test_two_writers_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    one, other = Journal(path), Journal(path)
    for number in range(3):
        one.append_logs([{"op_code": 0, "number": 2 * number}])
        other.append_logs([{"op_code": 0, "number": 2 * number + 1}])
    assert [record["number"] for record in one.read_logs(2)] == [2, 3, 4, 5]
    assert read(path) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("left", [b"{", b'{"op_code":0,"num', b'{"op_code":0,"number":9,"checksum":"0123456789ab"}'])
def test_the_half_line_of_a_killed_writer_is_cut_off(tmp_path: Path, left: bytes) -> None:
    path = journal(tmp_path / "journal.log")
    whole = path.read_bytes()
    path.write_bytes(whole + left)
    assert read(path) == [0, 1, 2, 3, 4, 5]
    Journal(path).append_logs([{"op_code": 0, "number": 6}])
    assert path.read_bytes().startswith(whole)
    assert read(path) == [0, 1, 2, 3, 4, 5, 6]


DAMAGE: dict[str, tuple[Callable[[list[bytes]], list[bytes]], int]] = {
    "a changed word": (lambda lines: [*lines[:2], lines[2].replace(b"a b c", b"a b d"), *lines[3:]], 3),
    "a changed checksum": (lambda lines: [*lines[:2], lines[2][:-3] + b"x" + lines[2][-2:], *lines[3:]], 3),
    "a line taken out": (lambda lines: [*lines[:2], *lines[3:]], 3),
    "a line twice": (lambda lines: [*lines[:3], *lines[2:]], 4),
    "two lines in the other order": (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], 3),
    "a line without checksum": (lambda lines: [*lines, b'{"op_code":0,"number":6}'], 7),
    "words at the end": (lambda lines: [*lines, b"words"], 7),
    "valid JSON that is no record": (lambda lines: [*lines, b"[1]"], 7),
    "an empty line": (lambda lines: [*lines[:4], b"", *lines[4:]], 5),
    "zeros at the end": (lambda lines: [*lines, bytes(100)], 7),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_line_is_named_and_what_stands_before_it_can_be_kept(tmp_path: Path, kind: str) -> None:
    path = journal(tmp_path / "journal.log")
    change, number = DAMAGE[kind]
    lines = change(path.read_bytes().splitlines())
    path.write_bytes(b"\n".join(lines) + b"\n")
    for use in (read, lambda path: Journal(path).append_logs([{"op_code": 0}])):
        with pytest.raises(SuiteError) as refused:
            use(path)
        assert str(refused.value).startswith(f"{path}: line {number} ")
        assert "delete this line and all below it" in str(refused.value)
    assert path.read_bytes() == b"\n".join(lines) + b"\n"
    path.write_bytes(b"".join(line + b"\n" for line in lines[: number - 1]))
    assert read(path) == list(range(number - 1))


def test_a_text_that_ends_amid_a_line_is_no_journal_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("what I must not forget")
    with pytest.raises(SuiteError, match="line 1 is not complete, nor the beginning of a record"):
        storage.open_storage(str(path))
    assert path.read_text() == "what I must not forget"


def test_a_journal_that_becomes_shorter_while_it_is_used_is_refused(tmp_path: Path) -> None:
    opened = Journal(journal(tmp_path / "journal.log"))
    opened.read_logs(0)
    opened.path.write_bytes(opened.path.read_bytes()[:100])
    with pytest.raises(SuiteError, match=r"line 6 is gone"):
        opened.append_logs([{"op_code": 0}])
    opened.path.unlink()
    with pytest.raises(SuiteError, match=r"journal.log: No such file or directory"):
        opened.read_logs(0)


def test_a_database_and_a_pipe_are_no_journals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "real.db"
    assert main(tmp_path, "--storage", f"sqlite:///{path}", **ONE, trials=1) == 0
    (tmp_path / "other").mkdir()
    os.mkfifo(tmp_path / "pipe")
    capsys.readouterr()
    assert main(tmp_path / "other", "--storage", str(path), **ONE, trials=1) == tune.BAD_INPUT
    assert capsys.readouterr().err == f"{path} is a database: write sqlite:///{path}\n"
    assert main(tmp_path / "other", "--storage", str(tmp_path / "pipe"), **ONE, trials=1) == tune.BAD_INPUT
    assert "pipe: is no regular file" in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 12, 20])
def test_a_full_disk_stops_a_study_in_one_line_and_it_goes_on_later(
    tmp_path: Path, done: Path, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = [0]

    def append_logs(self: Journal, logs: list[dict[str, Any]]) -> None:
        calls[0] += 1
        with pytest.MonkeyPatch.context() as inner:
            if calls[0] >= count:
                inner.setattr(os, "fsync", full)
            append(self, logs)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    append = Journal.append_logs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "append_logs", append_logs)
        assert main(tmp_path, **SHORT) in (1, tune.BAD_INPUT)
    out, err = capsys.readouterr()
    assert "journal.log: No space left on device" in out + err
    assert err.count("\n") == 1
    assert main(tmp_path, **SHORT) == 0
    assert_short_of(done, tmp_path)


# study.json


@pytest.mark.parametrize(
    "text",
    ["", "[]", "1", '"x"', "null", "{", "{}", '{"folder": 1}', '{"storage": "journal.log"}', "[" * 100_000, "\0"],
)
def test_a_damaged_study_json_is_refused_in_one_line_and_can_be_deleted(
    copy: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "tiny" / "study.json"
    before = path.read_text()
    path.write_text(text)
    assert main(copy, **SMALL) == tune.BAD_INPUT
    out, err = capsys.readouterr()
    assert err.startswith(f"{path}: damaged, or not written by this version")
    assert (out, err.count("\n")) == ("", 1)
    path.unlink()
    assert main(copy, **SMALL) == 0
    assert path.read_text() == before


def test_every_value_of_study_json_is_under_its_checksum(copy: Path) -> None:
    path = copy / "tiny" / "study.json"
    document = files.read_json(path)
    path.write_text(json.dumps(document, indent=7, sort_keys=True))
    assert Identity.read(path.parent) is not None
    for key, value in document.items():
        path.write_text(json.dumps(document | {key: value[1:] + value[0]}))
        with pytest.raises(SuiteError, match="damaged"):
            Identity.read(path.parent)


def test_without_study_json_another_study_is_refused_as_with_it(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "tiny" / "study.json").unlink()
    assert main(copy, "--set", "defaults.gae_lambda=0.9", **SMALL) == tune.BAD_INPUT
    assert "means something else" in capsys.readouterr().err
    shutil.copytree(copy / "tiny", copy / "other" / "tiny", ignore=shutil.ignore_patterns("tuning"))
    assert main(copy / "other", **SMALL) == tune.BAD_INPUT
    assert "belongs to another folder" in capsys.readouterr().err


def test_an_algorithm_that_a_cut_journal_does_not_know_any_more_is_begun_anew(tmp_path: Path) -> None:
    assert main(tmp_path, trials=2) == 0
    before = table(tmp_path)
    path = tmp_path / "tiny" / "journal.log"
    lines = path.read_bytes().splitlines(keepends=True)
    second = next(i for i, line in enumerate(lines) if b"tiny/hatrpo" in line)
    path.write_bytes(b"".join(lines[:second]))
    assert main(tmp_path, trials=2) == 0
    pd.testing.assert_frame_equal(table(tmp_path), before, check_exact=True)


def test_the_trials_of_another_point_are_not_taken_for_those_of_a_new_one(copy: Path, done: Path) -> None:
    """As after `--jobs 2` and a journal without its last lines, which draws other points for the same numbers."""
    path = copy / "tiny" / "journal.log"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:25]))
    trial = copy / "tiny" / "tuning" / "happo" / "trial-0005"
    (folder,) = trial.glob("trials/*/*/seed-*")
    about, records = files.read_json(folder / "trial.json"), files.read_table(folder / "records.parquet")
    files.write_json(folder / "trial.json", about | {"config_hash": "0123456789ab"})
    files.write_table(folder / "records.parquet", records.assign(episode_return=1e6))
    assert main(copy, **SMALL) == 0
    assert_equal_results(copy, done)
    (kept,) = trial.glob("trials/*/*/other-seed-*")
    assert files.read_table(kept / "records.parquet")["episode_return"].min() == 1e6


# Anything anywhere

NEEDS_A_COPY = -1
"""In the place of a status: nothing is left of the journal."""


def flip(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def truncate(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def swap(content: bytes, chance: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    one, other = chance.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def double(content: bytes, chance: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    lines.insert(chance.randrange(len(lines)), chance.choice(lines))
    return b"".join(lines)


@pytest.mark.parametrize("part", [0, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, 10))])
def test_any_damage_is_refused_in_one_line_or_mended_and_the_results_stay(
    copy: Path, done: Path, part: int, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(part)
    folder = copy / "tiny"
    kept = {name: (folder / name).read_bytes() for name in ("journal.log", "study.json")}
    whole = 0
    for _ in range(24):
        name, change = (
            chance.choice(["journal.log", "journal.log", "study.json"]),
            chance.choice([flip, truncate, swap]),
        )
        change = double if change is swap and chance.random() < 0.5 else change
        damaged = change(kept[name], chance)
        (folder / name).write_bytes(damaged)
        status = main(copy, **SMALL)
        err = capsys.readouterr().err
        if status:
            assert status == tune.BAD_INPUT
            assert err.count("\n") == 1, err
            assert folder.name in err  # a long path is shortened in the middle
            status = after_what_is_said(folder, err, lambda: main(copy, **SMALL))
            capsys.readouterr()
        assert status in (0, NEEDS_A_COPY)
        if status == 0:
            assert_equal_results(copy, done)
            whole += 1
        for each, content in kept.items():
            (folder / each).write_bytes(content)
    assert whole >= 8


def after_what_is_said(folder: Path, message: str, again: Callable[[], int]) -> int:
    """The status of the same command after what the message advises."""
    if "study.json: damaged" in message:
        (folder / "study.json").unlink()
        return again()
    if found := re.search(r"line (\d+) .* delete this line and all below it", message):
        if (number := int(found[1])) == 1:
            return NEEDS_A_COPY
        content = (folder / "journal.log").read_bytes()
        (folder / "journal.log").write_bytes(b"".join(part + b"\n" for part in content.split(b"\n")[: number - 1]))
        return again()
    assert "does not know; bring the storage back" in message
    return NEEDS_A_COPY


# Databases


def sqlite(folder: Path) -> list[str]:
    return ["--storage", f"sqlite:///{folder / 'optuna.db'}"]


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "optuna.db").write_text("words\n" * 1000)
    assert main(tmp_path, *sqlite(tmp_path), **ONE) == tune.BAD_INPUT
    assert "file is not a database" in one_line(capsys)


def test_a_read_only_database_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage.open_storage(sqlite(tmp_path)[1])
    url = f"sqlite:///file:{tmp_path / 'optuna.db'}?mode=ro&uri=true"
    assert main(tmp_path, "--storage", url, **ONE) == tune.BAD_INPUT
    assert "attempt to write a readonly database" in one_line(capsys)


@pytest.mark.long
@pytest.mark.parametrize("left", [-10, 1])
def test_a_full_disk_under_a_database_is_one_line_and_the_study_goes_on_later(
    tmp_path: Path, done: Path, left: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """`left` pages are free when the empty tables have been made."""
    most = [2**30]

    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA page_size = 512")
        connection.execute(f"PRAGMA max_page_count = {most[0]}")

    event.listen(Engine, "connect", limit)
    try:
        storage.open_storage(f"sqlite:///{tmp_path / 'empty.db'}")
        most[0] = (tmp_path / "empty.db").stat().st_size // 512 + left
        assert main(tmp_path, *sqlite(tmp_path), **SMALL) in (1, tune.BAD_INPUT)
    finally:
        event.remove(Engine, "connect", limit)
    out, err = capsys.readouterr()
    assert "database or disk is full" in out + err
    assert err.count("\n") == 1
    assert main(tmp_path, *sqlite(tmp_path), **SMALL) == 0
    assert_equal_results(tmp_path, done)


def test_a_locked_database_is_one_line_and_the_study_goes_on_later(
    tmp_path: Path, done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real, calls, locks = session.Session.train, [0], list[sqlite3.Connection]()

    def train(self: session.Session) -> None:
        calls[0] += 1
        if calls[0] == 6:  # in the second tuning trial
            locks.append(sqlite3.connect(tmp_path / "optuna.db"))
            locks[0].execute("BEGIN EXCLUSIVE")
        real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session.Session, "train", train)
        patch.setattr(storage, "LOCKED_SECONDS", 0.05)
        assert main(tmp_path, *sqlite(tmp_path), **SHORT) == tune.BAD_INPUT
    assert "database is locked" in one_line(capsys)
    locks[0].close()
    assert main(tmp_path, *sqlite(tmp_path), **SHORT) == 0
    assert_short_of(done, tmp_path)


@pytest.mark.parametrize("database", [False, True])
def test_a_study_that_is_deleted_meanwhile_is_one_line(
    tmp_path: Path, database: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    real = queue.Queue.claim

    def claim(self: queue.Queue, since: float) -> queue.Claim | None:
        optuna.delete_study(study_name="tiny/happo", storage=self.storage)
        return real(self, since)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue.Queue, "claim", claim)
        assert main(tmp_path, *(sqlite(tmp_path) if database else []), **ONE) == tune.BAD_INPUT
    assert "somebody has deleted its study tiny/happo" in one_line(capsys)
