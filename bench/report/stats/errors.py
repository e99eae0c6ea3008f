"""How often verdicts are wrong, and find what is there, by simulation: `python -m bench.report.stats.errors`.

Algorithms whose returns differ by known amounts are drawn on several tasks, all pairs of them are decided as claims
are, and the shares are printed as Markdown, as in docs/statistics.md.
"""

from __future__ import annotations

from bench.cli import command

if __name__ == "__main__":
    command.begin()

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, cycle, islice

import numpy as np
from joblib import Parallel, delayed

from bench.report.stats.coverage import POPULATIONS, markdown
from bench.report.stats.estimates import Floats
from bench.report.stats.verdicts import CONTRADICTED, EQUIVALENT, SUPPORTED, Evidence, decide, outperforms

SPREAD = 0.3
"""Standard deviation over seeds of normalised returns; in the suites of this repository it is 0.1 to 0.5."""
MARGIN = 0.1
PERMUTATIONS = 2000
"""Fewer than in the report, for speed."""
SCALES = {name: draw(np.random.default_rng(1), (1_000_000,)).std() for name, draw in POPULATIONS.items()}


@dataclass(frozen=True)
class Experiment:
    """Algorithms on tasks, whose returns are those of `coverage.POPULATIONS` in turn, and when one looks."""

    name: str
    levels: Sequence[float]
    """By how many standard deviations the returns of each algorithm are higher than those of the first."""
    tasks: int
    looks: Sequence[int]


EXPERIMENTS = (
    Experiment("six algorithms, some 1 sd apart", (0, 0, 0, 1, 1, 2), 10, [10]),
    Experiment("six equal algorithms", (0, 0, 0, 0, 0, 0), 10, [10]),
    Experiment("six equal algorithms, more seeds", (0, 0, 0, 0, 0, 0), 10, [30]),
)
SEQUENTIAL = (
    Experiment("three equal algorithms", (0, 0, 0), 3, range(5, 11)),
    Experiment("three algorithms, one 1 sd better", (0, 0, 1), 3, range(5, 11)),
    Experiment("three algorithms, one 2 sd better", (0, 0, 2), 3, range(5, 11)),
)


def returns(experiment: Experiment, random: np.random.Generator) -> Floats:
    """Normalised returns of one experiment, [algorithms, tasks, seeds]."""
    shape = (len(experiment.levels), max(experiment.looks))
    names = islice(cycle(POPULATIONS), experiment.tasks)
    per_task = [SPREAD / SCALES[name] * POPULATIONS[name](random, shape) for name in names]
    return np.stack(per_task, axis=1) + SPREAD * np.array(experiment.levels)[:, None, None]


def once(experiment: Experiment, seed: int) -> dict[str, float]:
    """One experiment: shares of its pairs of algorithms, and whether any verdict is wrong."""
    x = returns(experiment, np.random.default_rng(seed))
    pairs = [*combinations(range(len(experiment.levels)), 2)]
    truth = np.array([SPREAD * (experiment.levels[i] - experiment.levels[j]) for i, j in pairs])

    def evidence_at(k: int, seeds: int) -> Evidence:
        i, j = pairs[k]
        chosen = x[[i, j], :, :seeds]
        return outperforms({str(task): chosen[:, task] for task in range(experiment.tasks)}, PERMUTATIONS)

    decisions = decide(evidence_at, [MARGIN] * len(pairs), [*experiment.looks])
    verdicts = np.array([decision.verdict for decision in decisions])
    wrong = ((verdicts == SUPPORTED) & (truth <= 0)) | ((verdicts == CONTRADICTED) & (truth >= 0))
    different = np.isin(verdicts, [SUPPORTED, CONTRADICTED])
    used = [decision.seeds or max(experiment.looks) for decision in decisions]
    return {
        "false difference": float(wrong.any()),
        "false equivalence": float(((verdicts == EQUIVALENT) & (np.abs(truth) >= MARGIN)).any()),
        "differences found": float(different[truth != 0].mean()) if (truth != 0).any() else np.nan,
        "equals called equivalent": float((verdicts[truth == 0] == EQUIVALENT).mean()),
        "seeds used": float(np.mean(used)),
    }


def rows(experiments: Sequence[Experiment], repetitions: int) -> Iterator[list[str]]:
    """One row per experiment: its name, how often one looks, and the mean of each share."""
    for experiment in experiments:
        found = Parallel(n_jobs=-1)(delayed(once)(experiment, seed) for seed in range(repetitions))
        means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
        shown = ["–" if np.isnan(value) else f"{value:.3f}" for value in means.values()]
        looks = [*experiment.looks]
        when = str(looks[0]) if len(looks) == 1 else f"{looks[0]} to {looks[-1]}"
        yield [experiment.name, str(experiment.tasks), when, *shown[:-1], f"{means['seeds used']:.1f}"]


@command.entry
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when all tables are printed."""
    parser = command.Parser(prog="python -m bench.report.stats.errors", description=__doc__)
    what = "simulated experiments per row, four times as many where seeds are added; default: 500"
    parser.add_argument("--repetitions", type=command.up_to(1_000_000), default=500, metavar="N", help=what)
    repetitions: int = parser.parse_args(arguments).repetitions
    shares = ["any false difference", "any false equivalence", "differences found", "equals called equivalent"]
    headings = ["experiment", "tasks", "seeds", *shares, "seeds used"]
    print("One look", markdown(headings, rows(EXPERIMENTS, repetitions)), sep="\n\n", flush=True)
    print("\nSeeds are added", markdown(headings, rows(SEQUENTIAL, 4 * repetitions)), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
