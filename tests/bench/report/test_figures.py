"""Figures: labels as written, variants that look different, curves over time, and what the page makes of an SVG."""

from __future__ import annotations

import re
from itertools import combinations, product
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from test_report import TASK, figure_frames, write_trial

from algorithms import METHODS
from bench.report import plots, stats
from bench.report.__main__ import main
from bench.report.algorithms import SHARED_DASH, VARIANT_DASHES, Algorithms, Style
from bench.report.inline import inline_svg, series_id, task_id
from bench.store import files

HARD = (r"$\foo$", "$x_1$ & $", "<script>alert(1)</script>", "\x1b[31mred", "_a_", "&amp;", "L" * 80, "中", "100%")
FIGURES = [f"{name}.{kind}" for name in ("aggregate", "curves", "curves_seconds") for kind in ("svg", "png", "pdf")]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    return tmp_path / "demo"


# text


@pytest.mark.usefixtures("all_figure_files")
def test_a_report_on_labels_that_look_like_something_else_is_written(suite: Path) -> None:
    for label in HARD:
        write_trial(suite, label, task=f"python:envs:Cat:name={label}", config_hash=label)
    assert main([str(suite)]) == 0
    assert "<script>alert" not in (suite / "report.html").read_text()
    assert "\x1b" not in (suite / "report.html").read_text()
    for name in ("curves.svg", "curves_seconds.svg"):
        ElementTree.parse(suite / name)  # a file with a control character would be no XML


def test_labels_stand_in_figures_as_they_are_written() -> None:
    labels = tuple(label for label in HARD if label != "中")  # for which the font has no glyph
    frames = figure_frames(["$task$_1"], labels)
    figure = plots.curves(*frames)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    shown = [text.get_text().replace("\n", "") for text in legend.get_texts()]
    assert shown == [label.replace("\x1b", r"\x1b") for label in labels]
    assert not any(text.get_parse_math() for text in legend.get_texts())
    panel = plots.inline(plots.task_curves("$task$_1", *frames), "p", "$x$", frames[2], ["$task$_1"])
    assert ">$task$_1</text>" in panel


# what variants look like


def distance(one: Style, other: Style) -> float:
    """How far two colours are apart, from 0 to the square root of 3."""
    return float(np.linalg.norm(np.subtract(to_rgb(one.color), to_rgb(other.color))))


@pytest.mark.parametrize("method", [*METHODS, "python:mine:Mine"])
@pytest.mark.parametrize(
    "labels",
    [
        [f"wide-{k}" for k in range(6)],
        ["lr=1e-3", "lr=3e-4", "lr=1e-4", "no-norm", "deep", "entropy"],
        list("abcdef"),
        ["", "b", "-shared", "d", "e", "f"],
    ],
)
def test_six_variants_of_one_method_are_told_apart_without_their_markers(method: str, labels: list[str]) -> None:
    looks = Algorithms({f"{method}{label}": method for label in labels}, [*METHODS]).styles.values()
    for one, other in combinations(looks, 2):
        assert one.dash != other.dash or distance(one, other) > 0.1


def test_a_variant_looks_the_same_beside_others_whose_dash_differs() -> None:
    alone = Algorithms({"happo-b": "happo"}, [*METHODS]).styles["happo-b"]
    beside = Algorithms({"mappo": "mappo", "happo": "happo", "happo-b": "happo"}, [*METHODS]).styles["happo-b"]
    assert alone == beside


def test_a_variant_has_its_dash_in_figure_legend_and_page(suite: Path) -> None:
    for label in ("happo", "happo-b"):
        write_trial(suite, label)
    algorithms = Algorithms({"happo": "happo", "happo-b": "happo"}, ["happo"])
    look = algorithms.styles["happo-b"]
    assert look.dash
    figure = plots.curves(*figure_frames(["Ant"], ("happo-b",))[:2], algorithms)
    scaled = [pytest.approx(1.6 * length) for length in look.dash]
    for line in (figure.axes[0].lines[-1], figure.legends[0].get_lines()[0]):
        assert line.get_linestyle() == "--"
        assert list(line._dash_pattern[1]) == scaled  # type: ignore[attr-defined]
    assert main([str(suite)]) == 0
    chip = f'stroke-dasharray="{" ".join(str(2 * length) for length in look.dash)} "'
    assert chip in (suite / "report.html").read_text()


@pytest.mark.parametrize("dash", [SHARED_DASH, *VARIANT_DASHES])
@pytest.mark.parametrize(("length", "width", "marker"), [(36, 1.6, 4.5), (48, 2, 10)], ids=["figure", "page"])
def test_the_marker_of_a_legend_hides_no_dash(
    dash: tuple[float, ...], length: float, width: float, marker: float
) -> None:
    """The sample of a line, of that length and width, shows a gap between its parts beside the marker in its middle."""
    ends = np.cumsum(np.tile(dash, 20)) * width
    gaps = [(a, b) for a, b in zip(ends[::2], ends[1::2], strict=True) if b < length]
    assert any(b <= (length - marker) / 2 or a >= (length + marker) / 2 for a, b in gaps)


# over time


def test_a_step_stands_at_the_median_of_the_seconds_of_its_seeds() -> None:
    columns = ["task", "algorithm", "seed", "kind", "step", "seconds"]
    rows = [("a", "x", seed, "grid", step, step * (1 + seed) ** 2) for seed in range(3) for step in (0, 10)]
    records = pd.DataFrame([*rows, ("a", "x", 0, "final", 10, 999.0)], columns=columns)
    curves = pd.DataFrame({"task": "a", "algorithm": "x", "step": [0, 10], "iqm": [1.0, 2.0]})
    assert list(stats.with_seconds(curves, records)["seconds"]) == [0.0, 40.0]


