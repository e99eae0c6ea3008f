"""Several suites on one page: what is the same trial under the same configuration is pooled, all else stays apart."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.report.load import ReportError, SuiteResults, refuse_mixtures
from bench.store.resolved import Algorithm, Resolved

Cell = tuple[str, str, int]
LONGEST_NAME = 255
"""Bytes of the name of a folder, on Linux and macOS."""


def combined(suites: Sequence[SuiteResults], folder: Path) -> SuiteResults:
    """The suites as one, whose report is written into `folder`; a ReportError where that cannot be.

    A label whose configuration is the same in several suites, on every task that they share, keeps its name, and its
    seeds are pooled; where two suites have the same seed of it, that of the first in which it has begun counts. Any
    other label that stands in several suites is told apart as "happo (tuned)". Claims are those of single suites, so
    there are none.
    """
    if len({suite.name for suite in suites}) < len(suites):
        raise ReportError(f"{', '.join(str(suite.folder) for suite in suites)}: two of them have the same name")
    if not set.intersection(*({*suite.records["task"]} for suite in suites)):
        raise ReportError(f"{', '.join(str(suite.folder) for suite in suites)}: have no task in common")
    if (length := len(os.fsencode(folder.name))) > LONGEST_NAME:
        raise ReportError(f"its folder's name would have {length} bytes, more than {LONGEST_NAME}; name fewer suites")
    names = _names(suites)
    alike = [_renamed(suite, names[suite.name]) for suite in suites]
    owners = _owners(alike)
    trials = [trial for suite in alike for trial in suite.trials if owners[_cell(trial)] == suite.name]
    refuse_mixtures(folder, trials)
    records, updates = (
        pd.concat([_owned(table, suite, owners) for suite, table in tables], ignore_index=True)
        for tables in ([(suite, suite.records) for suite in alike], [(suite, suite.updates) for suite in alike])
    )
    planned = {cell for suite in alike for cell in (_cells(suite) if suite.planned is None else suite.planned)}
    return SuiteResults(folder, records, trials, _resolved(suites, names), updates, planned)


def _renamed(suite: SuiteResults, names: dict[str, str]) -> SuiteResults:
    """The suite with the labels of the page."""
    records, updates = (
        table if table.empty else table.assign(algorithm=table["algorithm"].map(names))
        for table in (suite.records, suite.updates)
    )
    trials = [trial | {"algorithm": names[trial["algorithm"]]} for trial in suite.trials]
    planned = None if suite.planned is None else {(t, names.get(label, label), s) for t, label, s in suite.planned}
    return replace(suite, records=records, updates=updates, trials=trials, planned=planned)


def _owners(suites: Sequence[SuiteResults]) -> dict[Cell, str]:
    """Which suite each trial is taken from: the first in which it has begun, else the first that has it."""
    owners: dict[Cell, str] = {}
    for cells in (_begun, _cells):
        for suite in suites:
            for cell in cells(suite):
                owners.setdefault(cell, suite.name)
    return owners


def _cell(trial: Mapping[str, Any]) -> Cell:
    return trial["task"], trial["algorithm"], trial["seed"]


def _cells(suite: SuiteResults) -> set[Cell]:
    return _begun(suite) | {*map(_cell, suite.trials)}


def _begun(suite: SuiteResults) -> set[Cell]:
    return {*_index(suite.records)} | {_cell(trial) for trial in suite.trials if trial["status"] != "waiting"}


def _index(table: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(table[["task", "algorithm", "seed"]])


def _owned(table: pd.DataFrame, suite: SuiteResults, owners: Mapping[Cell, str]) -> pd.DataFrame:
    """The rows of trials that are taken from this suite."""
    return table if table.empty else table[[owners.get(cell) == suite.name for cell in _index(table)]]


def _names(suites: Sequence[SuiteResults]) -> dict[str, dict[str, str]]:
    """suite -> its labels -> what they are called on the page."""
    hashes: dict[str, dict[str, set[str | None]]] = defaultdict(lambda: defaultdict(set))  # label -> task
    owners: dict[str, list[str]] = defaultdict(list)
    for suite in suites:
        known = {(trial["task"], trial["algorithm"]): trial["config_hash"] for trial in suite.trials}
        there = {(task, label) for task, label, _ in _cells(suite)}
        for task, label in there:
            hashes[label][task].add(known.get((task, label)))
        for label in {label for _, label in there}:
            owners[label].append(suite.name)

    def one(label: str) -> bool:
        """Whether a label is of one suite, or has one configuration in all that have it on a task."""
        return len(owners[label]) == 1 or all(len(of) == 1 and None not in of for of in hashes[label].values())

    return {
        suite.name: {
            label: label if one(label) else f"{label} ({suite.name})"
            for label, names in owners.items()
            if suite.name in names
        }
        for suite in suites
    }


def _resolved(suites: Sequence[SuiteResults], names: dict[str, dict[str, str]]) -> Resolved | None:
    parts = [(suite.name, suite.resolved) for suite in suites if suite.resolved]
    if not parts:
        return None
    known: dict[str, Algorithm] = {}
    for name, part in parts:
        for label, about in part.algorithms.items():
            known.setdefault(names[name].get(label, label), about)
    tasks = list(dict.fromkeys(task for _, part in parts for task in part.tasks))
    planned = {
        (task, names[name].get(label, label))
        for name, part in parts
        for task in part.tasks
        for label in part.algorithms
        if (task, label) not in {*part.skipped}
    }
    agents = {task: count for _, part in parts for task, count in part.agents.items()}
    skipped = [(task, label) for task in tasks for label in known if (task, label) not in planned]
    return replace(parts[0][1], tasks=tasks, algorithms=known, skipped=skipped, agents=agents, claims={}, looks=[])
