"""The first section of the page, and what `--claims` prints: one sentence per claim, and the comparisons behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.cli.command import counted
from bench.report import claims, formats, stats
from bench.report.claims import Comparison, Verdict
from bench.report.formats import NONE
from bench.report.load import SuiteResults


def context(suite: SuiteResults, found: Sequence[Verdict]) -> dict[str, Any]:
    """What the template `answer.html` shows of the verdicts on a suite's claims."""
    return {
        "verdicts": [_claim(one) for one in found],
        "comparisons": comparison_rows(found),
        "robustness": robustness_rows(found),
        "notes": notes(suite, found),
        "without_failed": changed_without_failed(suite, found),
        "rates": {"differences": f"{stats.ALPHA:.0%}", "equivalences": f"{stats.ALPHA / 2:.1%}"},
    }


def _claim(one: Verdict) -> dict[str, str]:
    tasks = counted(len({task for pair in one.comparisons for task in pair.tasks} or one.claim.tasks), "task")
    doubling = " per doubling of the number of agents" if one.claim.kind == "grows_with_agents" else ""
    about = f"{tasks}, {one.claim.measure} return, margin {one.claim.margin:g}{doubling}"
    return {
        "name": one.name,
        "says": one.claim.says,
        "verdict": one.verdict,
        "sentence": claims.sentence(one),
        "about": about if one.claim.against else tasks,
    }


def comparison_rows(found: Sequence[Verdict]) -> list[dict[str, str]]:
    """One row of text per comparison, without columns in which none has anything."""
    rows = [
        {
            "claim": one.name,
            "comparison": f"{pair.first} against {pair.second}",
            "effect": effect(pair, pair.evidence.effect),
            "verdict": pair.verdict,
            "95% interval": interval(pair),
            "p, Holm": NONE if np.isnan(pair.decision.p) else f"{pair.decision.p:.2g}",
            "tasks": str(pair.evidence.tasks),
            "seeds": str(pair.evidence.seeds),
            "decided at": str(pair.decision.seeds or NONE),
            "seeds that would decide": NONE if np.isnan(pair.seeds_needed) else claims.in_seeds(pair.seeds_needed),
        }
        for one in found
        for pair in one.comparisons
    ]
    return formats.without_empty(rows)


def robustness_rows(found: Sequence[Verdict]) -> list[dict[str, str]]:
    """One row of text per comparison of returns: what its effect would be, computed otherwise."""
    rows = [
        {
            "claim": one.name,
            "comparison": f"{pair.first} against {pair.second}",
            "effect": signed(pair.evidence.effect),
            "other policy": signed(other.other_policy),
            "all pairs": signed(other.all_pairs),
            "mean": signed(other.mean),
            "one scale per robot": signed(other.one_scale),
            "without one task or robot": span_signed(other.least, other.most),
        }
        for one in found
        for pair in one.comparisons
        if (other := pair.robustness) and pair.evidence != stats.NOTHING
    ]
    return formats.without_empty(rows)


def effect(pair: Comparison, value: float) -> str:
    """A difference of normalised returns, or the share of updates that lowered the return."""
    if pair.second != claims.ITSELF:
        return signed(value)
    return NONE if np.isnan(value) else f"{value:.1%}"


def interval(pair: Comparison) -> str:
    """That of the effect; a dash where seeds are too few."""
    low, high = pair.evidence.low, pair.evidence.high
    return f"[{effect(pair, low)}, {effect(pair, high)}]" if np.isfinite(low + high) else NONE


def span_signed(low: float, high: float) -> str:
    """ "-0.100 to +0.200"; a dash where there is none."""
    return NONE if np.isnan(low) else f"{signed(low)} to {signed(high)}"


def signed(value: float) -> str:
    """A difference of normalised returns; a dash where there is none."""
    return NONE if np.isnan(value) else f"{value:+.3f}"


