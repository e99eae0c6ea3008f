"""Whether the results of a suite are whole, unchanged and consistent with each other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench.cli.command import counted, first_of
from bench.store import files, resolved
from bench.store.checksums import Damaged, check_archive
from bench.store.files import StoreError
from bench.store.resolved import Resolved
from bench.store.trials import (
    AT,
    CHECKPOINTS,
    EARLIER_BUDGETS,
    FRESH_FACTOR,
    FRESH_KINDS,
    POLICIES,
    RECORD_COLUMNS,
    TABLES,
    WITHOUT_POLICY,
    joined,
    of_earlier_budgets,
    published,
    published_teams,
    read_table_of,
    trial_files,
    trials_by_folder,
)

KEY = ["task", "algorithm", "seed"]


class Finding(NamedTuple):
    """What one check found."""

    check: str
    wrong: str
    """What is wrong, in one line; empty if nothing is."""
    note: str = ""
    """What was looked at."""


def findings(folder: Path) -> Iterator[Finding]:
    """Check the results of a suite, whether it is published, finished or still running. Reads everything once."""
    try:
        abouts = trials_by_folder(folder)
    except StoreError as error:
        yield Finding("trials", str(error))
        return
    if not abouts:
        yield Finding("trials", f"{folder}: no trials there; the results of a suite have trials/ or trials.parquet")
        return
    counts = Counter(about["status"] for about in abouts.values())
    yield Finding("trials", "", ", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
    yield attempted("files", folder, lambda: check_files(abouts, "delete its folder to run this trial again"))
    if (folder / "trials.parquet").exists():
        yield attempted("policies", folder, lambda: _policies(folder))
    yield attempted("suite", folder, lambda: _resolved(folder, abouts))
    try:
        tables = {name: _table(folder, name, abouts) for name in TABLES}
    except StoreError as error:
        yield Finding("tables", str(error))
        return
    records = tables["records"]
    if records is None:
        done = sum(about["status"] == "done" for about in abouts.values())
        wrong = f"{folder}: {counted(done, 'trial')} done, without records" if done else ""
        yield Finding("records", wrong, "none yet")
        return
    yield attempted("records", folder, lambda: (check_records(records, abouts), f"{len(records):,} episodes"))
    updates = tables["updates"]
    if updates is not None:
        yield attempted("updates", folder, lambda: (_updates(updates, abouts), f"{len(updates):,} rows"))
    yield attempted("joined", folder, lambda: _stored(folder, tables))


def _table(folder: Path, name: str, abouts: Mapping[Path, Mapping[str, Any]]) -> pd.DataFrame | None:
    """The rows of all trials; of a published suite all of its table, which may have others. None where none has any."""
    path = folder / f"{name}.parquet"
    if trial_files(folder, "trial.json"):
        return joined(folder, name)
    if path.exists():
        return files.read_table(path)
    if any(path.name in about.get("files", ()) for about in abouts.values()):
        raise StoreError(f"{path}: is missing; bring it back, or publish the suite again")
    return None


def attempted(check: str, place: Path, look: Callable[[], tuple[str, str]]) -> Finding:
    """What `look` found at a place; what it could not read there is found to be wrong."""
    try:
        return Finding(check, *look())
    except StoreError as error:
        return Finding(check, str(error))
    except (LookupError, ValueError, TypeError, AttributeError, OSError) as error:
        return Finding(check, f"{place}: not as the benchmark writes it: {type(error).__name__}: {error}")


def check_files(abouts: Mapping[Path, Mapping[str, Any]], remedy: str) -> tuple[str, str]:
    """Compare the files of all trials with the checksums that they carry and that `trial.json` has."""
    count = 0
    for folder, about in abouts.items():
        if not (folder / "trial.json").exists():
            continue
        count += 1
        for name in TABLES:
            if (folder / f"{name}.parquet").exists():
                read_table_of(folder, name, about)
        if damaged := _damaged_checkpoints(folder):
            return f"{damaged}; {remedy}" if about["status"] != "done" else f"{damaged}; more steps start it over", ""
        if about["status"] != "done":
            continue
        for name, checksum in about["files"].items():
            path = folder / name
            if not path.exists():
                return f"{path}: is missing; {remedy}", ""
            if path.suffix == ".pt" and files.sha256(path) != checksum:
                return f"{path}: was damaged or changed after it was written; {remedy}", ""
    return "", f"those of {count} trials" if count else "of a published suite, which keeps the tables of all trials"


def _policies(folder: Path) -> tuple[str, str]:
    """A published suite has a whole team of each task and algorithm of which a trial was published with policies."""
    teams = published_teams(folder)
    with_team = {(about["task"], about["algorithm"]) for about in teams.values()}
    if lost := with_policies(published(folder).values()) - with_team:
        return f"{folder / POLICIES}: no team of {some(lost)}; bring it back, or publish the suite again", ""
    wrong, note = check_files(teams, "publish the suite again")
    return wrong, note if teams else "none"


def with_policies(abouts: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """The pairings of task and algorithm with a trial that kept its policies, and was not published without."""
    kept = [a for a in abouts if a["status"] == "done" and "policy.pt" in a["files"] and WITHOUT_POLICY not in a]
    return {(about["task"], about["algorithm"]) for about in kept}


def _damaged_checkpoints(folder: Path) -> str:
    """What is wrong with the checkpoints of a trial where it cannot go on from any; else empty."""
    wrong = ""
    for path in (folder / name for name in CHECKPOINTS):
        try:
            check_archive(path)
        except FileNotFoundError:
            continue
        except Damaged as error:
            wrong = wrong or f"{path}: {error}"
            continue
        return ""
    return wrong


def _resolved(folder: Path, abouts: Mapping[Path, Mapping[str, Any]]) -> tuple[str, str]:
    """The suite file is the one that was run, all trials have its budget, and each that it plans is there."""
    if wrong := changed_suite(folder):
        return wrong, ""
    found = Resolved.read(folder)
    begun = [about for about in abouts.values() if about["status"] != "waiting"]
    budgets = {(about["steps"], about["evaluate"]["every"], about["evaluate"]["episodes"]) for about in begun}
    if len(budgets) > 1:
        return f"{folder}: trials of different budgets (steps, every, episodes): {sorted(budgets)}", ""
    cells = {(about["task"], about["algorithm"], about["seed"]) for about in abouts.values()}
    seeds = sorted({seed for _, _, seed in cells})
    pairings = {(task, label) for task, label, _ in cells}
    note = f"{len(pairings)} pairings of task and algorithm, seeds {', '.join(map(str, seeds))}"
    missing = (found.planned() if found else set()) - cells
    if missing and (folder / "trials").exists():
        return f"{folder}: planned trials are not there: {some(missing)}; run the suite again", ""
    if missing:
        note += f"; not published yet: {some(missing)}"
    ragged = [(t, a) for t, a in pairings if not {(t, a, seed) for seed in seeds} <= cells]
    return "", note + (f"; not with all seeds: {some(ragged)}" if ragged else "")


def changed_suite(folder: Path) -> str:
    """What is wrong with the suite file of results and what it was resolved to, in one line; empty if nothing is."""
    found, path = Resolved.read(folder), folder / "suite.yaml"
    if found is None and path.exists():
        return f"{folder / resolved.NAME}: is missing; run the suite again, which writes it anew"
    if found and found.suite_file and (not path.exists() or files.sha256(path) != found.suite_file):
        return f"{path}: is not the suite that was run; run that suite again, which writes it anew"
    return ""


def check_records(records: pd.DataFrame, abouts: Mapping[Path, Mapping[str, Any]]) -> str:
    """Each trial has the columns, every point of its grid with all episodes, and at its end the fresh ones."""
    if missing := [column for column in RECORD_COLUMNS if column not in records.columns]:
        return f"columns are missing: {', '.join(missing)}"
    wrong = records[~np.isfinite(records[["episode_return", "length", "seconds"]].to_numpy(float)).all(axis=1)]
    if len(wrong):
        task, label, seed = wrong[KEY].iloc[0]
        return f"{task} {label} seed {seed}: a return, length or time is not finite"
    groups = dict([*records.groupby(KEY, sort=False, observed=True)])
    for about in abouts.values():
        rows = groups.pop((about["task"], about["algorithm"], about["seed"]), records[:0])
        if wrong := _records_of(rows, about):
            return f"{about['task']} {about['algorithm']} seed {about['seed']}: {wrong}"
    return f"rows of {len(groups)} trials that are not there: {some(groups)}" if groups else ""


def _records_of(rows: pd.DataFrame, about: Mapping[str, Any]) -> str:
    every, episodes = about["evaluate"]["every"], about["evaluate"]["episodes"]
    grid = rows[rows["kind"] == "grid"]
    counts = grid.groupby("step").size()
    if (counts != episodes).any():
        return f"an evaluation has other than {episodes} episodes"
    done = about["status"] == "done"
    last = about["steps"] if done else (counts.index.max() if len(counts) else -every)
    if list(counts.index) != list(range(0, last + 1, every)):
        return "points of the evaluation grid are missing"
    if rows.duplicated(["kind", "step", "episode"]).any():
        return "an episode of an evaluation is there twice"
    end = grid.loc[grid["step"] == last, "episode_return"].mean()
    if done and not math.isclose(end, about["last_evaluation"], rel_tol=1e-9, abs_tol=1e-9):
        return f"the mean return of the last evaluation is {end:.6g}, not {about['last_evaluation']:.6g}"
    earlier = of_earlier_budgets(rows)
    fresh = rows[(rows["kind"] != "grid") & ~earlier].groupby("kind")["episode"].nunique().to_dict()
    plays = done and "policy.pt" in about["files"]  # those of a study do not
    wanted = dict.fromkeys(("absolute", "final"), FRESH_FACTOR * episodes) if plays else {}
    if done and fresh != wanted:
        return f"fresh episodes are {fresh}, not {wanted}"
    if done and (set(rows.loc[rows["kind"] == "final", "step"]) - {about["steps"]}):
        return "final episodes of another policy than the last"
    budgets = [budget["steps"] for budget in about.get(EARLIER_BUDGETS, []) if "policy.pt" in budget.get("files", ())]
    ends = {f"{kind}{AT}{steps}" for kind in FRESH_KINDS for steps in budgets}
    if (rows[earlier].groupby("kind").size() != FRESH_FACTOR * episodes).any() or ends - {*rows["kind"]}:
        return "fresh episodes at the end of an earlier budget are missing"
    seconds = grid.drop_duplicates("step")["seconds"]
    return "" if seconds.is_monotonic_increasing else "the seconds of training fall"


def _updates(updates: pd.DataFrame, abouts: Mapping[Path, Mapping[str, Any]]) -> str:
    """No update is there twice, none lies beyond the budget, and each row is of a trial that is there."""
    if updates.duplicated([*KEY, "step", "agent"]).any():
        return "an update of an agent is there twice"
    steps = {(a["task"], a["algorithm"], a["seed"]): a["steps"] for a in abouts.values()}
    for own, last in updates.groupby(KEY, sort=False, observed=True)["step"].max().items():
        if own not in steps:
            return f"rows of a trial that is not there: {own}"
        if last > steps[own]:
            return f"{own}: an update at step {last}, beyond its {steps[own]} steps"
    return ""


def _stored(folder: Path, tables: Mapping[str, pd.DataFrame | None]) -> tuple[str, str]:
    """The tables of all trials, where they were joined, hold what the trials hold."""
    found = [path.name for path in (folder / f"{name}.parquet" for name in tables) if path.exists()]
    for name, table in tables.items():
        path = folder / f"{name}.parquet"
        if path.name not in found or table is None or (stored := files.read_table(path)).equals(table):
            continue
        lost = {*map(tuple, stored[KEY].to_numpy())} - {*map(tuple, table[KEY].to_numpy())}
        if lost:
            return f"{path}: has rows of trials that are not there any more: {some(lost)}", ""
        return "", f"{path.name} is older than the trials; bench.report joins them anew"
    return "", f"{' and '.join(found)}: as those of the trials" if found else "nothing yet; bench.report does it"


def some(cells: Iterable[tuple[Any, ...]]) -> str:
    """The first of these by name: task, algorithm and seed, or a part of them."""
    return first_of([" ".join(map(str, cell)) for cell in sorted(cells)])
