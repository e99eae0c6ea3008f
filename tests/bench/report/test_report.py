"""The report: its numbers by hand, and what it must show, refuse and never load."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from algorithms import METHODS
from bench.report import about, algorithms, formats, page, plots, stats
from bench.report.__main__ import main
from bench.report.algorithms import Algorithms, Style
from bench.report.load import load
from bench.store import files
from bench.store.resolved import Algorithm, Resolved
from bench.store.trials import NO_PHYSICS, POLICIES, RECORD_COLUMNS, identity, merge, read_trials, trial_folder

TASK = "mamujoco/HalfCheetah-6x1"
STEPS = 200


def write_trial(
    suite: Path,
    algorithm: str = "mappo",
    seed: int = 0,
    *,
    task: str = TASK,
    returns: tuple[float, ...] = (0.0, 10.0, 20.0),
    final: float | None = 20.0,
    absolute: float | None = 25.0,
    best_step: int = STEPS,
    episodes: int = 2,
    **changes: Any,
) -> None:
    """One trial of two episodes per evaluation: `returns` at steps 0, 100, ..., one apart from each other."""
    rows = [("grid", 100 * i, value + e) for i, value in enumerate(returns) for e in np.linspace(-0.5, 0.5, episodes)]
    rows += [("final", STEPS, final)] if final is not None else []
    rows += [("absolute", best_step, absolute)] if absolute is not None else []
    records = pd.DataFrame(
        [
            ("demo", task, algorithm, seed, kind, step, step, episode, value, 1000, step / 50)
            for episode, (kind, step, value) in enumerate(rows)
        ],
        columns=list(RECORD_COLUMNS),
    )
    provenance: dict[str, Any] = {
        "commit": "c0ffee",
        "dirty": False,
        "versions": {"python": "3.11", "mujoco": "3.5.0"},
        "machine": {"cpu": "some CPU", "cores": 2, "system": "Linux"},
    }
    trial = {
        "suite": "demo",
        "task": task,
        "algorithm": algorithm,
        "method": algorithm.split("-")[0],
        "seed": seed,
        "steps": STEPS,
        "evaluate": {"every": 100, "episodes": 2},
        "settings": {},
        "options": {},
        "config_hash": f"hash of {task} {algorithm}",
        "status": "done",
        "attempts": 1,
        "error": None,
        "seconds": 4.0,
        "evaluation_seconds": 1.0,
        "provenance": provenance,
    }
    provenance |= changes.pop("provenance", {})
    folder, written = trial_folder(suite, task, algorithm, seed), {}
    trial |= changes
    if returns:
        checksum = files.write_table(folder / "records.parquet", records, identity(trial))
        written["records.parquet"] = checksum
    files.write_sealed_json(folder / "trial.json", trial | {"files": written})


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("demo")  # a short name leaves room in messages


def refused(suite: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which the report on `suite` ends, having written nothing."""
    assert main([str(suite)]) == 2
    assert not (suite / "report.html").exists()
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


def states_of(suite: Path) -> pd.DataFrame:
    merge(suite)
    return stats.trial_states(files.read_table(suite / "records.parquet"), read_trials(suite))


# numbers


def test_episodes_are_averaged_before_seeds(suite: Path) -> None:
    write_trial(suite, seed=0, returns=(0.0, 10.0, 20.0))
    write_trial(suite, seed=1, returns=(0.0, 20.0, 40.0))
    merge(suite)
    curve = stats.curves(files.read_table(suite / "records.parquet"), states_of(suite))
    assert list(curve["step"]) == [0, 100, 200]
    assert list(curve["iqm"]) == [0.0, 15.0, 30.0]
    assert list(curve["points"]) == [[0.0, 0.0], [10.0, 20.0], [20.0, 40.0]]
    assert curve[["low", "high"]].isna().all(axis=None)


def test_returns_table_by_hand(suite: Path) -> None:
    for seed, final in enumerate((20.0, 40.0, 90.0)):
        write_trial(suite, seed=seed, final=final, absolute=final + 10)
    states = states_of(suite)
    (row,) = stats.returns_table(files.read_table(suite / "records.parquet"), states).to_dict("records")
    assert (row["final_iqm"], row["final_mean"], row["final_median"]) == (50.0, 50.0, 40.0)
    assert (row["final_min"], row["final_max"], row["absolute_iqm"]) == (20.0, 90.0, 60.0)
    assert (row["seeds"], row["steps"], row["seconds"], row["steps_per_second"]) == (3, 200, 4.0, 50.0)


