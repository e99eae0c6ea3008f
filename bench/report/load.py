"""Read one suite from its folder and refuse what must not be compared, before anything is written."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from bench.cli.command import counted, first_of
from bench.report import stats
from bench.report.algorithms import Algorithms
from bench.store import files
from bench.store.resolved import Resolved
from bench.store.trials import GOLDEN, LOCK, NO_PHYSICS, RECORD_COLUMNS, TRIALS, merge, read_trials

TRIAL_KEYS = ("task", "algorithm", "seed", "steps", "config_hash", "status", "provenance")


class ReportError(Exception):
    """Why a suite cannot be reported on: one line that names the folder or file."""


@dataclass(frozen=True)
class SuiteResults:
    """The results of a suite, from which its report is made."""

    folder: Path
    """Where the report is written."""
    records: pd.DataFrame
    """One row per evaluation episode."""
    trials: list[dict[str, Any]]
    """What is known of every trial, its `trial.json`; empty where only records.parquet is there."""
    resolved: Resolved | None
    """What the suite file was resolved to; None for results without that file."""
    updates: pd.DataFrame = field(default_factory=pd.DataFrame)
    """One row per update and agent; empty where the folder has no such table."""
    planned: Set[tuple[str, str, int]] | None = None
    """(task, algorithm, seed) of the trials that are asked for in any case; None where that is not known."""

    @property
    def name(self) -> str:
        """The suite's name: that of its folder, so that a copy can be told from the original."""
        return self.folder.resolve().name

    @cached_property
    def algorithms(self) -> Algorithms:
        """Its algorithms; what `resolved.json` does not name is as its trials say, else its label is its method."""
        labels = dict.fromkeys([*self.records["algorithm"], *(trial["algorithm"] for trial in self.trials)])
        methods = {trial["algorithm"]: str(trial.get("method") or trial["algorithm"]) for trial in self.trials}
        return Algorithms.of(self.resolved, {label: methods.get(label, label) for label in labels})

    @cached_property
    def states(self) -> pd.DataFrame:
        """Every trial, and where it stands."""
        return stats.trial_states(self.records, self.trials, self.skipped, self.algorithms.methods, self.planned)

    @property
    def skipped(self) -> set[tuple[str, str]]:
        """The pairings (task, algorithm) that the suite leaves out."""
        return {*self.resolved.skipped} if self.resolved else set()


def find_suites(root: Path) -> list[Path]:
    """The folders under `root` that hold a suite with records or a study with finished tuning trials.

    One in which nothing has come that far yet is no error here, where nobody asked for it by name.
    """
    if not root.is_dir():
        raise ReportError(f"{root}: no such folder; run `python -m bench.run` first, or name a suite's folder")
    found = [folder for folder in sorted(root.iterdir()) if folder.is_dir() and _has_records(folder)]
    if not found:
        raise ReportError(f"{root}: no suite with records in it (a folder with trials/ or records.parquet)")
    return found


def _has_records(folder: Path) -> bool:
    merged = any((folder / name).is_file() for name in ("records.parquet", "tuning.parquet"))
    return merged or any(folder.glob("trials/*/*/seed-*/records.parquet"))


def load(folder: Path) -> SuiteResults:
    """The suite in `folder`, merged up to this moment, or a `ReportError`."""
    if not folder.is_dir():
        raise ReportError(f"{folder}: no such folder; a suite is a folder with trials/ or records.parquet")
    try:
        trials = read_trials(folder)
        _check_keys(folder, trials)
        _refuse_other_physics(folder, trials)
        refuse_mixtures(folder, trials)
        if not _has_records(folder):
            have = _statuses(trials)
            raise ReportError(f"{folder}: no records yet, {have}; a suite has trials/ or records.parquet")
        if (folder / TRIALS).is_dir():
            with FileLock(folder / LOCK):  # a run that ends now would write newer tables
                merge(folder)
        records = files.read_table(folder / "records.parquet")
        has_updates = (folder / "updates.parquet").is_file()
        updates = files.read_table(folder / "updates.parquet") if has_updates else pd.DataFrame()
        resolved = Resolved.read(folder)
    except files.StoreError as error:
        raise ReportError(" ".join(str(error).split())) from error
    _check_records(folder / "records.parquet", records)
    return SuiteResults(folder, records, trials, resolved, updates, (resolved.planned() or None) if resolved else None)


def _statuses(trials: list[dict[str, Any]]) -> str:
    """ "no trials", or such as "3 trials (1 failed, 2 running)"."""
    if not trials:
        return "no trials"
    counts = pd.Series([trial["status"] for trial in trials]).value_counts().sort_index()
    parts = ", ".join(f"{count} {status}" for status, count in counts.items())
    return f"{counted(len(trials), 'trial')} ({parts})"


