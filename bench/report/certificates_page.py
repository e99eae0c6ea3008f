"""Certificates as a part of the page: tables as text, bars by position, and how KL and gain run over training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.cli.command import counted
from bench.report import certificates, plots
from bench.report.algorithms import Algorithms, in_order
from bench.report.certificates import HEADINGS
from bench.report.formats import NONE
from bench.report.load import SuiteResults

SHARES = ("clip_fraction", "rejected", "inside", "ess", "ess_lowest")
PARTS = (
    ("updates", "kl_mean", "kl_mean_max", "kl_max", "kl_joint", "kl_joint_max", "inside", "clip_fraction"),
    ("predicted_gain", "gain", "realised", "backtracks", "rejected", "factor_max", "ess", "ess_lowest"),
)
"""Columns of the tables of a task, which as one would be too wide."""
BAR = 32
"""Width of a full bar in pixels: seventeen stand side by side."""
FEW = 0.1
"""Effective share of the samples below which the page says so."""


@dataclass(frozen=True)
class Certificates:
    """What the page shows."""

    csv: bytes
    tables: dict[str, list[list[dict[str, str]]]]
    """task -> tables of one row per algorithm, from heading to cell, without columns that no algorithm there has."""
    positions: dict[str, list[dict[str, Any]]]
    """task -> one row per algorithm whose factor is not 1 throughout: `algorithm`, `cells`."""
    alerts: list[str]
    """Where agents learn from a small share of the samples."""
    figures: dict[str, Figure]
    """task -> KL and gain over training."""


def make(suite: SuiteResults) -> Certificates:
    """The certificates of a suite."""
    frame = certificates.prepared(suite.updates, suite.trials)
    order = suite.algorithms.methods
    found = certificates.table(frame, order)
    places = certificates.positions(frame).astype({"task": str, "algorithm": str})
    course = certificates.over_training(frame).astype({"task": str, "algorithm": str})
    tasks = list(dict.fromkeys(found["task"]))
    bars = {task: position_rows(places[places["task"] == task], order) for task in tasks}
    drawn = {task: part for task in tasks if len(part := course[course["task"] == task])}
    return Certificates(
        csv=certificates.csv(found, places),
        tables={task: [*_tables(found[found["task"] == task])] for task in tasks},
        positions={task: lines for task, lines in bars.items() if lines},
        alerts=alerts(places),
        figures={task: figure(part, suite.algorithms) for task, part in drawn.items()},
    )


def _tables(found: pd.DataFrame) -> Iterator[list[dict[str, str]]]:
    for names in PARTS:
        if found[[*names]].notna().any(axis=None):
            yield rows(found, names)


def rows(found: pd.DataFrame, names: Sequence[str] = tuple(HEADINGS)) -> list[dict[str, str]]:
    """Columns of the certificates of one task as text."""
    shown = [name for name in names if found[name].notna().any()]
    return [
        {"algorithm": row["algorithm"], **{HEADINGS[name]: text(name, row[name]) for name in shown}}
        for row in found.to_dict("records")
    ]


def text(name: str, value: float) -> str:
    """A number of the column `name`; a dash where the method has none."""
    if pd.isna(value) or (name == "updates" and value == 0):  # updates of which no agent has a row
        return NONE
    if name == "updates":
        return f"{value:,.0f}"
    return share(value) if name in SHARES else f"{value:.3g}"


def share(value: float) -> str:
    """A share with three decimals, or as many as show its first digit."""
    return f"{value:.3f}" if value >= 0.001 or value == 0 else f"{value:.1g}"


def position_rows(places: pd.DataFrame, order: Any = ()) -> list[dict[str, Any]]:
    """The effective samples of one task by position, for algorithms in which an agent's factor is not always 1."""
    found = []
    for label in in_order(places["algorithm"], in_order(order)):
        mine = places[places["algorithm"] == label].sort_values("position")
        lowest = mine["ess"].min()
        if not lowest < 1 - 1e-6:
            continue
        cells = [
            {
                "position": int(row["position"]),
                "share": share(row["ess"]),
                "samples": NONE if pd.isna(row["samples"]) else f"{row['samples']:,.0f}",
                "width": round(BAR * row["ess"], 1),
                "lowest": row["ess"] == lowest,
                "few": row["ess"] < FEW,
            }
            for row in mine.to_dict("records")
        ]
        found.append({"algorithm": label, "cells": cells})
    return found


def alerts(places: pd.DataFrame) -> list[str]:
    """One line for each task and algorithm in which an agent learns from less than a tenth of its samples."""
    lines = []
    for (task, label), mine in places.groupby(["task", "algorithm"], sort=False):
        low = mine[mine["ess"] < FEW].sort_values("ess")
        if low.empty:
            continue
        last = low.to_dict("records")[0]
        count = "" if pd.isna(last["samples"]) else f", about {counted(max(round(last['samples']), 1), 'sample')}"
        lines.append(
            f"{label} on {task}: at {len(low)} of {counted(len(mine), 'position')} in the order of the update agents "
            f"learn from less than a tenth of their samples; at position {int(last['position'])} from a share of "
            f"{share(last['ess'])}{count}."
        )
    return lines


def figure(course: pd.DataFrame, algorithms: Algorithms) -> Figure:
    """KL, and where it was recorded gain, of one task over training: medians over seeds and agents."""
    shown = [name for name in ("kl_mean", "gain") if course[name].notna().any()]
    with matplotlib.rc_context(plots.RC):
        result = Figure(figsize=(plots.PANEL_WIDTH * len(shown), 2.2), layout="constrained")
        axes = result.subplots(1, len(shown), squeeze=False)[0]
        for ax, name in zip(axes, shown, strict=True):
            _draw(ax, name, course, algorithms)
    return result


def _draw(ax: Axes, name: str, course: pd.DataFrame, algorithms: Algorithms) -> None:
    for label in in_order(course["algorithm"], algorithms.methods):
        mine = course[(course["algorithm"] == label) & course[name].notna()]
        look = algorithms.styles[label]
        every = max(1, len(mine) // 6)
        (line,) = ax.plot(mine["step"], mine[name], look.marker + "-", color=look.color, linewidth=1.3, markevery=every)
        line.set(markersize=4, markeredgewidth=0)
        if look.dash:
            line.set_dashes(look.dash)
    if name == "kl_mean" and (course[name] > 0).any():
        ax.set_yscale("log", nonpositive="mask")
        for formatter in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
            formatter(FuncFormatter(lambda value, _: f"{value:g}"))  # the default one writes formulas
    ax.set_ylabel("KL of an update (nats)" if name == "kl_mean" else "realised gain of an update")
    ax.set_xlabel("environment steps")
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(plots.step_ticks(float(course["step"].max()))))
    ax.tick_params(length=0)