def test_the_final_return_is_that_of_fresh_episodes_and_not_of_the_grid(suite: Path) -> None:
    write_trial(suite, returns=(0.0, 10.0, 995.0), final=757.0)
    states = states_of(suite)
    records = files.read_table(suite / "records.parquet")
    (row,) = stats.returns_table(records, states).to_dict("records")
    assert row["final_iqm"] == 757.0
    assert list(stats.curves(records, states)["iqm"]) == [0.0, 10.0, 995.0]


def test_the_step_of_the_best_policy_is_the_median_over_seeds_and_their_range(suite: Path) -> None:
    for seed, step in enumerate((100, 0, 200, 200)):
        write_trial(suite, seed=seed, best_step=step)
    states = states_of(suite)
    table = stats.returns_table(files.read_table(suite / "records.parquet"), states)
    (row,) = table.to_dict("records")
    assert (row["best_step_median"], row["best_step_min"], row["best_step_max"]) == (150, 0, 200)
    assert page.returns_rows(table)[0]["step of the best policy"] == "150 (0 to 200)"


@pytest.mark.parametrize(
    ("median", "low", "high", "shown"),
    [(60_000, 40_000, 120_000, "60,000 (40,000 to 120,000)"), (1e6, 1e6, 1e6, "1,000,000"), (np.nan,) * 3 + ("–",)],
)
def test_the_range_of_steps_is_shown_where_seeds_differ(median: float, low: float, high: float, shown: str) -> None:
    assert page.best_step({"best_step_median": median, "best_step_min": low, "best_step_max": high}) == shown


@pytest.mark.parametrize("lacking", [{"final": None}, {"absolute": None}, {"final": None, "absolute": None}])
def test_a_trial_without_fresh_episodes_is_not_done_and_the_report_says_so(
    suite: Path, capsys: pytest.CaptureFixture[str], lacking: dict[str, None]
) -> None:
    write_trial(suite, seed=0)
    write_trial(suite, seed=1, **lacking)  # type: ignore[arg-type]
    states = states_of(suite)
    assert list(states["state"]) == ["done", "incomplete"]
    (row,) = stats.returns_table(files.read_table(suite / "records.parquet"), states).to_dict("records")
    assert (row["seeds"], row["planned"], row["final_iqm"], row["absolute_iqm"]) == (1, 2, 20.0, 25.0)
    assert main([str(suite)]) == 0
    said = "No fresh episodes: 1 of 2 trials trained to the end and lack records of kinds final and absolute"
    assert said in capsys.readouterr().out
    assert said in (suite / "report.html").read_text()


