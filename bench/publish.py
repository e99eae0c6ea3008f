# PYTHON_ARGCOMPLETE_OK
"""`python -m bench.publish RESULTS ...`: make the compact form of the results of a suite or study, to be kept in git.

It has the records of all trials, failed ones included, what every `trial.json` says, the diagnostics of at most 100
updates of each agent and trial and of those around which the return was measured, and one trained team of each task and
algorithm. It is a folder of results like any other: reports are made from it, `bench.verify` checks it, `bench.play`
plays its teams, and `bench.run` takes its trials for done, so a run goes on from a fresh clone. Of a study it has the
tables, the best settings, the journal, and the records of all its trials with what their `trial.json` say.
"""

from __future__ import annotations

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import json
import re
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.cli.command import counted
from bench.store import files
from bench.store.files import StoreError
from bench.store.places import copied, naming
from bench.store.remote import local_folder, location
from bench.store.studies import PUBLISHED, is_study, tuning_trials
from bench.store.trials import (
    POLICIES,
    WITHOUT_POLICY,
    Teams,
    identity,
    joined,
    published,
    published_teams,
    read_trial_in_place,
    read_trials,
    trial_files,
    write_teams,
)
from bench.store.verifying import changed_suite, findings, some, with_policies
from bench.store.verifying_study import findings_of_study

