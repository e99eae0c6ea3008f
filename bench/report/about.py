"""What the algorithms of a suite are, and what its trials ran on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from bench.report.algorithms import in_order
from bench.report.audit import tuning
from bench.report.load import SuiteResults, parts_run
from bench.store.provenance import commit_in_words


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
