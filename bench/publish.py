# PYTHON_ARGCOMPLETE_OK
"""`python -m bench.publish RESULTS ...`: make the compact form of the results of a suite or study, to be kept in git.

It has the records of all trials, failed ones included, what every `trial.json` says, the diagnostics of at most 100
updates of each agent and trial, and one trained team of each task and algorithm. It is a folder of results like any
other: reports are made from it, `bench.verify` checks it, `bench.play` plays its teams, and `bench.run` takes its
trials for done, so a run goes on from a fresh clone. Of a study it has the tables, the best settings, the journal, and
the records of all its trials with what their `trial.json` say.
"""

from __future__ import annotations

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.cli.command import counted
from bench.store import files
from bench.store.files import StoreError
from bench.store.places import copied, naming
from bench.store.remote import local_folder, location
from bench.store.trials import identity, joined, read_trials
from bench.store.verifying import changed_suite

MOST_UPDATES = 100
"""Of each agent and trial."""
FIRST_UPDATES = 5
"""The first ones are kept, for `bench.verify --replay`."""
FOLDERS = re.compile(r"(?<![\w./])(?:/[^\s/:'\"]+)*/(?=[^\s/:'\"])")
"""What stands before the last name of an absolute path."""
PLACES = "folders of suites and studies, results/<suite>, or their places in a store, s3://BUCKET/PREFIX/<suite>"
COPIED = ("suite.yaml", "resolved.json")
OF_A_STUDY = ("study.yaml", "study.json", "resolved.json", "tuning.parquet", "importances.parquet", "best.yaml")
JOURNAL = "journal.log"
"""Only there where a study keeps its trials in a file."""


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
    options = parser.parse_args(arguments)
    try:
        for place in options.results:
            with naming(place):
                folder = copied(place)
                target = options.into / folder.resolve().name
                count = (publish_study if (folder / "study.yaml").exists() else publish)(folder, target)
            size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
            print(f"{target}: {counted(count, 'trial')}, {size / 1e6:.1f} MB")
    except StoreError as error:
        return command.refused(error)
    return 0


def publish(folder: Path, target: Path) -> int:
    """Write the compact form of a suite's results into a folder; returns the number of its trials."""
    abouts = [about for about in read_trials(folder) if about["status"] in ("done", "failed")]
    if wrong := changed_suite(folder):
        raise StoreError(wrong)
    if not abouts:
        raise StoreError(f"{folder}: no trial there has ended; the results of a suite have trials/")
    of = pd.DataFrame([identity(about) for about in abouts])[["task", "algorithm", "seed"]]
    records, updates = (joined(folder, name) for name in ("records", "updates"))
    if records is not None:
        files.write_table(target / "records.parquet", records.merge(of))
    if updates is not None:
        files.write_table(target / "updates.parquet", thinned(updates.merge(of)))
    files.write_table(target / "trials.parquet", pd.DataFrame([_row(about) for about in abouts]))
    _copy(folder, target, COPIED)
    if records is not None:
        from bench.trial.publishing import publish_policies  # loads torch

        publish_policies(folder, records, target)
    return len(abouts)


def publish_study(folder: Path, target: Path) -> int:
    """Write the compact form of a study into a folder; returns the number of trials that its tuning trials had."""
    parts = {part: int(part.name.rpartition("-")[2]) for part in sorted(folder.glob("tuning/*/trial-*"))}
    if missing := [name for name in OF_A_STUDY if not (folder / name).exists()]:
        raise StoreError(f"{folder / missing[0]}: is missing; bench.tune writes it when it ends")
    if not parts:
        raise StoreError(f"{folder}: no tuning/ there: published already, or not the folder in which the study ran")
    rows = [{**_row(about), "number": number} for part, number in parts.items() for about in read_trials(part)]
    records = [own.assign(number=k) for part, k in parts.items() if (own := joined(part, "records")) is not None]
    files.write_table(target / "tuning_trials.parquet", pd.DataFrame(rows))
    files.write_table(target / "tuning_records.parquet", pd.concat(records, ignore_index=True))
    _copy(folder, target, (*OF_A_STUDY, JOURNAL))
    return len(rows)


def _row(about: dict[str, Any]) -> dict[str, Any]:
    return {**identity(about), "status": about["status"], "about": json.dumps(_without_places(about))}


def _copy(folder: Path, target: Path, names: Sequence[str]) -> None:
    for name in names:
        if (folder / name).exists() and folder.resolve() != target.resolve():
            files.write_bytes(target / name, (folder / name).read_bytes())


def thinned(updates: pd.DataFrame) -> pd.DataFrame:
    """At most 100 updates of each agent of each trial: the first ones, and the others evenly spaced to the last."""

    def kept(steps: Any) -> Any:
        last = len(steps) - 1
        spaced = np.linspace(0, last, MOST_UPDATES - FIRST_UPDATES).round().astype(int)
        chosen = {*range(min(FIRST_UPDATES, len(steps))), *spaced.tolist()}
        return np.isin(np.arange(len(steps)), sorted(chosen))

    keep = updates.groupby(["task", "algorithm", "seed", "agent"], sort=False)["step"].transform(kept)
    return updates[keep.astype(bool)].reset_index(drop=True)


def _without_places(about: dict[str, Any]) -> dict[str, Any]:
    """What a `trial.json` says, without folders of a user's: without the traceback, and with names of files alone."""
    kept = {key: value for key, value in about.items() if key != "traceback"}
    return kept | {"error": FOLDERS.sub("", kept["error"])} if kept.get("error") else kept


if __name__ == "__main__":
    sys.exit(main())
