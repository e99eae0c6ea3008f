"""Tables that are joined a piece at a time: what `pd.concat` and `files.write_table` give of all at once."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from bench.store import files, joining
from bench.store.joining import join

NAN = float("nan")


def tables() -> list[pd.DataFrame]:
    """Of five kinds: columns that others lack, and the same column with other types."""
    first = pd.DataFrame({"label": ["a", "b"], "step": [1, 2], "count": [3, 4], "kl": [0.5, NAN]})
    second = pd.DataFrame({"label": ["c"], "step": [3], "accepted": [True], "name": ["x"]})
    third = pd.DataFrame({"label": ["d", "e", "f"], "step": [4, 5, 6], "count": [0.5, NAN, 2.0]})
    fourth = pd.DataFrame({"label": ["g", "h"], "step": [7, 8], "accepted": [None, False]})
    fifth = pd.DataFrame({"label": ["i"], "step": [9], "accepted": [None], "kl": [NAN]})
    return [first, fifth, second, first, third, fourth, fifth, second]


def joined(parts: list[pd.DataFrame], folder: Path) -> Path:
    path = folder / "joined.parquet"
    with path.open("w+b") as file:
        assert join(iter(parts), file, folder)
    return path


@pytest.mark.parametrize("rows", [1, 2, 5, 1000])
def test_pieces_are_read_back_as_the_whole_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(joining, "PIECE_ROWS", rows)
    path, whole = joined(tables(), tmp_path), tmp_path / "whole.parquet"
    files.write_table(whole, pd.concat(tables(), ignore_index=True))
    pd.testing.assert_frame_equal(files.read_table(path), files.read_table(whole), check_exact=True)
    assert pq.read_schema(path).equals(pq.read_schema(whole), check_metadata=False)
    assert pq.read_schema(path).pandas_metadata == pq.read_schema(whole).pandas_metadata
    assert sorted(file.name for file in tmp_path.iterdir()) == ["joined.parquet", "whole.parquet"]


def test_one_piece_has_the_bytes_of_the_whole(tmp_path: Path) -> None:
    whole = files.table_bytes(pd.concat(tables(), ignore_index=True))
    assert joined(tables(), tmp_path).read_bytes() == whole


def test_a_piece_is_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "PIECE_ROWS", 100)
    part = pd.DataFrame({"step": np.arange(60)})
    assert pq.ParquetFile(joined([part] * 5, tmp_path)).num_row_groups == 3


def test_no_table_is_no_file(tmp_path: Path) -> None:
    with (tmp_path / "none").open("w+b") as file:
        assert not join([], file, tmp_path)
    assert (tmp_path / "none").read_bytes() == b""


def test_a_full_disk_is_an_error_of_the_folder(tmp_path: Path) -> None:
    def full() -> Iterator[pd.DataFrame]:
        yield tables()[0]
        raise OSError(errno.ENOSPC, "No space left on device")

    with (tmp_path / "none").open("w+b") as file, pytest.raises(OSError, match="No space left") as raised:
        join(full(), file, tmp_path)
    assert raised.value.filename == str(tmp_path)
