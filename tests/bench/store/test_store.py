"""Files that are whole or not there, and tables that join."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pytest

from bench.store import files
from bench.store.files import StoreError
from bench.store.trials import find_trial, identity, merge, read_trials, trial_folder, trial_table


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def frame(**columns: object) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_a_write_makes_the_folders_on_the_way(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a" / "b.txt", "hello")
    assert (tmp_path / "a" / "b.txt").read_text() == "hello"
    assert written(tmp_path) == ["a/b.txt"]


def test_a_write_replaces_the_old_content(tmp_path: Path) -> None:
    files.write_text(tmp_path / "x", "a long old text")
    files.write_text(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "new"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    files.write_text(tmp_path / "x", "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_text(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "old"
    assert written(tmp_path) == ["x"]


def test_a_full_disk_is_an_error_of_the_file(tmp_path: Path) -> None:
    def fill(file: BinaryIO) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as full:
        files.write_bytes(tmp_path / "table", fill)
    assert full.value.filename == str(tmp_path / "table")


def test_a_full_disk_is_an_error_of_the_file_also_where_its_writer_hides_it(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def hide(file: Any) -> None:
        file.file = Full()
        try:
            file.write(b"x")
        except OSError:
            raise RuntimeError("unexpected pos 70976") from None

    with pytest.raises(OSError, match="No space") as full:
        files.write_bytes(tmp_path / "checkpoint.pt", hide)
    assert full.value.filename == str(tmp_path / "checkpoint.pt")


def test_a_first_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_table(tmp_path / "x.parquet", frame(a=[1]))
    assert written(tmp_path) == []


def test_a_file_is_on_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "x", []
    sync = os.fsync

    def look(descriptor: int) -> None:
        seen.append(path.exists())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    files.write_text(path, "text")
    assert seen[:1] == [False]
    assert path.exists()


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("mamujoco/HalfCheetah-6x1", "mamujoco_HalfCheetah-6x1"),
        ("mamujoco/Manager-9|8:obsk=2", "mamujoco_Manager-9_8_obsk=2"),
        ("../up", ".._up"),
        ("a b\\c", "a_b_c"),
        ("happo+clip.0.1", "happo+clip.0.1"),
    ],
)
def test_a_slug_is_one_folder_name(name: str, folder: str) -> None:
    assert files.slug(name) == folder


def test_the_folder_of_a_trial(tmp_path: Path) -> None:
    folder = trial_folder(tmp_path, "mamujoco/Ant-2x4", "happo", 3)
    assert folder == tmp_path / "trials" / "mamujoco_Ant-2x4" / "happo" / "seed-03"


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    table = frame(step=np.arange(3), value=[1.5, np.nan, np.inf], agent=["0", "1", "team"])
    files.write_table(tmp_path / "t.parquet", table)
    pd.testing.assert_frame_equal(files.read_table(tmp_path / "t.parquet"), table)


def test_equal_tables_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        files.write_table(tmp_path / name, frame(step=[1, 2], agent=["0", "team"]))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    value = {"status": "done", "seconds": 0.1, "sizes": [16, 16], "error": "ä\n"}
    files.write_json(tmp_path / "x.json", value)
    assert files.read_json(tmp_path / "x.json") == value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_refuses_what_json_does_not_have(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "x.json", {"value": value})
    assert written(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all", b"\x00\xff" * 40])
def test_a_corrupt_table_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "records.parquet"
    path.write_bytes(content)
    with pytest.raises(files.StoreError, match=r"records\.parquet"):
        files.read_table(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"{'a': 1}"])
def test_a_corrupt_json_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trial.json"
    path.write_bytes(content)
    with pytest.raises(files.StoreError, match=r"trial\.json"):
        files.read_json(path)


def test_a_truncated_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "updates.parquet"
    files.write_table(path, frame(a=list(range(100))))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(files.StoreError, match=r"updates\.parquet"):
        files.read_table(path)


@pytest.mark.parametrize("read", [files.read_json, files.read_table])
def test_a_missing_file_is_named(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(files.StoreError, match="gone"):
        read(tmp_path / "gone")


def trial_tables(suite: Path, task: str, label: str, seed: int, updates: pd.DataFrame | None) -> None:
    folder = trial_folder(suite, task, label, seed)
    own: dict[str, Any] = {"task": task, "algorithm": label, "seed": seed}
    about = {"suite": "s", **own, "config_hash": "0", "status": "running", "steps": 1, "evaluate": {}}
    files.write_sealed_json(folder / "trial.json", about)
    files.write_table(folder / "records.parquet", frame(episode_return=[1.0, 2.0]).assign(**own), identity(about))
    if updates is not None:
        files.write_table(folder / "updates.parquet", updates.assign(**own), identity(about))


def test_merge_joins_every_trial_once(tmp_path: Path) -> None:
    for task in ("a/x", "b/y"):
        for label in ("happo", "mappo"):
            for seed in (0, 1):
                trial_tables(tmp_path, task, label, seed, None)
    merge(tmp_path)
    records = files.read_table(tmp_path / "records.parquet")
    counts = records.groupby(["task", "algorithm", "seed"]).size()
    assert len(counts) == 8
    assert (counts == 2).all()
    assert list(records.index) == list(range(16))
    assert not (tmp_path / "updates.parquet").exists()


def test_merge_fills_what_an_algorithm_does_not_report(tmp_path: Path) -> None:
    trial_tables(tmp_path, "t", "happo", 0, frame(step=[1], agent=["team"], kl_mean=[0.5]))
    trial_tables(tmp_path, "t", "maddpg", 0, frame(step=[1], agent=["0"], q_mean=[2.0]))
    trial_tables(tmp_path, "t", "mappo", 0, None)
    merge(tmp_path)
    updates = files.read_table(tmp_path / "updates.parquet").set_index("algorithm")
    assert list(updates.index) == ["happo", "maddpg"]
    assert updates.loc["happo", "kl_mean"] == 0.5
    assert np.isnan(updates.loc["maddpg", "kl_mean"])  # type: ignore[arg-type]
    assert updates.loc["maddpg", "q_mean"] == 2.0


def test_merge_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    trial_tables(tmp_path, "t", "happo", 0, None)
    trial_tables(tmp_path, "t", "happo", 1, None)
    merge(tmp_path)
    first = (tmp_path / "records.parquet").read_bytes()
    merge(tmp_path)
    assert (tmp_path / "records.parquet").read_bytes() == first


def test_merge_leaves_a_suite_without_trials_as_it_is(tmp_path: Path) -> None:
    files.write_table(tmp_path / "records.parquet", frame(a=[1]))
    before = (tmp_path / "records.parquet").read_bytes()
    merge(tmp_path)
    assert (tmp_path / "records.parquet").read_bytes() == before


def test_merge_names_a_corrupt_table(tmp_path: Path) -> None:
    trial_tables(tmp_path, "t", "happo", 0, None)
    trial_tables(tmp_path, "t", "happo", 1, None)
    (trial_folder(tmp_path, "t", "happo", 1) / "records.parquet").write_bytes(b"broken")
    with pytest.raises(files.StoreError, match=r"seed-01/records\.parquet"):
        merge(tmp_path)


def test_read_trials_goes_through_every_trial_in_order(tmp_path: Path) -> None:
    for label, seed in (("mappo", 0), ("happo", 1), ("happo", 0)):
        trial_tables(tmp_path, "t", label, seed, None)
    found = [(about["algorithm"], about["seed"]) for about in read_trials(tmp_path)]
    assert found == [("happo", 0), ("happo", 1), ("mappo", 0)]


@pytest.mark.parametrize("seed", ["0", "00", "seed-0", "seed-00"])
def test_a_seed_may_be_written_as_in_the_name_of_its_folder(tmp_path: Path, seed: str) -> None:
    for number in (0, 10):
        trial_tables(tmp_path, "mamujoco/Ant-4x2", "happo", number, None)
    assert find_trial(tmp_path / "Ant-4x2" / "happo" / seed) == trial_folder(tmp_path, "mamujoco/Ant-4x2", "happo", 0)


def test_a_trial_without_rows_in_the_table_of_all_is_named(tmp_path: Path) -> None:
    own: dict[str, Any] = {"suite": "s", "task": "t", "algorithm": "happo", "seed": 0, "config_hash": "0"}
    with pytest.raises(StoreError, match=r"records\.parquet: has no rows of t happo seed 0"):
        trial_table(tmp_path, "records", own)
