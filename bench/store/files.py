"""Files under results/: where a trial's files lie, atomic writes, reads, and the merge into one table per suite.

A file is written whole to a temporary name, flushed to disk and renamed, so a reader sees the old file or the new one
and a full disk or a kill leaves the old one. Nothing here imports torch or gymnasium.
"""

from __future__ import annotations

import io
import json
import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

RECORD_COLUMNS = (
    "suite",
    "task",
    "algorithm",
    "seed",
    "kind",
    "step",
    "gradient_updates",
    "episode",
    "episode_return",
    "length",
    "seconds",
)
TABLES = ("records", "updates")
GOLDEN = "golden"
"""What a trial's provenance says of physics that give the numbers of golden.json; anything else is how they differ."""


NO_PHYSICS = "without MuJoCo"
"""What it says of tasks that run without MuJoCo."""


class StoreError(Exception):
    """A file of results that cannot be read; the message names it."""


def slug(name: str) -> str:
    """`name` as one folder name: everything but letters, digits and `.=+-` becomes `_`."""
    return re.sub(r"[^A-Za-z0-9.=+-]", "_", name)


def trial_folder(suite_folder: Path, task: str, label: str, seed: int) -> Path:
    """Where the files of one trial lie: `<suite>/trials/<task>/<label>/seed-NN`."""
    return suite_folder / "trials" / slug(task) / slug(label) / f"seed-{seed:02d}"


def write_bytes(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write `content`, or what it writes itself when given the file, to `path` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say for which file
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, refusing NaN, which JSON does not have."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write `frame` as parquet; equal frames give equal bytes."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    write_bytes(path, buffer.getvalue())


def read_json(path: Path) -> Any:
    """The value in the JSON file `path`."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: not a readable JSON file ({error})") from error


def read_table(path: Path) -> pd.DataFrame:
    """The frame in the parquet file `path`."""
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise StoreError(f"{path}: not a readable parquet file ({error})") from error


def read_trial(path: Path) -> dict[str, Any]:
    """What a `trial.json` says."""
    about = read_json(path)
    if not isinstance(about, dict):
        raise StoreError(f"{path}: holds {type(about).__name__}, not a mapping; delete {path.parent} to start anew")
    return about


def read_trials(suite_folder: Path) -> list[dict[str, Any]]:
    """The `trial.json` of every trial of a suite, in the order of their paths."""
    return [read_trial(path) for path in trial_files(suite_folder, "trial.json")]


def trial_files(suite_folder: Path, name: str) -> list[Path]:
    """The files called `name` of all trials of a suite, in the order of their paths."""
    return sorted(suite_folder.glob(f"trials/*/*/seed-*/{name}"))


def joined(suite_folder: Path, name: str) -> pd.DataFrame | None:
    """The table `name` of all trials of a suite, one below the other; None where no trial has it."""
    parts = [read_table(path) for path in trial_files(suite_folder, f"{name}.parquet")]
    return pd.concat(parts, ignore_index=True) if parts else None


def merge(suite_folder: Path) -> None:
    """Join the tables of all trials into `<suite>/records.parquet` and `<suite>/updates.parquet`.

    A suite without trials (a published one, which keeps only the joined tables) is left as it is.
    """
    for name in TABLES:
        table = joined(suite_folder, name)
        if table is not None:
            write_table(suite_folder / f"{name}.parquet", table)