def test_curves_over_time_are_those_over_steps_at_other_places() -> None:
    frame, states, algorithms = figure_frames(["Ant"])
    frame = frame.assign(seconds=frame["step"] * 3.6)
    (steps,) = plots.task_curves("Ant", frame, states, algorithms).axes[0].lines
    (seconds,) = plots.task_curves("Ant", frame, states, algorithms, "seconds").axes[0].lines
    assert np.allclose(np.asarray(seconds.get_xdata()), 3.6 * np.asarray(steps.get_xdata()))
    assert np.array_equal(np.asarray(seconds.get_ydata()), np.asarray(steps.get_ydata()))


@pytest.mark.parametrize(
    ("largest", "seconds", "label"),
    [(90, 30, "30 s"), (600, 120, "2 min"), (7200, 1800, "0.5 h"), (1e6, 36000, "10 h"), (90, 0, "0")],
)
def test_time_ticks(largest: float, seconds: float, label: str) -> None:
    assert plots.time_ticks(largest)(seconds, 0) == label


def test_ticks_of_time_stand_at_whole_units() -> None:
    frame, states, algorithms = figure_frames(["Ant"])
    ax = plots.task_curves("Ant", frame.assign(seconds=frame["step"] * 20), states, algorithms, "seconds").axes[0]
    assert [place / 3600 for place in ax.get_xticks()] == [0, 1, 2, 3, 4, 5]


# files


@pytest.mark.usefixtures("all_figure_files")
def test_figures_and_tables_are_the_same_bytes_when_made_again(suite: Path) -> None:
    for algorithm, seed in product(("mappo", "happo"), range(5)):
        write_trial(suite, algorithm, seed, returns=(0.0, seed, 2.0 * seed))
    made = []
    for _ in range(2):
        assert main([str(suite)]) == 0
        made.append({path.name: path.read_bytes() for path in suite.iterdir() if path.is_file()})
    assert {*FIGURES, "returns.tex", "returns.parquet", "curves.parquet", "report.html"} <= {*made[0]}
    assert made[0] == made[1]
    assert made[0]["curves.pdf"].startswith(b"%PDF")
    assert b"/CreationDate" not in made[0]["curves.pdf"]
    assert b"/Type3" not in made[0]["curves.pdf"]


def test_tables_hold_the_numbers_of_the_figures(suite: Path) -> None:
    for seed in range(5):
        write_trial(suite, seed=seed, returns=(0.0, 10.0, 20.0 + seed), final=30.0 + seed, absolute=40.0 + 2 * seed)
    assert main([str(suite)]) == 0
    values = np.arange(5.0)
    curves = files.read_table(suite / "curves.parquet")
    assert list(curves["step"]) == [0, 100, 200]
    assert list(curves["seconds"]) == [0.0, 2.0, 4.0]
    assert list(curves["iqm"]) == [0.0, 10.0, 22.0]
    assert tuple(curves[["low", "high"]].iloc[-1]) == stats.interval(20 + values)
    assert "points" not in curves
    (row,) = pd.read_parquet(suite / "returns.parquet").to_dict("records")
    assert (row["final_low"], row["final_high"]) == stats.interval(30 + values)
    assert (row["absolute_low"], row["absolute_high"]) == stats.interval(40 + 2 * values)
    assert row["final_low"] < row["final_iqm"] < row["final_high"]
    assert (row["task"], row["algorithm"], row["final_iqm"]) == (TASK, "mappo", 32.0)


# as elements of the page


def drawn(*labels: str) -> bytes:
    """A figure with one line for each label, in the axes of one task."""
    with rc_context(plots.RC):
        figure = Figure(figsize=(2, 2))
        ax = figure.subplots()
        ax.set_gid(task_id(0))
        ax.set_title("1.23456 #1f2329 url(#x)")
        for index, _ in enumerate(labels):
            (line,) = ax.plot([0, 1], [index, 1], marker="o")
            line.set_gid(series_id(index, 0))
    return plots._saved(figure, "svg", {"svg.fonttype": "none"})


def test_series_and_axes_say_whose_they_are_escaped() -> None:
    text = inline_svg(drawn("a", '"><script>'), "p", "curves", ["a", '"><script>'], ["t&t"])
    root = ElementTree.fromstring(text)
    assert [one.get("data-algorithm") for one in root.iter("g") if one.get("data-algorithm")] == ["a", '"><script>']
    assert [one.get("data-task") for one in root.iter("g") if one.get("data-task")] == ["t&t"]
    assert "<script>" not in text


def test_what_a_figure_says_is_left_as_it_is() -> None:
    assert ">1.23456 #1f2329 url(#x)</text>" in inline_svg(drawn("a"), "p", "curves", ["a"])


def test_ids_of_two_figures_differ_and_references_stay_whole() -> None:
    texts = [inline_svg(drawn("a", "b"), prefix, "curves", ["a", "b"]) for prefix in ("p1", "p2")]
    root = ElementTree.fromstring(f"<div>{''.join(texts)}</div>")
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert len({*ids}) == len(ids) > 0
    referred = re.findall(r'(?:href="#|url\(#)([\w-]+)', "".join(texts).replace("url(#x)", ""))
    assert {*referred} == {*ids}


@pytest.mark.usefixtures("all_figure_files")
def test_a_published_figure_has_each_id_once() -> None:
    frames = figure_frames(["Ant", "Hopper"], ("mappo", "happo"))
    ids = re.findall(r'\bid="(series-[\w.-]+)"', plots.all_formats("x", plots.curves(*frames))["x.svg"].decode())
    assert len({*ids}) == len(ids) == 4
