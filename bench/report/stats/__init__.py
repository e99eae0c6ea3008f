"""Numbers: from frames, or from arrays of one number per seed, to numbers or frames. Nothing here draws or prints."""

from bench.report.stats.estimates import Floats, iqm
from bench.report.stats.intervals import CONFIDENCE, ENOUGH_SEEDS, RESAMPLES, interval
from bench.report.stats.tables import curves, diverged, returns_table, seed_returns, trial_states

__all__ = [
    "CONFIDENCE",
    "ENOUGH_SEEDS",
    "RESAMPLES",
    "Floats",
    "curves",
    "diverged",
    "interval",
    "iqm",
    "returns_table",
    "seed_returns",
    "trial_states",
]
