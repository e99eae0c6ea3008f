"""Several suites: an index, and one page on which only the same trials under the same configuration are pooled."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_report import STEPS, TASK, write_trial

from bench.report import aggregate, plots, stats, study_results
from bench.report.__main__ import main
from bench.report.combine import combined
from bench.report.load import ReportError, load
from bench.store import files
from bench.store.resolved import Algorithm, Resolved
from bench.store.trials import trial_folder


def pair(folder: Path, **second: Any) -> list[Path]:
    """Two suites with happo; the second has mappo besides, and changes."""
    for seed in (0, 1):
        write_trial(folder / "one", "happo", seed, final=10.0 + seed)
    for seed in (1, 2):
        write_trial(folder / "two", "happo", seed, final=20.0 + seed, **second)
        write_trial(folder / "two", "mappo", seed, final=5.0)
    return [folder / "one", folder / "two"]


def finals(folder: Path, suites: list[Path]) -> dict[tuple[str, int], float]:
    records = combined([load(suite) for suite in suites], folder).records
    final = records[records["kind"] == "final"]
    return dict(zip(zip(final["algorithm"], final["seed"], strict=True), final["episode_return"], strict=True))


def test_the_same_configuration_is_pooled_and_a_seed_counts_once(tmp_path: Path) -> None:
    suites = pair(tmp_path)
    assert finals(tmp_path / "both", suites) == {
        ("happo", 0): 10.0,
        ("happo", 1): 11.0,
        ("happo", 2): 22.0,
        ("mappo", 1): 5.0,
        ("mappo", 2): 5.0,
    }


def test_updates_are_pooled_as_records_are(tmp_path: Path) -> None:
    rows = [(label, seed) for label in ("happo", "mappo") for seed in (1, 2)]
    two = pd.DataFrame(rows, columns=["algorithm", "seed"]).assign(task=TASK, agent="team", step=100, kl_mean=0.1)
    one = two.query("algorithm == 'happo' and seed == 1").assign(kl_mean=0.2)
    suites = [replace(load(path), updates=table) for path, table in zip(pair(tmp_path), (one, two), strict=True)]
    both = combined(suites, tmp_path / "both").updates
    assert [*zip(both["algorithm"], both["seed"], both["kl_mean"], strict=True)] == [
        ("happo", 1, 0.2),
        ("happo", 2, 0.1),
        ("mappo", 1, 0.1),
        ("mappo", 2, 0.1),
    ]
    apart = combined([suites[0], replace(load(suites[1].folder), updates=pd.DataFrame())], tmp_path / "both")
    assert len(apart.updates) == 1


def test_a_trial_that_waits_hides_none_that_has_run(tmp_path: Path) -> None:
    suites = pair(tmp_path)
    write_trial(tmp_path / "one", "happo", 2, returns=(), final=None, absolute=None, status="waiting")
    for order in (suites, suites[::-1]):
        assert finals(tmp_path / "both", order)["happo", 2] == 22.0
        both = combined([load(suite) for suite in order], tmp_path / "both")
        assert [trial["status"] for trial in both.trials if trial["seed"] == 2] == ["done", "done"]


def test_each_suite_plans_its_own_seeds(tmp_path: Path) -> None:
    suites = []
    for label, seeds in (("happo", 2), ("mappo", 3)):
        suites.append(tmp_path / label)
        for seed in range(seeds):
            write_trial(suites[-1], label, seed)
        Resolved([label], [TASK], {label: Algorithm(label, "", False)}, [], looks=[seeds]).write(suites[-1])
    states = combined([load(suite) for suite in suites], tmp_path / "both").states
    assert [*states["state"]] == ["done"] * 5


def test_another_configuration_is_told_apart_by_its_suite(tmp_path: Path) -> None:
    suites = pair(tmp_path, config_hash="other")
    assert {label for label, _ in finals(tmp_path / "both", suites)} == {"happo (one)", "happo (two)", "mappo"}


def test_a_configuration_that_is_not_known_is_told_apart(tmp_path: Path) -> None:
    suites = pair(tmp_path)
    loaded = [load(suites[0]), replace(load(suites[1]), trials=[])]
    labels = {*combined(loaded, tmp_path / "both").records["algorithm"]}
    assert labels == {"happo (one)", "happo (two)", "mappo"}


def test_another_configuration_without_records_is_told_apart(tmp_path: Path) -> None:
    suites = pair(tmp_path)
    nothing: dict[str, Any] = {"returns": (), "final": None, "absolute": None, "status": "failed", "error": "Diverged"}
    shutil.rmtree(trial_folder(tmp_path / "two", TASK, "happo", 0).parent)
    for seed in (1, 2):
        write_trial(tmp_path / "two", "happo", seed, config_hash="other", **nothing)
    both = combined([load(suite) for suite in suites], tmp_path / "both")
    assert {trial["algorithm"] for trial in both.trials} == {"happo (one)", "happo (two)", "mappo"}


def test_suites_whose_seeds_differ_are_complete(tmp_path: Path) -> None:
    for name, label, first in (("one", "happo", 0), ("two", "ippo", 10)):
        for seed in (first, first + 1):
            write_trial(tmp_path / name, label, seed)
    both = combined([load(tmp_path / name) for name in ("one", "two")], tmp_path / "both")
    assert {
        row["tasks"] for row in aggregate.rows(stats.final_returns(both.records, both.states), both.algorithms)
    } == {"1"}
    assert "over 2 seeds." in plots.curve_caption(both.states)


def test_suites_without_a_common_task_and_with_other_budgets_are_refused(tmp_path: Path) -> None:
    write_trial(tmp_path / "one", "happo")
    write_trial(tmp_path / "two", "happo", task="mamujoco/Hopper-3x1")
    with pytest.raises(ReportError, match="have no task in common"):
        combined([load(tmp_path / "one"), load(tmp_path / "two")], tmp_path)
    write_trial(tmp_path / "three", "mappo", steps=2 * STEPS)
    with pytest.raises(ReportError, match="different numbers of steps"):
        combined([load(tmp_path / "one"), load(tmp_path / "three")], tmp_path)


def test_the_command_writes_a_page_for_each_one_for_all_and_an_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suites = pair(tmp_path, config_hash="other")
    assert main([str(suite) for suite in suites]) == 0
    page = (tmp_path / "one+two" / "report.html").read_text()
    assert "happo (two)" in page
    assert TASK in page
    index = (tmp_path / "index.html").read_text()
    assert 'href="one/report.html"' in index
    assert 'href="two/report.html"' in index
    assert str(tmp_path / "index.html") in capsys.readouterr().out


def test_suites_that_cannot_stand_on_one_page_have_their_pages_and_an_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trial(tmp_path / "one", "happo")
    write_trial(tmp_path / "two", "happo", task="mamujoco/Hopper-3x1")
    assert main([str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    assert "No page with all suites: " in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "one", "two"]


def test_suites_whose_names_are_too_long_for_one_folder_have_their_pages_and_an_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suites = [tmp_path / (letter * 100) for letter in "abc"]
    for suite in suites:
        write_trial(suite)
    assert main([*map(str, suites)]) == 0
    assert "would have 302 bytes, more than 255" in capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == [*suites, tmp_path / "index.html"]


def test_a_suite_shows_what_its_study_says_of_tuning_for_each_task(tmp_path: Path) -> None:
    tuning = {"study": "tuned", "trials": 2, "steps": 100, "first_seed": 1000, "seeds": 1, "hash": "", "overridden": ""}
    write_trial(tmp_path / "one", "happo", tuning=tuning)
    assert main([str(tmp_path / "one")]) == 0
    assert "Sensitivity to tuning" not in (tmp_path / "one" / "report.html").read_text()
    write_study(tmp_path / "tuned")
    assert main([str(tmp_path / "one")]) == 0
    assert "Sensitivity to tuning" in (tmp_path / "one" / "report.html").read_text()


def write_study(folder: Path) -> None:
    """A study of two complete tuning trials on two tasks."""
    returns = ['{"a seed 1000": 1.0, "b seed 1000": 0.0}', '{"a seed 1000": 0.0, "b seed 1000": 1.0}']
    rows = [("tuned", "happo", k, "complete", 0.5, 1.0, k == 0, "{}", text) for k, text in enumerate(returns)]
    files.write_table(folder / "tuning.parquet", pd.DataFrame(rows, columns=[*study_results.COLUMNS]))
    files.write_table(folder / "importances.parquet", pd.DataFrame({"algorithm": ["happo"]}))
    files.write_text(folder / "study.yaml", "trials: 2\nseeds: 1\nsteps: 100\ntasks: [a, b]\nspace: {}\n")


def test_suites_of_the_same_name_get_no_page_for_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for parent in ("a", "b"):
        write_trial(tmp_path / parent / "same", "happo")
    write_trial(tmp_path / "a" / "same", "mappo")
    assert main([str(tmp_path / parent / "same") for parent in ("a", "b")]) == 0
    assert "No page with all suites: " in capsys.readouterr().out
