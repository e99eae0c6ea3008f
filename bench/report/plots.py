"""Figures: learning curves, in colours that mean the same algorithm in every figure of every suite."""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import matplotlib
import pandas as pd
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.cli.command import counted, enumerated
from bench.report.algorithms import Algorithms, Style, in_order
from bench.report.formats import counts, visible
from bench.report.inline import INK, PAPER, RULE, inline_svg, series_id, task_id
from bench.report.stats import ENOUGH_SEEDS, begun_seeds

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same bytes on every machine
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a label with dollar signs is no formula
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.edgecolor": RULE,
    "axes.facecolor": PAPER,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": PAPER,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "savefig.facecolor": PAPER,
    "svg.hashsalt": "bench.report",  # without it the ids in the SVG are random
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # TrueType: conferences refuse the default, Type 3
}
Costs = Literal["step", "seconds"]
"""What a curve is drawn over, a column of its frame."""
AXES = {"step": "environment steps", "seconds": "training time, median over seeds"}
DATES = {"svg": "Date", "pdf": "CreationDate"}
MISSING = "Glyph .* missing from font"
"""A label may be in a script that the font of figures lacks; the page has other fonts."""
PANEL_WIDTH, PANEL_HEIGHT = 4.3, 3.1  # inches
NOTE_WIDTH, TITLE_WIDTH = 52, 40  # characters of a note and of a title that fit above a panel
LINE_HEIGHT = 0.15  # inches of one more line of a title or of a label in the legend


def curves(frame: pd.DataFrame, states: pd.DataFrame, algorithms: Algorithms, over: Costs = "step") -> Figure:
    """One panel per task of `stats.curves`, with legend and caption: a figure that can stand alone."""
    tasks = sorted(states["task"].unique())
    columns = 2 if len(tasks) == 4 else min(len(tasks), 3)
    rows = math.ceil(len(tasks) / columns)
    titles = [_title(task) for task in tasks]
    handles = [handle(label, algorithms) for label in in_order(frame["algorithm"], states["algorithm"])]
    per_row = _legend_columns(handles, PANEL_WIDTH * columns)
    caption = textwrap.fill(curve_caption(states), width=max(60, 62 * columns))
    more_lines = sum(max(t.count("\n") for t in titles[i : i + columns]) for i in range(0, len(tasks), columns))
    more_lines += sum(str(one.get_label()).count("\n") for one in handles)
    extra = LINE_HEIGHT * more_lines + 0.22 * math.ceil(len(handles) / per_row) + 0.16 * (caption.count("\n") + 2)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(PANEL_WIDTH * columns, PANEL_HEIGHT * rows + extra), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"hspace": 0.09})
        for index, ax in enumerate(axes.flat):
            if index < len(tasks):
                _panel(ax, tasks[index], frame, states, algorithms, over)
                ax.set_ylabel("team return per episode" if index % columns == 0 else "")
                ax.set_xlabel(AXES[over] if index + columns >= len(tasks) else "")
            else:
                ax.remove()
        figure.legend(handles=handles, loc="outside upper left", ncols=per_row, frameon=False, handlelength=4)
        figure.supxlabel(caption, fontsize=7.5, x=0.01, ha="left", linespacing=1.4)
    return figure


def task_curves(
    task: str, frame: pd.DataFrame, states: pd.DataFrame, algorithms: Algorithms, over: Costs = "step"
) -> Figure:
    """The panel of one task for the page, which has a legend, a heading and a caption of its own."""
    height = PANEL_HEIGHT + LINE_HEIGHT * _title(task).count("\n")
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(PANEL_WIDTH, height), layout="constrained")
        ax = figure.subplots()
        ax.set_gid(task_id(0))
        _panel(ax, task, frame, states, algorithms, over)
        ax.set_xlabel(AXES[over])
        ax.set_ylabel("team return per episode")
    return figure


def panels(frame: pd.DataFrame, states: pd.DataFrame, algorithms: Algorithms, over: Costs = "step") -> list[Markup]:
    """The panels of all tasks as elements of the page."""
    return [
        inline(
            task_curves(task, frame, states, algorithms, over),
            f"{over}{index}",
            f"Learning curves on {task} over {AXES[over]}",
            algorithms,
            [task],
        )
        for index, task in enumerate(sorted(states["task"].unique()))
    ]


