"""A page that follows the trials while they run: `python -m bench.report --watch DIR/<suite>`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from bench.report.load import ReportError
from bench.store.remote import Remote

POLL_SECONDS = 3.0
REFRESH_SECONDS = 5
"""How often the page loads itself again meanwhile."""
WATCHED = (
    "trials/*/*/seed-*/trial.json",
    "trials/*/*/seed-*/records.parquet",
    "trials/*/*/seed-*/*.mp4",
    "policies/*/*/seed-*/*.mp4",
    "videos/*.mp4",
    "resolved.json",
    "tuning.parquet",
    "importances.parquet",
)
"""What reports are made from; the files that they write themselves are none of it."""
Times = dict[Path, int]
Place = Path | Remote


def modified(folder: Path) -> Times:
    """The files of a suite or study that a report is made from, each with its time in nanoseconds."""
    found = {}
    for path in (path for pattern in WATCHED for path in folder.glob(pattern)):
        try:
            found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue  # replaced or deleted meanwhile
    return found


def watch(places: Sequence[Place], here: Callable[[Place], Path], write: Callable[[Path, int], str]) -> None:
    """Call `write(folder, refresh)` whenever results advance, and at Ctrl-C once more without refresh.

    `here` gives the folder of each place, with what there is by now. `write` gives a line to print. What cannot be
    reported on yet is said once, and looked at again when it changes.
    """
    seen: dict[Place, Times | str] = {}
    try:
        while True:
            for place in places:
                now, line = _look(place, here, write, seen.get(place))
                if seen.get(place) != now:
                    seen[place] = now
                    print(f"{datetime.now():%H:%M:%S} {line}", flush=True)
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        _end(places, here, write)


def _end(places: Sequence[Place], here: Callable[[Place], Path], write: Callable[[Path, int], str]) -> None:
    """Write every page without refresh; a ReportError at the end says of which places there is none."""
    refused = []
    for place in places:
        try:
            print(write(here(place), 0), flush=True)
        except ReportError as error:
            refused.append(str(error))
    if refused:
        raise ReportError("; ".join(refused))


def _look(
    place: Place, here: Callable[[Place], Path], write: Callable[[Path, int], str], before: Times | str | None
) -> tuple[Times | str, str]:
    """What there is at a place, and the line about it if it is something else than before."""
    try:
        folder = here(place)
    except ReportError as error:  # a store that is away for a while
        return str(error), str(error)
    now = modified(folder)
    return now, _line(folder, write).replace(f"{folder}:", f"{place}:") if now != before else ""


def _line(folder: Path, write: Callable[[Path, int], str]) -> str:
    try:
        return write(folder, REFRESH_SECONDS)
    except ReportError as error:
        return str(error)
