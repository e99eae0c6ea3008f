"""The files of tuning trials in a study's folder, where they ran and as they are published.

    <study>/tuning/<label>/trial-NNNN/    the trials of one tuning trial, as those of a suite
    <study>/tuning_trials.parquet         of a published study: what the `trial.json` of all these trials say
    <study>/tuning_records.parquet        of a published study: their records
    <study>/tuning.parquet                one row per tuning trial that has ended

A published study that has been given more tuning trials has both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.store import files
from bench.store.files import StoreError
from bench.store.trials import RECORD_COLUMNS, joined, trials_by_folder

KEY = ["algorithm", "number"]
PUBLISHED = ("tuning_trials.parquet", "tuning_records.parquet")


@dataclass(frozen=True)
class TuningTrial:
    """The trials of one tuning trial."""

    abouts: Mapping[Path, Mapping[str, Any]]
    """Folder -> what its `trial.json` says; the folder is not there where it is published."""
    records: pd.DataFrame


def is_study(folder: Path) -> bool:
    """Whether a folder holds a study and not a suite."""
    return (folder / "study.yaml").is_file()


def tuning_trials(folder: Path) -> dict[tuple[str, int], TuningTrial]:
    """Label and number -> tuning trial, in the order of their folders. Raises StoreError for files that are damaged."""
    found = {**_published(folder), **_ran(folder)}
    return {key: found[key] for key in sorted(found, key=lambda key: (files.slug(key[0]), key[1]))}


def _ran(folder: Path) -> dict[tuple[str, int], TuningTrial]:
    found = {}
    for part in folder.glob("tuning/*/trial-*"):
        number = part.name.removeprefix("trial-")
        if number.isdecimal() and (abouts := trials_by_folder(part)):
            records = joined(part, "records")
            label = next(iter(abouts.values()))["algorithm"]
            own = pd.DataFrame(columns=[*RECORD_COLUMNS]) if records is None else records
            found[label, int(number)] = TuningTrial(abouts, own)
    return found


def _published(folder: Path) -> dict[tuple[str, int], TuningTrial]:
    if not any((folder / name).exists() for name in PUBLISHED):
        return {}
    trials, records = (files.read_table(folder / name) for name in PUBLISHED)
    found = {}
    try:
        rows = dict([*records.groupby(KEY, sort=False)])
        for label, number in trials[KEY].drop_duplicates().itertuples(index=False):
            texts = trials.loc[(trials["algorithm"] == label) & (trials["number"] == number), "about"]
            place = folder / "tuning" / files.slug(label) / f"trial-{number:04d}"
            abouts = {place / str(k): json.loads(text) for k, text in enumerate(texts)}
            found[label, int(number)] = TuningTrial(
                abouts, rows.get((label, number), records[:0]).drop(columns="number")
            )
    except (LookupError, ValueError, TypeError) as error:
        raise StoreError(f"{folder / PUBLISHED[0]}: not as bench.publish writes it ({error!r})") from error
    return found


def best(tuning: pd.DataFrame, label: str) -> dict[str, Any] | None:
    """The complete tuning trial of an algorithm with the highest return, the earliest of equals; None without any."""
    mine = tuning[(tuning["algorithm"] == label) & (tuning["state"] == "complete")]
    return None if mine.empty else dict(mine.iloc[int(mine["value"].astype(float).to_numpy().argmax())])


def tuning_hash(tuning: pd.DataFrame) -> str:
    """Twelve hex digits that stand for what the tuning trials of `tuning.parquet` tried and reached."""
    columns = [*KEY, "state", "value", "params"]
    return hashlib.sha256(tuning[columns].to_json(double_precision=15).encode()).hexdigest()[:12]
