"""The folder of a suite's results: it keeps its meaning, and one process at a time writes what all trials share."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.store import files
from bench.store.places import shared, shown, working
from bench.store.remote import Remote
from bench.store.resolved import Resolved
from bench.store.studies import is_study
from bench.store.trials import merge, read_trials, trials_by_folder
from bench.suite.claims import kept
from bench.suite.model import SuiteError
from bench.suite.trial import Trial
from bench.suite.yaml12 import dump
from bench.trial import status
from bench.trial.status import read_status


def prepare(planned: Sequence[Trial], document: dict[str, Any], resolved: Resolved, results: Path | Remote) -> None:
    """Write the suite file, what it was resolved to, and a `trial.json` for each trial that has not started."""
    with shared(results) as folder:
        refuse_changed(planned, results)
        files.write_text(folder / "suite.yaml", dump(document))
        replace(continued(resolved, results), suite_file=files.sha256(folder / "suite.yaml")).write(folder)
        for trial in planned:
            status.register(trial, folder)


def continued(resolved: Resolved, results: Path | Remote) -> Resolved:
    """What a suite was resolved to, with what its folder knows: which claims came first, how often one has looked."""
    folder = working(results)
    before = Resolved.read(folder)
    ended = sum(about["status"] in ("done", "failed") for about in read_trials(folder))
    if before is None:
        return replace(resolved, claims=kept(resolved.claims, {}, ended, results))
    if ended and before.claims and before.first_seed != resolved.first_seed:
        raise SuiteError(
            f"{results}: first_seed: {resolved.first_seed}, and its claims are decided by the seeds from "
            f"{before.first_seed} on; choose another name or folder for other seeds"
        )
    looks = {*resolved.looks, *before.looks} if ended else {*resolved.looks}
    return replace(resolved, claims=kept(resolved.claims, before.claims, ended, results), looks=sorted(looks))


def join_tables(results: Path | Remote) -> None:
    """Join the tables of all trials, one process after the other: the last one sees what all have written."""
    with shared(results) as folder:
        merge(folder)


def refuse_changed(planned: Sequence[Trial], results: Path | Remote, longer: Set[Trial] = frozenset()) -> None:
    """A stored trial of the same name must have meant the same, and all in the folder the same budget.

    `longer`: trials that are given more steps than they had.
    """
    folder = working(results)
    if is_study(folder):
        raise SuiteError(f"{results}: holds the results of a study; choose another name or folder")
    for t in planned:
        about = read_status(t, folder)
        if t in longer or about.get("status", "waiting") == "waiting" or about["config_hash"] == t.config_hash():
            continue
        own = shown(results, t.folder(folder))
        fewer = "; steps can only be added" if about["steps"] > t.steps else ""
        raise SuiteError(
            f"{own}: holds a trial with other settings ({'; '.join(status.differences(about, t))}; config "
            f"{about['config_hash']}, now {t.config_hash()}){fewer}; choose another name or folder, or delete it"
        )
    one, meant = planned[0], {t.folder(folder) for t in longer}
    budget: dict[str, Any] = {"steps": one.steps, "evaluate": {"every": one.every, "episodes": one.episodes}}
    for place, stored in trials_by_folder(folder).items():
        if stored["status"] != "waiting" and stored["suite"] != one.suite:
            raise SuiteError(
                f"{shown(results, place)}: is a trial of suite {stored['suite']!r}, not of {one.suite!r}; results of a "
                "suite go on under its own name"
            )
        was = {key: stored[key] for key in budget}
        if place not in meant and stored["status"] != "waiting" and was != budget:
            raise SuiteError(
                f"{results}: holds trials with {was}, not with {budget} (config {stored['config_hash']}, now "
                f"{one.config_hash()}); choose another name or folder"
            )