def notes(suite: SuiteResults, found: Sequence[Verdict]) -> list[str]:
    """What has to be known of how the claims were decided."""
    if not found or suite.resolved is None:
        return []
    said = []
    tasks = dict.fromkeys(task for one in found if one.claim.against for task in one.claim.tasks)
    if missing := [task for task in tasks if not stats.normalisable(task)]:
        said.append(f"Left out, having no reference scores: {', '.join(missing)}.")
    late = [f"{one.name} after {counted(one.claim.ended_before, 'trial')}" for one in found if one.claim.ended_before]
    if late:
        said.append(f"Stated when there were results already: {', '.join(late)}.")
    if any(one.claim.kind == "grows_with_agents" for one in found):
        said.append(
            "A claim about the number of agents is about differences, which may grow from below 0 and stay there."
        )
    looks = stats.deciding(suite.resolved.looks)
    if len(looks) > 1:
        compared = (pair.verdict for one in found for pair in one.comparisons if pair.second != claims.ITSELF)
        said.append(_of_looks(looks, stats.holm_count(compared)))
        said.append(saved(suite, found))
    if not looks:
        said.append(f"Nothing is decided with fewer than {stats.ENOUGH_SEEDS} seeds.")
    return [note for note in said if note]


def _of_looks(looks: Sequence[int], comparisons: int) -> str:
    """At how many seeds claims are decided, and how small the least corrected p of so many must be there."""
    said = (
        f"Can be decided at {', '.join(map(str, looks[:-1]))} or {looks[-1]} seeds, with one error rate for all looks"
    )
    if not comparisons:
        return f"{said}."
    most = comparisons * stats.levels(looks, stats.ALPHA / comparisons)
    levels = ", ".join(f"{p:.1%}" for p in most)
    return f"{said}: the least corrected p of what is undecided must be at most {levels} there."


def saved(suite: SuiteResults, found: Sequence[Verdict]) -> str:
    """How many trials were spared because seeds were added only where a claim was open; empty while one is."""
    assert suite.resolved is not None
    working = any(trial["status"] in ("waiting", "running", "stopped") for trial in suite.trials)
    if working or any(one.verdict == stats.UNDECIDED and not one.why for one in found):
        return ""
    tasks, labels = len(suite.resolved.tasks), len(suite.resolved.algorithms)
    most = (tasks * labels - len(suite.skipped)) * max(suite.resolved.looks)
    here = len(suite.trials)
    return f"Of {most} trials with all seeds {most - here} were not needed." if here < most else ""


def changed_without_failed(suite: SuiteResults, found: Sequence[Verdict]) -> list[dict[str, str]]:
    """Comparisons in which a trial failed: their verdict, and what it would be without such trials."""
    tables = {kind: stats.final_returns(suite.records, suite.states, kind) for kind in {x.claim.measure for x in found}}
    counts = {
        (one.name, x.first, x.second): _failed(tables[one.claim.measure], x) for one in found for x in one.comparisons
    }
    if not any(counts.values()):
        return []
    others = claims.verdicts(suite, without_failed=True)
    other = {(one.name, x.first, x.second): x for one in others for x in one.comparisons}
    return [
        {
            "claim": one.name,
            "comparison": f"{x.first} against {x.second}",
            "failed": str(counts[key]),
            "verdict": x.verdict,
            "effect": effect(x, x.evidence.effect),
            "without": _without(other[key]),
            "effect without": effect(x, other[key].evidence.effect),
        }
        for one in found
        for x in one.comparisons
        if counts[key := (one.name, x.first, x.second)]
    ]


def _failed(table: pd.DataFrame, pair: Comparison) -> int:
    """How many trials of a comparison failed, of the table of final returns."""
    of = table["task"].isin(pair.tasks) & table["algorithm"].isin([pair.first, pair.second])
    return int((of & (table["counted_as"] != "")).sum())


def _without(one: Comparison) -> str:
    """A verdict, and why there is none where too few seeds are left."""
    few = one.evidence.seeds < stats.ENOUGH_SEEDS
    return f"{one.verdict}, {one.evidence.seeds} seeds on a task being too few" if few else one.verdict


def lines(suite: SuiteResults) -> list[str]:
    """What `--claims` prints."""
    found = claims.verdicts(suite)
    if not found:
        return [f"{suite.name}: states no claims"]
    said = []
    for one in found:
        said += [f"{one.verdict.upper()}: {one.claim.says}", f"  {claims.sentence(one)}"]
        for pair in one.comparisons:
            said.append(
                f"  {pair.first} against {pair.second}: {pair.verdict}, effect {effect(pair, pair.evidence.effect)} "
                f"{interval(pair)}, {counted(pair.evidence.tasks, 'task')}, {counted(pair.evidence.seeds, 'seed')}"
            )
    return [*said, *notes(suite, found)]
