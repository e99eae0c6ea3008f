"""The verdicts on the claims of a suite."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from statistics import mean
from typing import Any

import numpy as np
import pandas as pd

from bench.report import monotonic, stats
from bench.report.load import SuiteResults
from bench.report.stats import CONTRADICTED, EQUIVALENT, NOTHING, SUPPORTED, UNDECIDED, Decision, Evidence
from bench.store import scores
from bench.store.resolved import Claim, Resolved, by_robot
from bench.store.trials import FRESH_KINDS

ITSELF = "itself before the update"
METER = "the improvement of the joint return was not measured in this suite"


@dataclass(frozen=True)
class Comparison:
    """One algorithm against another, for one claim."""

    claim: str
    first: str
    second: str
    tasks: frozenset[str]
    """On which both are planned and can be compared."""
    evidence: Evidence
    """From the seeds at which it was decided; from all that both have while it is not."""
    decision: Decision
    seeds_needed: float
    """About how many seeds would decide; NaN where that is not known."""
    robustness: stats.Robustness | None = None
    """None for claims about updates."""

    @property
    def verdict(self) -> str:
        return self.decision.verdict


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim: that of its weakest comparison."""

    name: str
    claim: Claim
    comparisons: Sequence[Comparison]
    why: str = ""
    """Why nothing can be said, where there is nothing to compare."""

    @property
    def verdict(self) -> str:
        """Contradicted if one comparison is, else undecided if one is, else equivalent if one is, else supported."""
        found = {comparison.verdict for comparison in self.comparisons} or {UNDECIDED}
        return next(word for word in (CONTRADICTED, UNDECIDED, EQUIVALENT, SUPPORTED) if word in found)


@dataclass(frozen=True)
class _Question:
    """What a comparison asks of the returns."""

    name: str
    claim: Claim
    first: str
    second: str
    tasks: frozenset[str]


