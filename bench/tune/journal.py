"""Optuna's journal in a file whose lines carry checksums: what has changed since it was written is refused.

A line is the record of one operation as Optuna's own journal files have it, with one more key, `checksum`: twelve hex
digits of the SHA-256 of the checksum before it and of the line up to here. So a line that was changed, moved, taken
out or put in is found, and what Optuna reads (its dashboard) reads these files too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.storages.journal import BaseJournalBackend

from bench.suite.model import SuiteError

BEGINNING = b'{"op_code":'
"""How every record begins."""
_LINE = re.compile(rb'(.*),"checksum":"([0-9a-f]{12})"\}', re.DOTALL)


class Journal(BaseJournalBackend):
    """The file `path`, which is made if there is none. A lock that the system frees guards it while it is written."""

    def __init__(self, path: Path):
        self.path, self.lock = path, FileLock(f"{path}.flock", thread_local=False)
        path.touch()
        self._ends = [(0, "")]
        """Of nothing and of each line that was read: the offset of its end, and its checksum."""

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """The records from a number on."""
        with self._errors_in_one_line():
            try:
                return self._read(log_number_from)
            except SuiteError:  # a process that cuts a half line off while this one reads looks like damage
                with self.lock:
                    return self._read(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, and cut off a half line before, which a killed process has left."""
        with self._errors_in_one_line(), self.lock, self.path.open("r+b") as file:
            self._read(len(self._ends) - 1)
            end, checksum = self._ends[-1]
            file.truncate(end)
            file.seek(end)
            for log in logs:
                record = json.dumps(log, separators=(",", ":")).removesuffix("}").encode()
                checksum = _digest(checksum, record)
                file.write(record + f',"checksum":"{checksum}"}}\n'.encode())
            file.flush()
            os.fsync(file.fileno())

    def _read(self, start: int) -> list[dict[str, Any]]:
        """The records from a number on, up to a line that is not complete."""
        end, checksum = self._ends[start]
        with self.path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < self._ends[-1][0]:
                raise self._refused(len(self._ends) - 1, "is gone, though it was there when this command began")
            file.seek(end)
            *lines, half = file.read().split(b"\n")
        records = []
        for number, line in enumerate(lines, start + 1):
            found = _LINE.fullmatch(line)
            if not found:
                raise self._refused(number, "has no checksum: damaged, or not written by bench.tune")
            checksum = _digest(checksum, found[1])
            if checksum != found[2].decode():
                raise self._refused(number, "has another checksum: this line or those before it were changed")
            end += len(line) + 1
            if number == len(self._ends):
                self._ends.append((end, checksum))
            records.append(json.loads(found[1] + b"}"))
        if not half.startswith(BEGINNING[: len(half)]):
            raise self._refused(start + len(lines) + 1, "is not complete, nor the beginning of a record")
        return records

    def _refused(self, number: int, what: str) -> SuiteError:
        return SuiteError(
            f"{self.path}: line {number} {what}; bring back a copy of the file, or delete this line and all below it: "
            "the study goes on from there"
        )

    @contextmanager
    def _errors_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # of a full disk has no name of a file
            raise SuiteError(f"{self.path}: {error.strerror or error}") from None


def _digest(before: str, record: bytes) -> str:
    return hashlib.sha256(before.encode() + record).hexdigest()[:12]
