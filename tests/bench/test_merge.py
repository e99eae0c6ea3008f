"""Which of two copies of a trial `bench.merge` takes."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench import merge as bench_merge
from bench.merge import further, main, take_over
from bench.store import files
from bench.store.files import StoreError
from bench.store.trials import LOCK, identity, merge, read_trials, trial_folder


def trial(within: Path, status: str, step: int, seed: int = 0, **changes: Any) -> Path:
    """A trial that was evaluated last at a step."""
    about: dict[str, Any] = {"suite": "s", "task": "t", "algorithm": "happo", "seed": seed, "config_hash": "0"}
    about |= {"status": status, "steps": 300, "evaluate": {"every": 100, "episodes": 1}, "settings": {}} | changes
    folder = trial_folder(within, "t", "happo", seed)
    rows = pd.DataFrame({key: about[key] for key in ("suite", "task", "algorithm", "seed")} | {"step": [0, step]})
    files.write_table(folder / "records.parquet", rows, identity(about))
    if status == "done":
        about["files"] = {"records.parquet": files.read_table_with_metadata(folder / "records.parquet")[2]}
    files.write_sealed_json(folder / "trial.json", about)
    return folder


def published(suite: Path, step: int = 300) -> None:
    """A suite of which a trial that is done is published, and has no folder."""
    folder = trial(suite, "done", step)
    merge(suite)
    about = files.read_sealed_json(folder / "trial.json")
    row = {**identity(about), "status": "done", "about": json.dumps(about)}
    files.write_table(suite / "trials.parquet", pd.DataFrame([row]))
    shutil.rmtree(suite / "trials")


@pytest.mark.parametrize(
    ("here", "there"), [("running", "stopped"), ("stopped", "running"), ("failed", "stopped"), ("stopped", "failed")]
)
def test_of_two_copies_that_have_not_ended_the_further_one_is_taken(tmp_path: Path, here: str, there: str) -> None:
    trial(tmp_path / "here", here, 100)
    folder = trial(tmp_path / "there", there, 200)
    assert [*further(tmp_path / "here", [tmp_path / "there"])] == [folder]
    assert further(tmp_path / "there", [tmp_path / "here"]) == {}


def test_a_trial_that_a_run_ended_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = trial(tmp_path / "here", "running", 100)
    trial(tmp_path / "there", "stopped", 200)

    def later(*folders: Any) -> dict[Path, Path]:
        taken = further(*folders)
        trial(tmp_path / "here", "done", 300)
        return taken

    monkeypatch.setattr(bench_merge, "further", later)
    assert main([str(tmp_path / "here"), str(tmp_path / "there")]) == 0
    assert files.read_sealed_json(here / "trial.json")["status"] == "done"


@pytest.mark.parametrize("busy", ["here", "there"])
def test_a_trial_at_which_another_process_is_at_work_is_neither_replaced_nor_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], busy: str
) -> None:
    here, there = trial(tmp_path / "here", "running", 100), trial(tmp_path / "there", "stopped", 200)
    before = (here / "trial.json").read_bytes()
    at_work = {"here": here, "there": there}[busy]
    lock = files.try_lock(at_work / LOCK)
    assert lock is not None
    assert main([str(tmp_path / "here"), str(tmp_path / "there")]) == 2
    assert f"{at_work}: another process is at work on this trial; wait for it" in capsys.readouterr().err
    assert (here / "trial.json").read_bytes() == before
    lock.release()
    assert main([str(tmp_path / "here"), str(tmp_path / "there")]) == 0
    assert (here / "trial.json").read_bytes() == (there / "trial.json").read_bytes()


def test_a_source_that_cannot_be_written_to_is_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = trial(tmp_path / "here", "running", 100), trial(tmp_path / "there", "stopped", 200)
    access = os.access  # root may write anywhere
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and path != there)
    assert main([str(tmp_path / "here"), str(tmp_path / "there")]) == 0
    assert (here / "trial.json").read_bytes() == (there / "trial.json").read_bytes()
    assert not (there / LOCK).exists()


def test_a_trial_that_is_done_and_published_is_not_replaced_by_a_part_of_it(tmp_path: Path) -> None:
    published(tmp_path / "here")
    trial(tmp_path / "there", "stopped", 100)
    trial(tmp_path / "there", "stopped", 100, seed=1)
    before = files.read_table(tmp_path / "here" / "records.parquet")
    assert main([str(tmp_path / "here"), str(tmp_path / "there")]) == 0
    after = files.read_table(tmp_path / "here" / "records.parquet")
    pd.testing.assert_frame_equal(after[after["seed"] == 0], before)
    assert [about["status"] for about in read_trials(tmp_path / "here")] == ["done", "stopped"]


def test_a_published_trial_that_is_done_and_differs_is_refused(tmp_path: Path) -> None:
    published(tmp_path / "here", step=300)
    folder = trial(tmp_path / "there", "done", 200)
    with pytest.raises(StoreError, match=f"^{re.escape(str(folder))}: is done and differs from .*here"):
        further(tmp_path / "here", [tmp_path / "there"])


def test_published_trials_without_folders_are_refused_as_a_source(tmp_path: Path) -> None:
    trial(tmp_path / "here", "stopped", 100)
    published(tmp_path / "there")
    with pytest.raises(StoreError, match="seed-00: is published and has no files of its own"):
        further(tmp_path / "here", [tmp_path / "there"])


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suite": "other"}, "is of suite 'other', and .* is of 's'"),
        ({"config_hash": "1"}, "means something else than .*: config 1, not 0"),
        ({"steps": 600}, "has steps 600, and .* 300"),
        ({"evaluate": {"every": 50, "episodes": 1}}, "has evaluate .'every': 50, 'episodes': 1., and "),
    ],
)
def test_trials_that_do_not_belong_together_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    trial(tmp_path / "here", "done", 300)
    trial(tmp_path / "there", "stopped", 200, seed, **changes)
    before = sorted(tmp_path.rglob("*"))
    assert main([str(tmp_path / "here"), str(tmp_path / "there")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_table_is_refused_before_anything_is_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trial(tmp_path / "there", "stopped", 200) / "records.parquet"
    trial(tmp_path / "there", "stopped", 200, seed=1)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert main([str(tmp_path / "here"), str(tmp_path / "there")]) == 2
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("copied", [0, 1])
def test_copying_that_fails_says_how_far_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], copied: int
) -> None:
    for seed in range(3):
        trial(tmp_path / "there", "stopped", 200, seed)

    def full(folder: Path, place: Path) -> None:
        if folder.name == f"seed-{copied:02}":
            raise OSError(28, "No space left on device", str(place))
        take_over(folder, place)

    monkeypatch.setattr(bench_merge, "take_over", full)
    assert main([str(tmp_path / "here"), str(tmp_path / "there")]) == 1
    assert "No space left on device" in (said := capsys.readouterr().err)
    assert said.endswith(f"{copied} of 3 trials copied; the same command goes on\n")
    monkeypatch.setattr(bench_merge, "take_over", take_over)
    assert main([str(tmp_path / "here"), str(tmp_path / "there")]) == 0


@pytest.mark.usefixtures("few_open_files")
def test_more_trials_than_files_may_be_open_are_merged(tmp_path: Path) -> None:
    for seed in range(40):
        trial(tmp_path / "there", "stopped", 100, seed)
    assert main([str(tmp_path / "here"), str(tmp_path / "there")]) == 0
    assert len(read_trials(tmp_path / "here")) == 40
