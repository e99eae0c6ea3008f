"""The results of a suite as frames."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bench.store import files
from bench.store.files import StoreError
from bench.store.places import copied, naming
from bench.store.remote import location
from bench.store.trials import POLICIES, TABLES, joined, published_teams, trials_by_folder


class Results(NamedTuple):
    """What `read` gives."""

    records: pd.DataFrame
    """One row per evaluation episode; docs/results.md has the columns."""
    updates: pd.DataFrame
    """One row per update and agent; empty where the folder has no such table."""
    trials: pd.DataFrame
    """One row per trial: the keys of its `trial.json`, mappings as they are, and `folder`, which `load_team` takes.

    Of a published suite, that is the folder of a trained team, and empty for the trials that left none."""


def read(folder: str | Path) -> Results:
    """The results of a suite, `results/<suite>`, whether it is finished or still running. Writes nothing there.

    Those in a store, `s3://bucket/prefix/<suite>`, are copied to this machine's cache first; only what has changed
    since the last time travels. Raises `bench.store.files.StoreError`, one line with the path, for a folder without
    records or a broken file, and ValueError for another address than that of a store.
    """
    try:
        place = location(str(folder))
    except ArgumentTypeError as error:
        raise ValueError(str(error)) from None
    with naming(place):
        return _read(copied(place))


def _read(folder: Path) -> Results:
    found = {name: _table(folder, name) for name in TABLES}
    if found["records"] is None:
        if trials_by_folder(folder):
            raise StoreError(f"{folder}: no records there yet; none of its trials has been evaluated")
        raise StoreError(f"{folder}: no records there; the results of a suite have trials/ or records.parquet")
    teams = {place.relative_to(folder / POLICIES): str(place) for place in published_teams(folder)}
    trials = [about | {"folder": _team(place, teams)} for place, about in trials_by_folder(folder).items()]
    updates = pd.DataFrame() if found["updates"] is None else found["updates"]
    return Results(found["records"], updates, pd.DataFrame(trials))


def _team(trial: Path, teams: Mapping[Path, str]) -> str:
    """The folder with the team of a trial; empty where only its tables are there."""
    return str(trial) if (trial / "trial.json").exists() else teams.get(Path(*trial.parts[-3:]), "")


def _table(folder: Path, name: str) -> pd.DataFrame | None:
    """What the trials have by now, or else the joined table."""
    path = folder / f"{name}.parquet"
    table = joined(folder, name)
    return files.read_table(path) if table is None and path.exists() else table
