"""Decisions: does one algorithm have higher returns than another, lower ones, equal ones, or is that still open?

A comparison is the paired differences of two algorithms on some tasks, a statistic of them, and a test in which the
labels of the two are exchanged. Many comparisons are decided together, at one or more numbers of seeds, with one error
rate for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bench.report.stats.estimates import Floats, iqm, pooled_iqm, shares_of
from bench.report.stats.intervals import CONFIDENCE, ENOUGH_SEEDS, TAILS, stratified
from bench.report.stats.sequential import bounds, levels
from bench.store.resolved import by_robot

ALPHA = 1 - CONFIDENCE
PERMUTATIONS = 10_000
SMALL_P, MORE = 0.02, 10
"""Where p is at most `SMALL_P`, it is that of `MORE` times as many permutations: the levels of late looks are small."""
SUPPORTED, CONTRADICTED, EQUIVALENT, UNDECIDED = "supported", "contradicted", "equivalent", "undecided"


@dataclass(frozen=True)
class Evidence:
    """What the seeds at hand say about one comparison. Unit of effect and interval: normalised returns."""

    effect: float
    """Interquartile mean of the paired differences of all tasks, or their trend over the number of agents."""
    low: float
    high: float
    """95% interval of the effect, over seeds."""
    p: float
    """Two-sided, of a permutation test; not corrected for the other comparisons."""
    tasks: int
    seeds: int
    """The fewest on a task."""


NOTHING = Evidence(np.nan, np.nan, np.nan, np.nan, 0, 0)


@dataclass(frozen=True)
class Decision:
    """The verdict on one comparison."""

    verdict: str
    """`supported`: the effect is above 0; `contradicted`: below; `equivalent`: within the margin; or `undecided`."""
    seeds: int
    """At how many seeds it was decided; 0 if it was not."""
    p: float
    """The evidence's p at that number of seeds, or at the last one there is, corrected by Holm's rule."""


def normalised_pairs(table: pd.DataFrame, first: str, second: str, tasks: Sequence[str]) -> dict[str, Floats]:
    """task -> the normalised returns of two algorithms on the seeds that both have, [2, seeds]; others are left out.

    `table` is that of `tables.final_returns`.
    """
    here = table[table["task"].isin(tasks) & table["normalised"].notna()]
    wide = here.pivot(index=["task", "seed"], columns="algorithm", values="normalised")
    if not {first, second} <= {*wide.columns}:
        return {}
    both = wide[[first, second]].dropna()
    return {str(task): part.to_numpy(np.float64).T for task, part in both.groupby("task", observed=True)}


def outperforms(pairs: Mapping[str, Floats], permutations: int = PERMUTATIONS) -> Evidence:
    """Has the first of two algorithms higher returns? The effect is the IQM of x_n - y_n over all tasks and seeds.

    The test exchanges labels within each task: if both algorithms have the same distribution of returns there, all
    assignments of its 2n returns to the two are equally likely. What is compared is the mean over tasks of the sum of
    the first one's ranks, which is the probability of improvement up to constants. Tasks weigh the same. Sources:
    Agarwal et al. 2021 for the IQM; Wilcoxon 1945 and van Elteren 1960 for ranks within strata.
    """
    if not pairs:
        return NOTHING
    both = [*pairs.values()]

    def exchanged(permutations: int) -> tuple[float, Floats]:
        random = np.random.default_rng(0)
        found, drawn = 0.0, np.zeros(permutations)
        for x in both:
            n = x.shape[1]
            ranks = stats.rankdata(x) / (2 * n**2)
            found += ranks[:n].sum() - 0.25
            drawn += random.permuted(np.broadcast_to(ranks, (permutations, 2 * n)), axis=1)[:, :n].sum(axis=1) - 0.25
        return found, drawn

    statistic = partial(pooled_iqm, shares=shares_of([x.shape[1] for x in both]))
    return _evidence([x[0] - x[1] for x in both], statistic, exchanged, permutations)


def differences_of(pairs: Mapping[str, Floats]) -> dict[str, Floats]:
    """task -> the differences x_n - y_n on equal seeds, [seeds]."""
    return {task: x[0] - x[1] for task, x in pairs.items()}


def growth(differences: Mapping[str, Floats], agents: Mapping[str, int]) -> float:
    """How much differences grow per doubling of the number of agents N; NaN where no robot comes with several N.

    Tasks of one robot differ in N. Per robot, the least-squares slope over log2 N of each task's IQM of differences;
    then the mean over robots.
    """
    weights = _slope_weights(differences, agents)
    return sum(w * float(iqm(differences[task])) for of in weights for task, w in of.items()) if weights else np.nan


def _slope_weights(tasks: Iterable[str], agents: Mapping[str, int]) -> list[dict[str, float]]:
    """Of each robot that comes with several numbers of agents: its tasks, and how much of each is in `growth`."""
    groups = by_robot({task: agents[task] for task in tasks if task in agents})
    found = []
    for of in groups:
        x = np.log2([agents[task] for task in of])
        slope = (x - x.mean()) / ((x - x.mean()) ** 2).sum() / len(groups)
        found.append(dict(zip(of, slope.tolist(), strict=True)))
    return found


def grows(
    pairs: Mapping[str, Floats],
    agents: Mapping[str, int],
    units: Mapping[str, float],
    permutations: int = PERMUTATIONS,
) -> Evidence:
    """Does the difference grow with the number of agents? The effect is `growth`: normalised return per doubling.

    The test deals out the differences of a robot anew among its tasks: without a trend all assignments are equally
    likely. What is compared is the same slope of their ranks. `units` has, for each task, what a normalised return of 1
    is on one scale for all tasks of its robot. A difference that stays the same grows where the scale of a task
    shrinks, so p is the larger one of both scales, and 1 where their slopes have different signs (Berger 1982).
    """
    found = _trend(differences_of(pairs), agents, permutations)
    if found == NOTHING:
        return found
    other = _trend({task: units[task] * d for task, d in differences_of(pairs).items()}, agents, permutations)
    return replace(found, p=max(found.p, other.p) if found.effect * other.effect > 0 else 1.0)


def _trend(differences: Mapping[str, Floats], agents: Mapping[str, int], permutations: int) -> Evidence:
    weights = _slope_weights(differences, agents)
    if not weights:
        return NOTHING
    runs = [differences[task] for of in weights for task in of]
    slopes = [slope for of in weights for slope in of.values()]
    dealt: list[tuple[Floats, Floats]] = []  # of each robot: the ranks of its differences, the weight of each
    for of in weights:
        of_each = np.concatenate([np.full(len(d := differences[task]), slope / len(d)) for task, slope in of.items()])
        dealt.append((stats.rankdata(np.concatenate([differences[task] for task in of])) / len(of_each), of_each))
    ends = np.cumsum([len(run) for run in runs])[:-1]

    def trend(values: Floats) -> Floats:
        return np.asarray(np.tensordot(slopes, [iqm(part) for part in np.split(values, ends, axis=-1)], axes=1))

    def exchanged(permutations: int) -> tuple[float, Floats]:
        random = np.random.default_rng(0)
        found, drawn = 0.0, np.zeros(permutations)
        for ranks, of_each in dealt:
            found += float(ranks @ of_each)
            drawn += random.permuted(np.broadcast_to(ranks, (permutations, len(ranks))), axis=1) @ of_each
        return found, drawn

    return _evidence(runs, trend, exchanged, permutations)


def _evidence(
    runs: list[Floats], statistic: Any, exchanged: Callable[[int], tuple[float, Floats]], permutations: int
) -> Evidence:
    """An effect, its interval over seeds, and the p of a test: `exchanged` gives its statistic, and draws of it.

    p = 2 (1 + #{T* beyond T in the direction of the effect}) / (1 + permutations), at most 1: where test and effect
    point to different sides, or the effect is 0, nothing is significant. A p that is small is that of more
    permutations, which keeps its level. Source: Phipson and Smyth 2010 for the 1 +.
    """
    effect = float(statistic(np.concatenate(runs)))
    low, high = stratified(runs, statistic)
    side = 1 if effect >= 0 else -1
    for count in (permutations, MORE * permutations):
        found, drawn = exchanged(count)
        beyond = int((side * drawn >= side * found - 1e-12).sum())
        p = min(1.0, 2 * (1 + beyond) / (1 + count)) if effect else 1.0
        if p > SMALL_P:
            break
    return Evidence(effect, float(low), float(high), p, len(runs), min(map(len, runs)))


def decide(
    evidence_at: Callable[[int, int], Evidence | None], margins: Sequence[float], looks: Sequence[int]
) -> list[Decision]:
    """The verdicts on comparisons; `evidence_at(j, n)` is what n seeds say about comparison j, None where seeds lack.

    Differences: Holm's rule over the comparisons that are not decided yet, at the level that a look may use
    (`sequential.levels`). The chance that any comparison of two that have the same distribution on each task is decided
    to differ is at most 5%; two whose distributions differ in all but the effect may be told apart more often.
    Equivalence: the interval, widened for the number of comparisons and looks, lies within ±margin, and has a width;
    the chance that any difference of at least the margin is called none is at most 2.5%. A verdict stays: later seeds
    do not reopen it.
    Sources: Holm 1979; Ye, Li, Liu and Yao 2013 for Holm's rule over looks; Schuirmann 1987 for equivalence.
    """
    decisions = [Decision(UNDECIDED, 0, np.nan)] * len(margins)
    if not decisions:
        return []
    planned = deciding(looks)
    for k, seeds in enumerate(planned):
        still = [j for j, decision in enumerate(decisions) if decision.verdict == UNDECIDED]
        evidence = {j: one for j in still if _usable(one := evidence_at(j, seeds))}
        _correct(decisions, evidence)
        _find_equivalent(decisions, evidence, margins, bounds(planned, ALPHA / len(margins))[k], seeds)
        _find_different(decisions, evidence, planned, k)
    return decisions


def deciding(looks: Sequence[int]) -> tuple[int, ...]:
    """The numbers of seeds at which a verdict may fall."""
    return tuple(look for look in sorted({*looks}) if look >= ENOUGH_SEEDS)


def _usable(evidence: Evidence | None) -> bool:
    return evidence is not None and evidence.seeds >= ENOUGH_SEEDS and bool(np.isfinite(evidence.low + evidence.high))


def holm_count(verdicts: Iterable[str]) -> int:
    """How many comparisons Holm's correction counts: those that are not decided to differ."""
    return sum(verdict not in (SUPPORTED, CONTRADICTED) for verdict in verdicts)


def _by_p(evidence: Mapping[int, Any]) -> list[int]:
    return sorted(evidence, key=lambda j: evidence[j].p)


def _correct(decisions: list[Decision], evidence: Mapping[int, Any]) -> None:
    """Holm's p: the smallest times the number of comparisons, the next times one less, none below the one before."""
    count = holm_count(decision.verdict for decision in decisions)
    corrected = [evidence[j].p * (count - rank) for rank, j in enumerate(_by_p(evidence))]
    for j, p in zip(_by_p(evidence), np.maximum.accumulate(corrected), strict=True):
        decisions[j] = Decision(UNDECIDED, 0, min(1.0, float(p)))


def _find_equivalent(
    decisions: list[Decision], evidence: Mapping[int, Any], margins: Sequence[float], bound: float, seeds: int
) -> None:
    """Decide which intervals, at the level of `bound` standard errors instead of 95%, lie within their margins.

    Few seeds of few tasks know their spread badly: the quantiles are those of Student's t.
    """
    for j, one in evidence.items():
        known = stats.t(one.tasks * (one.seeds - 1))
        wider = known.isf(stats.norm.sf(bound)) / known.ppf(TAILS[1])
        low, high = (one.effect + wider * (end - one.effect) for end in (one.low, one.high))
        if -margins[j] < low < high < margins[j]:
            decisions[j] = Decision(EQUIVALENT, seeds, decisions[j].p)


def _find_different(decisions: list[Decision], evidence: Mapping[int, Any], planned: tuple[int, ...], k: int) -> None:
    """Decide the smallest p, then the next, each at the level of as many comparisons as are not decided to differ."""
    for j in _by_p(evidence):
        count = holm_count(decision.verdict for decision in decisions)
        if evidence[j].p > levels(planned, ALPHA / count)[k]:
            return
        if decisions[j].verdict == UNDECIDED:
            verdict = SUPPORTED if evidence[j].effect > 0 else CONTRADICTED
            decisions[j] = Decision(verdict, planned[k], decisions[j].p)