def curve_caption(states: pd.DataFrame) -> str:
    """What line and band are, and of how many seeds."""
    planned = states.groupby(["task", "algorithm"], observed=True).size()
    if planned.max() == 1:
        return "Line: mean return of the evaluation episodes. One seed gives no interval. No smoothing."
    begun = begun_seeds(states) or [*planned]
    whole = sum(begun) == planned.sum()
    seeds = counts(begun, "seed") if whole else f"{counts(begun)} of {counted(int(planned.max()), 'seed')}"
    mean = " (with 3 or fewer seeds this is the mean)" if min(begun) <= 3 else ""
    short = (states["reached"].fillna(-1) < states["steps"]).any()
    pale = " Pale parts: fewer seeds than planned." if short else ""
    if (states["state"] == "failed").any():
        pale += " Cross: a trial failed; from there on it counts as a random policy."
    band = "Band: 95% stretched bootstrap interval over seeds. " * (max(begun) >= ENOUGH_SEEDS)
    points = f"Points: single seeds; fewer than {ENOUGH_SEEDS} give no interval. " * (min(begun) < ENOUGH_SEEDS)
    return f"Line: interquartile mean{mean} of each seed's mean return, over {seeds}. {band}{points}No smoothing.{pale}"


def seed_note(states: pd.DataFrame) -> str:
    """How many seeds of one task reached the end: "3 seeds", or "3 seeds, 2 of 3 for ippo and happo"."""
    by_label = states.assign(finished=states["reached"] >= states["steps"]).groupby("algorithm")["finished"]
    finished, planned = by_label.sum(), by_label.size()
    usual = int(planned.mode().iloc[0])
    groups = sorted({*zip(finished, planned, strict=True)}, reverse=True)
    failed = int((states["state"] == "failed").sum())
    crosses = f"; cross: {failed} failed" if failed else ""
    if len(groups) == 1 and groups[0][0] < usual:
        return f"{groups[0][0]} of {counted(usual, 'seed')} finished{crosses}"
    parts = []
    for count, of in groups:
        labels = in_order(finished.index[(finished == count) & (planned == of)], states["algorithm"])
        said = counted(int(of), "seed") if count == of else f"{count} of {of}"
        parts.append(said if count == of == usual else f"{said} for {enumerated(labels)}")
    return ", ".join(parts) + crosses


def _panel(ax: Axes, task: str, frame: pd.DataFrame, states: pd.DataFrame, algorithms: Algorithms, over: Costs) -> None:
    """Draw all algorithms of one task."""
    here = frame[frame["task"] == task]
    if here.empty:
        ax.text(0.5, 0.5, "no records yet", transform=ax.transAxes, ha="center")
    for label in in_order(here["algorithm"], states["algorithm"]):
        artists = _curve(ax, algorithms.styles[label], here[here["algorithm"] == label], over)
        for artist in artists:
            mark(ax, artist, label, algorithms)
    largest = float(states.loc[states["task"] == task, "steps"].iloc[0] if over == "step" else here["seconds"].max())
    _cost_axis(ax, largest if largest > 0 else 1.0, over)
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.ticklabel_format(axis="y", style="plain", useOffset=False)
    ax.tick_params(length=0)
    note = textwrap.fill(visible(seed_note(states[states["task"] == task])), NOTE_WIDTH)
    ax.set_title(note, loc="left", fontsize=7.5, pad=4)
    # the task stands above its note, however many lines that has
    ax.annotate(
        _title(task),
        (0, 1),
        (0, 4 + 10.5 * (note.count("\n") + 1)),
        xycoords="axes fraction",
        textcoords="offset points",
        weight="bold",
    )


def _cost_axis(ax: Axes, largest: float, over: Costs) -> None:
    """The x axis, from 0 to the largest number of steps or seconds."""
    ticks = step_ticks if over == "step" else time_ticks
    steps = [1, 2, 5, 10] if over == "step" else [1, 2, 3, 6, 10]
    unit = 1.0 if over == "step" else time_unit(largest)[0]
    ax.set_xlim(-0.015 * largest, 1.015 * largest)
    places = [unit * place for place in MaxNLocator(6, steps=steps).tick_values(0, largest / unit)]
    ax.set_xticks([place for place in places if 0 <= place <= 1.015 * largest])
    ax.xaxis.set_major_formatter(FuncFormatter(ticks(largest)))


def mark(ax: Axes, artist: Artist, label: str, algorithms: Algorithms) -> None:
    """Say of an artist in `ax` whose it is, so that the page can hide it, and open its trials at a click."""
    index = list(algorithms.methods).index(label)
    figure = ax.get_figure(root=True)
    assert figure is not None
    artist.set_gid(series_id(index, figure.axes.index(ax), ax.get_children().index(artist)))


def _title(task: str) -> str:
    """The label of a task on as many lines as it needs to be no wider than a panel: cut after "/" or ":"."""
    lines = [""]
    for part in re.findall("[^/:]+[/:]*|[/:]+", visible(task)):
        if len(lines[-1] + part) > TITLE_WIDTH:
            lines.append("")
        lines[-1] += part
    return "\n".join(textwrap.fill(line, TITLE_WIDTH) for line in lines if line)


