"""Tables one below the other in one file, a piece at a time: together they may be larger than memory."""

from __future__ import annotations

import hashlib
import json
import mmap
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import pandas as pd
import pyarrow as pa
from pandas.api.types import is_object_dtype

from bench.store.checksums import PLACEHOLDER, PREFIX
from bench.store.files import SEAL, table_writer

PIECE_ROWS = 50_000
"""A piece is a row group, and what is in memory at once."""


def join(tables: Iterable[pd.DataFrame], file: IO[bytes], folder: Path) -> bool:
    """Write into an empty file what `files.write_table` writes of `pd.concat(tables)`; whether there is any table.

    What the tables have in common is known only at the end: until then pieces lie aside, in `folder`.
    """
    heads: dict[tuple[Any, ...], pd.DataFrame] = {}
    count = 0
    try:
        with TemporaryFile(dir=folder) as aside:
            for piece in _pieces(tables, heads):
                pickle.dump(piece, aside)
                count += 1
            aside.seek(0)
            if count:
                _write(file, (pickle.load(aside) for _ in range(count)), pd.concat(heads.values()))
                _seal(file)
    except OSError as error:
        error.filename = error.filename or str(folder)  # a full disk does not say for which file
        raise
    return count > 0


def _pieces(tables: Iterable[pd.DataFrame], heads: dict[tuple[Any, ...], pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Tables put together to pieces, and in `heads` a row of each kind of table that there is."""
    parts: list[pd.DataFrame] = []
    rows = 0
    for table in tables:
        empty = [is_object_dtype(dtype) and bool(table[name].isna().all()) for name, dtype in table.dtypes.items()]
        kind = (*table.columns, *table.dtypes, *empty)
        if kind not in heads:
            heads[kind] = table.bfill().head(1)
        parts.append(table)
        rows += len(table)
        if rows >= PIECE_ROWS:
            yield pd.concat(parts, ignore_index=True)
            parts, rows = [], 0
    if parts:
        yield pd.concat(parts, ignore_index=True)


def _write(file: IO[bytes], pieces: Iterable[pd.DataFrame], like: pd.DataFrame) -> None:
    """Pieces with the columns and types of `like`, and the place of a checksum."""
    schema = pa.Table.from_pandas(like, preserve_index=False).schema
    with table_writer(file, schema) as writer:
        for piece in pieces:
            alike = piece.reindex(columns=like.columns).astype(like.dtypes)
            writer.write_table(pa.Table.from_pandas(alike, schema=schema, preserve_index=False))
        writer.add_key_value_metadata({"about": json.dumps({}), SEAL: PLACEHOLDER.decode()})


def _seal(file: IO[bytes]) -> None:
    """As `checksums.sealed` does with what is in memory."""
    file.flush()
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    with mmap.mmap(file.fileno(), 0) as content:
        at = content.rfind(PLACEHOLDER)
        content[at + len(PREFIX) : at + len(PLACEHOLDER)] = digest.encode()
    file.seek(0)
