"""The files of trials under a suite's results: where they lie, whose they are, and the tables of all trials together.

    <suite>/trials/<task>/<label>/seed-NN/trial.json        configuration, provenance, status
                                          records.parquet   one row per evaluation episode
                                          updates.parquet   one row per update and agent
                                          policy.pt         the networks of the best and of the last policy
    <suite>/records.parquet, updates.parquet                those of all trials
    <suite>/trials.parquet                                  of a published suite: what every trial.json says
    <suite>/policies/<task>/<label>/seed-NN/                of a published suite: one team of each task and algorithm

A published suite is its three tables and some trained teams. It goes on where it is run again: its trials are done,
those that are new have folders.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from difflib import get_close_matches
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pandas as pd

from bench.cli.command import first_of
from bench.store import files
from bench.store.files import StoreError, slug
from bench.store.joining import join

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
ROUNDED = "rounded_to"
"""The key of a published team's `trial.json` that says to what its weights are rounded."""
WITHOUT_POLICY = "published_without_policy"
"""The key of a published trial that says that its policies were left out."""
TRIALS, POLICIES = "trials", "policies"
"""The folders of a suite with trials, and of a published suite with trained teams."""
LOCK = ".lock"
"""What a process holds in a trial's folder while it runs the trial, and in that of a suite while it writes what belongs
to no single trial."""
FRESH_KINDS = ("final", "absolute")
"""Kinds of records: episodes of the last and of the best policy, at the end."""
AT = "@"
"""In the kind of such an episode at the end of an earlier budget: `final@400000`."""
FRESH_FACTOR = 10
"""At the end the last and the best policy each play this many times `episodes` (Gorsane et al. 2022)."""
IDENTITY = ("suite", "task", "algorithm", "seed", "config_hash")
"""The keys of `trial.json` that say whose a file is; every table and checkpoint carries them."""
CHECKPOINTS = ("checkpoint.pt", "checkpoint.previous.pt")
"""Files of a trial that is at work: the last checkpoint and the one before it."""
KEPT = "kept_checkpoint"
"""The key of `trial.json` that says of a trial that is done that it has kept its last checkpoint."""
EARLIER_BUDGETS = "earlier_budgets"
"""The key of `trial.json` for the budgets that a trial had before it was given more steps: `steps`, `config_hash`."""
GOLDEN = "golden"
"""What a trial's provenance says of physics that give the numbers of golden.json; anything else is how they differ."""
NO_PHYSICS = "without MuJoCo"
"""What it says of tasks that run without MuJoCo."""
Teams = dict[tuple[str, str], tuple[bytes, dict[str, Any]]]
"""Task and algorithm -> `policy.pt` and what `trial.json` says, of a trained team to publish."""
MOST_NAMED = 5
"""So many names are listed where one is not found."""


def trial_folder(suite_folder: Path, task: str, label: str, seed: int, within: str = TRIALS) -> Path:
    """Where the files of one trial lie: `<suite>/trials/<task>/<label>/seed-NN`, or within POLICIES."""
    return suite_folder / within / slug(task) / slug(label) / f"seed-{seed:02d}"


def is_published_team(folder: Path) -> bool:
    """Whether the folder of a trial is one of those that `bench.publish` makes for trained teams."""
    return folder.absolute().parts[-4:-3] == (POLICIES,)


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
    """`read_trial` of a trial in a suite's folder. Refuses one that belongs into another folder."""
    about, within = read_trial(path), POLICIES if is_published_team(path.parent) else TRIALS
    own = trial_folder(Path(), about["task"], about["algorithm"], about["seed"], within)
    if path.parent.parts[-len(own.parts) :] != own.parts:
        raise StoreError(f"{path}: is that of {own}; it was copied or renamed: move it back, or delete it")
    return about


def earlier_steps(owner: Mapping[str, Any], own: Mapping[str, Any], budgets: Iterable[Mapping[str, Any]]) -> int | None:
    """The steps that a trial was to have when it wrote a file, if it has been given more since; None for another's.

    `owner`: whose the file says it is. `own`: the identity of the trial now. `budgets`: those that it had earlier.
    """
    same = (budget for budget in budgets if owner == {**own, "config_hash": budget["config_hash"]})
    return next((budget["steps"] for budget in same), None)


def as_ended(about: Mapping[str, Any]) -> dict[str, Any]:
    """What `trial.json` said when the trial ended last, also of one that is being given more steps; else as it is."""
    ends = [budget for budget in about.get(EARLIER_BUDGETS) or () if "files" in budget]
    if about["status"] == "done" or not ends:
        return {**about}
    return {**about, **ends[-1], "status": "done"}


