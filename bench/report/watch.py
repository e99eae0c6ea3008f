"""A page that follows the trials while they run: `python -m bench.report --watch DIR/<suite>`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from bench.report.load import ReportError

POLL_SECONDS = 3.0
REFRESH_SECONDS = 5
"""How often the page loads itself again meanwhile."""
WATCHED = (
    "trials/*/*/seed-*/trial.json",
    "trials/*/*/seed-*/records.parquet",
    "trials/*/*/seed-*/*.mp4",
    "videos/*.mp4",
    "resolved.json",
    "tuning.parquet",
    "importances.parquet",
)
"""What reports are made from; the files that they write themselves are none of it."""
Times = dict[Path, int]


def modified(folder: Path) -> Times:
    """The files of a suite or study that a report is made from, each with its time in nanoseconds."""
    found = {}
    for path in (path for pattern in WATCHED for path in folder.glob(pattern)):
        try:
            found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue  # replaced or deleted meanwhile
    return found


def watch(folders: Sequence[Path], write: Callable[[Path, int], str]) -> None:
    """Call `write(folder, refresh)` whenever results in a folder advance, and at Ctrl-C once more without refresh.

    `write` gives a line to print. What cannot be reported on yet is said once, and looked at again when it changes.
    """
    seen: dict[Path, Times] = {}
    try:
        while True:
            for folder in folders:
                now = modified(folder)
                if seen.get(folder) != now:
                    seen[folder] = now
                    print(f"{datetime.now():%H:%M:%S} {_line(folder, write)}", flush=True)
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        for folder in folders:
            print(write(folder, 0), flush=True)


def _line(folder: Path, write: Callable[[Path, int], str]) -> str:
    try:
        return write(folder, REFRESH_SECONDS)
    except ReportError as error:
        return str(error)
