"""The first updates of a trial once more, to compare them bit for bit with those that it recorded."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from bench.store.trials import trial_table
from bench.suite.restored import restored
from bench.suite.trial import Trial
from bench.trial.improvement import COLUMNS
from bench.trial.link import Link
from bench.trial.session import Session
from bench.trial.setup import prepare_process
from bench.trial.status import provenance_of

UPDATES = 3
"""So many updates are made again, and what was recorded of them is compared."""
TIMES = ("seconds", "steps_per_second")
"""Columns that depend on the machine's speed."""
ROWS = ("suite", "task", "algorithm", "seed", "step", "agent", *TIMES)
"""Columns of updates that every row has."""


def difference(suite_folder: Path, about: Mapping[str, Any], link: Link) -> str:
    """How the first evaluation and the first updates of a trial differ when they are made again here; empty if equal.

    Where they do, it names what differs between this machine and the one that the trial ran on.
    """
    trial = restored(about)
    if trial.config_hash() != about["config_hash"]:
        return f"means something else here: its config is {trial.config_hash()}, not {about['config_hash']}"
    records, updates = (trial_table(suite_folder, name, about) for name in ("records", "updates"))
    updates = _of_learner(updates)
    steps = sorted(updates["step"].unique())[:UPDATES]
    first_records, first_updates = _made_again(trial, steps, link)
    wrong = _first_difference("evaluation", records.query("kind == 'grid' and step == 0"), first_records)
    if not wrong and steps:
        wrong = _first_difference("update", *(table[table["step"].isin(steps)] for table in (updates, first_updates)))
    return wrong and f"{wrong}; {_other_circumstances(about, provenance_of(trial))}"


def _of_learner(updates: pd.DataFrame) -> pd.DataFrame:
    """The rows in which the learner says something: those made again do not measure improvement."""
    said = updates.columns.difference([*ROWS, *COLUMNS])
    return updates[updates[said].notna().any(axis=1)]


def _made_again(trial: Trial, steps: list[int], link: Link) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The records at step 0 and the updates up to the last of some steps."""
    prepare_process(trial.learner_threads)
    with TemporaryDirectory() as folder, closing(Session(trial, Path(folder), link=link)) as session:
        session.begin()
        while steps and session.step < steps[-1]:
            session.train()
        return session.records[0], pd.DataFrame(session.rows)


def _first_difference(what: str, stored: pd.DataFrame, made: pd.DataFrame) -> str:
    """The first column that is not equal to the bit."""
    if len(stored) != len(made):
        return f"{what}: {len(made)} rows, not {len(stored)}"
    for column in (name for name in made.columns if name not in TIMES):
        one, other = (frame[column].reset_index(drop=True) for frame in (stored, made))
        if not one.equals(other) and not np.array_equal(one.to_numpy(), other.to_numpy()):
            pairs = enumerate(zip(one.tolist(), other.tolist(), strict=True))
            row, was, now = next((i, x, y) for i, (x, y) in pairs if x != y and not (pd.isna(x) and pd.isna(y)))
            return f"{what} at step {made['step'].iloc[row]}: {column} was {was!r} and is {now!r}"
    return ""


def _other_circumstances(about: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What differs between the provenance of a trial and of this machine."""
    then = about["provenance"]
    parts = [(then, here), *((then[part], here[part]) for part in ("versions", "machine"))]
    other = [
        f"{name} was {was.get(name)}, is {now}"
        for was, is_ in parts
        for name, now in is_.items()
        if not isinstance(now, dict) and was.get(name) != now
    ]
    return ", ".join(other) or "nothing else is known to differ"
