"""Numbers: from frames, or from arrays of one number per seed, to numbers or frames. Nothing here draws or prints."""

from bench.report.stats.comparisons import (
    improvement,
    improvement_interval,
    paired,
    paired_differences,
    paired_over_tasks,
    probability_of_improvement,
    seeds_needed,
)
from bench.report.stats.estimates import Floats, iqm
from bench.report.stats.intervals import CONFIDENCE, COVERING_SEEDS, ENOUGH_SEEDS, RESAMPLES, interval, stratified
from bench.report.stats.profiles import aggregates, performance_profiles, rank_stability
from bench.report.stats.tables import (
    curves,
    diverged,
    final_returns,
    normalisable,
    returns_table,
    seed_returns,
    trial_states,
)
from bench.report.stats.thresholds import cost_to_threshold, first_passages, median_cost, survival
from bench.report.stats.times import with_seconds
from bench.report.stats.verdicts import (
    ALPHA,
    CONTRADICTED,
    EQUIVALENT,
    NOTHING,
    SUPPORTED,
    UNDECIDED,
    Decision,
    Evidence,
    decide,
    grows,
    normalised_pairs,
    outperforms,
)

__all__ = [
    "CONFIDENCE",
    "COVERING_SEEDS",
    "ENOUGH_SEEDS",
    "RESAMPLES",
    "Floats",
    "iqm",
    "interval",
    "stratified",
    "seed_returns",
    "trial_states",
    "diverged",
    "curves",
    "with_seconds",
    "returns_table",
    "final_returns",
    "normalisable",
    "aggregates",
    "performance_profiles",
    "rank_stability",
    "paired",
    "paired_differences",
    "paired_over_tasks",
    "improvement",
    "improvement_interval",
    "probability_of_improvement",
    "seeds_needed",
    "first_passages",
    "survival",
    "median_cost",
    "cost_to_threshold",
    "ALPHA",
    "SUPPORTED",
    "CONTRADICTED",
    "EQUIVALENT",
    "UNDECIDED",
    "NOTHING",
    "Decision",
    "Evidence",
    "decide",
    "grows",
    "normalised_pairs",
    "outperforms",
]
