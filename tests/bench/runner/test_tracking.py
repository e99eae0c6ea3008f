"""Trackers beside a run: told when trials have ended, and never the end of one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import test_run

from bench import run
from bench.runner import tracking
from bench.runner.process import Died
from bench.runner.tracking import tracked
from bench.store.files import read_sealed_json
from bench.store.tracking import write_runs


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The trackers that were asked to write, one of which fails."""
    found: list[str] = []

    def call(function: Callable[..., Any], suite: Path, tracker: str, **_: Any) -> None:
        found.append(tracker)
        if tracker == "broken":
            raise Died("its disk is full", "")

    monkeypatch.setattr(tracking, "call", call)
    monkeypatch.setattr(tracking, "POLL_SECONDS", 0.01)
    return found


def test_a_tracker_that_fails_is_said_once_and_left_alone(tmp_path: Path, calls: list[str]) -> None:
    (tmp_path / "trials/task/happo/seed-00").mkdir(parents=True)
    said: list[str] = []
    with tracked(tmp_path, ["broken", "fine"], said.append):
        (tmp_path / "trials/task/happo/seed-00/trial.json").touch()
        while "fine" not in calls:
            threading.Event().wait(0.01)
    assert calls == ["broken", "fine", "fine"]
    assert said == ["--log broken: its disk is full; it is told no more, the trials go on"]


def test_a_run_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    assert write_runs(tmp_path / "new", "tensorboard", print) == 0
    assert [*tmp_path.iterdir()] == []


def test_without_trackers_nothing_is_looked_at(tmp_path: Path, calls: list[str]) -> None:
    with tracked(tmp_path, [], print):
        pass
    assert calls == []


def test_a_tracker_that_is_not_installed_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for found in (None, ModuleSpec("wandb", None)):  # of a folder with that name, as wandb itself makes it
        monkeypatch.setattr(run, "find_spec", lambda name, found=found: found)
        assert test_run.main(tmp_path, "--log", "wandb") == 2
        assert capsys.readouterr().err == "--log wandb: needs the extra wandb: pip install -e '.[wandb]'\n"
    assert not (tmp_path / "tiny").exists()


@pytest.mark.usefixtures("sigterm_as_before")
def test_a_run_tells_tensorboard_of_its_trials(tmp_path: Path) -> None:
    assert test_run.main(tmp_path, "--log", "tensorboard", algorithms={"happo": None}) == 0
    folder = tmp_path / "tiny"
    assert len(read_sealed_json(folder / "tracked.json")["tensorboard"]) == 1
    assert len([*folder.glob("tensorboard/*/happo/seed-00/events*")]) == 1