def _curve(ax: Axes, look: Style, curve: pd.DataFrame, over: Costs) -> list[Artist]:
    """Draw one algorithm: its band, or seeds that are too few for one; a pale line, and the full one where all are."""
    drawn: list[Artist] = []
    seeds = curve.loc[curve["seeds"] > 1, [over, "points"]].explode("points").dropna()
    if len(seeds):
        drawn += ax.plot(seeds[over], seeds["points"].astype(float), ".", color=look.color, alpha=0.4, markersize=3)
    if curve["low"].notna().any():
        drawn.append(
            ax.fill_between(curve[over], curve["low"], curve["high"], color=look.color, alpha=0.16, linewidth=0)
        )
    values = curve["iqm"].astype(float)
    whole = curve["seeds"] == curve["planned"]
    # a pale line for all, where there is more of it than of the full one
    for part, alpha in ((values, 0.4), (values.where(whole), 1.0)):
        if part.notna().any() and not (alpha < 1 and whole.all()):
            drawn += ax.plot(
                curve[over],
                part,
                color=look.color,
                marker=look.marker,
                markevery=max(1, len(curve) // 7),
                markersize=4.5,
                markeredgewidth=0,
                linewidth=1.6,
                alpha=alpha,
                linestyle=look.linestyle,
            )
    lost = curve["failed"].diff().fillna(curve["failed"]) > 0
    if lost.any():
        drawn += ax.plot(curve[over][lost], values[lost], "X", color=look.color, markersize=8, markeredgewidth=0)
    return drawn


def handle(label: str, algorithms: Algorithms) -> Line2D:
    """The entry of an algorithm in a legend."""
    look = algorithms.styles[label]
    text = textwrap.fill(visible(label), TITLE_WIDTH)
    return Line2D(
        [],
        [],
        color=look.color,
        marker=look.marker,
        markersize=4.5,
        markeredgewidth=0,
        linewidth=1.6,
        linestyle=look.linestyle,
        label=text,
    )


def _legend_columns(handles: list[Line2D], width: float) -> int:
    """How many entries of the legend stand side by side in a figure of that width in inches."""
    longest = max(len(line) for one in handles for line in str(one.get_label()).split("\n"))
    return min(len(handles), max(1, int(width / (0.85 + 0.075 * longest))))  # a line's sample and space, characters


def step_ticks(largest: float) -> Callable[[float, int], str]:
    """The labels of an axis of steps up to `largest`, all in one unit: 0.2M, 200k or 200."""
    unit, letter = (1e6, "M") if largest >= 5e5 else (1e3, "k") if largest >= 5e3 else (1.0, "")
    return lambda step, _: f"{step / unit:g}{letter}" if step else "0"


def time_unit(largest: float) -> tuple[float, str]:
    """The unit for times up to `largest` seconds: its seconds and its name."""
    return next((unit for unit in ((3600.0, "h"), (60.0, "min")) if largest >= 2 * unit[0]), (1.0, "s"))


def time_ticks(largest: float) -> Callable[[float, int], str]:
    """The labels of an axis of seconds up to `largest`, all in one unit: 0.5 h, 20 min or 30 s."""
    unit, name = time_unit(largest)
    return lambda seconds, _: f"{seconds / unit:g} {name}" if seconds else "0"


def inline(figure: Figure, prefix: str, name: str, algorithms: Algorithms, tasks: Sequence[str] = ()) -> Markup:
    """The figure as an element of the page, with its text in the font of the page; see `inline_svg`."""
    return inline_svg(_saved(figure, "svg", {"svg.fonttype": "none"}), prefix, name, list(algorithms.methods), tasks)


def all_formats(name: str, figure: Figure) -> dict[str, bytes]:
    """File name -> content of a figure that is published: SVG, PNG at 200 dots per inch, PDF."""
    with matplotlib.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", MISSING)
        figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what it has arranged stands in all formats
    return {f"{name}.{kind}": _saved(figure, kind) for kind in ("svg", "png", "pdf")}


def _saved(figure: Figure, kind: str, settings: dict[Any, Any] | None = None) -> bytes:
    """The bytes of a file, without the date: equal figures give equal bytes."""
    buffer = io.BytesIO()
    undated = {DATES[kind]: None} if kind in DATES else None
    with matplotlib.rc_context(RC | (settings or {})), warnings.catch_warnings():
        warnings.filterwarnings("ignore", MISSING)
        figure.savefig(buffer, format=kind, dpi=200 if kind == "png" else "figure", metadata=undated)
    return buffer.getvalue()
