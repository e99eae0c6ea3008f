"""Files under results/: atomic writes, and reads that refuse what is not as it was written.

A file is written whole to a temporary name, flushed to disk and renamed, so a reader sees the old file or the new one
and a full disk or a kill leaves the old one. Tables and sealed JSON files carry a checksum of their bytes. Nothing here
imports torch or gymnasium.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from bench.store import checksums
from bench.store.checksums import Damaged

SEAL = "checksum"
"""The last key of a sealed JSON file, and the key of a table's metadata, that hold the checksum."""


class StoreError(Exception):
    """A file of results that cannot be read; the message names it."""


def slug(name: str) -> str:
    """`name` as one folder name: everything but letters, digits and `.=+-` becomes `_`."""
    return re.sub(r"[^A-Za-z0-9.=+-]", "_", name)


def write_bytes(path: Path, content: bytes | Callable[[Any], object], keep: Path | None = None) -> None:
    """Write `content`, or what it writes itself when given the file, to `path` whole or not at all.

    The file that was there is kept as `keep`, if that is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            if callable(content):
                _call(content, file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if keep and path.exists():
            path.replace(keep)
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say for which file
        raise
    finally:
        temporary.unlink(missing_ok=True)


class _Watched:
    """A file for a writer that hides why writing failed, as torch.save does where the disk is full."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """The file is flushed when all is written."""


def _call(content: Callable[[Any], object], file: BinaryIO) -> None:
    watched = _Watched(file)
    try:
        content(watched)
    except Exception:
        if watched.error is None:
            raise
        raise watched.error from None


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, refusing NaN, which JSON does not have."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_sealed_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as JSON with a checksum."""
    marked = {**value, SEAL: checksums.PLACEHOLDER.decode()}
    write_bytes(path, checksums.sealed(json.dumps(marked, indent=2, allow_nan=False).encode() + b"\n"))


def write_table(path: Path, frame: pd.DataFrame, about: Mapping[str, Any] | None = None) -> str:
    """Write `frame` as parquet with a checksum, and with `about` in its metadata; returns the checksum."""
    content = table_bytes(frame, about)
    write_bytes(path, content)
    return checksums.checksum(content)


def table_bytes(frame: pd.DataFrame, about: Mapping[str, Any] | None = None) -> bytes:
    """What `write_table` writes; equal frames give equal bytes."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    buffer = io.BytesIO()
    with table_writer(buffer, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"about": json.dumps(about or {}), SEAL: checksums.PLACEHOLDER.decode()})
    return checksums.sealed(buffer.getvalue())


def table_writer(file: IO[bytes], schema: pa.Schema) -> pq.ParquetWriter:
    """A parquet writer whose files take a third less than with the defaults.

    Measured values hardly ever repeat, as a dictionary would need, but the bytes of their signs and exponents do.
    """
    floats = [field.name for field in schema if pa.types.is_floating(field.type)]
    others = [name for name in schema.names if name not in floats]
    return pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=others, use_byte_stream_split=floats)


def try_lock(path: Path) -> FileLock | None:
    """Hold a lock file, which the operating system releases when this process ends; None if another one holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold a lock file meanwhile; False if another process holds it."""
    lock = try_lock(path)
    try:
        yield lock is not None
    finally:
        if lock:
            lock.release()


def sha256(path: Path) -> str:
    """The checksum of a file that carries none."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class FolderGone(StoreError):
    """A folder that is no longer the one that was there at first: its file system was unmounted, or it was moved."""


def folder_id(folder: Path) -> tuple[int, int]:
    """The device of a folder and its number there: another one is another folder, even under the same name."""
    try:
        found = folder.stat()
    except OSError as error:
        raise FolderGone(f"{folder}: is no longer there ({error.strerror})") from error
    return found.st_dev, found.st_ino


def refuse_other_folder(folder: Path, before: tuple[int, int]) -> None:
    """Raise FolderGone where a folder is not what it was."""
    if folder_id(folder) != before:
        raise FolderGone(
            f"{folder}: is no longer the folder that was there at first: a file system was unmounted, or it was moved"
        )


def read_json(path: Path) -> Any:
    """The value in the JSON file `path`."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: not a readable JSON file ({error})") from error


def read_sealed_json(path: Path) -> dict[str, Any]:
    """The mapping that `write_sealed_json` wrote."""
    content = _sealed_content(path)
    value: dict[str, Any] = json.loads(content)
    del value[SEAL]
    return value


def read_table(path: Path) -> pd.DataFrame:
    """The frame that `write_table` wrote."""
    return read_table_with_metadata(path)[0]


def read_table_with_metadata(path: Path) -> tuple[pd.DataFrame, dict[str, Any], str]:
    """The frame that `write_table` wrote, what it was said to be about, and its checksum."""
    content = _sealed_content(path)
    file = pq.ParquetFile(io.BytesIO(content))
    about = json.loads(file.metadata.metadata[b"about"])
    return file.read().to_pandas(), about, checksums.checksum(content)


def _sealed_content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        checksums.checksum(content)
    except (OSError, Damaged) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreError(f"{path}: {reason}") from error
    return content
