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
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench.store import files, scores
from bench.store.files import StoreError
from bench.store.trials import RECORD_COLUMNS, joined, trials_by_folder

KEY = ["algorithm", "number"]
PUBLISHED = ("tuning_trials.parquet", "tuning_records.parquet")
CLOSE = 1e-9
"""Relative difference that the order of a sum may make."""


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


class Reached(NamedTuple):
    """The last evaluation of a trial of a tuning trial, on two scales."""

    name: str
    value: float
    """Normalised as `tuning.parquet` has it."""
    now: float
    """By the reference scores now; NaN without records or a reference."""


def reached(tuning: pd.DataFrame, found: Mapping[tuple[str, int], TuningTrial]) -> dict[str, list[Reached]]:
    """task -> what `tuning.parquet` says that tuning trials reached there, and what their records say."""
    values: dict[str, list[Reached]] = {}
    for row in tuning.to_dict("records"):
        own = found.get((row["algorithm"], row["number"]))
        ends = _last_returns(own.records) if own else {}
        for pairing, value in json.loads(row["returns"]).items():
            task = pairing.rpartition(" seed ")[0]
            name = f"{row['algorithm']} trial {row['number']}, {pairing}"
            values.setdefault(task, []).append(Reached(name, value, _normalised(task, ends.get(pairing))))
    return values


def unit(values: list[Reached]) -> float:
    """What is 1 by the reference scores now, on the scale of `tuning.parquet`; NaN where nothing can be compared."""
    found = [one.value / one.now for one in values if one.now and math.isfinite(one.now)]
    return float(np.median(found)) if found else math.nan


def earlier_references(folder: Path) -> dict[str, float]:
    """The tasks whose reference scores were measured again since `tuning.parquet` -> the return that was 1 there.

    Raises StoreError for files that are damaged.
    """
    found = dict[str, float]()
    for task, values in reached(files.read_table(folder / "tuning.parquet"), tuning_trials(folder)).items():
        score, of_now = scores.score(task), unit(values)
        if score and score.reference is not None and not (math.isnan(of_now) or close(of_now, 1)):
            found[task] = score.random + (score.reference - score.random) / of_now
    return found


def close(one: float, other: float) -> bool:
    """Whether two values are equal up to the order of a sum."""
    return math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE)


def _last_returns(records: pd.DataFrame) -> dict[str, float]:
    """`<task> seed <seed>` -> the mean return of the last evaluation."""
    grid = records[records["kind"] == "grid"]
    last = grid[grid["step"] == grid.groupby(["task", "seed"], observed=True)["step"].transform("max")]
    means = last.groupby(["task", "seed"], observed=True)["episode_return"].mean().reset_index()
    rows = zip(means["task"], means["seed"], means["episode_return"], strict=True)
    return {f"{task} seed {seed}": float(value) for task, seed, value in rows}


def _normalised(task: str, value: float | None) -> float:
    """A return on the scale of the reference scores now; NaN without a return or a reference."""
    score = scores.score(task)
    return math.nan if value is None or score is None or score.reference is None else score.normalised(value)