def test_a_diverged_episode_is_not_averaged_away(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trial(suite, seed=0)
    write_trial(suite, seed=1, final=float("nan"))
    assert main([str(suite)]) == 0
    assert "2, 1 failed" in capsys.readouterr().out
    assert '<span class="state diverged">' in (suite / "report.html").read_text()


# what the report shows


def test_a_report_is_figures_tables_and_a_page(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trial(suite)
    assert main([str(suite)]) == 0
    made = {path.name for path in suite.iterdir() if path.is_file()} - {"records.parquet", ".lock"}
    figures = {f"{name}.{kind}" for name in ("aggregate", "curves", "curves_seconds") for kind in ("svg", "png", "pdf")}
    tables = {f"returns.{kind}" for kind in ("csv", "md", "tex", "parquet")}
    assert made == figures | tables | {"curves.parquet", "certificates.csv", "report.html"}
    assert str(suite / "report.html") in capsys.readouterr().out


def test_incomplete_matrix_is_shown(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trial(suite, "mappo", 0)
    write_trial(suite, "mappo", 1)
    write_trial(suite, "happo", 0)
    states = states_of(suite)
    missing = states[states["state"] == "missing"]
    assert missing[["algorithm", "seed"]].to_numpy().tolist() == [["happo", 1]]
    main([str(suite)])
    assert "1 of 2" in capsys.readouterr().out
    assert f"{TASK} happo seed 1" in (suite / "report.html").read_text()


def test_unfinished_trial_does_not_count_as_final(suite: Path) -> None:
    write_trial(suite, seed=0, returns=(0.0, 10.0, 20.0))
    write_trial(suite, seed=1, returns=(0.0, 99.0), final=None, absolute=None, status="running")
    states = states_of(suite)
    records = files.read_table(suite / "records.parquet")
    (row,) = stats.returns_table(records, states).to_dict("records")
    assert (row["seeds"], row["planned"], row["final_iqm"]) == (1, 2, 20.0)
    assert list(stats.curves(records, states)["seeds"]) == [2, 2, 1]


def test_failed_trial_is_listed_with_its_error_escaped(suite: Path) -> None:
    write_trial(suite, seed=0)
    error = "Traceback\nFloatingPointError: loss <nan>"
    write_trial(suite, seed=1, returns=(), absolute=None, status="failed", attempts=3, error=error)
    assert main([str(suite)]) == 0
    html = (suite / "report.html").read_text()
    assert "attempt 3: FloatingPointError: loss &lt;nan&gt;" in html


def test_unequal_tuning_is_said_loudly(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned = {"study": "lately", "trials": 8, "steps": 20_000, "seeds": 2, "first_seed": 1000, "hash": "c0ffee"}
    write_trial(suite, "happo", tuning=tuned)
    assert main([str(suite)]) == 0
    assert "Unequal tuning" not in capsys.readouterr().out
    write_trial(suite, "mappo", tuning=None)
    write_trial(suite, "ippo", tuning=tuned)
    assert main([str(suite)]) == 0
    said = "Unequal tuning: happo and ippo: 8 trials of 20,000 steps on 2 seeds (study lately); mappo: none stated."
    assert said in capsys.readouterr().out
    assert said in (suite / "report.html").read_text()


def test_settings_of_a_tuned_twin_are_not_called_untuned(tmp_path: Path) -> None:
    tuned = {"study": "lately", "trials": 8, "steps": 20_000, "seeds": 2, "first_seed": 1000, "hash": "c0ffee"}
    ours = {"clip": 0.1, "share_actors": False}
    write_trial(tmp_path, "mappo", settings=ours, method="mappo", tuning=tuned)
    write_trial(tmp_path, "mappo-shared", settings=ours | {"share_actors": True}, method="mappo", tuning=None)
    write_trial(tmp_path, "mappo-other", settings={"clip": 0.2, "share_actors": True}, method="mappo", tuning=None)
    write_trial(tmp_path, "ippo", settings=ours | {"clip": 0.3}, method="ippo", tuning=None)
    suite = load(tmp_path)
    (said,) = (line for line in page.warnings(suite, suite.states) if line.startswith("Unequal tuning"))
    assert said.startswith(
        "Unequal tuning: ippo and mappo-other: none stated; mappo: 8 trials of 20,000 steps on 2 seeds (study lately); "
        "mappo-shared: the settings of mappo but for share_actors."
    )


def test_trials_that_wait_are_no_mixture_and_unplanned_ones_are_not_shown(tmp_path: Path) -> None:
    write_trial(tmp_path, "happo")
    waits: dict[str, Any] = {"returns": (), "final": None, "absolute": None, "status": "waiting"}
    write_trial(tmp_path, "happo", 4, config_hash="of other settings", **waits)
    write_trial(tmp_path, "ippo", steps=2 * STEPS, **waits)
    Resolved(["happo"], [TASK], {"happo": Algorithm("happo", "", False)}, [], looks=[1]).write(tmp_path)
    states = load(tmp_path).states
    assert [*zip(states["algorithm"], states["seed"], states["state"], strict=True)] == [("happo", 0, "done")]


def test_algorithms_that_coincide_on_a_task_are_said_to(tmp_path: Path) -> None:
    """IPPO and MAPPO where agents observe the whole state, as in games; MAPPO and HAPPO where there is one agent."""
    single, game = "mamujoco/Hopper-1x3", "games/driving"
    for label in ("ippo", "mappo", "mappo-2", "happo"):
        write_trial(tmp_path, label, options={"observation": "global"})
        write_trial(tmp_path, label, task="mamujoco/Hopper-3x1", options={"observation": "local"})
    for label in ("mappo", "happo", "hatrpo"):
        write_trial(tmp_path, label, task=single)
    for label in ("ippo", "mappo"):
        write_trial(tmp_path, label, task=game)
    labels = {
        label: Algorithm(label.split("-")[0], "", False) for label in ("ippo", "mappo", "mappo-2", "happo", "hatrpo")
    }
    tasks = {TASK: 2, "mamujoco/Hopper-3x1": 3, single: 1, game: 2}
    Resolved([*labels], [*tasks], labels, [], tasks).write(tmp_path)
    suite = load(tmp_path)
    said = about.alike(suite)
    assert [line for line in page.warnings(suite, suite.states) if line.startswith("Alike")] == said
    assert said == [
        f"Alike by design: agents observe the whole state on {game} and {TASK}, so that the critics of ippo, mappo and "
        "mappo-2 see the same; beside their settings these differ in having one critic per agent or one for all.",
        f"Alike by design: with the one agent of {single} a sequential update is a simultaneous one, so that mappo and "
        "happo differ in their settings alone.",
    ]


def test_mixed_commits_and_uncommitted_changes_are_said_loudly(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trial(suite, seed=0)
    write_trial(suite, seed=1, provenance={"commit": "badcafe", "dirty": True})
    assert main([str(suite)]) == 0
    shown = capsys.readouterr().out
    assert "Mixed commits" in shown
    assert "Uncommitted changes: 1 of 2" in shown


def test_commits_are_those_of_all_parts_that_ran(suite: Path) -> None:
    began = {"commit": "badcafe", "dirty": True}
    write_trial(suite, seed=0, provenance={"commit": "c0ffee"}, earlier_provenance=[began])
    write_trial(suite, seed=1, provenance={"commit": "abad1dea"}, status="waiting", returns=(), absolute=None)
    results = load(suite)
    said = " ".join(page.warnings(results, results.states))
    assert "Mixed commits: the trials were not all run by the same code: badcafe (1 trial), c0ffee (1 trial)." in said
    assert "Uncommitted changes: 1 of 1 trial ran code" in said
    commits = [row["value"] for row in about.provenance(results) if row["what"] == "commit"]
    assert commits == ["badcafe with uncommitted changes", "c0ffee"]


def test_published_suite_needs_no_trials(suite: Path) -> None:
    write_trial(suite)
    merge(suite)
    for path in sorted((suite / "trials").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert main([str(suite)]) == 0
    assert "keeps the joined tables and no trial.json" in (suite / "report.html").read_text()


def test_page_is_self_contained(suite: Path) -> None:
    write_trial(suite)
    main([str(suite)])
    html = (suite / "report.html").read_text()
    assert 'src="' not in html
    assert 'href="http' not in html
    assert "may not be compared with published v2 numbers" in html


def test_videos_in_the_folder_of_the_suite_are_shown_from_there(suite: Path) -> None:
    write_trial(suite)
    for path in (suite / "videos" / "a b.mp4", trial_folder(suite, TASK, "mappo", 0) / "play.mp4"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"a video")
    main([str(suite)])
    html = (suite / "report.html").read_text()
    assert re.findall(r'<video controls preload="none" src="(.*?)"', html) == [
        "videos/a%20b.mp4",
        "trials/mamujoco_HalfCheetah-6x1/mappo/seed-00/play.mp4",
    ]
    assert "media-src 'self'" in html


def test_videos_of_published_teams_are_shown_from_there(suite: Path) -> None:
    write_trial(suite)
    path = trial_folder(suite, TASK, "mappo", 0, POLICIES) / "play.mp4"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a video")
    main([str(suite)])
    assert f'src="{path.relative_to(suite).as_posix()}"' in (suite / "report.html").read_text()


def test_no_number_is_minus_zero(suite: Path) -> None:
    assert [formats.number(value) for value in (-0.001, -0.0, -0.01, np.float64(-0.004))] == [
        "0.00",
        "0.00",
        "-0.01",
        "0.00",
    ]
    write_trial(suite, returns=(0.0, 0.0, -0.0), final=-0.0, absolute=-0.0)
    assert main([str(suite)]) == 0
    for name in ("returns.csv", "returns.md"):
        assert not re.search(r"-0(\.0*)?\b(?!\.)", (suite / name).read_text()), name


def test_markdown_escapes_the_bar_in_a_task() -> None:
    text = page.markdown([{"task": "Humanoid-9|8", "seeds": "3"}])
    assert text == "| task          | seeds |\n| ------------- | ----: |\n| Humanoid-9\\|8 |     3 |\n"


def test_without_arguments_all_suites_under_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        write_trial(tmp_path / "results" / name)
    (tmp_path / "results" / "notes").mkdir()
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert "results/one/report.html" in shown
    assert "results/two/report.html" in shown


# the order of algorithms


def resolved(**methods: str) -> Resolved:
    """What a suite of one task was resolved to, given as label=method."""
    about = {label: Algorithm(method, f"what {method} is", method == "matrpo") for label, method in methods.items()}
    return Resolved([*METHODS], [TASK], about, [])


def shown(suite: Path) -> list[str]:
    assert main([str(suite)]) == 0
    return list(pd.read_csv(suite / "returns.csv")["algorithm"])


def test_algorithms_stand_in_the_order_in_which_they_appear(suite: Path) -> None:
    for label in ("zeta", "mappo", "happo", "alpha"):
        write_trial(suite, label)
    merge(suite)
    records = files.read_table(suite / "records.parquet")
    shutil.rmtree(suite / "trials")
    order = ["zeta", "mappo", "happo", "alpha"]
    files.write_table(suite / "records.parquet", pd.concat([records[records["algorithm"] == x] for x in order]))
    assert shown(suite) == order
    (suite / "report.html").unlink()
    resolved(mappo="mappo", happo="happo", alpha="matrpo").write(suite)
    assert shown(suite) == ["mappo", "happo", "alpha", "zeta"]


def test_what_was_resolved_gives_labels_their_colours_and_says_what_they_are(suite: Path) -> None:
    for label in ("happo", "mine"):
        write_trial(suite, label)
    resolved(happo="happo", mine="matrpo").write(suite)
    assert main([str(suite)]) == 0
    html = (suite / "report.html").read_text()
    assert "what happo is</td>" in html
    assert "what matrpo is; an ablation</td>" in html
    for look in styles(happo="happo", mine="matrpo").values():
        assert f'stroke="{look.color}"' in html


def test_without_it_methods_are_given_colours_as_they_appear(suite: Path) -> None:
    for label in ("beta", "alpha"):
        write_trial(suite, label, method="one" if label == "beta" else "two")
    assert main([str(suite)]) == 0
    html = (suite / "report.html").read_text()
    assert [f'stroke="{color}"' in html for color in algorithms.COLORS[:3]] == [True, True, False]


# figures


def styles(**methods: str) -> dict[str, Style]:
    """What labels look like, given as label=method."""
    return Algorithms(methods, [*METHODS]).styles


def test_colour_depends_on_the_label_alone() -> None:
    """And on its method, whatever else is in the suite."""
    few, many = styles(mappo="mappo", mine="python:a:B"), styles(wide="happo", mine="python:a:B", mappo="mappo")
    assert few["mappo"] == many["mappo"] == Style("#0173b2", "s", ())
    assert few["mine"] == many["mine"]
    assert many["wide"].color == styles(happo="happo")["happo"].color
    assert many["wide"].dash
    shared = Algorithms({"mappo-shared": "mappo"}, [*METHODS]).styles["mappo-shared"]
    assert shared == Style("#0173b2", "s", algorithms.SHARED_DASH)


def test_known_algorithms_differ_in_colour_and_marker() -> None:
    looks = [*styles(**{name: name for name in METHODS}).values()]
    assert len({look.color for look in looks}) == len({look.marker for look in looks}) == len(looks)


@pytest.mark.parametrize(
    ("largest", "step", "label"),
    [(1e6, 2e5, "0.2M"), (1e7, 2e6, "2M"), (2e5, 5e4, "50k"), (200, 100, "100"), (1e6, 0, "0")],
)
def test_step_ticks(largest: float, step: float, label: str) -> None:
    assert plots.step_ticks(largest)(step, 0) == label


def test_seed_note_names_the_algorithms_that_have_fewer(suite: Path) -> None:
    for algorithm, seed in (("mappo", 0), ("mappo", 1), ("happo", 0)):
        write_trial(suite, algorithm, seed)
    assert plots.seed_note(states_of(suite)) == "2 seeds, 1 of 2 for happo"


LONG_TASKS = [
    "mamujoco/ManySegmentAnt-2x1:obsk=2:episode_length=50",
    *(f"mamujoco/HumanoidStandup-17x1:observation=paper:episode_length={500 + i}" for i in range(8)),
    "a/" + "name-without-end" * 5,
]


def figure_frames(
    tasks: list[str], labels: tuple[str, ...] = ("mappo",)
) -> tuple[pd.DataFrame, pd.DataFrame, Algorithms]:
    """Curves and states of one seed per task and algorithm, from 0 to 1000 steps."""
    pairings = [{"task": task, "algorithm": label} for task in tasks for label in labels]
    points: list[dict[str, object]] = [
        {"step": step, "iqm": 0.1 * step, "low": np.nan, "high": np.nan, "points": []} for step in (0, 500, 1000)
    ]
    curves = pd.DataFrame(
        [{**pairing, **point, "seeds": 1, "planned": 1, "failed": 0} for pairing in pairings for point in points]
    )
    states = pd.DataFrame(
        [{**pairing, "seed": 0, "state": "done", "reached": 1000, "steps": 1000} for pairing in pairings]
    )
    return curves, states, Algorithms({label: label for label in labels}, [*METHODS])


def boxes(texts: Iterable[Text]) -> list[Bbox]:
    return [text.get_window_extent() for text in texts if text.get_text()]


def assert_apart_and_within(figure: Figure) -> None:
    """No text of the figure, whose layout stands, is cut by its edge, and no title or tick label covers another."""
    for ax in figure.axes:
        ticks = boxes(ax.get_xticklabels())
        assert all(one.x1 < other.x0 for one, other in pairwise(ticks))
    titles = boxes(text for ax in figure.axes for text in ax.texts)
    assert not any(one.overlaps(other) for one, other in combinations(titles, 2))
    legend = boxes(text for legend in figure.legends for text in legend.get_texts())
    assert not any(one.overlaps(other) for one, other in combinations(legend, 2))
    width, height = figure.bbox.width, figure.bbox.height
    for box in titles + legend:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height


def panel_sizes(figure: Figure) -> NDArray[np.float64]:
    """Width and height of each panel in inches."""
    figure.draw_without_rendering()
    return np.array([ax.get_position().size for ax in figure.axes]) * figure.get_size_inches()


@pytest.mark.parametrize("count", [1, 2, 6, 10])
def test_panels_of_tasks_with_long_labels_are_as_large_as_those_of_others(count: int) -> None:
    plain = panel_sizes(plots.curves(*figure_frames([f"mamujoco/Ant-{i}" for i in range(count)])))
    figure = plots.curves(*figure_frames(LONG_TASKS[-count:]))
    assert panel_sizes(figure) == pytest.approx(plain, rel=0.05)
    assert_apart_and_within(figure)


def test_the_panel_of_one_task_with_a_long_label_is_as_large_as_that_of_another() -> None:
    plain = panel_sizes(plots.task_curves("Ant", *figure_frames(["Ant"])))
    for task in LONG_TASKS[-2:]:
        figure = plots.task_curves(task, *figure_frames([task]))
        assert panel_sizes(figure) == pytest.approx(plain, rel=0.05)
        assert_apart_and_within(figure)


def test_long_labels_of_algorithms_leave_the_panels_as_they_are() -> None:
    labels = ("mappo", "happo-" + "long-label-" * 8, "happo-" + "L" * 94, "ippo-shared", "hatrpo")
    figure = plots.curves(*figure_frames(["Ant"], labels))
    assert panel_sizes(figure) == pytest.approx(panel_sizes(plots.curves(*figure_frames(["Ant"]))), rel=0.15)
    assert_apart_and_within(figure)


# refusals


def test_mixed_mujoco_versions_are_refused_by_name(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trial(suite, "mappo")
    write_trial(suite, "happo", provenance={"versions": {"mujoco": "3.3.0"}})
    line = refused(suite, capsys)
    assert "MuJoCo" in line
    assert f"3.3.0: {TASK} happo seed 0" in line
    assert f"3.5.0: {TASK} mappo seed 0" in line


def test_mixed_configurations_are_refused_by_name(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trial(suite, seed=0)
    write_trial(suite, seed=1, config_hash="another")
    assert f"another: {TASK} mappo seed 1" in refused(suite, capsys)


def test_mixed_step_budgets_are_refused(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trial(suite, "mappo")
    write_trial(suite, "happo", steps=100)
    assert "numbers of steps" in refused(suite, capsys)


def test_other_physics_are_refused_by_name(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trial(suite, "mappo", provenance={"physics": "golden"})
    write_trial(suite, "happo", provenance={"physics": "qvel[1] is off"})
    line = refused(suite, capsys)
    assert f"(qvel[1] is off: {TASK} happo seed 0)" in line
    assert "constraints.txt" in line


def test_other_physics_of_an_earlier_part_are_refused(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier = [{"commit": "older"}, {"physics": "qvel[1] is off"}]
    write_trial(suite, provenance={"physics": "golden"}, earlier_provenance=earlier)
    assert f"qvel[1] is off: {TASK} mappo seed 0" in refused(suite, capsys)


def test_a_trial_that_waits_has_run_on_no_physics(suite: Path) -> None:
    write_trial(suite, provenance={"physics": "golden"})
    write_trial(suite, seed=1, returns=(), status="waiting", provenance={"physics": "qvel[1] is off"})
    assert main([str(suite)]) == 0


@pytest.mark.parametrize(("waiting", "named"), [(3, True), (30, False)])
def test_many_trials_that_have_not_begun_are_one_row(suite: Path, waiting: int, named: bool) -> None:
    write_trial(suite)
    for seed in range(1, waiting + 1):
        write_trial(suite, seed=seed, returns=(), final=None, absolute=None, status="waiting")
    assert main([str(suite)]) == 0
    html = (suite / "report.html").read_text()
    assert ("30 trials</th>" in html) is not named
    assert (f'<th scope="row">{TASK} mappo seed 2</th>' in html) is named


def test_trials_from_before_physics_were_compared_are_shown_as_such(suite: Path) -> None:
    write_trial(suite)
    assert main([str(suite)]) == 0
    assert "not compared with golden.json" in (suite / "report.html").read_text()


def test_a_task_without_mujoco_needs_no_physics_and_no_mujoco_version(suite: Path) -> None:
    own = {"physics": NO_PHYSICS, "task": {"versions": {"mpe2": "1.1.1"}}}
    write_trial(suite, "mappo", provenance=own)
    write_trial(suite, "happo", provenance={**own, "versions": {"mujoco": "3.3.0"}})
    assert main([str(suite)]) == 0
    page = (suite / "report.html").read_text()
    assert "not compared with golden.json" not in page
    assert NO_PHYSICS in page


def test_mixed_versions_of_an_environment_are_refused_by_name(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for algorithm, version in (("mappo", "1.1.1"), ("happo", "1.2")):
        write_trial(suite, algorithm, provenance={"physics": NO_PHYSICS, "task": {"versions": {"mpe2": version}}})
    line = refused(suite, capsys)
    assert f"mpe2 1.1.1: {TASK} mappo seed 0; mpe2 1.2: {TASK} happo seed 0" in line


def test_missing_folder_is_named(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(suite, capsys)
    assert str(suite) in line
    assert "no such folder" in line


def test_folder_without_records_is_named(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trial(suite, returns=(), absolute=None, status="failed", error="boom")
    assert "no records yet, 1 trial (1 failed)" in refused(suite, capsys)


def test_corrupt_table_is_named(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite.mkdir()
    (suite / "records.parquet").write_bytes(b"not parquet")
    assert str(suite / "records.parquet") in refused(suite, capsys)


def test_foreign_table_is_named(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite.mkdir()
    files.write_table(suite / "records.parquet", pd.DataFrame({"task": ["a"]}))
    line = refused(suite, capsys)
    assert "lacks the columns suite, algorithm" in line


def test_one_bad_folder_stops_the_good_one_too(suite: Path) -> None:
    write_trial(suite)
    assert main([str(suite), str(suite / "nowhere")]) == 2
    assert not (suite / "report.html").exists()


def test_unknown_option_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--fast"])
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "--fast" in line


def test_report_loads_neither_torch_nor_gymnasium() -> None:
    code = (
        "import sys, bench.report.__main__\n"
        "print(sorted({'torch', 'gymnasium', 'mujoco', 'algorithms'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert done.stderr == ""


@pytest.mark.parametrize(("seeds", "few"), [(4, True), (5, False)])
def test_the_page_says_that_no_ranking_follows_from_few_seeds(tmp_path: Path, seeds: int, few: bool) -> None:
    for seed in range(seeds):
        write_trial(tmp_path / "suite", seed=seed)
    assert main([str(tmp_path / "suite")]) == 0
    page_text = (tmp_path / "suite" / "report.html").read_text()
    assert ("Do not rank algorithms by them" in page_text) == few
    assert ("Intervals of 5 seeds" in page_text) == (not few)


def test_intervals_of_few_seeds_are_warned_of_wherever_they_are(tmp_path: Path) -> None:
    """With 8 and 12 seeds 91% are covered where 30% fail, with 9 to 11 and from 14 on 93% and more."""
    for label, seeds in (("happo", 5), ("mappo", 9), ("ippo", 12)):
        for seed in range(seeds):
            write_trial(tmp_path / "demo", label, seed)
    suite = load(tmp_path / "demo")
    assert page.warnings(suite, suite.states)[0].startswith("Intervals of 5 and 12 seeds: ")


def test_seeds_that_are_there_are_said_where_there_are_fewer_than_planned(tmp_path: Path) -> None:
    for task, seeds in ((TASK, 2), ("mamujoco/Hopper-3x1", 3)):
        for seed in range(seeds):
            write_trial(tmp_path / "demo", task=task, seed=seed)
    labels = {"happo": Algorithm("happo", "", False)}
    Resolved(["happo"], [TASK, "mamujoco/Hopper-3x1"], labels, [], looks=[5]).write(tmp_path / "demo")
    suite = load(tmp_path / "demo")
    states = suite.states
    few, *_ = page.warnings(suite, states)
    assert few.startswith("Few seeds: only 2 to 3 seeds of each algorithm on a task.")
    caption = plots.curve_caption(states)
    assert "over 2 to 3 of 5 seeds. Points: single seeds" in caption
    assert "Band" not in caption


def test_of_a_suite_that_is_published_in_part_all_that_is_planned_counts(tmp_path: Path) -> None:
    """No trial.json says that there is to be more; resolved.json does."""
    write_trial(tmp_path / "demo", "happo")
    labels = {label: Algorithm(label, "", False) for label in ("happo", "mappo")}
    tasks = [TASK, "mamujoco/Hopper-3x1"]
    Resolved(["happo", "mappo"], tasks, labels, [(tasks[1], "mappo")], looks=[3, 4]).write(tmp_path / "demo")
    suite = load(tmp_path / "demo")
    states = suite.states
    counts = states.groupby(["task", "algorithm"]).size().to_dict()
    assert counts == {(TASK, "happo"): 3, (TASK, "mappo"): 3, (tasks[1], "happo"): 3}
    assert states["state"].value_counts().to_dict() == {"missing": 8, "done": 1}
    assert {*states["steps"]} == {STEPS}
    few, incomplete = page.warnings(suite, states)[:2]
    assert few.startswith("Few seeds: only 1 seed ")
    assert incomplete.startswith("Incomplete: 8 of 9 trials are not done")


def test_seconds_of_a_trial_are_those_of_trials_that_are_done(tmp_path: Path) -> None:
    write_trial(tmp_path, seed=0)
    write_trial(tmp_path, seed=1, returns=(0.0, 10.0), final=None, absolute=None, status="running")
    states = states_of(tmp_path)
    (row,) = stats.returns_table(files.read_table(tmp_path / "records.parquet"), states).to_dict("records")
    assert (row["seconds"], row["steps_per_second"]) == (4.0, 50.0)


def test_trials_that_failed_without_anything_to_count_as_are_counted(tmp_path: Path) -> None:
    write_trial(tmp_path, seed=0, final=None, absolute=None, status="failed", error="Diverged")
    states = states_of(tmp_path)
    records = files.read_table(tmp_path / "records.parquet")
    (row,) = stats.returns_table(records, states, lambda task: None).to_dict("records")
    assert (row["seeds"], row["failed"]) == (1, 1)