class Evaluated:
    """The final returns of a suite, and what they say about its claims."""

    def __init__(self, suite: SuiteResults, resolved: Resolved, without_failed: bool = False):
        self._suite, self._resolved, self._without_failed = suite, resolved, without_failed
        self._ended = {kind: stats.ended_returns(suite.records, suite.states, kind) for kind in FRESH_KINDS}
        self._questions = [
            _Question(name, claim, first, second, self._comparable(claim, first, second))
            for name, claim in resolved.claims.items()
            for first in claim.algorithms
            for second in claim.against
        ]

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """One per claim, in the order of the suite file."""
        margins = [question.claim.margin for question in self._questions]
        decisions = stats.decide(self._at, margins, self._resolved.looks)
        left = max(1, stats.holm_count(decision.verdict for decision in decisions))
        looks = stats.deciding(self._resolved.looks) or [stats.ENOUGH_SEEDS]
        level = stats.levels(looks, stats.ALPHA / left)[-1]  # that of the last look
        found = [self._comparison(*pair, level) for pair in zip(self._questions, decisions, strict=True)]
        return [
            Verdict(name, claim, [one for one in found if one.claim == name])
            if claim.against
            else self._monotonic(name, claim)
            for name, claim in self._resolved.claims.items()
        ]

    def _comparable(self, claim: Claim, *labels: str) -> frozenset[str]:
        """The tasks of a claim on which all these are planned, and comparisons have normalised returns."""
        tasks = [task for task in claim.tasks if not {(task, label) for label in labels} & {*self._resolved.skipped}]
        if claim.against:
            tasks = [task for task in tasks if stats.normalisable(task)]
        if claim.kind == "grows_with_agents":
            agents = {task: self._resolved.agents[task] for task in tasks if task in self._resolved.agents}
            tasks = [task for of in by_robot(agents) for task in of]
        return frozenset(tasks)

    def _at(self, j: int, seeds: int) -> Evidence | None:
        """What the first seeds say about a question; None where a planned trial of them has not ended."""
        question = self._questions[j]
        if not self._have_ended(question.claim.measure, {question.first, question.second}, question.tasks, seeds):
            return None
        pairs = self._pairs(question, seeds)
        return self._evidence(question, pairs) if pairs.keys() == question.tasks else None

    def _have_ended(self, measure: str, labels: Set[str], tasks: Set[str], seeds: int) -> bool:
        """Whether all trials of the first seeds have, those that failed included."""
        ended = self._of_seeds(self._ended[measure], seeds)
        here = ended[ended["algorithm"].isin(labels) & ended["task"].isin(tasks)]
        return len(here) == len(labels) * len(tasks) * seeds

    def _pairs(self, question: _Question, seeds: int | None) -> dict[str, Any]:
        """task -> the normalised returns of the two algorithms of a question on the first seeds, or on all."""
        chosen = self._of_seeds(self._ended[question.claim.measure], seeds)
        table = stats.count_lost(chosen[chosen["algorithm"].isin([question.first, question.second])])
        if self._without_failed:
            table = table[table["counted_as"] == ""]
        return stats.normalised_pairs(table, question.first, question.second, [*question.tasks])

    def _of_seeds(self, table: pd.DataFrame, seeds: int | None) -> pd.DataFrame:
        """The first seeds of the suite, or all; a folder may have others, from before its first seed was changed."""
        first = self._resolved.first_seed
        own = table[table["seed"] >= first]
        return own if seeds is None else own[own["seed"] < first + seeds]

    def _evidence(self, question: _Question, pairs: dict[str, Any]) -> Evidence:
        if question.claim.kind == "grows_with_agents":
            return stats.grows(pairs, self._resolved.agents, self._units(question))
        return stats.outperforms(pairs)

    def _robustness(self, question: _Question, pairs: dict[str, Any], seeds: int | None) -> stats.Robustness:
        (other,) = {*FRESH_KINDS} - {question.claim.measure}
        by_other_policy = self._pairs(replace(question, claim=replace(question.claim, measure=other)), seeds)
        if question.claim.kind == "grows_with_agents":
            return stats.of_trend(pairs, by_other_policy, self._resolved.agents, self._units(question))
        return stats.of_difference(pairs, by_other_policy)

    def _units(self, question: _Question) -> dict[str, float]:
        """task -> the return that is 1 on the normalised scale, where that of the mean task of its robot is 1."""
        found = dict[str, float]()
        for of in by_robot({task: self._resolved.agents[task] for task in question.tasks}):
            spans = {task: score.span for task in of if (score := scores.score(task))}
            found |= {task: span / mean([*spans.values()]) for task, span in spans.items()}
        return found

    def _comparison(self, question: _Question, decision: Decision, level: float) -> Comparison:
        seeds = decision.seeds or None
        pairs = self._pairs(question, seeds)
        evidence = self._evidence(question, pairs)
        needed = np.nan
        if decision.verdict == UNDECIDED and evidence != NOTHING:
            ends = evidence.effect, evidence.low, evidence.high
            needed = stats.seeds_needed(*ends, evidence.seeds, question.claim.margin, level)
            if evidence.p == 1 or needed <= evidence.seeds:  # the test, which decides, does not follow the interval
                needed = np.nan
        pair = question.first, question.second, question.tasks
        return Comparison(question.name, *pair, evidence, decision, needed, self._robustness(question, pairs, seeds))

    def _monotonic(self, name: str, claim: Claim) -> Verdict:
        """The verdict on a claim that updates do not lower the return, from the improvement meter."""
        found = monotonic.measured(self._suite.updates)
        found = found[(found["agent"] == "team") & found["task"].isin(claim.tasks)]
        found = found[found["algorithm"].isin(claim.algorithms)]
        if found.empty:
            return Verdict(name, claim, [], METER)
        exact = bool(found["exact"].all())
        if self._without_failed:
            found = self._of_those_done(found)
        comparisons = sum(len(one.algorithms) for one in self._resolved.claims.values() if not one.against)
        made = []
        for label in claim.algorithms:
            tasks = self._comparable(claim, label)
            whole = found[(found["algorithm"] == label) & found["task"].isin(tasks)]
            at = partial(self._updates_at, whole, label, tasks)
            decision = monotonic.decide(at, self._resolved.looks, exact, comparisons)
            evidence = monotonic.evidence(self._of_seeds(whole, decision.seeds or None))
            made.append(Comparison(name, label, ITSELF, tasks, evidence, decision, np.nan))
        return Verdict(name, claim, made)

    def _updates_at(self, whole: pd.DataFrame, label: str, tasks: frozenset[str], seeds: int) -> pd.DataFrame | None:
        """The measured updates of the first seeds; None where a planned trial has not ended, or a task has none."""
        chosen = self._of_seeds(whole, seeds)
        complete = self._have_ended("final", {label}, tasks, seeds)
        return chosen if complete and {*chosen["task"]} == tasks else None

    def _of_those_done(self, updates: pd.DataFrame) -> pd.DataFrame:
        """The measured updates of trials that have not failed."""
        keys = ["task", "algorithm", "seed"]
        failed = pd.MultiIndex.from_frame(self._ended["final"].query("value.isna()")[keys])
        return updates[~pd.MultiIndex.from_frame(updates[keys]).isin(failed)]