def find_trial(named: Path) -> Path:
    """The folder of a trial from itself, or from `SUITE/task/algorithm/seed`: results/quick/mamujoco/Ant-4x2/happo/0.

    A task is named by its label, by an end of it that no other has, or without its options where no other has the rest.
    Raises StoreError for what names none, with what is there.
    """
    if (named / "trial.json").exists():
        return named
    *parts, label, seed = named.parts if len(named.parts) > 2 else ("", "", "")
    above = [Path(*parts[:k]) for k in range(len(parts), 0, -1)]
    suites = [suite for suite in above if any((suite / within).is_dir() for within in (TRIALS, POLICIES))]
    if not suites:
        if without := [suite for suite in above if (suite / "trials.parquet").exists()]:
            raise StoreError(f"{named}: {without[0]} has the tables of its trials, and no policies")
        raise StoreError(f"{named}: no trial there; valid: its folder, or SUITE/task/algorithm/seed")
    number = seed.removeprefix("seed-")
    for suite, within in product(suites, (TRIALS, POLICIES)) if number.isdecimal() else []:
        task = "/".join(parts[len(suite.parts) :])
        if ((found := trial_folder(suite, task, label, int(number), within)) / "trial.json").exists():
            return found
    number = str(int(number)) if number.isdecimal() else number
    return _found_by_name(named, suites[0], ("/".join(parts[len(suites[0].parts) :]), label, number))


def _found_by_name(named: Path, suite: Path, names: tuple[str, str, str]) -> Path:
    """The folder of a trial of a suite whose task is not named by its label, or StoreError."""
    left = {path.parent: read_trial(path) for path in trial_files(suite, "trial.json")} | published_teams(suite)
    for what, wanted in zip(("task", "algorithm", "seed"), names, strict=True):
        names_of = {path: str(about[what]) for path, about in left.items()}
        chosen = _meant(what, wanted, {*names_of.values()})
        if chosen is None:
            raise StoreError(f"{named}: no trial there; {_none_of(what, wanted, suite, {*names_of.values()})}")
        left = {path: about for path, about in left.items() if names_of[path] == chosen}
    return next(iter(left))


def _meant(what: str, wanted: str, names: set[str]) -> str | None:
    """The one of these names that is meant, which may be written as in the name of a folder; None if none is."""
    exact = [name for name in names if wanted in (name, slug(name))]
    if what != "task" or exact:
        return exact[0] if exact else None
    near = [name for name in names if wanted and f"/{wanted}:" in f"/{name}:"]
    return near[0] if len(near) == 1 else None


def _none_of(what: str, wanted: str, suite: Path, names: set[str]) -> str:
    """What is wrong with a name, and which are valid, those that are near it before the others."""
    near = get_close_matches(wanted, names, MOST_NAMED)
    valid = [*near, *sorted(names - {*near}, key=lambda name: (len(name), name))]
    wrong = f"no {what} {wanted!r}" if wanted else "the form is SUITE/task/algorithm/seed, with a task"
    return f"{wrong} in {suite}; valid: {first_of(valid, MOST_NAMED) or 'none'}"


def trial_files(suite_folder: Path, name: str, within: str = TRIALS) -> list[Path]:
    """The files called `name` of all trials in a suite's folder, in the order of their paths."""
    return sorted(suite_folder.glob(f"{within}/*/*/seed-*/{name}"))


def published_teams(suite_folder: Path) -> dict[Path, dict[str, Any]]:
    """Folder -> what its `trial.json` says, for the trained teams of a published suite."""
    return {path.parent: read_trial_in_place(path) for path in trial_files(suite_folder, "trial.json", POLICIES)}


def write_teams(teams: Teams, suite_folder: Path) -> None:
    """Write these trained teams into a published suite, in place of those that are there."""
    made = {
        trial_folder(suite_folder, task, label, about["seed"], POLICIES): (policy, about)
        for (task, label), (policy, about) in teams.items()
    }
    for old in {*published_teams(suite_folder)} - {*made}:
        shutil.rmtree(old)
    for folder, (policy, about) in made.items():
        files.write_bytes(folder / "policy.pt", policy)
        files.write_sealed_json(folder / "trial.json", about)


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
    try:
        abouts = [json.loads(text) for text in table["about"]]
        return {
            trial_folder(path.parent, about["task"], about["algorithm"], about["seed"]): about
            for about in abouts
            if about["status"] in ("done", "failed")
        }
    except (LookupError, ValueError, TypeError) as error:
        raise StoreError(f"{path}: not as bench.publish writes it ({error!r})") from error


