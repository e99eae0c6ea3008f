"""Looking at results more than once, as seeds are added, without deciding wrongly more often than once in twenty.

Whoever tests after every new seed, each time at 5%, is wrong far more often than in 5%. Here the 5% are spent over the
looks: at each a level is used at which the chance of a false decision at that look or before it stays within what was
spent so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import optimize, stats

from bench.report.stats.estimates import Floats

GRID = 1201
"""Points on which the density of the test statistic is kept between looks; 2001 change levels by less than 1e-5."""


def spent(fraction: float, alpha: float) -> float:
    """How much of α may be spent when this fraction of the seeds is there: α ln(1 + (e - 1) t).

    With t = 1 it is α. Source: Lan and DeMets 1983, Biometrika 70:659-663, the function that resembles Pocock's test.
    """
    return float(alpha * np.log1p((np.e - 1) * fraction))


@cache
def bounds(looks: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    """The bound c_k of |Z| at each look, of which `looks` has the number of seeds; the last is the planned most.

    Z_k is standard normal where there is no difference, and corr(Z_i, Z_k) = sqrt(n_i / n_k). c_k makes P(no bound was
    crossed before, |Z_k| >= c_k) what is newly spent at look k; with one look it is the 1 - α/2 quantile. What has not
    crossed is carried from look to look as masses of S = Z sqrt(n) on a grid. Source: Armitage, McPherson and Rowe
    1969, JRSS A 132:235-244.
    """
    found: list[float] = []
    sums, masses = np.zeros(1), np.ones(1)
    for before, n in zip((0, *looks), looks, strict=False):
        step, scale = float(np.sqrt(n - before)), float(np.sqrt(n))
        new = spent(n / looks[-1], alpha) - spent(before / looks[-1], alpha)
        found.append(float(optimize.brentq(_excess, 0.0, 12.0, args=(sums, masses, step, scale, new), xtol=1e-10)))
        inner, width = np.linspace(-found[-1] * scale, found[-1] * scale, GRID, retstep=True)
        densities = stats.norm.pdf((inner[:, None] - sums) / step) / step @ masses
        sums, masses = inner, densities * width
        masses[[0, -1]] /= 2  # the trapezoidal rule
    return tuple(found)


def _excess(c: float, sums: Floats, masses: Floats, step: float, scale: float, new: float) -> float:
    """By how much the chance to cross ±c at a look exceeds what is newly spent there."""
    beyond = stats.norm.sf((c * scale - sums) / step) + stats.norm.sf((c * scale + sums) / step)
    return float(beyond @ masses) - new


def levels(looks: Sequence[int], alpha: float) -> Floats:
    """The two-sided level at each look: a p at most this large decides there. With one look it is α."""
    return np.asarray(2 * stats.norm.sf(bounds(tuple(looks), alpha)))
