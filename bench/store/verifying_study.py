"""Whether the results of a study are whole, unchanged and consistent, published or where it ran."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import yaml

from bench.store import files, scores
from bench.store.files import StoreError
from bench.store.trials import RECORD_COLUMNS, joined, trials_by_folder
from bench.store.verifying import Finding, attempted, check_files, check_records

TUNED_AGAIN = "run bench.tune on the study again, which writes it anew"
CLOSE = 1e-9
"""Relative difference that the order of a sum may make."""


@dataclass(frozen=True)
class _TuningTrial:
    """The trials of one tuning trial."""

    abouts: Mapping[Path, Mapping[str, Any]]
    """Folder -> what its `trial.json` says."""
    records: pd.DataFrame


def findings_of_study(folder: Path) -> Iterator[Finding]:
    """Check the results of a study. Reads everything once."""
    path = folder / "tuning.parquet"
    try:
        table = files.read_table(path) if path.exists() else None
        found = _ran(folder) if (folder / "tuning").exists() else _published(folder)
    except (StoreError, LookupError) as error:
        yield Finding("tuning trials", str(error) if isinstance(error, StoreError) else f"{folder}: no {error} there")
        return
    if table is None:
        yield Finding("tuning trials", "", "none has ended yet")
        return
    counts = table.groupby(["algorithm", "state"]).size().unstack(fill_value=0)
    said = [f"{label} {', '.join(f'{n} {state}' for state, n in row.items() if n)}" for label, row in counts.iterrows()]
    yield Finding("tuning trials", _missing(table, found), "; ".join(said))
    yield attempted("files", lambda: _files(folder, found))
    wrong = (
        f"{_name(key)}: {wrong}" for key, own in found.items() if (wrong := check_records(own.records, own.abouts))
    )
    yield Finding("records", next(wrong, ""), f"{sum(len(own.records) for own in found.values()):,} episodes")
    yield Finding("returns", _returns(path, table, found), "as the records have them")
    yield attempted("best settings", lambda: _best(folder / "best.yaml", table))


def _ran(folder: Path) -> dict[tuple[str, int], _TuningTrial]:
    """Label and number -> tuning trial, from the folders in which they ran."""
    found = {}
    for part in sorted(folder.glob("tuning/*/trial-*")):
        if abouts := trials_by_folder(part):
            records = joined(part, "records")
            label = next(iter(abouts.values()))["algorithm"]
            own = pd.DataFrame(columns=[*RECORD_COLUMNS]) if records is None else records
            found[label, int(part.name.rpartition("-")[2])] = _TuningTrial(abouts, own)
    return found


def _published(folder: Path) -> dict[tuple[str, int], _TuningTrial]:
    """The same from the tables of a published study."""
    trials, records = (files.read_table(folder / f"tuning_{name}.parquet") for name in ("trials", "records"))
    rows = dict([*records.groupby(["algorithm", "number"], sort=False)])
    found = {}
    for key, own in trials.groupby(["algorithm", "number"], sort=False):
        abouts = {Path(str(k)): json.loads(text) for k, text in enumerate(own["about"])}
        found[key] = _TuningTrial(abouts, rows.get(key, records[:0]))
    return found  # type: ignore[return-value]


def _name(key: tuple[str, int]) -> str:
    return f"{key[0]} trial {key[1]}"


def _missing(table: pd.DataFrame, found: Mapping[tuple[str, int], _TuningTrial]) -> str:
    """Each tuning trial that ended is there once, with its trials; one that is complete has all of them."""
    if table.duplicated(["algorithm", "number"]).any():
        return "a tuning trial is in the table twice"
    every = {name for text in table["returns"] for name in json.loads(text)}
    for row in table.to_dict("records"):
        key, named = (row["algorithm"], row["number"]), {*json.loads(row["returns"])}
        there = {f"{a['task']} seed {a['seed']}" for a in found[key].abouts.values()} if key in found else set()
        lost = sorted(named - there) or sorted(every - named if row["state"] == "complete" else ())
        if lost or not there:
            return f"{_name(key)}: its trials are not there: {', '.join(lost) or 'none is'}"
    return ""


def _files(folder: Path, found: Mapping[tuple[str, int], _TuningTrial]) -> tuple[str, str]:
    """The files of all trials are whole, where they are kept."""
    if not (folder / "tuning").exists():
        return "", "of a published study, which keeps the tables"
    return check_files({place: about for own in found.values() for place, about in own.abouts.items()}, TUNED_AGAIN)


def _returns(path: Path, table: pd.DataFrame, found: Mapping[tuple[str, int], _TuningTrial]) -> str:
    """What the table says that a tuning trial reached is what its last evaluations give, on the scale of the tasks."""
    for row in table.to_dict("records"):
        key, said = (row["algorithm"], row["number"]), json.loads(row["returns"])
        made = _normalised(found[key].records) if key in found else {}
        for name, value in said.items():
            if not math.isclose(value, made.get(name, math.nan), rel_tol=CLOSE):
                now = f"{made[name]:.6g} with the reference scores of today" if name in made else "none"
                return f"{path}: {_name(key)}, {name}: {value:.6g}, but the records give {now}"
        tasks: dict[str, list[float]] = {}
        for name, value in said.items():
            tasks.setdefault(name.rpartition(" seed ")[0], []).append(value)
        mean = fmean(fmean(values) for values in tasks.values()) if tasks else math.nan
        if row["state"] != "fail" and not math.isclose(row["value"], mean, rel_tol=CLOSE):
            return f"{path}: {_name(key)}: has the value {row['value']:.6g}, but the mean over its tasks is {mean:.6g}"
    return ""


def _normalised(records: pd.DataFrame) -> dict[str, float]:
    """`<task> seed <seed>` -> the normalised return of the last evaluation."""
    grid = records[records["kind"] == "grid"]
    last = grid[grid["step"] == grid.groupby(["task", "seed"], observed=True)["step"].transform("max")]
    means = last.groupby(["task", "seed"], observed=True)["episode_return"].mean().reset_index()
    made = {}
    for task, seed, value in zip(means["task"], means["seed"], means["episode_return"], strict=True):
        score = scores.score(task)
        if score and score.reference is not None:
            made[f"{task} seed {seed}"] = score.normalised(float(value))
    return made


def _best(path: Path, table: pd.DataFrame) -> tuple[str, str]:
    """The settings of best.yaml are those of the complete tuning trial with the highest return."""
    try:
        document = yaml.safe_load(path.read_text())
        settings, said = document["algorithms"], document["tuning"]
    except (OSError, ValueError, yaml.YAMLError, TypeError, LookupError) as error:
        return f"{path}: cannot be read; {TUNED_AGAIN} ({error})", ""
    for label in table["algorithm"].unique().tolist():
        own = table[table["algorithm"] == label]
        complete = own[own["state"] == "complete"]
        if complete.empty:
            continue
        top = complete.iloc[int(complete["value"].astype(float).to_numpy().argmax())]
        named = settings.get(label, {})
        for name, value in json.loads(top["params"]).items():
            if value not in (named.get(name), json.dumps(named.get(name))):
                has = named.get(name, "none")
                return f"{path}: {label}.{name} is {has}, but trial {top['number']}, the best, had {value}", ""
        if said[label]["trials"] != len(own):
            return f"{path}: says that {label} had {said[label]['trials']} tuning trials, but {len(own)} are there", ""
    return "", f"those of the best tuning trials of {', '.join(settings)}"
