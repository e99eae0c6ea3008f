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

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from bench.cli.command import counted
from bench.store import files
from bench.store.files import StoreError
from bench.store.remote import local_folder
from bench.store.trials import LOCK, merge, read_trial_in_place, trials_by_folder
from bench.store.verifying import check_files

RANKS = {"waiting": 0, "failed": 1, "running": 1, "stopped": 1, "done": 2}
"""Status of a trial -> how far that is: of those that have begun and not ended, as far as their last evaluation."""
SHARED = ("suite.yaml", "resolved.json")
"""Files that are not of a single trial, and are taken over where INTO has none."""


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all is merged; 2 when something does not fit together, and nothing was begun; 1 when copying failed."""
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
    copied = None
    try:
        taken = further(options.into, options.sources)
        options.into.mkdir(parents=True, exist_ok=True)
        with FileLock(options.into / LOCK):
            for folder, place in taken.items():  # before anything is copied
                for one in filter(Path.exists, (folder, place)):
                    with _held(one):
                        pass
            copied = 0
            for folder, place in taken.items():
                with _held(folder), _held(place):
                    if not _has_gone_on(folder, place):
                        take_over(folder, place)
                copied += 1
            for name in SHARED:
                found = [source / name for source in options.sources if (source / name).exists()]
                if found and not (options.into / name).exists():
                    files.write_bytes(options.into / name, found[0].read_bytes())
            merge(options.into)
    except (StoreError, OSError) as error:
        status = command.refused(error)
        if copied is None:
            return status
        print(f"{copied} of {counted(len(taken), 'trial')} copied; the same command goes on", file=sys.stderr)
        return 1
    print(f"{counted(len(taken), 'trial')} taken over into {options.into}")
    return 0


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the lock file of a trial. Raises StoreError if another process does."""
    if folder.exists() and not os.access(folder, os.W_OK):
        yield  # a source that nobody can write to
        return
    with files.locked(folder / LOCK) as free:
        if not free:
            raise StoreError(f"{folder}: another process is at work on this trial; wait for it")
        yield


def further(into: Path, sources: Iterable[Path]) -> dict[Path, Path]:
    """The folders of trials that are further than those of INTO -> their places there.

    Raises StoreError for trials that do not belong together, are damaged, or are published and have no folder.
    """
    found = {suite: trials_by_folder(suite) for suite in (into, *sources)}
    if empty := [suite for suite in sources if not found[suite]]:
        raise StoreError(f"{empty[0]}: no trials there; the results of a suite have trials/")
    abouts = {folder: about for of_suite in found.values() for folder, about in of_suite.items()}
    _refuse_other_suites(abouts)
    best: dict[Path, Path] = {}  # by place
    for suite, of_suite in found.items():
        for folder, about in of_suite.items():
            than = best.setdefault(into / folder.relative_to(suite), folder)
            if about["status"] == abouts[than]["status"] == "done" and about["files"] != abouts[than]["files"]:
                raise StoreError(f"{folder}: is done and differs from {than}, which is done too")
            if _distance(folder, about) > _distance(than, abouts[than]):
                best[into / folder.relative_to(suite)] = folder
    taken = {folder: place for place, folder in best.items() if folder != place}
    if published := [folder for folder in taken if not (folder / "trial.json").exists()]:
        raise StoreError(f"{published[0]}: is published and has no files of its own; only INTO may be published")
    wrong, _ = check_files({folder: abouts[folder] for folder in taken}, "delete its folder to merge the others")
    if wrong:
        raise StoreError(wrong)
    return taken


def _has_gone_on(folder: Path, place: Path) -> bool:
    """Whether a run brought the trial in this place as far as this folder, or further, before it could be taken."""
    if not (place / "trial.json").exists():
        return False
    here, there = (_distance(one, read_trial_in_place(one / "trial.json")) for one in (place, folder))
    return here >= there


def _refuse_other_suites(abouts: Mapping[Path, Mapping[str, Any]]) -> None:
    """All trials are of one suite with one budget, and those of a task and algorithm have one configuration."""
    begun = [folder for folder, about in abouts.items() if about["status"] != "waiting"]
    for folder in begun:
        for key in ("steps", "evaluate"):
            if abouts[folder][key] != (value := abouts[begun[0]][key]):
                raise StoreError(f"{folder}: has {key} {abouts[folder][key]}, and {begun[0]} {value}")
    first = next(iter(abouts))
    of_pairing: dict[tuple[str, str], Path] = {}
    for folder, about in abouts.items():
        if about["suite"] != (suite := abouts[first]["suite"]):
            raise StoreError(f"{folder}: is of suite {about['suite']!r}, and {first} is of {suite!r}")
        if about["status"] == "waiting":
            continue
        than = of_pairing.setdefault((about["task"], about["algorithm"]), folder)
        if about["config_hash"] != (config := abouts[than]["config_hash"]):
            raise StoreError(f"{folder}: means something else than {than}: config {about['config_hash']}, not {config}")


def _distance(folder: Path, about: Mapping[str, Any]) -> tuple[int, int]:
    """How far a trial is: its status, then the step of its last evaluation."""
    path = folder / "records.parquet"
    begun = about["status"] != "done" and path.exists()
    return RANKS[about["status"]], int(files.read_table(path)["step"].max()) if begun else 0


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
