"""Whether the results of a study are whole, unchanged and consistent, published or where it ran."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import yaml

from bench.store import checksums, files, scores
from bench.store.files import StoreError
from bench.store.studies import KEY, TuningTrial, best, close, reached, tuning_hash, tuning_trials, unit
from bench.store.verifying import Finding, attempted, check_files, check_records

TrialsByKey = Mapping[tuple[str, int], TuningTrial]
TUNED_AGAIN = "run bench.tune on the study again, which writes it anew"
STATES = ("complete", "pruned", "fail")


def findings_of_study(folder: Path) -> Iterator[Finding]:
    """Check the results of a study, whether it is published, has ended or is still running. Reads everything once."""
    path, best_yaml = folder / "tuning.parquet", folder / "best.yaml"
    try:
        found = tuning_trials(folder)
        table = files.read_table(path) if path.exists() else None
    except StoreError as error:
        yield Finding("tuning trials", str(error))
        return
    yield attempted("files", folder, lambda: _files(found))
    yield attempted("records", folder, lambda: _records(found))
    if table is None:
        ended = best_yaml.exists() or not (folder / "tuning").exists()
        wrong = f"{path}: is missing; {TUNED_AGAIN}" if ended else ""
        yield Finding("tuning trials", wrong, f"{len(found)} begun; the study has not ended")
        return
    yield attempted("tuning trials", path, lambda: _table(folder, table, found))
    yield attempted("returns", path, lambda: _returns(path, table, found))
    yield attempted("best settings", best_yaml, lambda: _best(best_yaml, table))


def _name(key: tuple[str, int]) -> str:
    return f"{key[0]} trial {key[1]}"


def _files(found: TrialsByKey) -> tuple[str, str]:
    """The files of all trials that are not published are whole."""
    return check_files({place: about for own in found.values() for place, about in own.abouts.items()}, TUNED_AGAIN)


def _records(found: TrialsByKey) -> tuple[str, str]:
    for key, own in found.items():
        if wrong := check_records(own.records, own.abouts):
            return f"{_name(key)}: {wrong}", ""
    return "", f"{sum(len(own.records) for own in found.values()):,} episodes"


def _table(folder: Path, table: pd.DataFrame, found: TrialsByKey) -> tuple[str, str]:
    """Each tuning trial that ended is there once, with its trials; one that is complete has those of all tasks."""
    if table.duplicated(KEY).any():
        return "a tuning trial is in the table twice", ""
    if unknown := {*table["state"]} - {*STATES}:
        return f"states are {', '.join(STATES)}, not {', '.join(sorted(map(str, unknown)))}", ""
    try:
        planned = yaml.safe_load((folder / "study.yaml").read_text())["algorithms"]
    except yaml.YAMLError as error:
        return f"{folder / 'study.yaml'}: cannot be read ({' '.join(str(error).split())})", ""
    if lost := [label for label in planned if label not in {*table["algorithm"]} and _any_ended(label, found)]:
        return f"tuning.parquet has no tuning trial of {', '.join(lost)}", ""
    every = {name for text in table["returns"] for name in json.loads(text)}
    for row in table.to_dict("records"):
        key, named = (row["algorithm"], row["number"]), {*json.loads(row["returns"])}
        present = {f"{a['task']} seed {a['seed']}" for a in found[key].abouts.values()} if key in found else set()
        gone = sorted(named - present) or sorted(every - named if row["state"] == "complete" else ())
        if gone or not present:
            return f"{_name(key)}: its trials are not there: {', '.join(gone) or 'none is'}", ""
    counts = table.groupby(["algorithm", "state"]).size().unstack(fill_value=0)
    said = [f"{label} {', '.join(f'{n} {state}' for state, n in row.items() if n)}" for label, row in counts.iterrows()]
    more = len(found) - len(table)
    return "", "; ".join(said) + (f"; {more} that have not ended" if more else "")


def _any_ended(label: str, found: TrialsByKey) -> bool:
    """Whether all trials of one of its tuning trials have ended."""
    each = [own.abouts.values() for (mine, _), own in found.items() if mine == label and own.abouts]
    return any(all(about["status"] in ("done", "failed") for about in abouts) for abouts in each)


def _returns(path: Path, table: pd.DataFrame, found: TrialsByKey) -> tuple[str, str]:
    """What the table says that tuning trials reached is what their last evaluations give, on one scale for each task.

    It is that of the reference scores now, or of a reference that was measured earlier, for which 1 was another return.
    """
    for row in table.to_dict("records"):
        said = json.loads(row["returns"])
        if row["state"] != "fail" and not close(row["value"], mean := _mean_of_tasks(said)):
            name = _name((row["algorithm"], row["number"]))
            return f"{path}: {name}: value {row['value']:.6g} is not the mean over its tasks, {mean:.6g}", ""
    earlier = []
    for task, values in reached(table, found).items():
        score = scores.score(task)
        if score is None or score.reference is None:
            return f"{task} has no reference score here, with which its returns could be compared", ""
        of_now = unit(values)
        for name, value, now in values:
            if not close(value, of_now * now):
                return f"{path}: {name}: {value:.6g}, but its records give {of_now * now:.6g}", ""
        if not close(of_now, 1):
            earlier.append(task)
    note = f"; where 1 was another return than now: {', '.join(earlier)}" if earlier else ""
    return "", "as the records have them" + note


def _mean_of_tasks(returns: Mapping[str, float]) -> float:
    tasks: dict[str, list[float]] = {}
    for name, value in returns.items():
        tasks.setdefault(name.rpartition(" seed ")[0], []).append(value)
    return fmean(fmean(values) for values in tasks.values()) if tasks else math.nan


def _best(path: Path, table: pd.DataFrame) -> tuple[str, str]:
    """best.yaml is as it was written, and has the settings of the complete tuning trials with the highest returns."""
    try:
        checksums.check_line(path)
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        return f"{path}: cannot be read; {TUNED_AGAIN} ({error})", ""
    except checksums.Damaged as error:
        return str(error), ""
    named: dict[str, Any] = document["algorithms"]
    tops = {label: best(table, label) for label in dict.fromkeys(table["algorithm"])}
    labels = [label for label, top in tops.items() if top]
    if {*named} != {*labels} or {*document["tuning"]} != {*labels}:
        parts = "; ".join(f"{key}: {', '.join(document[key]) or 'none'}" for key in ("algorithms", "tuning"))
        return f"{path}: {parts}; must be those with complete tuning trials, {', '.join(labels)}", ""
    for label, top in tops.items():
        if top is None:
            continue
        for name, value in json.loads(top["params"]).items():
            if value not in (named[label].get(name), json.dumps(named[label].get(name))):
                has = named[label].get(name, "none")
                return f"{path}: {label}.{name} is {has}, but trial {top['number']}, the best, had {value}", ""
        own = {"study": top["study"], "trials": int((table["algorithm"] == label).sum()), "hash": tuning_hash(table)}
        own |= {key: int(top[key]) for key in ("first_seed", "seeds")}
        for key, value in own.items():
            if document["tuning"][label][key] != value:
                return f"{path}: tuning.{label}.{key} is {document['tuning'][label][key]}, not {value}", ""
    return "", f"those of the best tuning trials of {', '.join(labels)}"
