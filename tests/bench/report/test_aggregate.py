"""Over all tasks: what is shown with few seeds, and what is left away."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_claims import CHEETAH, HOPPER, write
from test_report import write_trial

from bench.report import aggregate, formats, stats
from bench.report.__main__ import main
from bench.report.load import load
from bench.store.resolved import Algorithm, Resolved
from bench.store.trials import trial_folder


def rows(folder: Path, seeds: int) -> list[dict[str, str]]:
    suite = write(folder, {"happo": 1.5, "mappo": 1.0}, seeds=seeds)
    return aggregate.rows(stats.final_returns(suite.records, suite.states), suite.algorithms)


def test_few_seeds_rank_nothing(tmp_path: Path) -> None:
    assert "rank" not in rows(tmp_path / "few", 4)[0]
    assert [row["rank"] for row in rows(tmp_path / "enough", 5)] == ["1", "2"]


def test_ranks_are_among_the_algorithms_that_have_all_tasks(tmp_path: Path) -> None:
    suite = write(tmp_path / "demo", {"ippo": 2.0, "happo": 1.5, "mappo": 1.0})
    table = stats.final_returns(suite.records, suite.states)
    part = table[(table["algorithm"] != "ippo") | (table["task"] == HOPPER)]
    ranks = {row["algorithm"]: row["rank"] for row in aggregate.rows(part, suite.algorithms)}
    assert ranks == {"ippo": "–", "happo": "1", "mappo": "2"}
    few = part[(part["algorithm"] != "mappo") | (part["seed"] < 4)]  # happo would be ranked against too few
    assert all("rank" not in row for row in aggregate.rows(few, suite.algorithms))
    nobody = part[(part["algorithm"] == "ippo") | ((part["algorithm"] == "happo") & (part["task"] == CHEETAH))]
    assert all("rank" not in row for row in aggregate.rows(nobody, suite.algorithms))


def test_where_one_lacks_tasks_the_others_are_shown_on_its_tasks_too(tmp_path: Path) -> None:
    suite = write(tmp_path / "demo", {"ippo": 2.0, "happo": 1.5, "mappo": 1.0})
    table = stats.final_returns(suite.records, suite.states)
    assert all("IQM on the tasks that all have" not in row for row in aggregate.rows(table, suite.algorithms))
    higher = table["normalised"] + (table["task"] == CHEETAH)
    part = table.assign(normalised=higher)[(table["algorithm"] != "ippo") | (table["task"] == HOPPER)]
    found = {row["algorithm"]: row for row in aggregate.rows(part, suite.algorithms)}
    assert {label: row["IQM on the tasks that all have"] for label, row in found.items()} == {
        "ippo": "2.000",
        "happo": "1.500",
        "mappo": "1.000",
    }
    assert (found["happo"]["IQM"], found["happo"]["tasks"]) == ("2.000", "2")


def test_tasks_without_a_reference_are_in_no_panel(tmp_path: Path) -> None:
    suite = write(tmp_path / "demo", {"happo": 1.5, "mappo": 1.0})
    table = stats.final_returns(suite.records, suite.states)
    strange = table[table["task"] == HOPPER].assign(task="mamujoco/Humanoid-17x1", normalised=np.nan)
    strange["value"] = -strange["value"]
    pd.testing.assert_frame_equal(
        aggregate.improvements(pd.concat([table, strange]), ["happo", "mappo"]),
        aggregate.improvements(table, ["happo", "mappo"]),
    )


def test_columns_in_which_all_have_a_dash_are_left_away() -> None:
    assert formats.without_empty([{"a": "1", "b": "–", "c": "–"}, {"a": "2", "b": "–", "c": "3"}]) == [
        {"a": "1", "c": "–"},
        {"a": "2", "c": "3"},
    ]
    assert formats.without_empty([]) == []


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_page_says_what_the_scale_and_the_matrix_are(tmp_path: Path, seeds: int) -> None:
    write(tmp_path / "demo", {"happo": 1.5, "mappo": 1.0}, seeds=seeds, looks=[5])
    assert main([str(tmp_path / "demo")]) == 0
    html = (tmp_path / "demo" / "report.html").read_text()
    assert "1 the reference: in games the optimum, elsewhere what HAPPO with its default settings reaches" in html
    assert ("estimates no probability" in html) == (seeds < 5)
    assert ("Interquartile mean, 95% interval" in html) == (seeds >= 5)
    assert all(task in html for task in (CHEETAH, HOPPER))


def test_an_algorithm_that_lacks_tasks_says_so_in_the_figure(tmp_path: Path) -> None:
    suite = write(tmp_path / "demo", {"happo": 1.5, "mappo": 1.0})
    table = stats.final_returns(suite.records, suite.states)
    part = table[(table["algorithm"] == "happo") | (table["task"] == HOPPER)]
    axes = aggregate.figure(aggregate.panels(part, suite.algorithms), 2).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["happo", "mappo (1 of 2 tasks)"]


def test_failed_trials_of_a_pairing_that_is_skipped_now_count_nowhere(tmp_path: Path) -> None:
    write(tmp_path, {"happo": 1.0, "mappo": 1.0}, seeds=5)
    shutil.rmtree(trial_folder(tmp_path, HOPPER, "mappo", 0).parent)
    for seed in range(5):
        write_trial(tmp_path, "mappo", seed, task=HOPPER, returns=(), final=None, absolute=None, status="failed")
    labels = {label: Algorithm(label, "", False) for label in ("happo", "mappo")}
    Resolved([*labels], [CHEETAH, HOPPER], labels, [(HOPPER, "mappo")]).write(tmp_path)
    made = aggregate.make(load(tmp_path))
    assert made is not None
    assert made.context["counted"] == ""
    assert [row["tasks"] for row in made.context["rows"]] == ["2", "1 of 2, incomplete"]


def test_seeds_on_a_task_without_a_reference_say_nothing_of_intervals(tmp_path: Path) -> None:
    write(tmp_path, {"happo": 1.5, "mappo": 1.0}, seeds=5)
    for label in ("happo", "mappo"):
        write_trial(tmp_path, label, task="own/x")
    made = aggregate.make(load(tmp_path))
    assert made is not None
    assert (made.context["few"], made.context["unequal"], made.context["tasks"]) == (False, False, 2)
    assert made.context["left_out"] == ["own/x"]


def test_bars_end_where_intervals_do(tmp_path: Path) -> None:
    suite = write(tmp_path / "demo", {"happo": 1.5, "mappo": 1.0}, seeds=5)
    drawn = aggregate.panels(stats.final_returns(suite.records, suite.states), suite.algorithms)
    bar, _ = aggregate.figure(drawn, 2).axes[0].lines[:2]
    assert bar.get_solid_capstyle() == "butt"


def test_of_one_algorithm_there_is_no_matrix(tmp_path: Path) -> None:
    for labels, panels in (({"happo": 1.5}, 2), ({"happo": 1.5, "mappo": 1.0}, 3)):
        made = aggregate.make(write(tmp_path / str(panels), labels))
        assert made is not None
        assert len(made.figure.axes) == len(made.parts) == panels
        assert [len(part.axes) for part in made.parts] == [1] * panels
        assert made.context["several"] == (panels == 3)