MOST_UPDATES = 100
"""Of each agent and trial."""
FIRST_UPDATES = 5
"""The first ones are kept, for `bench.verify --replay`."""
FOLDERS = re.compile(r"(?<![\w./])(?:/[^\s/:'\"]+)*/(?=[^\s/:'\"])")
"""What stands before the last name of an absolute path."""
PLACES = "folders of suites and studies, results/<suite>, or their places in a store, s3://BUCKET/PREFIX/<suite>"
COPIED = ("suite.yaml", "resolved.json")
OF_A_STUDY = ("study.yaml", "study.json", "resolved.json", "tuning.parquet", "importances.parquet", "best.yaml")
TABLES = ("records.parquet", "updates.parquet", "trials.parquet", *PUBLISHED)
JOURNAL = "journal.log"
"""Only there where a study keeps its trials in a file."""
NEEDED = ("files", "tables", "records", "updates", "tuning trials", "returns", "best settings")
"""The checks of `bench.verify` that results pass or are not published."""


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all is written, 2 for results that cannot be read."""
    parser = command.Parser(
        prog="python -m bench.publish",
        description="Make the compact form of the results of a suite or study, to be kept in git.",
    )
    parser.add_argument("results", type=location, nargs="+", metavar="RESULTS", help=PLACES)
    parser.add_argument(
        "--into", type=local_folder, required=True, metavar="DIR", help="folder that gets a folder per suite"
    )
    parser.add_argument("--without-policies", action="store_true", help="leave out the trained teams, most of the size")
    options = parser.parse_args(arguments)
    try:
        for place in options.results:
            with naming(place):
                folder = copied(place)
                if not folder.is_dir():
                    raise StoreError(f"{folder}: no such folder")
                print(_published(folder, options.into / folder.resolve().name, not options.without_policies))
    except StoreError as error:
        return command.refused(error)
    return 0


def _published(folder: Path, target: Path, policies: bool) -> str:
    """Publish a suite or a study; returns what the terminal shows."""
    for finding in findings_of_study(folder) if is_study(folder) else findings(folder):
        if finding.wrong and finding.check in NEEDED:
            raise StoreError(finding.wrong)
    count, lines = (publish_study(folder, target), []) if is_study(folder) else publish(folder, target, policies)
    inside = folder.resolve() == target.resolve()
    names = [name for name in (*TABLES, *OF_A_STUDY, *COPIED, JOURNAL, POLICIES) if (target / name).exists()]
    size = sum(path.stat().st_size for name in names for path in _files(target / name))
    lines = [f"{target}: {counted(count, 'trial')}, {size / 1e6:.1f} MB", *lines]
    if (target / "report.html").exists():
        lines.append(f"The report there is older: python -m bench.report {shlex.quote(str(target))}")
    if inside:
        where = " ".join(shlex.quote(str(target / name)) for name in dict.fromkeys(names))
        lines.append(f"The trials themselves stay in that folder; what belongs into git: git add -f {where}")
    return "\n".join(lines)


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def publish(folder: Path, target: Path, policies: bool = True) -> tuple[int, list[str]]:
    """Write the compact form of a suite's results into a folder, with the trained teams if `policies`.

    Returns the number of its trials, and a line for each trained team that is not the one with the median return.
    """
    if wrong := changed_suite(folder):
        raise StoreError(wrong)
    abouts = [about for about in read_trials(folder) if about["status"] in ("done", "failed")]
    if not abouts:
        raise StoreError(f"{folder}: no trial there has ended; the results of a suite have trials/")
    if is_study(target):
        raise StoreError(f"{target}: holds a study; publish the suite into another folder")
    ours, theirs = (
        {(a["task"], a["algorithm"], a["seed"]) for a in found} for found in (abouts, published(target).values())
    )
    _refuse_fewer(folder, target, ours, theirs)
    of = pd.DataFrame([identity(about) for about in abouts])[["task", "algorithm", "seed"]]
    records, updates = (joined(folder, name) for name in ("records", "updates"))
    teams: Teams = {}
    lines: list[str] = []
    if not policies:
        abouts = [about | {WITHOUT_POLICY: True} for about in abouts]
    elif records is not None:
        from bench.trial.publishing import median_teams  # loads torch

        teams, lines = median_teams(folder, records)
    if missing := with_policies(abouts) - {*teams}:
        raise StoreError(
            f"{folder}: the trained team of {some(missing)} is not there any more; --without-policies needs none"
        )
    if lost := {(about["task"], about["algorithm"]) for about in published_teams(target).values()} - {*teams}:
        raise StoreError(
            f"{target / POLICIES}: the trained team of {some(lost)} would be lost; delete that folder if that is meant"
        )
    if records is not None:
        files.write_table(target / "records.parquet", records.merge(of))
    if updates is not None:
        own = {
            (about["task"], about["algorithm"], about["seed"])
            for path in trial_files(folder, "trial.json")
            for about in [read_trial_in_place(path)]
        }
        files.write_table(target / "updates.parquet", thinned(updates.merge(of), own))
    files.write_table(target / "trials.parquet", pd.DataFrame([_row(about) for about in abouts]))
    _copy(folder, target, COPIED)
    write_teams(teams, target)
    return len(abouts), lines


def publish_study(folder: Path, target: Path) -> int:
    """Write the compact form of a study into a folder; returns the number of trials that its tuning trials had."""
    if missing := [name for name in OF_A_STUDY if not (folder / name).exists()]:
        raise StoreError(f"{folder / missing[0]}: is missing; bench.tune writes it when it ends")
    found = tuning_trials(folder)
    if not found:
        raise StoreError(f"{folder}: no trials of its tuning trials are there; publish the folder in which it ran")
    if (target / "suite.yaml").exists():
        raise StoreError(f"{target}: holds a suite; publish the study into another folder")
    _refuse_fewer(folder, target, {*found}, {*tuning_trials(target)})
    rows = [{**_row(about), "number": k} for (_, k), own in found.items() for about in own.abouts.values()]
    records = [own.records.assign(number=k) for (_, k), own in found.items() if len(own.records)]
    files.write_table(target / "tuning_trials.parquet", pd.DataFrame(rows))
    files.write_table(target / "tuning_records.parquet", pd.concat(records, ignore_index=True))
    _copy(folder, target, (*OF_A_STUDY, JOURNAL))
    return len(rows)


def _refuse_fewer(folder: Path, target: Path, ours: set[tuple[Any, ...]], theirs: set[tuple[Any, ...]]) -> None:
    """Refuse to put results in the place of others of which they are only a part."""
    if lost := theirs - ours:
        raise StoreError(
            f"{target}: has {counted(len(lost), 'trial')} that {folder} has not: {some(lost)}; "
            "delete it if that is meant"
        )


def _row(about: Mapping[str, Any]) -> dict[str, Any]:
    return {**identity(about), "status": about["status"], "about": json.dumps(_without_places(about))}


def _copy(folder: Path, target: Path, names: Sequence[str]) -> None:
    for name in names:
        if (folder / name).exists() and folder.resolve() != target.resolve():
            files.write_bytes(target / name, (folder / name).read_bytes())


def thinned(updates: pd.DataFrame, own: Collection[tuple[str, str, int]]) -> pd.DataFrame:
    """At most 100 updates of each agent of each trial, the first ones and others evenly spaced to the last, and besides
    every update around which the return was measured: claims are decided by these.

    `own`: the trials (task, algorithm, seed) that are there whole; of others, which were published, all rows are kept.
    """

    def kept(steps: Any) -> Any:
        last = len(steps) - 1
        spaced = np.linspace(0, last, MOST_UPDATES - FIRST_UPDATES).round().astype(int)
        chosen = {*range(min(FIRST_UPDATES, len(steps))), *spaced.tolist()}
        return np.isin(np.arange(len(steps)), sorted(chosen))

    keep = updates.groupby(["task", "algorithm", "seed", "agent"], sort=False)["step"].transform(kept).astype(bool)
    if "improvement" in updates:
        keep |= updates["improvement"].notna()
    keep |= ~pd.MultiIndex.from_frame(updates[["task", "algorithm", "seed"]]).isin([*own])
    return updates[keep].reset_index(drop=True)


def _without_places(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a `trial.json` says, without folders of a user's: without the traceback, and with names of files alone."""
    kept = {key: value for key, value in about.items() if key != "traceback"}
    return kept | {"error": FOLDERS.sub("", kept["error"])} if kept.get("error") else kept


if __name__ == "__main__":
    sys.exit(main())
