"""What the algorithms of a suite are, and what its trials ran on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bench.cli.command import enumerated
from bench.report.algorithms import in_order
from bench.report.audit import tuning
from bench.report.load import SuiteResults, parts_run
from bench.store.provenance import commit_in_words

CRITICS = (("ippo", "mappo"), ("haippo", "happo"))
"""Methods that differ in their critic alone: decentralised, centralised."""
UPDATES = (("mappo", "happo"), ("ippo", "haippo"), ("matrpo", "hatrpo"))
"""Methods that differ in their update alone: simultaneous, sequential."""


def compared(suite: SuiteResults, labels: list[str]) -> list[dict[str, str]]:
    """What each label stands for, as far as `resolved.json` says it."""
    known = suite.resolved.algorithms if suite.resolved else {}
    return [
        {
            "algorithm": label,
            "method": known[label].method,
            "summary": known[label].summary + ("; an ablation" if known[label].ablation else ""),
        }
        for label in labels
        if label in known
    ]


def provenance(suite: SuiteResults) -> list[dict[str, str]]:
    """What the trials ran on: one row per fact and value, with the number of trials of which any part ran there."""
    tally: Counter[tuple[str, str]] = Counter()
    for trial in suite.trials:
        tally.update({fact for part in parts_run(trial) for fact in _facts(part)})
    first = ("commit", "physics", "machine")
    return [
        {"what": what, "value": value, "trials": str(tally[what, value])}
        for what, value in sorted(tally, key=lambda fact: (fact[0] not in first, fact))
    ]


def _facts(source: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    machine = source.get("machine", {})
    yield "commit", commit_in_words(source)
    yield "physics", source.get("physics", "not compared with golden.json")
    yield "machine", ", ".join(f"{key} {machine[key]}" for key in sorted(machine)) or "unknown"
    yield from ((package, str(version)) for package, version in source.get("versions", {}).items())


def config_hashes(suite: SuiteResults) -> list[dict[str, str]]:
    """One row per task and algorithm: its method and the one hash of its configuration."""
    found = {(trial["task"], trial["algorithm"]): trial for trial in suite.trials}
    return [
        {
            "task": task,
            "algorithm": label,
            "method": trial.get("method", ""),
            "tuning": tuning(trial),
            "hash": trial["config_hash"][:16],
        }
        for task in sorted({task for task, _ in found})
        for label in in_order((label for _, label in found), suite.algorithms.methods)
        if (trial := found.get((task, label)))
    ]


def alike(suite: SuiteResults) -> list[str]:
    """Which algorithms nearly or wholly coincide on tasks of the whole state, and on tasks of one agent."""
    agents = suite.resolved.agents if suite.resolved else {}
    labels: dict[str, dict[str, set[str]]] = {}  # task -> method -> labels
    for trial in suite.trials:
        of_task = labels.setdefault(trial["task"], {})
        of_task.setdefault(trial.get("method", trial["algorithm"]), set()).add(trial["algorithm"])
    whole = {
        trial["task"]
        for trial in suite.trials
        if trial["task"].startswith("games/") or trial.get("options", {}).get("observation") in ("global", "paper")
    }
    alone = {task for task in labels if agents.get(task) == 1}
    found = [
        f"Alike by design: agents observe the whole state on {tasks}, so that the critics of {names} see the same; "
        "beside their settings these differ in having one critic per agent or one for all."
        for names, tasks in _together(labels, whole, CRITICS)
    ]
    return found + [
        f"Alike by design: with the one agent of {tasks} a sequential update is a simultaneous one, so that {names} "
        "differ in their settings alone."
        for names, tasks in _together(labels, alone, UPDATES)
    ]


def _together(
    labels: Mapping[str, Mapping[str, set[str]]], tasks: set[str], pairs: Iterable[tuple[str, str]]
) -> list[tuple[str, str]]:
    """The labels of each pair of methods that are on some of the tasks, and those tasks, in words."""
    found = []
    for pair in pairs:
        both = sorted(task for task in tasks if {*pair} <= {*labels[task]})
        names = dict.fromkeys(name for task in both for method in pair for name in sorted(labels[task][method]))
        if both:
            found.append((enumerated([*names]), enumerated(both)))
    return found
