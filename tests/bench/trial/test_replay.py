"""Trials that are made again: what differs is named, with the circumstances that do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_trial import finish, planned

from bench.store.trials import read_trial, trial_table
from bench.trial import replay
from bench.trial.link import Link

Edit = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trial of HAPPO."""
    folder = tmp_path_factory.mktemp("replay")
    return finish(planned(folder)["happo"], folder / "tiny")


def replayed(trained: Path, monkeypatch: pytest.MonkeyPatch, edits: dict[str, Edit], **changes: Any) -> str:
    """What differs from a trial with other tables, and with changes of its `trial.json`."""
    suite = trained.parents[3]

    def table(folder: Path, name: str, about: Any) -> pd.DataFrame:
        return edits.get(name, lambda found: found)(trial_table(folder, name, about))

    monkeypatch.setattr(replay, "trial_table", table)
    return replay.difference(suite, copy.deepcopy(dict(read_trial(trained / "trial.json"))) | changes, Link())


def with_value(column: str, row: int, value: float) -> Edit:
    """Another value in a row, counted from the first."""

    def edit(table: pd.DataFrame) -> pd.DataFrame:
        assert column in table
        return table.assign(**{column: [value if k == row else x for k, x in enumerate(table[column])]})

    return edit


def test_a_trial_that_is_made_again_is_equal(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert replayed(trained, monkeypatch, {}) == ""


@pytest.mark.parametrize(
    ("name", "edit", "said"),
    [
        ("records", with_value("episode_return", 0, 1.5), "evaluation at step 0: episode_return was 1.5 and is "),
        ("records", lambda table: table[1:], "evaluation: 2 rows, not 1"),
        ("updates", with_value("kl_mean", 0, 0.25), "update at step 50: kl_mean was 0.25 and is "),
        ("updates", lambda table: table[1:], "update: "),
    ],
)
def test_the_first_column_that_differs_is_named(
    trained: Path, monkeypatch: pytest.MonkeyPatch, name: str, edit: Edit, said: str
) -> None:
    found = replayed(trained, monkeypatch, {name: edit})
    assert found.startswith(said)
    assert found.endswith("; nothing else is known to differ")


def test_times_may_differ(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edits = {"records": with_value("seconds", 0, 1e6), "updates": with_value("steps_per_second", 0, 1e6)}
    assert replayed(trained, monkeypatch, edits) == ""


def test_versions_that_differ_are_said_beside_what_does(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = copy.deepcopy(dict(read_trial(trained / "trial.json")["provenance"]))
    here, there["versions"]["torch"] = there["versions"]["torch"], "1.0"
    edits = {"records": with_value("episode_return", 0, 1.5)}
    assert replayed(trained, monkeypatch, edits, provenance=there).endswith(f"; torch was 1.0, is {here}")
    assert replayed(trained, monkeypatch, {}, provenance=there) == ""  # equal numbers are equal


def test_a_trial_that_means_something_else_here_is_not_made_again(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replayed(trained, monkeypatch, {}, config_hash="c0ffee")
    assert found.startswith("means something else here: its config is ")
    assert found.endswith(", not c0ffee")
