"""The speed of training over commits: a CSV file kept in git, to which `python -m bench.speed --append` adds rows."""

from __future__ import annotations

import csv
import io
import json
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.store import files
from bench.store.provenance import provenance

COLUMNS = (
    "date",
    "commit",
    "dirty",
    "cpu",
    "torch",
    "matmul",
    "task",
    "algorithm",
    "settings",
    "steps_per_second",
    "raw_steps_per_second",
    "over_raw",
    "limit_ratio",
    "two_over_twice_one",
    "core_share",
)


def file(text: str) -> Path:
    """The type of an argument that names a file to add rows to: one with COLUMNS, or none yet."""
    path = Path(text)
    lines = _content(path).decode("utf-8-sig", errors="replace").splitlines()
    columns = next(csv.reader(lines), [*COLUMNS])
    if columns != [*COLUMNS]:
        raise ArgumentTypeError(f"{path} has the columns {','.join(columns)[:200]}, not {','.join(COLUMNS)}")
    return path


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def append(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add a dated row for each of what `bench.speed` measured: all of them or, where writing fails, none."""
    old, text = _content(path), io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if not old:
        writer.writeheader()
    elif not old.endswith(b"\n"):
        text.write("\n")
    writer.writerows(_dated(row) for row in rows)
    files.write_bytes(path, old + text.getvalue().encode())


def _dated(row: Mapping[str, Any]) -> dict[str, Any]:
    origin = provenance()
    return {
        "date": datetime.now(UTC).date(),
        "commit": origin["commit"][:12],
        "dirty": origin["dirty"],
        "cpu": origin["machine"]["cpu"],
        "torch": origin["versions"]["torch"],
        "matmul": row["matmul"],
        "task": row["task"],
        "algorithm": row["algorithm"],
        "settings": json.dumps(row["settings"], sort_keys=True),
        "steps_per_second": f"{row['steps_per_second']:.1f}",
        "raw_steps_per_second": f"{row['raw_steps_per_second']:.1f}",
        "over_raw": f"{row['over_raw']:.4f}",
        "limit_ratio": f"{row['ratio']:.4f}",
        "two_over_twice_one": f"{row['two_over_twice_one']:.4f}",
        "core_share": f"{row['core_share']:.4f}",
    }
