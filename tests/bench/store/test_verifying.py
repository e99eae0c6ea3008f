"""What `bench.verify` finds wrong in tables of records and updates, each in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.store.trials import AT, FRESH_FACTOR, RECORD_COLUMNS
from bench.store.verifying import _resolved, _updates, check_records

EPISODES, STEPS = 2, 200
ABOUT: dict[str, Any] = {
    "task": "a",
    "algorithm": "happo",
    "seed": 0,
    "status": "done",
    "steps": STEPS,
    "evaluate": {"every": 100, "episodes": EPISODES},
    "last_evaluation": 5.5,
    "files": {"policy.pt": "its checksum"},
}
ABOUTS = {Path("trial"): ABOUT}
Edit = Callable[[pd.DataFrame], pd.DataFrame]


def whole() -> pd.DataFrame:
    """The records of a trial that is done: returns of 5 and 6 at each point of the grid."""
    rows = [("grid", step, episode) for step in (0, 100, STEPS) for episode in range(EPISODES)]
    rows += [(kind, STEPS, episode) for kind in ("final", "absolute") for episode in range(FRESH_FACTOR * EPISODES)]
    made = [
        ("demo", "a", "happo", 0, kind, step, step, episode, 5.0 + episode, 10, float(step))
        for kind, step, episode in rows
    ]
    return pd.DataFrame(made, columns=list(RECORD_COLUMNS))


def changed(column: str, value: Any, *, kind: str = "grid", step: int = STEPS, episode: int | None = 0) -> Edit:
    """Another value in the row of one evaluation episode, or of all of an evaluation."""

    def edit(records: pd.DataFrame) -> pd.DataFrame:
        here = (records["kind"] == kind) & (records["step"] == step)
        if episode is not None:
            here &= records["episode"] == episode
        assert here.any()
        return records.assign(**{column: records[column].mask(here, value)})

    return edit


def without(**values: Any) -> Edit:
    """Without the rows that have all these values."""

    def edit(records: pd.DataFrame) -> pd.DataFrame:
        gone = np.logical_and.reduce([records[column] == value for column, value in values.items()])
        assert gone.any()
        return records[~gone]

    return edit


def test_the_records_of_a_trial_that_is_done_are_whole() -> None:
    assert check_records(whole(), ABOUTS) == ""


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda records: records.drop(columns=["length", "kind"]), "columns are missing: kind, length"),
        (changed("episode_return", np.nan), "a return, length or time is not finite"),
        (changed("seconds", np.inf), "a return, length or time is not finite"),
        (without(kind="grid", step=100, episode=1), "an evaluation has other than 2 episodes"),
        (without(kind="grid", step=100), "points of the evaluation grid are missing"),
        (without(kind="grid", step=STEPS), "points of the evaluation grid are missing"),
        (changed("episode", 1), "an episode of an evaluation is there twice"),
        (lambda records: pd.concat([records, records.tail(1)]), "an episode of an evaluation is there twice"),
        (changed("episode_return", 7.0), "the mean return of the last evaluation is 6.5, not 5.5"),
        (without(kind="final", episode=3), "fresh episodes are {'absolute': 20, 'final': 19}, not "),
        (without(kind="absolute"), "fresh episodes are {'final': 20}, not "),
        (changed("step", 300, kind="final"), "final episodes of another policy than the last"),
        (changed("seconds", 1e3, step=100, episode=None), "the seconds of training fall"),
    ],
)
def test_what_is_wrong_with_records_is_said_with_their_trial(edit: Edit, said: str) -> None:
    found = check_records(edit(whole()), ABOUTS)
    assert found.removeprefix("a happo seed 0: ").startswith(said)


def test_episodes_at_the_end_of_an_earlier_budget_are_all_there_or_missed() -> None:
    grid, fresh = whole(), whole().query("kind != 'grid'").assign(step=100)
    fresh["kind"] += f"{AT}100"
    assert check_records(pd.concat([grid, fresh]), ABOUTS) == ""
    lost = check_records(pd.concat([grid, fresh[:-1]]), ABOUTS)
    assert lost == "a happo seed 0: fresh episodes at the end of an earlier budget are missing"
    ended = {Path("trial"): ABOUT | {"earlier_budgets": [{"steps": 100, "files": {"policy.pt": "its checksum"}}]}}
    assert check_records(pd.concat([grid, fresh]), ended) == ""
    assert check_records(grid, ended) == lost


def test_records_of_trials_that_are_not_there_are_named() -> None:
    assert check_records(pd.concat([whole(), whole().assign(seed=7)]), ABOUTS) == (
        "rows of 1 trials that are not there: a happo 7"
    )


def test_a_trial_without_records_is_not_done() -> None:
    assert check_records(whole()[:0], ABOUTS) == "a happo seed 0: points of the evaluation grid are missing"


def updates(**changes: Any) -> pd.DataFrame:
    rows = [("a", "happo", 0, step, agent) for step in (40, 80, STEPS) for agent in ("0", "1", "team")]
    return pd.DataFrame(rows, columns=["task", "algorithm", "seed", "step", "agent"]).assign(**changes)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (updates(), ""),
        (pd.concat([updates(), updates()[4:5]]), "an update of an agent is there twice"),
        (updates(seed=3), "rows of a trial that is not there: ('a', 'happo', 3)"),
        (updates(step=range(201, 210)), "('a', 'happo', 0): an update at step 209, beyond its 200 steps"),
    ],
)
def test_what_is_wrong_with_updates_is_said(table: pd.DataFrame, said: str) -> None:
    assert _updates(table, ABOUTS) == said


def test_trials_that_wait_have_no_budget_of_their_own(tmp_path: Path) -> None:
    stub = ABOUT | {"seed": 1, "steps": 300, "status": "waiting"}
    assert _resolved(tmp_path, {Path("one"): ABOUT, Path("other"): stub})[0] == ""


def test_trials_of_different_budgets_are_no_suite(tmp_path: Path) -> None:
    longer = ABOUT | {"seed": 1, "steps": 300}
    found, _ = _resolved(tmp_path, {Path("one"): ABOUT, Path("other"): longer})
    budgets = "[(200, 100, 2), (300, 100, 2)]"
    assert found == f"{tmp_path}: trials of different budgets (steps, every, episodes): {budgets}"


def test_a_last_evaluation_that_is_a_little_off_is_named() -> None:
    assert "mean return of the last evaluation" in check_records(changed("episode_return", 5.001)(whole()), ABOUTS)