def verdicts(suite: SuiteResults, *, without_failed: bool = False) -> list[Verdict]:
    """The verdicts on the claims of a suite; `without_failed` leaves out trials that failed, and their updates."""
    return Evaluated(suite, suite.resolved, without_failed).verdicts if suite.resolved else []


def open_pairings(found: Sequence[Verdict]) -> set[tuple[str, str]]:
    """The tasks and algorithms on which more seeds may decide a claim: not where nothing can be compared."""
    return {
        (task, label)
        for one in found
        if one.verdict == UNDECIDED
        for comparison in one.comparisons
        if comparison.verdict == UNDECIDED and comparison.evidence != NOTHING
        for task in comparison.tasks
        for label in (comparison.first, comparison.second)
        if label != ITSELF
    }


def document(found: Sequence[Verdict], resolved: Resolved) -> dict[str, Any]:
    """What claims.json says."""
    return {
        "error_rate": {"differences": stats.ALPHA, "equivalences": stats.ALPHA / 2},
        "looks": [*resolved.looks],
        "claims": {
            one.name: {
                **asdict(one.claim),
                "verdict": one.verdict,
                "why": one.why,
                "comparisons": [_comparison_document(comparison) for comparison in one.comparisons],
            }
            for one in found
        },
    }


def _comparison_document(one: Comparison) -> dict[str, Any]:
    found = {"first": one.first, "second": one.second, "verdict": one.verdict, **asdict(one.evidence)}
    found |= {"p_holm": one.decision.p, "decided_at_seeds": one.decision.seeds, "seeds_needed": one.seeds_needed}
    if np.isnan(one.decision.p):
        found["p"] = np.nan  # before the first look, at which it can be corrected
    if one.robustness:
        found["robustness"] = {key: _json(value) for key, value in asdict(one.robustness).items()}
    return {key: _json(value) for key, value in found.items()}


def _json(value: Any) -> Any:
    """JSON has neither NaN nor infinity."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def sentence(one: Verdict) -> str:
    """In words: "supported against ippo; undecided against mappo (about 9 seeds would decide)"."""
    if one.why:
        return f"{UNDECIDED}: {one.why}"
    several = len({comparison.first for comparison in one.comparisons}) > 1 or not one.claim.against
    parts = []
    for word in (SUPPORTED, CONTRADICTED, EQUIVALENT, UNDECIDED):
        chosen = [comparison for comparison in one.comparisons if comparison.verdict == word]
        if len(chosen) == len(one.comparisons) > 3:
            parts.append(f"{word} in all {len(chosen)} comparisons{_more_seeds(chosen)}")
        elif chosen:
            names = (_about(x) if several else x.second for x in chosen)
            parts.append(f"{word} {'for' if several else 'against'} {', '.join(names)}{_more_seeds(chosen)}")
    return "; ".join(parts)


def _about(one: Comparison) -> str:
    """ "happo against mappo", or what share of a method's updates lowered the return."""
    if one.second != ITSELF:
        return f"{one.first} against {one.second}"
    return f"{one.first} ({one.evidence.effect:.1%} of its measured updates surely lowered the return)"


def _more_seeds(undecided: Sequence[Comparison]) -> str:
    needed = [one.seeds_needed for one in undecided if one.verdict == UNDECIDED]
    return f" ({in_seeds(max(needed))} seeds would decide)" if needed and not np.isnan(needed).any() else ""


def in_seeds(needed: float) -> str:
    """A number of seeds that would decide, which is known."""
    return "more than 1,000" if np.isinf(needed) else f"about {needed:.0f}"
