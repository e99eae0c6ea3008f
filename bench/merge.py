# PYTHON_ARGCOMPLETE_OK
"""`python -m bench.merge INTO FROM ...`: bring the trials of a suite that ran in several folders into one.

For parts of a suite that ran apart, on machines that share no folder: `bench.run SUITE --only seed=0` on one,
`--only seed=1` on another. Of a trial that several folders have, the one that is further is taken. Two that mean
something else, or that are both done and differ, are refused before anything is copied.
"""

from __future__ import annotations

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from filelock import FileLock

from bench.cli.command import counted
from bench.store import files
from bench.store.files import StoreError
from bench.store.remote import local_folder
from bench.store.trials import LOCK, merge, read_trial_in_place, trial_files

RANKS = {"waiting": 0, "failed": 1, "running": 2, "stopped": 2, "done": 3}
"""Status of a trial -> how far that is."""
SHARED = ("suite.yaml", "resolved.json")
"""Files that are not of a single trial, and are taken over where INTO has none."""


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all is merged; 2 when something does not fit together or cannot be read, and nothing was copied."""
    parser = command.Parser(
        prog="python -m bench.merge",
        description="Bring the trials of a suite that ran in several folders into one.",
    )
    parser.add_argument(
        "into", type=local_folder, metavar="INTO", help="folder of a suite: results/<suite>; made if not there"
    )
    parser.add_argument(
        "sources", type=local_folder, nargs="+", metavar="FROM", help="folders with trials of the same suite"
    )
    options = parser.parse_args(arguments)
    try:
        taken = further(options.into, options.sources)
    except StoreError as error:
        return command.refused(error)
    options.into.mkdir(parents=True, exist_ok=True)
    with FileLock(options.into / LOCK), ExitStack() as locks:
        for _, place in taken:
            lock = files.try_lock(options.into / place / LOCK)
            if lock is None:
                return command.refused(f"{options.into / place}: another process is at work on this trial; wait for it")
            locks.callback(lock.release)
        for folder, place in taken:
            take_over(folder, options.into / place)
        for name in SHARED:
            found = [source / name for source in options.sources if (source / name).exists()]
            if found and not (options.into / name).exists():
                files.write_bytes(options.into / name, found[0].read_bytes())
        merge(options.into)
    print(f"{counted(len(taken), 'trial')} taken over into {options.into}")
    return 0


def further(into: Path, sources: Iterable[Path]) -> list[tuple[Path, Path]]:
    """The folders of trials that are further than those of INTO, and their places in a suite's folder."""
    best: dict[Path, Path] = {}
    for suite in (into, *sources):
        found = trial_files(suite, "trial.json")
        if not found and suite != into:
            raise StoreError(f"{suite}: no trials there; the results of a suite have trials/")
        for path in found:
            place = path.parent.relative_to(suite)
            if place not in best or _is_further(path.parent, best[place]):
                best[place] = path.parent
    return [(folder, place) for place, folder in best.items() if folder != into / place]


def _is_further(folder: Path, than: Path) -> bool:
    one, other = (read_trial_in_place(place / "trial.json") for place in (folder, than))
    if one["status"] == "waiting" or other["status"] == "waiting":
        return other["status"] == "waiting"
    if one["config_hash"] != other["config_hash"]:
        raise StoreError(
            f"{folder}: means something else than {than}: config {one['config_hash']}, not {other['config_hash']}"
        )
    if one["status"] == other["status"] == "done" and one["files"] != other["files"]:
        raise StoreError(f"{folder}: is done and differs from {than}, which is done too")
    return _distance(folder, one["status"]) > _distance(than, other["status"])


def _distance(folder: Path, status: str) -> tuple[int, int]:
    """How far a trial is: its status, then the step of its last evaluation."""
    path = folder / "records.parquet"
    return RANKS[status], int(files.read_table(path)["step"].max()) if path.exists() else 0


def take_over(folder: Path, place: Path) -> None:
    """Put a copy of a trial's folder in the place of what is there."""
    copy = place.with_name(f".{place.name}.tmp")
    shutil.rmtree(copy, ignore_errors=True)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".*"))
    shutil.rmtree(place, ignore_errors=True)
    copy.replace(place)


if __name__ == "__main__":
    sys.exit(main())
