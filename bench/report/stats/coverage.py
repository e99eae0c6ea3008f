"""How often intervals called 95% contain what they estimate, by simulation: `python -m bench.report.stats.coverage`.

Seeds are drawn from populations whose interquartile mean and mean are known, each candidate makes its interval, and the
share of intervals that contain the truth is printed as Markdown, as in docs/statistics.md.
"""

from __future__ import annotations

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy import stats

from bench.report.stats.estimates import Floats, iqm, pooled_iqm, shares_of
from bench.report.stats.intervals import TAILS, drawn, stratified, stretched

Draw = Callable[[Generator, tuple[int, ...]], Floats]
Interval = Callable[[Floats], tuple[Floats, Floats]]
"""Seeds [repetitions, n] -> ends [repetitions] each."""
SIZES = (5, 7, 10, 12, 20)
RESAMPLES = 1000
"""Fewer than in the report, for speed: the quantiles of more are less noisy, and cover no less."""
BATCH = 20_000_000
"""Resampled seeds that are held in memory at a time."""


def some_fail(spread: float, random: Generator, shape: tuple[int, ...]) -> Floats:
    """30% of seeds stay near 0, the others come near 1; `spread` is the standard deviation of either."""
    return np.asarray(np.where(random.random(shape) < 0.3, 0.0, 1.0) + random.normal(0, spread, shape))


POPULATIONS: dict[str, Draw] = {
    "normal": lambda random, shape: random.normal(size=shape),
    "t, 3 degrees of freedom": lambda random, shape: random.standard_t(3, size=shape),
    "lognormal, σ = 1": lambda random, shape: random.lognormal(0, 1, shape),
    "30% fail, spread 0.2": partial(some_fail, 0.2),
    "30% fail, spread 0.1": partial(some_fail, 0.1),
    "30% fail, spread 0.05": partial(some_fail, 0.05),
}


def truths(draw: Draw) -> tuple[float, float]:
    """Interquartile mean, between the quartiles of the population, and mean: of two million seeds."""
    values = draw(np.random.default_rng(1), (2_000_000,))
    return float(iqm(values)), float(values.mean())


def resampled(values: Floats, statistic: Callable[[Floats], Any]) -> Iterator[tuple[Floats, Floats]]:
    """Batches of repetitions: their seeds and the statistic of each resample, [repetitions, resamples]."""
    draws = drawn(values.shape[1], RESAMPLES)
    for part in np.array_split(values, max(1, len(values) * draws.size // BATCH)):
        yield part, statistic(part[:, draws])


def percentile(statistic: Callable[[Floats], Any], tail: Callable[[int], float], values: Floats) -> Any:
    """Quantiles of the resampled statistic, `tail` of the number of seeds on each side."""
    a = tail(values.shape[1])
    parts = [np.quantile(sample, (a, 1 - a), axis=1) for _, sample in resampled(values, statistic)]
    return np.concatenate(parts, axis=1)


def expanded(n: int) -> float:
    """Hesterberg 2015: Φ(-sqrt(n / (n - 1)) t_(n-1)) in place of 2.5%."""
    return float(stats.norm.cdf(np.sqrt(n / (n - 1)) * stats.t.ppf(TAILS[0], n - 1)))


def ours(statistic: Callable[[Floats], Any], values: Floats) -> Any:
    """`intervals.stretched`."""
    n = values.shape[1]
    parts = [stretched(statistic(part), sample.T, n) for part, sample in resampled(values, statistic)]
    return np.concatenate(parts, axis=1)


def bca(statistic: Callable[[Floats], Any], values: Floats) -> Any:
    """Bias-corrected and accelerated percentiles, Efron 1987; the acceleration by the jackknife."""
    n = values.shape[1]
    ends = []
    for part, sample in resampled(values, statistic):
        below = (sample < statistic(part)[:, None]).mean(axis=1) + (sample == statistic(part)[:, None]).mean(axis=1) / 2
        z0 = stats.norm.ppf(np.clip(below, 0.5 / RESAMPLES, 1 - 0.5 / RESAMPLES))
        left_out = np.stack([statistic(np.delete(part, i, axis=1)) for i in range(n)])
        d = left_out.mean(axis=0) - left_out
        a = (d**3).sum(axis=0) / (6 * np.maximum((d**2).sum(axis=0), 1e-300) ** 1.5)
        levels = [stats.norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z))) for z in map(stats.norm.ppf, TAILS)]
        ranked = np.sort(sample, axis=1)
        ranks = [np.clip((level * RESAMPLES).astype(int), 0, RESAMPLES - 1) for level in levels]
        ends.append(np.stack([np.take_along_axis(ranked, rank[:, None], axis=1)[:, 0] for rank in ranks]))
    return np.concatenate(ends, axis=1)


def trimmed_error(values: Floats, cut: int) -> Floats:
    """Standard error of the trimmed mean: s_w / ((1 - 2 g / n) sqrt(n)), s_w that of the winsorised values."""
    n = values.shape[-1]
    ranked = np.sort(values, axis=-1)
    winsorised = np.clip(ranked, ranked[..., cut, None], ranked[..., n - 1 - cut, None])
    return np.asarray(winsorised.std(axis=-1, ddof=1) * np.sqrt(n) / (n - 2 * cut))


