"""The files of trials under a suite's results: where they lie, whose they are, and the tables of all trials together.

    <suite>/trials/<task>/<label>/seed-NN/trial.json        configuration, provenance, status
                                          records.parquet   one row per evaluation episode
                                          updates.parquet   one row per update and agent
                                          policy.pt         the networks of the best and of the last policy
    <suite>/records.parquet, updates.parquet                those of all trials
    <suite>/trials.parquet                                  of a published suite: what every trial.json says

A published suite is its three tables. It goes on where it is run again: its trials are done, those that are new have
folders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from bench.store import files
from bench.store.files import StoreError, slug

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
LOCK = ".lock"
"""The file in a suite's folder that a process holds while it writes what belongs to no single trial."""
FRESH_FACTOR = 10
"""At the end the last and the best policy each play this many times `episodes` (Gorsane et al. 2022)."""
IDENTITY = ("suite", "task", "algorithm", "seed", "config_hash")
"""The keys of `trial.json` that say whose a file is; every table and checkpoint carries them."""
GOLDEN = "golden"
"""What a trial's provenance says of physics that give the numbers of golden.json; anything else is how they differ."""
NO_PHYSICS = "without MuJoCo"
"""What it says of tasks that run without MuJoCo."""
MOST_NAMED = 5
"""So many names are listed where one is not found."""


def trial_folder(suite_folder: Path, task: str, label: str, seed: int) -> Path:
    """Where the files of one trial lie: `<suite>/trials/<task>/<label>/seed-NN`."""
    return suite_folder / "trials" / slug(task) / slug(label) / f"seed-{seed:02d}"


def identity(about: Mapping[str, Any]) -> dict[str, Any]:
    """Whose the files are that lie beside a `trial.json`."""
    return {key: about[key] for key in IDENTITY}


def read_trial(path: Path) -> dict[str, Any]:
    """What a `trial.json` says. Refuses one that was damaged or is of another version."""
    try:
        about = files.read_sealed_json(path)
    except StoreError as error:
        raise StoreError(f"{error}; delete its folder to run this trial again") from error
    if missing := [key for key in (*IDENTITY, "status", "steps", "evaluate") if key not in about]:
        raise StoreError(f"{path}: lacks {', '.join(missing)}: of another version of the benchmark")
    return about


def read_trial_in_place(path: Path) -> dict[str, Any]:
    """The same of a trial in a suite's folder. Refuses one that belongs into another folder."""
    about = read_trial(path)
    own = trial_folder(Path(), about["task"], about["algorithm"], about["seed"])
    if path.parent.parts[-len(own.parts) :] != own.parts:
        raise StoreError(f"{path}: is that of {own}; it was copied or renamed: move it back, or delete it")
    return about


def find_trial(named: Path) -> Path:
    """The folder of a trial from itself, or from `SUITE/task/algorithm/seed`: results/quick/mamujoco/Ant-4x2/happo/0.

    A task is named by its label, by an end of it that no other has, or without its options where no other has the rest.
    Raises StoreError for what names none, with what is there.
    """
    if (named / "trial.json").exists():
        return named
    *parts, label, seed = named.parts if len(named.parts) > 2 else ("", "", "")
    suites = [Path(*parts[:k]) for k in range(len(parts), 0, -1) if (Path(*parts[:k]) / "trials").is_dir()]
    if not suites:
        raise StoreError(f"{named}: no trial there; valid: its folder, or SUITE/task/algorithm/seed")
    number = seed.removeprefix("seed-")
    for suite in suites if number.isdecimal() else []:
        task = "/".join(parts[len(suite.parts) :])
        if ((found := trial_folder(suite, task, label, int(number))) / "trial.json").exists():
            return found
    return _found_by_name(named, suites[0], ("/".join(parts[len(suites[0].parts) :]), label, number))


def _found_by_name(named: Path, suite: Path, names: tuple[str, str, str]) -> Path:
    """The folder of a trial of a suite whose task is not named by its label, or StoreError."""
    left = {path.parent: read_trial(path) for path in trial_files(suite, "trial.json")}
    for what, wanted in zip(("task", "algorithm", "seed"), names, strict=True):
        there = {path: str(about[what]) for path, about in left.items()}
        chosen = _meant(what, wanted, {*there.values()})
        if chosen is None:
            raise StoreError(f"{named}: no trial there; {_none_of(what, wanted, suite, {*there.values()})}")
        left = {path: about for path, about in left.items() if there[path] == chosen}
    return next(iter(left))


def _meant(what: str, wanted: str, names: set[str]) -> str | None:
    """The one of these names that is meant, which may be written as in the name of a folder; None if none is."""
    exact = [name for name in names if wanted in (name, slug(name)) or (what == "seed" and wanted.lstrip("0") == name)]
    if what != "task" or exact:
        return exact[0] if exact else None
    near = [name for name in names if wanted and f"/{wanted}:" in f"/{name}:"]
    return near[0] if len(near) == 1 else None


