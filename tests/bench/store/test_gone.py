"""What is missing or no longer what it was: a suite file, a trial, the folder itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_run import TWO, main

from bench import publish, verify
from bench.runner import attempt
from bench.runner.process import Died
from bench.store import files
from bench.store.files import FolderGone
from bench.store.trials import TABLES
from bench.store.verifying import findings
from bench.trial import session, worker

pytestmark = pytest.mark.usefixtures("sigterm_as_before")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished suite of two trials."""
    folder = tmp_path_factory.mktemp("done")
    assert main(folder, **TWO) == 0
    return folder / "tiny"


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "tiny"))


def wrong(folder: Path) -> list[str]:
    return [found.wrong for found in findings(folder) if found.wrong]


def edit_suite(folder: Path) -> None:
    path = folder / "suite.yaml"
    path.write_text(path.read_text().replace("steps: 100", "steps: 150"))


def delete_resolved(folder: Path) -> None:
    (folder / "resolved.json").unlink()


@pytest.mark.parametrize(
    ("damage", "words"), [(edit_suite, "is not the suite that was run"), (delete_resolved, "resolved.json: is missing")]
)
def test_a_suite_file_that_was_edited_or_lost_is_named_and_not_published(
    copy: Path, tmp_path: Path, damage: Callable[[Path], None], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wrong(copy) == []
    damage(copy)
    (found,) = wrong(copy)
    assert words in found
    assert publish.main([str(copy), "--into", str(tmp_path / "into")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "into").exists()


def test_a_trial_that_was_deleted_is_missed(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (gone,) = copy.glob("trials/*/happo/seed-00")
    shutil.rmtree(gone)
    assert verify.main([str(copy)]) == 1
    out = capsys.readouterr().out
    assert "planned trials are not there: mamujoco/Hopper-3x1:episode_length=25 happo 0; run the suite again" in out
    assert "has rows of trials that are not there any more: mamujoco/Hopper-3x1:episode_length=25 happo 0" in out


def test_a_published_suite_may_have_trials_to_come(copy: Path, tmp_path: Path) -> None:
    (gone,) = copy.glob("trials/*/happo/seed-00")
    shutil.rmtree(gone)
    publish.publish(copy, tmp_path / "into")
    assert wrong(tmp_path / "into") == []
    assert any("not published yet: mamujoco/Hopper-3x1" in found.note for found in findings(tmp_path / "into"))


def test_a_folder_that_is_another_one_is_not_written_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a file system was unmounted: the name is there, and stands for something else."""
    evaluate = session.Session._evaluate_and_save

    def exchanged(self: session.Session) -> None:
        if self.step:
            (tmp_path / "tiny").rename(tmp_path / "elsewhere")
            self.folder.mkdir(parents=True)
        evaluate(self)

    monkeypatch.setattr(session.Session, "_evaluate_and_save", exchanged)
    assert main(tmp_path, **TWO) == 1
    assert capsys.readouterr().out.count("is no longer the folder that was there at first") == 2
    assert [path for path in (tmp_path / "tiny").rglob("*") if path.is_file() and not path.name.endswith("lock")] == []


@pytest.mark.parametrize("retries", [0, 1])
def test_a_trial_that_died_is_neither_tried_again_nor_noted_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], retries: int
) -> None:
    tries = []

    def died(*_: Any, **__: Any) -> None:
        tries.append(tmp_path / "tiny")
        (tmp_path / "tiny").rename(tmp_path / f"moved-{len(tries)}")
        (tmp_path / "tiny").mkdir()
        raise Died("its process ended with status 9", "")

    monkeypatch.setattr(attempt, "call", died)
    assert main(tmp_path, "--only", "algorithm=happo", "--retries", str(retries), **TWO) == 1
    assert len(tries) == 1
    assert "is no longer the folder that was there at first" in capsys.readouterr().out
    assert not [*(tmp_path / "tiny").rglob("trial.json")]


def test_a_place_is_the_same_only_where_the_folder_is(tmp_path: Path) -> None:
    before = files.folder_id(tmp_path)
    files.refuse_other_folder(tmp_path, before)
    with pytest.raises(FolderGone, match="is no longer there"):
        files.folder_id(tmp_path / "gone")
    with pytest.raises(FolderGone, match="a file system was unmounted, or it was moved"):
        files.refuse_other_folder(tmp_path.parent, before)


def test_an_exception_of_any_kind_is_said_with_its_place() -> None:
    class Odd(BaseException):
        def __str__(self) -> str:
            raise ValueError

    with pytest.raises(Odd) as raised:
        raise Odd
    reason = worker._reason(raised.value)
    assert reason.startswith("Odd: (its message raised ValueError) (")
    assert f"{Path(__file__).name}:" in reason


def test_a_file_system_that_becomes_read_only_fails_the_trials_and_not_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read_only(trial: object, folder: Path) -> object:
        raise OSError(30, "Read-only file system", str(folder))

    monkeypatch.setattr(attempt, "at_work", read_only)
    assert main(tmp_path, **TWO) == 1
    out, err = capsys.readouterr()
    assert out.count("Read-only file system") == 2
    assert err == "2 of 2 trials failed; the same command tries them again\n"


def test_what_is_wrong_in_one_folder_does_not_keep_trials_of_the_next_from_being_made_again(
    copy: Path, done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_suite(copy)
    assert verify.main([str(copy), str(done), "--replay", "1"]) == 1
    broken, fine = capsys.readouterr().out.split(str(done))
    assert "replay" not in broken
    assert "ok      replay of " in fine


@pytest.mark.parametrize("name", TABLES)
def test_a_published_suite_that_has_lost_a_table_is_not_whole(copy: Path, tmp_path: Path, name: str) -> None:
    assert publish.main([str(copy), "--into", str(tmp_path / "into")]) == 0
    (tmp_path / "into" / "tiny" / f"{name}.parquet").unlink()
    (found,) = wrong(tmp_path / "into" / "tiny")
    assert f"{name}.parquet: is missing" in found


def test_a_published_suite_whose_trials_had_no_updates_is_whole(tmp_path: Path) -> None:
    never = {"maddpg": {"warmup_steps": 1000, "batch_size": 16, "buffer_size": 200}}
    assert main(tmp_path, algorithms=never) == 0
    assert publish.main([str(tmp_path / "tiny"), "--into", str(tmp_path / "into")]) == 0
    assert not (tmp_path / "into" / "tiny" / "updates.parquet").exists()
    assert wrong(tmp_path / "into" / "tiny") == []