def _check_keys(folder: Path, trials: list[Any]) -> None:
    for trial in trials:
        missing = [key for key in TRIAL_KEYS if key not in trial]
        if missing:
            raise ReportError(f"{folder}: the trial.json of {trial_name(trial)} lacks {', '.join(missing)}")


def _check_records(path: Path, records: pd.DataFrame) -> None:
    missing = [column for column in RECORD_COLUMNS if column not in records.columns]
    if missing:
        raise ReportError(
            f"{path}: lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"a table of records has {', '.join(RECORD_COLUMNS)}"
        )
    if not pd.api.types.is_numeric_dtype(records["episode_return"]):
        raise ReportError(f"{path}: the column episode_return holds no numbers")
    if not (records["kind"] == "grid").any():
        raise ReportError(f"{path}: no records of kind 'grid'; at least one evaluation is needed")


def trial_name(trial: dict[str, Any]) -> str:
    """How a trial is called in messages: task, label and seed."""
    return f"{trial.get('task', '?')} {trial.get('algorithm', '?')} seed {trial.get('seed', '?')}"


def parts_run(trial: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The provenance of each part of the trial, in their order; none of a trial that waits."""
    return [] if trial["status"] == "waiting" else [*trial.get("earlier_provenance", []), trial["provenance"]]


def mujoco_version(trial: dict[str, Any]) -> str:
    """The MuJoCo version that the trial ran with, "none" where its task needs no MuJoCo."""
    if trial["provenance"].get("physics") == NO_PHYSICS:
        return "none"
    return str(trial["provenance"].get("versions", {}).get("mujoco") or "none")


def environment_versions(trial: dict[str, Any]) -> str:
    """The versions of the packages that a task without MuJoCo comes from."""
    versions = trial["provenance"].get("task", {}).get("versions", {})
    return ", ".join(f"{package} {version}" for package, version in sorted(versions.items())) or "none"


def other_physics(trial: dict[str, Any]) -> str:
    """How the physics that the trial or an earlier part of it ran on differ from those of golden.json, if they do.

    A trial from before physics were compared has nothing to say.
    """
    fine = (GOLDEN, NO_PHYSICS)
    return next((said for part in parts_run(trial) if (said := part.get("physics", GOLDEN)) not in fine), "")


def _refuse_other_physics(folder: Path, trials: list[dict[str, Any]]) -> None:
    """Stop where a trial ran on physics of its own, whose returns mean something else than those of any other."""
    groups: dict[str, list[str]] = defaultdict(list)
    for trial in trials:
        if said := other_physics(trial):
            groups[said].append(trial_name(trial))
    if groups:
        lists = "; ".join(f"{said}: {first_of(names)}" for said, names in sorted(groups.items()))
        raise ReportError(
            f"{folder}: trials on other physics than those of bench/envs/golden.json cannot be pooled ({lists}); "
            "install what constraints.txt names, and run them again with another --results"
        )


def refuse_mixtures(folder: Path, trials: list[dict[str, Any]]) -> None:
    """Stop where one average, or one comparison, would pool trials that ran under different conditions."""
    ran = [trial for trial in trials if trial["status"] != "waiting"]
    rules: list[tuple[str, tuple[str, ...], Callable[[dict[str, Any]], str]]] = [
        ("MuJoCo versions", ("task",), mujoco_version),
        ("versions of the environment", ("task",), environment_versions),
        ("numbers of steps", ("task",), lambda trial: str(trial["steps"])),
        ("options", ("task",), lambda trial: json.dumps(trial.get("options", {}), sort_keys=True)),
        ("NUMERICS", ("task", "algorithm"), lambda trial: str(trial["provenance"].get("numerics"))),
        ("config hashes", ("task", "algorithm"), lambda trial: str(trial["config_hash"])),
    ]
    for what, scope, value in rules:
        for place, groups in _groups(ran, scope, value):
            if len(groups) > 1:
                lists = "; ".join(f"{key}: {first_of(names)}" for key, names in sorted(groups.items()))
                raise ReportError(
                    f"{folder}: different {what} in {place} cannot be compared ({lists}); "
                    "move one group to a suite of its own, or run it again"
                )


def _groups(
    trials: list[dict[str, Any]], scope: tuple[str, ...], value: Callable[[dict[str, Any]], str]
) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """For each place that `scope` tells apart: the names of the trials there, by `value`."""
    places: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for trial in trials:
        places[" ".join(trial[key] for key in scope)][value(trial)].append(trial_name(trial))
    yield from sorted(places.items())