def _none_of(what: str, wanted: str, suite: Path, names: set[str]) -> str:
    """What is wrong with a name, and which are valid, those that are near it before the others."""
    near = get_close_matches(wanted, names, MOST_NAMED)
    valid = [*near, *sorted(names - {*near}, key=lambda name: (len(name), name))]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    wrong = f"no {what} {wanted!r}" if wanted else "the form is SUITE/task/algorithm/seed, with a task"
    return f"{wrong} in {suite}; valid: {', '.join(valid[:MOST_NAMED]) or 'none'}{more}"


def trial_files(suite_folder: Path, name: str) -> list[Path]:
    """The files called `name` of all trials in a suite's folder, in the order of their paths."""
    return sorted(suite_folder.glob(f"trials/*/*/seed-*/{name}"))


def read_trials(suite_folder: Path) -> list[dict[str, Any]]:
    """What is known of every trial of a suite, in the order of their folders."""
    return [*trials_by_folder(suite_folder).values()]


def trials_by_folder(suite_folder: Path) -> dict[Path, dict[str, Any]]:
    """Folder -> what its `trial.json` says, or `trials.parquet` where it is not there."""
    found = {path.parent: read_trial_in_place(path) for path in trial_files(suite_folder, "trial.json")}
    for folder, about in published(suite_folder).items():
        if found.get(folder, {"status": "waiting"})["status"] == "waiting":
            found[folder] = about
    return {folder: found[folder] for folder in sorted(found)}


def published(suite_folder: Path) -> Mapping[Path, dict[str, Any]]:
    """Folder -> what `trials.parquet` says of its trial, for those that have ended; empty where there is none."""
    path = suite_folder / "trials.parquet"
    try:
        stat = path.stat()
    except OSError:
        return {}
    return _published(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _published(path: Path, _time: int, _size: int) -> Mapping[Path, dict[str, Any]]:
    table = files.read_table(path)
    abouts = [json.loads(text) for text in table["about"]]
    return {
        trial_folder(path.parent, about["task"], about["algorithm"], about["seed"]): about
        for about in abouts
        if about["status"] in ("done", "failed")
    }


def read_table_of(folder: Path, name: str, about: Mapping[str, Any]) -> pd.DataFrame:
    """The table `name` of the trial in a folder, of which `trial.json` says `about`.

    Refuses another trial's table, and for one that is done any but the last that it wrote.
    """
    path = folder / f"{name}.parquet"
    try:
        frame, owner, checksum = files.read_table_with_metadata(path)
    except StoreError as error:
        raise StoreError(f"{error}; delete its folder to run this trial again") from error
    if owner != identity(about):
        raise StoreError(f"{path}: is that of {_whose(owner)}; delete its folder to run this trial again")
    if about["status"] == "done" and checksum != about["files"].get(path.name):
        raise StoreError(f"{path}: is not the one with which this trial ended; delete {folder} to run it again")
    return frame


def _whose(owner: Mapping[str, Any]) -> str:
    about = [str(owner[key]) for key in ("task", "algorithm") if key in owner]
    return f"{' '.join(about)} seed {owner['seed']}" if "seed" in owner else "no trial"


def trial_table(suite_folder: Path, name: str, about: Mapping[str, Any]) -> pd.DataFrame:
    """The table `name` of one trial of a suite: from its own folder, or from that of all trials if it is published."""
    folder = trial_folder(suite_folder, about["task"], about["algorithm"], about["seed"])
    if (folder / f"{name}.parquet").exists():
        return read_table_of(folder, name, about)
    return _published_tables(suite_folder / f"{name}.parquet", {folder: about})[folder].reset_index(drop=True)


def joined(suite_folder: Path, name: str) -> pd.DataFrame | None:
    """The table `name` of all trials of a suite, one below the other; None where no trial has it."""
    parts = {}
    for path in trial_files(suite_folder, f"{name}.parquet"):
        about = read_trial_in_place(path.parent / "trial.json")
        parts[path.parent] = read_table_of(path.parent, name, about)
    if earlier := {folder: about for folder, about in published(suite_folder).items() if folder not in parts}:
        parts |= _published_tables(suite_folder / f"{name}.parquet", earlier)
    kept = [part for folder, part in sorted(parts.items()) if len(part)]
    return pd.concat(kept, ignore_index=True) if kept else None


def _published_tables(path: Path, wanted: Mapping[Path, Mapping[str, Any]]) -> dict[Path, pd.DataFrame]:
    """Folder -> the rows of its trial in the table of all trials; none where there is no such table."""
    if not path.exists():
        return {}
    of = {(a["task"], a["algorithm"], a["seed"]): folder for folder, a in wanted.items()}
    groups = files.read_table(path).groupby(["task", "algorithm", "seed"], sort=False, observed=True)
    return {of[key]: rows for key, rows in groups if key in of}


def merge(suite_folder: Path) -> None:
    """Join what all trials have into `records.parquet` and `updates.parquet` of the suite.

    A suite without `trials/` is left as it is.
    """
    if not trial_files(suite_folder, "trial.json"):
        return
    tables = {name: joined(suite_folder, name) for name in TABLES}
    for name, table in tables.items():
        if table is not None:
            files.write_table(suite_folder / f"{name}.parquet", table)
