"""Several suites on one page: what is the same trial under the same configuration is pooled, all else stays apart."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from bench.report.load import ReportError, SuiteResults, refuse_mixtures
from bench.store.resolved import Algorithm, Resolved

LONGEST_NAME = 255
"""Bytes of the name of a folder, on Linux and macOS."""


def combined(suites: Sequence[SuiteResults], folder: Path) -> SuiteResults:
    """The suites as one, whose report is written into `folder`; a ReportError where that cannot be.

    A label whose configuration is the same in several suites, on every task that they share, keeps its name, and its
    seeds are pooled; where two suites have the same seed of it, the first one's counts. Any other label that stands in
    several suites is told apart as "happo (tuned)". Claims are those of single suites, so there are none.
    """
    if len({suite.name for suite in suites}) < len(suites):
        raise ReportError(f"{', '.join(str(suite.folder) for suite in suites)}: two of them have the same name")
    if not set.intersection(*({*suite.records["task"]} for suite in suites)):
        raise ReportError(f"{', '.join(str(suite.folder) for suite in suites)}: have no task in common")
    if (length := len(os.fsencode(folder.name))) > LONGEST_NAME:
        raise ReportError(f"its folder's name would have {length} bytes, more than {LONGEST_NAME}; name fewer suites")
    names = _names(suites)
    records, updates, trials, seen = [], [], [], set[tuple[str, str, int]]()
    for suite in suites:
        renamed = names[suite.name]
        records.append(_unseen(suite.records, renamed, seen))
        updates.append(_unseen(suite.updates, renamed, seen))
        own = [trial | {"algorithm": renamed[trial["algorithm"]]} for trial in suite.trials]
        trials += [trial for trial in own if (trial["task"], trial["algorithm"], trial["seed"]) not in seen]
        seen |= {*_cells(records[-1])} | {(trial["task"], trial["algorithm"], trial["seed"]) for trial in own}
    refuse_mixtures(folder, trials)
    pooled, of_updates = (pd.concat(parts, ignore_index=True) for parts in (records, updates))
    return SuiteResults(folder, pooled, trials, _resolved(suites, names), of_updates)


def _unseen(table: pd.DataFrame, renamed: dict[str, str], seen: set[tuple[str, str, int]]) -> pd.DataFrame:
    """The rows of trials that no suite before has, with the labels of the page."""
    if table.empty:
        return table
    mine = table.assign(algorithm=table["algorithm"].map(renamed))
    return mine[~_cells(mine).isin([*seen])] if seen else mine


def _cells(table: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(table[["task", "algorithm", "seed"]])


def _names(suites: Sequence[SuiteResults]) -> dict[str, dict[str, str]]:
    """suite -> its labels -> what they are called on the page."""
    hashes: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for suite in suites:
        for trial in suite.trials:
            hashes[trial["algorithm"]][trial["task"]].add(trial["config_hash"])
    found: dict[str, dict[str, str]] = {}
    for suite in suites:
        labels = dict.fromkeys([*suite.records["algorithm"], *(trial["algorithm"] for trial in suite.trials)])
        found[suite.name] = {
            label: label
            if sum(label in {*other.records["algorithm"]} for other in suites) == 1
            or (hashes[label] and all(len(of) == 1 for of in hashes[label].values()))
            else f"{label} ({suite.name})"
            for label in labels
        }
    return found


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
