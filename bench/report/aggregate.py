"""Over all tasks: aggregates, profiles and probabilities of improvement of normalised returns, as figure and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.report import formats, plots, stats
from bench.report.algorithms import Algorithms, in_order
from bench.report.formats import NONE, normalised, normalised_span, visible
from bench.report.inline import PAPER, series_id
from bench.report.load import SuiteResults, trial_name

ENOUGH_TASKS = 5
"""Fewer, drawn anew, give one of three equal algorithms the first rank in almost all draws, in 15% of reports."""
POINTS = 101
"""Thresholds of the profiles."""
ON_DARK, ON_LIGHT = "#fdfdfd", "#1b1b1b"  # the page does not put its own in their place
LONGEST = 20  # characters of a label beside an axis
ROW, PANEL = 0.24, 3.4  # inches of an algorithm in a panel, and of a panel


def is_there(table: pd.DataFrame) -> bool:
    """Whether any return of a table of final returns can be normalised."""
    return bool(table["normalised"].notna().any())


def thresholds(table: pd.DataFrame) -> stats.Floats:
    """Where profiles are computed: from a random policy, or the lowest run, to the highest run."""
    values = table["normalised"].dropna()
    return np.linspace(min(0.0, values.min()), max(1.0, values.max()), POINTS)


def improvements(table: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """Over the tasks with a reference that both have: the chance that a run of `algorithm` is above one of `other`."""
    rows = []
    known = table[table["normalised"].notna()]
    for first, second in permutations(labels, 2):
        found = stats.probability_of_improvement(known, first, second)
        over_tasks = found[found["task"] == "all"]
        if len(over_tasks):
            row = over_tasks.iloc[0]
            rows.append((first, second, len(found) - 1, row["probability"], row["low"], row["high"]))
    return pd.DataFrame(rows, columns=["algorithm", "other", "tasks", "probability", "low", "high"])


Panel = tuple[float, Callable[[Axes], None]]
"""Its width, relative to that of others, and what draws it."""


def panels(table: pd.DataFrame, algorithms: Algorithms) -> list[Panel]:
    """IQM with intervals, performance profiles, and, of several algorithms, how often each is above each other."""
    labels = in_order(table["algorithm"], algorithms.methods)
    found, profiles = stats.aggregates(table), stats.performance_profiles(table, thresholds(table))
    drawn: list[Panel] = [
        (1.0, partial(_levels, found=found, labels=labels, algorithms=algorithms)),
        (1.15, partial(_profiles, found=profiles, labels=labels, algorithms=algorithms)),
    ]
    if len(labels) > 1:
        drawn.append((1.1, partial(_improvements, found=improvements(table, labels), labels=labels)))
    return drawn


def figure(drawn: Sequence[Panel], rows: int) -> Figure:
    """Panels side by side; `rows` is the number of algorithms."""
    widths = [width for width, _ in drawn]
    height = max(2.6, ROW * rows + 1.1)
    with matplotlib.rc_context(plots.RC):
        made = Figure(figsize=(PANEL * sum(widths), height), layout="constrained")
        axes = made.subplots(1, len(widths), width_ratios=widths, squeeze=False)
        for ax, (_, draw) in zip(axes.flat, drawn, strict=True):
            draw(ax)
    return made


def short(label: str) -> str:
    """A label beside an axis; the tables have it whole."""
    label = visible(label)
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 7]}…{label[-6:]}"


def places(algorithms: Algorithms) -> dict[str, int]:
    """label -> its index, by which the page knows what is drawn."""
    return {label: index for index, label in enumerate(algorithms.methods)}


def _levels(ax: Axes, found: pd.DataFrame, labels: list[str], algorithms: Algorithms) -> None:
    rows, index = found.set_index("algorithm"), places(algorithms)
    for place, label in enumerate(labels):
        row, look = rows.loc[label], algorithms.styles[label]
        if np.isfinite(row["iqm_low"]):
            (bar,) = ax.plot(
                [row["iqm_low"], row["iqm_high"]],
                [place, place],
                color=look.color,
                linewidth=5,
                alpha=0.3,
                solid_capstyle="butt",  # others go on beyond the ends
            )
            bar.set_gid(series_id(index[label], 0))
        (dot,) = ax.plot(row["iqm"], place, look.marker, color=look.color, markersize=6)
        dot.set_gid(series_id(index[label], 1))
    names = [short(label) for label in labels]
    for place, (tasks, all_tasks) in enumerate(rows.loc[labels, ["tasks", "all_tasks"]].to_numpy()):
        if tasks < all_tasks:
            names[place] += f" ({tasks} of {all_tasks} tasks)"
    ax.set_yticks(range(len(labels)), names)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.tick_params(length=0)
    ax.grid(visible=False, axis="y")
    interval = ", 95% interval" if found["iqm_low"].notna().any() else ""
    ax.set_title(f"Interquartile mean{interval}", loc="left", fontsize=9, weight="bold")
    ax.set_xlabel("normalised return\n(0 random, 1 reference)")


def _profiles(ax: Axes, found: pd.DataFrame, labels: list[str], algorithms: Algorithms) -> None:
    index = places(algorithms)
    for label in labels:
        part, look = found[found["algorithm"] == label], algorithms.styles[label]
        (line,) = ax.plot(part["threshold"], part["share"], color=look.color, linewidth=1.6)
        if look.dash:
            line.set_dashes(look.dash)
        line.set_gid(series_id(index[label], 2))
        if part["low"].notna().any():
            ends = part["threshold"], part["low"], part["high"]
            band = ax.fill_between(*ends, color=look.color, alpha=0.12, linewidth=0)
            band.set_gid(series_id(index[label], 3))
    ax.set_ylim(-0.02, 1.02)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.tick_params(length=0)
    ax.set_title("Share of runs above a return", loc="left", fontsize=9, weight="bold")
    ax.set_xlabel("normalised return")


def _improvements(ax: Axes, found: pd.DataFrame, labels: list[str]) -> None:
    wide = found.pivot(index="algorithm", columns="other", values="probability").reindex(index=labels, columns=labels)
    matrix = wide.to_numpy(np.float64)
    ax.pcolormesh(np.ma.masked_invalid(matrix), cmap="PuOr", vmin=0, vmax=1, edgecolors=PAPER, linewidth=1)
    for i, k in zip(*np.nonzero(np.isfinite(matrix)), strict=True):
        color = ON_DARK if abs(matrix[i, k] - 0.5) > 0.35 else ON_LIGHT
        ax.text(k + 0.5, i + 0.5, f"{matrix[i, k]:.2f}", ha="center", va="center", fontsize=7.5, color=color)
    ax.invert_yaxis()
    middles = np.arange(len(labels)) + 0.5
    names = [short(label) for label in labels]
    ax.set_xticks(middles, names, rotation=35, ha="right")
    ax.set_yticks(middles, names)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.set_title("P(row above column)", loc="left", fontsize=9, weight="bold")


@dataclass(frozen=True)
class Aggregate:
    """What the report shows of all tasks together."""

    figure: Figure
    parts: Sequence[Figure]
    """Its panels one by one, for the page, where they stand below each other on a phone."""
    context: dict[str, Any]
    """What the template `aggregate.html` shows beside the figure."""


def make(suite: SuiteResults) -> Aggregate | None:
    """The aggregate of a suite; None where no return can be normalised."""
    table = stats.final_returns(suite.records, suite.states)
    if not is_there(table):
        return None
    lost = table[table["counted_as"] != ""]
    names = [f"{trial_name({**row})} as {row['counted_as']}" for _, row in lost.iterrows()]
    shown, known = rows(table, suite.algorithms), table[table["normalised"].notna()]
    seeds = known.groupby(["task", "algorithm"], observed=True).size()
    context = {
        "rows": shown,
        "partial": "IQM on the tasks that all have" in shown[0],
        "tasks": known["task"].nunique(),
        "several": table["algorithm"].nunique() > 1,
        "few": seeds.min() < stats.ENOUGH_SEEDS,
        "unequal": seeds.nunique() > 1,
        "left_out": sorted(table.loc[table["normalised"].isna(), "task"].unique()),
        "counted": "; ".join(names) + "." if names else "",
    }
    drawn, count = panels(table, suite.algorithms), table["algorithm"].nunique()
    return Aggregate(figure(drawn, count), [figure([(1.15, draw)], count) for _, draw in drawn], context)


def rows(table: pd.DataFrame, algorithms: Algorithms) -> list[dict[str, str]]:
    """`stats.aggregates` as text, with the ranks of the algorithms that have all tasks among each other."""
    found = stats.aggregates(table)
    whole = found[found["tasks"] == found["all_tasks"]]
    ranked = stats.rank_stability(table[table["algorithm"].isin(whole["algorithm"])])
    found = found.merge(ranked, how="left", on="algorithm", suffixes=("", "_ranked"))
    found = found.set_index("algorithm").loc[in_order(table["algorithm"], algorithms.methods)].reset_index()
    enough = whole["fewest_seeds"].min() >= stats.ENOUGH_SEEDS  # fewer rank nothing
    return formats.without_empty([_row(row, enough) for row in found.to_dict("records")])


def _row(row: dict[Any, Any], enough: bool) -> dict[str, str]:
    ranks = {key: row[key] for key in row if str(key).startswith("rank_") and row[key] >= 0.005}
    often = ", ".join(f"{str(key).removeprefix('rank_')}: {share:.0%}" for key, share in ranks.items())
    return {
        "algorithm": str(row["algorithm"]),
        "tasks": f"{row['tasks']}" if row["complete"] else f"{row['tasks']} of {row['all_tasks']}, incomplete",
        "seeds": formats.counts([row["fewest_seeds"], row["most_seeds"]]),
        "IQM": normalised(row["iqm"]),
        "95% interval": normalised_span(row["iqm_low"], row["iqm_high"]),
        "IQM on the tasks that all have": normalised(row["iqm_shared"]) if row["shared"] < row["all_tasks"] else NONE,
        "median of tasks": normalised(row["median"]),
        "mean": normalised(row["mean"]),
        "shortfall from the reference": normalised(row["optimality_gap"]),
        "rank": NONE if np.isnan(row["rank"]) or not enough else f"{row['rank']:.0f}",
        "ranks when tasks are drawn anew": often if row["tasks_ranked"] >= ENOUGH_TASKS and enough else NONE,
    }
