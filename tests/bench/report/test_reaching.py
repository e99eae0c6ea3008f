"""Cost to reach a return, on the page: medians of the trials of each algorithm, at two levels of a task."""

from __future__ import annotations

from pathlib import Path

from test_claims import CHEETAH, HOPPER, reference
from test_report import write_trial

from bench.report import reaching, stats
from bench.report.__main__ import main
from bench.report.load import load


def rows(folder: Path) -> list[dict[str, str]]:
    suite = load(folder)
    states = stats.trial_states(suite.records, suite.trials)
    return reaching.rows(reaching.table(suite.records, states), suite.algorithms)


def write(folder: Path, algorithm: str, seed: int, *normalised: float, task: str = CHEETAH) -> None:
    """A trial whose evaluations, 100 steps and 2 seconds apart, have these normalised returns."""
    write_trial(folder, algorithm, seed, task=task, returns=tuple(reference(task, level) for level in normalised))


def test_medians_are_those_of_the_first_evaluations_at_half_and_at_the_reference(tmp_path: Path) -> None:
    for seed, levels in enumerate([(0.0, 0.6, 1.1), (0.0, 0.2, 0.7), (0.0, 0.6, 0.2)]):
        write(tmp_path, "mappo", seed, *levels)
    write(tmp_path, "happo", 0, 0.0, 1.2, 0.3)
    half, whole = "halfway from a random policy to the reference", "the reference"
    found = {(row["algorithm"], row["return"].partition("(")[2].rstrip(")")): row for row in rows(tmp_path)}
    assert list(found) == [("happo", half), ("mappo", half), ("happo", whole), ("mappo", whole)]
    assert found["mappo", half] | {"return": ""} == {
        "task": CHEETAH,
        "return": "",
        "algorithm": "mappo",
        "trials that got there": "3 of 3",
        "median steps": "100",
        "median seconds": "2.0",
    }
    assert found["mappo", half]["return"].startswith(f"{reference(CHEETAH, 0.5):,.0f} (")
    assert found["mappo", whole]["trials that got there"] == "1 of 3"
    assert found["mappo", whole]["median steps"] == found["mappo", whole]["median seconds"] == "not reached by half"
    assert found["happo", whole]["median steps"] == "100"  # whether or not it stayed there


def test_five_trials_have_intervals_whose_end_may_be_open(tmp_path: Path) -> None:
    for seed in range(5):
        write(tmp_path, "happo", seed, 0.0, 0.6, 1.1 if seed < 3 else 0.6)
    half, whole = rows(tmp_path)
    assert (half["median steps"], half["95% interval, steps"]) == ("100", "[100, ∞)")
    assert (whole["median steps"], whole["95% interval, steps"]) == ("200", "[200, ∞)")


def test_a_task_without_an_evaluation_yet_has_no_rows(tmp_path: Path) -> None:
    write(tmp_path, "happo", 0, 0.0, 1.2)
    write_trial(tmp_path, "happo", 0, task=HOPPER, returns=(), final=None, absolute=None, status="waiting")
    assert {row["task"] for row in rows(tmp_path)} == {CHEETAH}


def test_what_every_policy_has_before_training_is_no_cost(tmp_path: Path) -> None:
    write(tmp_path, "happo", 0, 0.7, 1.1, 1.1)
    write(tmp_path, "mappo", 0, 0.6, 0.6, 1.1)
    assert ["the reference" in row["return"] for row in rows(tmp_path)] == [True, True]
    write(tmp_path, "mappo", 0, 0.4, 0.6, 1.1)  # one of the two has to learn it
    assert [row["median steps"] for row in rows(tmp_path)] == ["0", "100", "100", "200"]


def test_tasks_without_a_reference_have_no_rows_and_the_page_no_section(tmp_path: Path) -> None:
    write_trial(tmp_path, "happo", task="mamujoco/Nothing-1x1")
    assert rows(tmp_path) == []
    assert main([str(tmp_path)]) == 0
    assert "Cost to reach a return" not in (tmp_path / "report.html").read_text()
    write(tmp_path, "happo", 0, 0.0, 0.6, 1.1, task=HOPPER)
    assert main([str(tmp_path)]) == 0
    assert "Cost to reach a return" in (tmp_path / "report.html").read_text()