def read_table_of(folder: Path, name: str, about: Mapping[str, Any]) -> pd.DataFrame:
    """The table `name` of the trial in a folder, of which `trial.json` says `about`.

    Refuses another trial's table, and for one that is done any but the last that it wrote. Until a trial with more
    steps has written its own, the table is that of the earlier budget: its fresh episodes are of such a kind.
    """
    path = folder / f"{name}.parquet"
    try:
        frame, owner, checksum = files.read_table_with_metadata(path)
    except StoreError as error:
        raise StoreError(f"{error}; delete its folder to run this trial again") from error
    if steps := earlier_steps(owner, identity(about), about.get(EARLIER_BUDGETS, ())):
        return at_earlier_budget(frame, steps) if name == "records" else frame
    if owner != identity(about):
        raise StoreError(f"{path}: is that of {_whose(owner)}; delete its folder to run this trial again")
    if about["status"] == "done" and checksum != about["files"].get(path.name):
        raise StoreError(f"{path}: is not the one with which this trial ended; delete {folder} to run it again")
    return frame


def at_earlier_budget(records: pd.DataFrame, steps: int) -> pd.DataFrame:
    """Records in which the fresh episodes after so many steps are of kinds of their own: `final@400000`."""
    fresh = records["kind"].isin(FRESH_KINDS)
    return records.assign(kind=records["kind"].mask(fresh, records["kind"] + f"{AT}{steps}"))


def of_earlier_budgets(records: pd.DataFrame) -> pd.Series:
    """Which rows are fresh episodes of an earlier budget."""
    return records["kind"].str.contains(AT, regex=False)


def check_policy(path: Path, about: Mapping[str, Any]) -> None:
    """Refuse networks that are not those with which a trial ended, of which `trial.json` says `about`."""
    if files.sha256(path) != about["files"].get(path.name):
        raise StoreError(f"{path}: was damaged or changed after it was written: its checksum differs")


def _whose(owner: Mapping[str, Any]) -> str:
    about = [str(owner[key]) for key in ("task", "algorithm") if key in owner]
    return f"{' '.join(about)} seed {owner['seed']}" if "seed" in owner else "no trial"


def trial_table(suite_folder: Path, name: str, about: Mapping[str, Any]) -> pd.DataFrame:
    """The table `name` of one trial of a suite: from its own folder, or from that of all trials if it is published."""
    folder = trial_folder(suite_folder, about["task"], about["algorithm"], about["seed"])
    if (folder / f"{name}.parquet").exists():
        return read_table_of(folder, name, about)
    path = suite_folder / f"{name}.parquet"
    rows = _published_tables(path, {folder: about})
    if folder not in rows:
        raise StoreError(f"{path}: has no rows of {_whose(identity(about))}")
    return rows[folder].reset_index(drop=True)


def joined(suite_folder: Path, name: str) -> pd.DataFrame | None:
    """The table `name` of all trials of a suite, one below the other; None where no trial has it."""
    kept = [*tables(suite_folder, name)]
    return pd.concat(kept, ignore_index=True) if kept else None


def tables(suite_folder: Path, name: str) -> Iterator[pd.DataFrame]:
    """The table `name` of each trial of a suite that has rows, in the order of their folders."""
    own = {path.parent for path in trial_files(suite_folder, f"{name}.parquet")}
    earlier = {folder: about for folder, about in published(suite_folder).items() if folder not in own}
    before = _published_tables(suite_folder / f"{name}.parquet", earlier) if earlier else {}
    for folder in sorted({*own, *before}):
        if folder in before:
            table = before[folder]
        else:
            table = read_table_of(folder, name, read_trial_in_place(folder / "trial.json"))
        if len(table):
            yield table


def _published_tables(path: Path, wanted: Mapping[Path, Mapping[str, Any]]) -> dict[Path, pd.DataFrame]:
    """Folder -> the rows of its trial in the table of all trials; none where there is no such table."""
    if not path.exists():
        if any(path.name in about.get("files", ()) for about in wanted.values()):
            raise StoreError(f"{path}: is missing; bring it back, or publish the suite again")
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
    with ExitStack() as stack:
        joined_files = {name: stack.enter_context(TemporaryFile(dir=suite_folder)) for name in TABLES}
        written = [name for name, file in joined_files.items() if join(tables(suite_folder, name), file, suite_folder)]
        for name in written:
            path, file = suite_folder / f"{name}.parquet", joined_files[name]
            files.write_bytes(path, partial(shutil.copyfileobj, file))
