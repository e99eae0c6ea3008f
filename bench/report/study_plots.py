"""Figures of a study, in the look of all others: what a budget buys, the search, and what each parameter did."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from bench.report import plots, stats, study_results
from bench.report.algorithms import Style, in_order
from bench.report.formats import visible
from bench.report.inline import INK, PAPER
from bench.report.study_results import StudyResults

UNIT = "normalised return"
SMALL_WIDTH, SMALL_HEIGHT = 2.5, 2.1  # inches of a panel among many


def budget(study: StudyResults, curves: pd.DataFrame) -> Figure:
    """Median of the best of k trials, one line per algorithm, with the defaults as rings at the left."""
    with matplotlib.rc_context(plots.RC):
        figure = Figure(figsize=(plots.PANEL_WIDTH * 1.6, plots.PANEL_HEIGHT * 1.3), layout="constrained")
        ax = figure.subplots()
        defaults = study_results.defaults(study)
        for place, label in enumerate(study.labels):
            look = study.algorithms.styles[label]
            artists = _budget_curve(ax, look, curves[curves["algorithm"] == label])
            artists += ax.plot(
                0.35 + 0.3 * place / len(study.labels),
                defaults[label],
                marker=look.marker,
                color=look.color,
                markerfacecolor=PAPER,
                markersize=6,
                markeredgewidth=1.3,
                linestyle="none",
            )
            for artist in artists:
                plots.mark(ax, artist, label, study.algorithms)
        most = int(curves["trials"].max())
        ax.set_xlim(0.2, most + 0.1 + 0.02 * most)
        ax.set_xticks([k for k in study_results.BUDGETS if k < most] + [most])
        ax.set_xlabel("tuning trials k (open markers: the defaults)")
        ax.set_ylabel(f"best {UNIT} of k, median")
        _legend(figure, study)
    return figure


def _budget_curve(ax: Axes, look: Style, curve: pd.DataFrame) -> list[Artist]:
    # no band where nothing bounds it
    low, high = (curve[end].where(np.isfinite(curve[end]), curve["best"]) for end in ("low", "high"))
    band = ax.fill_between(curve["trials"], low, high, color=look.color, alpha=0.14, linewidth=0)
    lines = ax.plot(
        curve["trials"],
        curve["best"],
        color=look.color,
        marker=look.marker,
        markersize=4.5,
        markevery=max(1, len(curve) // 8),
        markeredgewidth=0,
        linewidth=1.6,
        linestyle=look.linestyle,
    )
    return [band, *lines]


def history(study: StudyResults) -> Figure:
    """Every tuning trial in the order of the search, the best so far, and the defaults: one panel per algorithm."""

    def draw(ax: Axes, label: str) -> None:
        mine = study.trials[study.trials["algorithm"] == label].sort_values("number")
        look, ring = study.algorithms.styles[label], PAPER
        for state, fill in (("complete", look.color), ("pruned", ring)):
            part = mine[mine["state"] == state]
            ax.plot(part["number"], part["score"], look.marker, color=look.color, markerfacecolor=fill, markersize=4.5)
        failed = mine[mine["state"] == "fail"]
        ax.plot(failed["number"], failed["score"], "x", color=look.color, markersize=5)
        complete = mine["value"].astype(float).where(mine["state"] == "complete")
        ax.plot(mine["number"], complete.cummax().ffill(), color=look.color, linewidth=1.4, drawstyle="steps-post")
        ax.axhline(study_results.defaults(study)[label], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.set_title(visible(label), loc="left", fontsize=9, weight="bold")
        ax.set_xlabel("trial")

    return _panels(study.labels, draw, sharey=True, width=2.0)


def importance(study: StudyResults) -> Figure:
    """The share of each parameter, one panel per algorithm that has enough trials."""
    frame = study.importances

    def draw(ax: Axes, label: str) -> None:
        mine = frame[frame["algorithm"] == label].sort_values("importance")
        ax.barh(mine["parameter"], mine["importance"], color=study.algorithms.styles[label].color, height=0.62)
        ax.set_xlim(0, 1)
        ax.grid(visible=False, axis="y")
        ax.set_title(f"{visible(label)}, {mine['trials'].iloc[0]} trials", loc="left", fontsize=9, weight="bold")
        ax.set_ylabel("")

    return _panels(in_order(frame["algorithm"], study.labels), draw, unit="", width=3.3)


def slices(study: StudyResults, label: str) -> Figure:
    """The return of every tuning trial over each parameter of one algorithm: rings were cut, crosses diverged."""
    points = study_results.parameters(study, label)
    look = study.algorithms.styles[label]

    def draw(ax: Axes, name: str) -> None:
        mine = points[points["parameter"] == name]
        x = _positions(ax, mine["setting"], study_results.searched(study, label, name))
        for state, marker, fill in (
            ("complete", look.marker, look.color),
            ("pruned", look.marker, PAPER),
            ("fail", "x", look.color),
        ):
            chosen = (mine["state"] == state).to_numpy()
            ax.plot(x[chosen], mine["score"][chosen], marker, color=look.color, markerfacecolor=fill, markersize=4.5)
        first = mine["default"].to_numpy(bool)
        ax.plot(x[first], mine["score"][first], "o", color=INK, markerfacecolor="none", markersize=9)
        ax.set_title(name, loc="left", fontsize=9)

    return _panels(list(dict.fromkeys(points["parameter"])), draw, sharey=True)


def _positions(ax: Axes, settings: pd.Series, searched: dict[str, Any]) -> stats.Floats:
    """Where settings stand on an axis that shows the whole range searched: choices side by side, numbers by size."""
    if "choices" in searched:
        names = [study_results.held(choice) for choice in searched["choices"]]
        ax.set_xticks(range(len(names)), names)
        ax.set_xlim(-0.5, len(names) - 0.5)
        return np.array([names.index(study_results.held(value)) for value in settings], dtype=np.float64)
    low, high = searched["low"], searched["high"]
    if searched.get("log"):
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # the default one writes formulas
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlim(low * (low / high) ** 0.05, high * (high / low) ** 0.05)
        if math.floor(math.log10(high)) <= math.ceil(math.log10(low)):  # less than two powers of ten to label
            ax.set_xticks([low, high], [f"{low:g}", f"{high:g}"])
    else:
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=searched["kind"] == "int"))
        ax.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    return settings.to_numpy(np.float64)


def trade_off(study: StudyResults) -> Figure:
    """Return over training time of every complete tuning trial; the line joins those that nothing beats in both."""
    with matplotlib.rc_context(plots.RC):
        figure = Figure(figsize=(plots.PANEL_WIDTH * 1.6, plots.PANEL_HEIGHT * 1.2), layout="constrained")
        ax = figure.subplots()
        for label in study.labels:
            chosen = (study.trials["algorithm"] == label) & (study.trials["state"] == "complete")
            mine = study.trials[chosen].sort_values("seconds")
            look = study.algorithms.styles[label]
            lines = ax.plot(mine["seconds"], mine["value"], look.marker, color=look.color, markersize=4.5, alpha=0.7)
            front = mine[mine["value"] > mine["value"].cummax().shift(fill_value=-np.inf)]
            lines += ax.plot(front["seconds"], front["value"], color=look.color, linewidth=1.4, drawstyle="steps-post")
            for line in lines:
                plots.mark(ax, line, label, study.algorithms)
        ax.set_xlabel("seconds of training, all tasks and seeds")
        ax.set_ylabel(UNIT)
        _legend(figure, study)
    return figure


def _legend(figure: Figure, study: StudyResults) -> None:
    handles = [plots.handle(label, study.algorithms) for label in study.labels]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False, handlelength=4)


def _panels(
    names: list[str],
    draw: Callable[[Axes, str], None],
    *,
    sharey: bool = False,
    unit: str = UNIT,
    width: float = SMALL_WIDTH,
) -> Figure:
    """Small panels, one for each name, at most as many in a row as fit a page."""
    columns = min(len(names), int(10 // width))
    rows = math.ceil(len(names) / columns)
    with matplotlib.rc_context(plots.RC):
        figure = Figure(figsize=(width * columns + 0.5, SMALL_HEIGHT * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
        for index, ax in enumerate(axes.flat):
            if index >= len(names):
                ax.remove()
                continue
            draw(ax, names[index])
            ax.tick_params(length=0)
            if index % columns == 0:
                ax.set_ylabel(unit)
    return figure