def cut_of(statistic: Callable[[Floats], Any], n: int) -> int:
    """How many values the statistic trims on each side."""
    return n // 4 if statistic is iqm else 0


def t_interval(statistic: Callable[[Floats], Any], values: Floats) -> Any:
    """e ± t_(h-1) se with h = n - 2 g: Student, and for the trimmed mean Tukey and McLaughlin 1963."""
    cut = cut_of(statistic, values.shape[1])
    margin = stats.t.ppf(TAILS[1], values.shape[1] - 2 * cut - 1) * trimmed_error(values, cut)
    return statistic(values) - margin, statistic(values) + margin


def bootstrap_t(statistic: Callable[[Floats], Any], values: Floats) -> Any:
    """e - q se, with q the quantiles of (e* - e) / se* over resamples, Efron 1981; without spread it has no end."""
    cut = cut_of(statistic, values.shape[1])

    def both(x: Floats) -> Floats:
        return np.stack([np.asarray(statistic(x)), trimmed_error(x, cut)])

    ends = []
    for part, (e, se) in resampled(values, both):
        difference = e - statistic(part)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(difference == 0, 0.0, difference / se)
        high, low = np.quantile(t, TAILS, axis=1, method="inverted_cdf")
        ends.append(statistic(part) - np.stack([low, high]) * trimmed_error(part, cut))
    return np.concatenate(ends, axis=1)


def candidates(statistic: Callable[[Floats], Any]) -> dict[str, Interval]:
    """Name -> how it makes intervals."""
    return {
        "stretched (ours)": partial(ours, statistic),
        "percentile": partial(percentile, statistic, lambda n: TAILS[0]),
        "expanded": partial(percentile, statistic, expanded),
        "BCa": partial(bca, statistic),
        "bootstrap-t": partial(bootstrap_t, statistic),
        "t": partial(t_interval, statistic),
    }


def mean_of(values: Floats) -> Any:
    """The mean over seeds."""
    return values.mean(axis=-1)


def covered(ends: Any, truth: float) -> float:
    """The share of intervals that contain the truth."""
    low, high = ends
    return float(np.mean((low <= truth) & (truth <= high)))


def single(statistic: Callable[[Floats], Any], repetitions: int, sizes: Sequence[int] = SIZES) -> Iterator[list[str]]:
    """Rows of the table for one task."""
    for name, draw in POPULATIONS.items():
        truth = truths(draw)[0 if statistic is iqm else 1]
        for n in sizes:
            values = draw(np.random.default_rng(2), (repetitions, n))
            shown = [covered(method(values), truth) for method in candidates(statistic).values()]
            yield [name, str(n), *(f"{share:.3f}" for share in shown)]


def paired(repetitions: int) -> Iterator[list[str]]:
    """Rows for differences of equal seeds: x of the population in the row, y of the normal one, independent."""
    for name, draw in POPULATIONS.items():

        def difference(random: Generator, shape: tuple[int, ...], draw: Draw = draw) -> Floats:
            return draw(random, shape) - 0.2 * POPULATIONS["normal"](random, shape)

        truth = truths(difference)
        for n in SIZES:
            values = difference(np.random.default_rng(3), (repetitions, n))
            shares = covered(ours(iqm, values), truth[0]), covered(t_interval(mean_of, values), truth[1])
            yield [name, str(n), *(f"{share:.3f}" for share in shares)]


def over_tasks(repetitions: int) -> Iterator[list[str]]:
    """Rows for the statistics of six tasks, one of each population, by `intervals.stratified`."""
    draws = [*POPULATIONS.values()]
    large = np.concatenate([draw(np.random.default_rng(1), (500_000,)) for draw in draws])
    for n in SIZES:
        shares = shares_of([n] * len(draws))
        random = np.random.default_rng(4)
        experiments = [[draw(random, (n,)) for draw in draws] for _ in range(repetitions)]
        row = []
        for statistic, truth in ((partial(pooled_iqm, shares=shares), iqm(large)), (mean_of, large.mean())):
            ends = [stratified(runs, statistic, RESAMPLES) for runs in experiments]
            row.append(covered(np.transpose(ends), float(truth)))
        yield ["one of each", str(n), *(f"{share:.3f}" for share in row)]


def markdown(headings: list[str], rows: Iterator[list[str]]) -> str:
    """A table: text left, numbers right."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when all tables are printed."""
    parser = command.Parser(prog="python -m bench.report.stats.coverage", description=__doc__)
    what = "simulated experiments per row; standard error of a share near .95 with 2000: .005"
    parser.add_argument("--repetitions", type=command.up_to(1_000_000), default=2000, metavar="N", help=what)
    repetitions: int = parser.parse_args(arguments).repetitions
    names = [*candidates(iqm)]
    first = ["population", "seeds"]
    print("Interquartile mean", markdown([*first, *names], single(iqm, repetitions)), sep="\n\n", flush=True)
    print("\nMean", markdown([*first, *names], single(mean_of, repetitions)), sep="\n\n", flush=True)
    heads = ["IQM, stretched (ours)", "mean, t"]
    print("\nPaired differences", markdown([*first, *heads], paired(repetitions)), sep="\n\n", flush=True)
    heads = ["IQM, stretched (ours)", "mean, stretched (ours)"]
    print("\nSix tasks", markdown([*first, *heads], over_tasks(repetitions)), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
