"""What trackers are told of trials: every point once, whatever was killed and however often one looks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_report import TASK, write_trial

from bench.store import tracking
from bench.store.tracking import Run, points, write_runs


def ignored() -> None:
    """Nobody waits for a beat."""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """What a tracker by the name `told` gets."""
    found: list[Run] = []
    monkeypatch.setattr(tracking, "TRACKERS", {"told": lambda suite, run: found.append(run)})
    return found


def test_points_are_means_of_evaluations_and_columns_of_updates_by_agent() -> None:
    rows = [("grid", 0, 1.0), ("grid", 0, 3.0), ("final@50", 50, 4.0), ("final", 100, 5.0)]
    records = pd.DataFrame(rows, columns=["kind", "step", "episode_return"])
    updates = pd.DataFrame(
        {"seed": 0, "step": [50, 100, 100], "agent": ["0", "0", "team"], "kl_mean": [0.1, 0.2, None]}
    )
    assert points(records, updates) == {
        0: {"return/grid": 2.0},
        50: {"return/final-at-50": 4.0, "kl_mean/0": 0.1},
        100: {"return/final": 5.0, "kl_mean/0": 0.2},
    }


def test_an_evaluation_with_an_episode_that_is_not_finite_has_no_mean() -> None:
    records = pd.DataFrame([("final", 100, 1.0), ("final", 100, None)], columns=["kind", "step", "episode_return"])
    assert np.isnan(points(records, None)[100]["return/final"])


def test_a_trial_that_has_ended_is_told_once_with_its_configuration(tmp_path: Path, told: list[Run]) -> None:
    write_trial(tmp_path, "happo", 3, settings={"clip": 0.1}, options={"obsk": 2})
    write_trial(tmp_path, "mappo", 3, status="running")
    assert [write_runs(tmp_path, "told", ignored) for _ in range(2)] == [1, 0]
    (run,) = told
    assert (run.name, run.config["clip"], run.config["options.obsk"]) == (f"{TASK} happo seed 3", 0.1, 2)
    assert run.config["commit"] == "c0ffee"
    assert run.points[200] == {"return/grid": 20.0, "return/final": 20.0, "return/absolute": 25.0}


def test_a_trial_that_is_run_again_is_told_again_as_the_same_run(tmp_path: Path, told: list[Run]) -> None:
    write_trial(tmp_path, status="failed", final=None, absolute=None)
    write_runs(tmp_path, "told", ignored)
    write_trial(tmp_path)
    assert write_runs(tmp_path, "told", ignored) == 1
    assert len({run.id for run in told}) == 1


def test_what_was_told_before_a_failure_is_not_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []

    def second_fails(suite: Path, run: Run) -> None:
        found.append(run.seed)
        if len(found) == 2:
            raise OSError("the tracker is full")

    monkeypatch.setattr(tracking, "TRACKERS", {"told": second_fails})
    for seed in range(3):
        write_trial(tmp_path, seed=seed)
    with pytest.raises(OSError, match="the tracker is full"):
        write_runs(tmp_path, "told", ignored)
    assert write_runs(tmp_path, "told", ignored) == 2
    assert found == [0, 1, 1, 2]


def test_two_processes_do_not_tell_the_same(tmp_path: Path, told: list[Run]) -> None:
    write_trial(tmp_path)
    with FileLock(tmp_path / tracking.LOCK):
        assert write_runs(tmp_path, "told", ignored) == 0
    assert write_runs(tmp_path, "told", ignored) == 1


def test_a_trial_that_failed_before_it_was_evaluated_has_nothing_to_tell(tmp_path: Path, told: list[Run]) -> None:
    write_trial(tmp_path, status="failed", returns=(), final=None, absolute=None)
    assert write_runs(tmp_path, "told", ignored) == 0


def again(suite: Path, tracker: str) -> None:
    """As after a kill between a run and its mark."""
    assert write_runs(suite, tracker, ignored) == 1
    (suite / tracking.MARKS).unlink()
    assert write_runs(suite, tracker, ignored) == 1


def test_tensorboard_has_every_point_once_after_a_kill(tmp_path: Path) -> None:
    write_trial(tmp_path, "happo", 3)
    again(tmp_path, "tensorboard")
    events = EventAccumulator(str(tracking.runs_folder(tmp_path, TASK, "happo", 3))).Reload()
    assert [(x.step, x.value) for x in events.Scalars("return/grid")] == [(0, 0), (100, 10), (200, 20)]


class Offline:
    """wandb, as far as it is used: a folder for each run, with a line for each step."""

    def __init__(self, dir: str, id: str, **about: Any):
        self.about, self.folder = about, Path(dir) / "wandb" / f"offline-run-2026-{id}"
        self.folder.mkdir(parents=True)

    def __enter__(self) -> Offline:
        return self

    def __exit__(self, *_: object) -> None:
        (self.folder / "end").touch()

    def log(self, metrics: dict[str, float], step: int) -> None:
        with (self.folder / "log").open("a") as file:
            print(step, metrics["return/grid"], file=file)


def test_wandb_is_offline_and_has_every_point_once_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=Offline))
    for name in ("WANDB_MODE", "WANDB_SILENT"):
        monkeypatch.setenv(name, "")  # restored afterwards
        monkeypatch.delenv(name)
    write_trial(tmp_path)
    again(tmp_path, "wandb")
    (run,) = (tmp_path / "wandb").iterdir()
    assert (run / "log").read_text() == "0 0.0\n100 10.0\n200 20.0\n"
    assert (run / "end").exists()
    assert tracking.os.environ["WANDB_MODE"] == "offline"


class Server:
    """mlflow's client, as far as it is used."""

    runs: dict[str, list[Any]]
    tags: dict[str, str]

    def __init__(self, tracking_uri: str):
        assert tracking_uri.startswith("file:///")

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=name)

    def search_runs(self, experiments: list[str], wanted: str) -> list[Any]:
        return [SimpleNamespace(info=SimpleNamespace(run_id=x)) for x in self.runs if f"'{self.tags[x]}'" in wanted]

    def delete_run(self, run_id: str) -> None:
        del self.runs[run_id]

    def create_run(self, experiment: str, run_name: str, tags: dict[str, str]) -> Any:
        run_id = str(len(self.tags))
        self.runs[run_id], self.tags[run_id] = [], tags["trial"]
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
        self.runs[run_id] += [*metrics, *params]

    def set_terminated(self, run_id: str) -> None:
        self.runs[run_id].append("end")


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> type[Server]:
    def module(name: str, **contents: Callable[..., Any]) -> None:
        made = ModuleType(name)
        made.__dict__.update(contents)
        monkeypatch.setitem(sys.modules, name, made)

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setattr(Server, "runs", {}, raising=False)
    monkeypatch.setattr(Server, "tags", {}, raising=False)
    module("mlflow")
    module("mlflow.entities", Metric=lambda key, value, _, step: (key, step, value), Param=lambda *pair: pair)
    module("mlflow.tracking", MlflowClient=Server)
    return Server


def test_mlflow_has_every_point_once_after_a_kill(tmp_path: Path, mlflow: type[Server]) -> None:
    write_trial(tmp_path, settings={"clip": 0.1})
    again(tmp_path, "mlflow")
    ((*told, end),) = mlflow.runs.values()
    assert [x for x in told if x[0] == "return/grid"] == [
        ("return/grid", 0, 0.0),
        ("return/grid", 100, 10.0),
        ("return/grid", 200, 20.0),
    ]
    assert ("clip", "0.1") in told
    assert end == "end"
