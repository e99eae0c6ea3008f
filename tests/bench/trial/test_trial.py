"""One trial: what it records, and that no interruption changes a bit of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from algorithms import Diverged
from algorithms.on_policy import OnPolicy
from bench.envs import fingerprint
from bench.envs.mujoco import MujocoBatch
from bench.store import files
from bench.store.checksums import check_archive
from bench.store.trials import RECORD_COLUMNS, read_trial
from bench.suite.resolving import load, trials
from bench.suite.restored import restored
from bench.suite.trial import Trial
from bench.tasks.registry import make
from bench.trial import collect, session, setup, status, worker
from bench.trial.collect import play

FIVE = ("ippo", "mappo", "happo", "hatrpo", "maddpg")
TINY: dict[str, Any] = {
    "name": "tiny",
    "steps": 300,
    "seeds": 1,
    "evaluate": {"every": 100, "episodes": 2},
    "tasks": [{"name": "mamujoco/Hopper-3x1", "episode_length": 25}],
    "algorithms": {
        **dict.fromkeys(FIVE[:4]),
        "maddpg": {"warmup_steps": 50, "batch_size": 16, "buffer_size": 200},
    },
    "defaults": {"envs": 2, "rollout_length": 25, "hidden_sizes": [16]},
}


def write_suite(folder: Path, **changes: Any) -> Path:
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(TINY | changes, sort_keys=False))
    return path


def planned(folder: Path, **changes: Any) -> dict[str, Trial]:
    """The trials of the tiny suite by their label."""
    path = write_suite(folder, **changes)
    return {t.label: t for t in trials(load(path)[0], path)}


def finish(t: Trial, suite_folder: Path) -> Path:
    outcome = worker.run(t, suite_folder)
    assert (outcome.status, outcome.error) == ("done", "")
    return t.folder(suite_folder)


def records(folder: Path) -> pd.DataFrame:
    return files.read_table(folder / "records.parquet")


def updates(folder: Path) -> pd.DataFrame:
    return files.read_table(folder / "updates.parquet")


def assert_same_trial(one: Path, other: Path) -> None:
    """Records, updates and weights are equal to the bit, times apart."""
    for read, times in ((records, "seconds"), (updates, "steps_per_second")):
        pd.testing.assert_frame_equal(read(one).drop(columns=times), read(other).drop(columns=times), check_exact=True)
    mine, theirs = (torch.load(folder / "policy.pt", weights_only=True) for folder in (one, other))
    assert mine.keys() == theirs.keys() == {"trial", "best", "last"}
    for policy in ("best", "last"):
        assert mine[policy].keys() == theirs[policy].keys()
        assert all(torch.equal(mine[policy][key], theirs[policy][key]) for key in mine[policy])


def flip(path: Path, place: int) -> None:
    """Turn over one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of all five tiny trials, run without interruption."""
    base = tmp_path_factory.mktemp("finished")
    return {label: finish(t, base / "tiny") for label, t in planned(base).items()}


# What a trial leaves


@pytest.mark.parametrize("label", FIVE)
def test_a_done_trial_leaves_its_tables_its_policy_and_its_description(finished: dict[str, Path], label: str) -> None:
    names = sorted(path.name for path in finished[label].iterdir())
    assert names == [".lock", "policy.pt", "records.parquet", "trial.json", "updates.parquet"]


@pytest.mark.parametrize("label", FIVE)
def test_records_have_exactly_their_columns(finished: dict[str, Path], label: str) -> None:
    assert tuple(records(finished[label]).columns) == RECORD_COLUMNS


@pytest.mark.parametrize("label", FIVE)
def test_records_hold_every_evaluation_from_step_0_to_the_end(finished: dict[str, Path], label: str) -> None:
    rows = records(finished[label])
    grid = rows[rows["kind"] == "grid"]
    assert list(zip(grid["step"], grid["episode"], strict=True)) == [
        (step, episode) for step in (0, 100, 200, 300) for episode in (0, 1)
    ]


@pytest.mark.parametrize("label", FIVE)
def test_the_last_and_the_best_policy_play_ten_times_the_episodes_at_the_end(
    finished: dict[str, Path], label: str
) -> None:
    rows = records(finished[label])
    assert list(rows["kind"]) == ["grid"] * 8 + ["final"] * 20 + ["absolute"] * 20
    grid = rows[rows["kind"] == "grid"]
    best = grid.groupby("step")["episode_return"].mean().idxmax()
    for kind, played in (("final", 300), ("absolute", best)):
        fresh = rows[rows["kind"] == kind]
        assert list(fresh["episode"]) == list(range(20))
        for column in ("step", "gradient_updates", "seconds"):  # of the policy that was played
            assert set(fresh[column]) == set(grid.loc[grid["step"] == played, column])


@pytest.mark.parametrize("label", FIVE)
def test_records_say_whose_they_are(finished: dict[str, Path], label: str) -> None:
    for table in (records(finished[label]), updates(finished[label])):
        assert set(table["suite"]) == {"tiny"}
        assert set(table["task"]) == {"mamujoco/Hopper-3x1:episode_length=25"}
        assert set(table["algorithm"]) == {label}
        assert set(table["seed"]) == {0}


@pytest.mark.parametrize("label", FIVE)
def test_every_number_recorded_is_finite(finished: dict[str, Path], label: str) -> None:
    rows = records(finished[label])
    assert np.isfinite(rows[["episode_return", "length", "seconds"]]).all(axis=None)
    assert rows["length"].between(1, 25).all()


@pytest.mark.parametrize("label", FIVE)
def test_seconds_and_gradient_updates_never_fall(finished: dict[str, Path], label: str) -> None:
    rows = records(finished[label]).query("kind == 'grid'")
    assert rows["seconds"].is_monotonic_increasing
    assert rows["gradient_updates"].is_monotonic_increasing
    assert rows["seconds"].iloc[0] == 0
    assert rows["gradient_updates"].iloc[0] == 0
    assert rows["gradient_updates"].iloc[-1] > 0


def test_seconds_leave_evaluation_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    train, episodes = OnPolicy.update, play

    def update(self: OnPolicy, rollout: Any) -> Any:
        clock[0] += 1.0
        return train(self, rollout)

    def slow(*arguments: Any) -> Any:
        clock[0] += 1000.0
        return episodes(*arguments)

    monkeypatch.setattr(session.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(OnPolicy, "update", update)
    monkeypatch.setattr(collect, "play", slow)
    folder = finish(planned(tmp_path)["happo"], tmp_path / "tiny")
    assert list(records(folder).groupby("step")["seconds"].max()) == [0.0, 2.0, 4.0, 6.0]
    about = read_trial(folder / "trial.json")
    last_is_best = records(folder).query("kind == 'absolute'")["step"].max() == 300  # then it is played once
    assert (about["seconds"], about["evaluation_seconds"]) == (6.0, 5000.0 if last_is_best else 6000.0)


@pytest.mark.parametrize("label", ["ippo", "mappo", "happo", "hatrpo"])
def test_updates_have_a_row_for_every_update_and_agent_and_one_for_the_team(
    finished: dict[str, Path], label: str
) -> None:
    table = updates(finished[label])
    assert sorted(zip(table["step"], table["agent"], strict=True)) == [
        (step, agent) for step in range(50, 350, 50) for agent in ("0", "1", "2", "team")
    ]
    team = table[table["agent"] == "team"]
    assert team[["critic_loss", "explained_variance"]].notna().all(axis=None)
    assert table[table["agent"] != "team"]["kl_mean"].notna().all()


def test_maddpg_has_a_row_for_every_update_and_agent_after_the_warm_up(finished: dict[str, Path]) -> None:
    table = updates(finished["maddpg"])
    assert sorted(zip(table["step"], table["agent"], strict=True)) == [
        (step, agent) for step in range(100, 350, 50) for agent in ("0", "1", "2")
    ]


@pytest.mark.parametrize("label", FIVE)
def test_trial_json_says_what_was_run_and_on_what(finished: dict[str, Path], tmp_path: Path, label: str) -> None:
    about = read_trial(finished[label] / "trial.json")
    t = planned(tmp_path)[label]
    assert about["status"] == "done"
    assert about["error"] == ""
    assert about["attempts"] == 1
    assert about["config_hash"] == t.config_hash()
    assert (about["task"], about["algorithm"], about["method"], about["seed"]) == (t.task.label, label, label, 0)
    assert about["settings"]["hidden_sizes"] == [16]
    assert about["options"]["episode_length"] == 25
    assert about["steps"] == 300
    assert about["evaluate"] == {"every": 100, "episodes": 2}
    assert about["evaluation_seeds"] == "suite"
    assert about["started"] <= about["finished"]
    assert about["provenance"].keys() == {
        "commit",
        "dirty",
        "versions",
        "machine",
        "physics",
        "task",
        "numerics",
        "matmul",
    }
    assert about["provenance"]["physics"] == "golden"
    assert about["provenance"]["task"] == {"mujoco": about["provenance"]["versions"]["mujoco"]}
    assert about["provenance"]["versions"].keys() >= {"python", "torch", "mujoco", "numpy", "gymnasium"}
    assert about["provenance"]["machine"].keys() == {"cpu", "cores", "system"}


def test_the_same_untrained_policy_plays_the_same_first_evaluation(finished: dict[str, Path]) -> None:
    """HAPPO, HATRPO, MAPPO and IPPO begin with the same actors: only equal episodes give equal returns."""
    first = [
        records(finished[label]).query("kind == 'grid' and step == 0")[["episode_return", "length"]].to_numpy().tolist()
        for label in ("ippo", "mappo", "happo", "hatrpo")
    ]
    assert first[0] == first[1] == first[2] == first[3]


def test_evaluation_episodes_are_the_same_for_all_seeds_and_algorithms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[list[list[float]]] = []

    def look(learner: Any, batch: MujocoBatch, *beat: Any) -> Any:
        starts.append(batch.state.tolist())
        return play(learner, batch, *beat)

    monkeypatch.setattr(collect, "play", look)
    for seed in (0, 1):
        for label in ("happo", "maddpg"):
            changes = {"steps": 100, "first_seed": seed}
            finish(planned(tmp_path, **changes)[label], tmp_path / "tiny")
    grid, fresh = ([one for one in starts if len(one) == count] for count in (2, 20))
    assert grid == [grid[0]] * 8  # at two steps of each of the four trials
    assert len(fresh) >= 4
    assert fresh == [fresh[0]] * len(fresh)


def test_no_two_streams_of_evaluation_seeds_and_no_training_have_an_episode_in_common(tmp_path: Path) -> None:
    t = planned(tmp_path)["happo"]
    _, training = setup.learner_and_batch(t)
    streams = [make(t.task, setup.evaluation_seeds(name, 20)) for name in ("suite", "study", "fresh")]
    starts = [tuple(row) for batch in (training, *streams) for row in batch.state.tolist()]
    assert len({*starts}) == len(starts) == 2 + 3 * 20


def test_the_last_policy_is_played_once_where_it_is_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, means = [], iter((0.0, 1.0, 2.0, 3.0))

    def better_and_better(learner: Any, batch: MujocoBatch, *_: Any) -> Any:
        counts.append(batch.envs)
        played = play(learner, batch)
        return replace(played, returns=played.returns * 0 + next(means)) if batch.envs == 2 else played

    monkeypatch.setattr(collect, "play", better_and_better)
    folder = finish(planned(tmp_path)["happo"], tmp_path / "tiny")
    assert counts == [2, 2, 2, 2, 20]
    rows = records(folder)
    final, absolute = (rows[rows["kind"] == kind].drop(columns="kind") for kind in ("final", "absolute"))
    assert set(absolute["step"]) == {300}
    pd.testing.assert_frame_equal(final.reset_index(drop=True), absolute.reset_index(drop=True), check_exact=True)


def test_a_trial_with_no_evaluation_between_its_first_and_its_last_step_plays_fresh_episodes(tmp_path: Path) -> None:
    folder = finish(planned(tmp_path, steps=100)["happo"], tmp_path / "tiny")
    assert records(folder).groupby("kind").size().to_dict() == {"grid": 4, "final": 20, "absolute": 20}


def test_the_best_policy_is_the_one_of_the_best_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: dict[str, Path]
) -> None:
    t = planned(tmp_path)["happo"]
    rows = records(finished["happo"]).query("kind == 'grid'").groupby("step")["episode_return"].mean()
    running = session.Session(t, tmp_path / "unused")
    saved = torch.load(finished["happo"] / "policy.pt", weights_only=True)
    running.learner.policy.load_state_dict(saved["best"])
    assert running._episodes("grid", 2, "suite")["episode_return"].mean() == rows.max()
    running.learner.policy.load_state_dict(saved["last"])
    assert running._episodes("grid", 2, "suite")["episode_return"].mean() == rows.iloc[-1]


def test_final_and_absolute_records_are_those_of_the_last_and_the_best_policy(
    tmp_path: Path, finished: dict[str, Path]
) -> None:
    running = session.Session(planned(tmp_path)["happo"], tmp_path / "unused")
    saved, rows = torch.load(finished["happo"] / "policy.pt", weights_only=True), records(finished["happo"])
    for kind, policy in (("final", "last"), ("absolute", "best")):
        running.learner.policy.load_state_dict(saved[policy])
        again = running._episodes(kind, 20, "fresh")["episode_return"]
        assert list(again) == list(rows.loc[rows["kind"] == kind, "episode_return"])


def test_another_seed_gives_other_numbers(tmp_path: Path, finished: dict[str, Path]) -> None:
    folder = finish(planned(tmp_path, first_seed=1)["happo"], tmp_path / "tiny")
    assert list(records(folder)["episode_return"]) != list(records(finished["happo"])["episode_return"])


def test_every_purpose_of_every_seed_has_a_seed_of_its_own() -> None:
    found = [number for seed in range(5) for number in setup.seeds(seed)[0].values()]
    assert len({*found}) == len(found) == 20


def test_a_registered_trial_waits(tmp_path: Path) -> None:
    t = planned(tmp_path)["happo"]
    status.register(t, tmp_path / "tiny")
    about = status.read_status(t, tmp_path / "tiny")
    assert (about["status"], about["attempts"], about["config_hash"]) == ("waiting", 0, t.config_hash())


def test_registering_leaves_a_trial_that_has_begun_alone(tmp_path: Path, finished: dict[str, Path]) -> None:
    path = finished["happo"] / "trial.json"
    before = path.read_bytes()
    status.register(planned(tmp_path)["happo"], finished["happo"].parents[3])
    assert path.read_bytes() == before


def test_a_trial_without_a_file_has_no_status(tmp_path: Path) -> None:
    assert status.read_status(planned(tmp_path)["happo"], tmp_path / "tiny") == {}


def test_a_maddpg_trial_that_never_learns_has_records_and_no_updates(tmp_path: Path) -> None:
    algorithms = {"maddpg": {"warmup_steps": 10_000}}
    folder = finish(planned(tmp_path, algorithms=algorithms)["maddpg"], tmp_path / "tiny")
    assert not (folder / "updates.parquet").exists()
    assert len(records(folder)) == 8 + 20 + 20


# Interruptions


class Stop(KeyboardInterrupt):
    """An interruption that no `except Exception` holds up."""


def stops_at(call: int, function: Callable[..., Any], after: bool = False) -> Callable[..., Any]:
    """`function`, interrupted at its n-th call, before it does anything or after it did all."""
    calls = [0]

    def wrapped(*arguments: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] == call and not after:
            raise Stop
        result = function(*arguments, **more)
        if calls[0] == call:
            raise Stop
        return result

    return wrapped


def interrupt(t: Trial, suite_folder: Path, target: Any, name: str, call: int, after: bool = False) -> Path:
    """Run a trial into an interruption of one of its functions, after which it notes nothing: as by a kill."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "_note_stop", lambda *_: None)
        patch.setattr(target, name, stops_at(call, getattr(target, name), after))
        with pytest.raises(Stop):
            worker.run(t, suite_folder)
    assert read_trial(t.folder(suite_folder) / "trial.json")["status"] == "running"
    return t.folder(suite_folder)


@pytest.mark.parametrize("error", [worker.Stopped, KeyboardInterrupt])
def test_a_trial_that_is_told_to_stop_says_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    t = planned(tmp_path)["happo"]

    def train(self: session.Session) -> None:
        raise error

    monkeypatch.setattr(session.Session, "train", train)
    with pytest.raises(error):
        worker.run(t, tmp_path / "tiny")
    about = read_trial(t.folder(tmp_path / "tiny") / "trial.json")
    assert (about["status"], about["attempts"]) == ("stopped", 1)
    assert (t.folder(tmp_path / "tiny") / "checkpoint.pt").exists()


def test_a_trial_that_is_stopped_writes_nothing_where_its_folder_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    t = planned(tmp_path)["happo"]
    folder = t.folder(tmp_path / "tiny")

    def train(self: session.Session) -> None:
        folder.rename(tmp_path / "moved")
        folder.mkdir()
        raise worker.Stopped

    monkeypatch.setattr(session.Session, "train", train)
    with pytest.raises(worker.Stopped):
        worker.run(t, tmp_path / "tiny")
    assert [*folder.iterdir()] == []


@pytest.mark.parametrize("call", [1, 4, 5], ids=["before-the-first-update", "amid-a-stretch", "at-a-checkpoint"])
@pytest.mark.parametrize("label", ["happo", "hatrpo", "maddpg"])
def test_an_interrupted_trial_ends_as_if_it_had_not_been(
    tmp_path: Path, finished: dict[str, Path], label: str, call: int
) -> None:
    t = planned(tmp_path)[label]
    interrupt(t, tmp_path / "tiny", session.Session, "train", call)
    assert_same_trial(finish(t, tmp_path / "tiny"), finished[label])


@pytest.mark.parametrize("label", ["happo", "hatrpo", "maddpg"])
def test_a_kill_between_tables_and_checkpoint_is_repaired(
    tmp_path: Path, finished: dict[str, Path], label: str
) -> None:
    t = planned(tmp_path)[label]
    folder = interrupt(t, tmp_path / "tiny", session.Session, "_write_checkpoint", 3)
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)["step"]
    assert saved == 100
    assert records(folder)["step"].max() == updates(folder)["step"].max() == 200
    assert_same_trial(finish(t, tmp_path / "tiny"), finished[label])


@pytest.mark.parametrize("label", ["happo", "maddpg"])
def test_a_kill_before_the_first_checkpoint_is_repaired(tmp_path: Path, finished: dict[str, Path], label: str) -> None:
    t = planned(tmp_path)[label]
    interrupt(t, tmp_path / "tiny", session.Session, "_write_checkpoint", 1)
    assert_same_trial(finish(t, tmp_path / "tiny"), finished[label])


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("label", ["happo", "maddpg"])
def test_a_kill_around_the_last_games_is_repaired(
    tmp_path: Path, finished: dict[str, Path], label: str, after: bool
) -> None:
    t = planned(tmp_path)[label]
    interrupt(t, tmp_path / "tiny", session.Session, "play_fresh_episodes", 1, after)
    assert_same_trial(finish(t, tmp_path / "tiny"), finished[label])


def test_a_kill_between_the_last_and_the_best_policys_games_is_repaired(
    tmp_path: Path, finished: dict[str, Path]
) -> None:
    best = {label: records(folder).query("kind == 'absolute'")["step"].max() for label, folder in finished.items()}
    label = next(label for label, step in best.items() if step < 300)  # of others the last policy is played once
    t = planned(tmp_path)[label]
    interrupt(t, tmp_path / "tiny", session.Session, "_episodes", 4 + 2)
    assert_same_trial(finish(t, tmp_path / "tiny"), finished[label])


def test_a_trial_interrupted_at_every_stretch_ends_as_if_it_had_not_been(
    tmp_path: Path, finished: dict[str, Path]
) -> None:
    t = planned(tmp_path)["happo"]
    for _ in range(2):
        interrupt(t, tmp_path / "tiny", session.Session, "train", 3)
    assert_same_trial(finish(t, tmp_path / "tiny"), finished["happo"])


SHORT = {"steps": 100, "evaluate": {"every": 50, "episodes": 1}}


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("short")
    return finish(planned(base, **SHORT)["happo"], base / "tiny")


@pytest.mark.parametrize("write", range(2, 17))  # the first is trial.json, before anything is computed
def test_a_kill_at_any_write_is_repaired(tmp_path: Path, short: Path, write: int) -> None:
    t = planned(tmp_path, **SHORT)["happo"]
    interrupt(t, tmp_path / "tiny", files, "write_bytes", write)
    assert_same_trial(finish(t, tmp_path / "tiny"), short)


def test_seconds_go_on_after_an_interruption(tmp_path: Path) -> None:
    t = planned(tmp_path)["happo"]
    folder = interrupt(t, tmp_path / "tiny", session.Session, "train", 5)
    before = records(folder)
    rows = records(finish(t, tmp_path / "tiny")).query("kind == 'grid'")
    assert rows["seconds"].is_monotonic_increasing
    assert list(rows["seconds"][: len(before)]) == list(before["seconds"])


def test_a_trial_that_another_run_has_ended_meanwhile_is_not_trained_again(
    tmp_path: Path, finished: dict[str, Path]
) -> None:
    t = planned(tmp_path)["happo"]
    shutil.copytree(finished["happo"], t.folder(tmp_path / "tiny"), dirs_exist_ok=True)
    before = {path.name: path.read_bytes() for path in t.folder(tmp_path / "tiny").iterdir()}
    outcome = worker.run(t, tmp_path / "tiny")
    about = read_trial(t.folder(tmp_path / "tiny") / "trial.json")
    assert (outcome.status, outcome.seconds, outcome.evaluation) == ("done", about["seconds"], about["last_evaluation"])
    assert before.items() <= {path.name: path.read_bytes() for path in t.folder(tmp_path / "tiny").iterdir()}.items()


def test_a_resumed_trial_keeps_when_it_started(tmp_path: Path) -> None:
    t = planned(tmp_path)["happo"]
    path = interrupt(t, tmp_path / "tiny", session.Session, "train", 3) / "trial.json"
    files.write_sealed_json(path, read_trial(path) | {"started": "2000-01-01T00:00:00+00:00"})
    about = read_trial(finish(t, tmp_path / "tiny") / "trial.json")
    assert about["started"] == "2000-01-01T00:00:00+00:00"


def test_a_trial_resumed_on_other_physics_says_what_both_parts_ran_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    t = planned(tmp_path)["happo"]
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "verdict", lambda robot: f"{robot} is odd")
        interrupt(t, tmp_path / "tiny", session.Session, "train", 3)
    interrupt(t, tmp_path / "tiny", session.Session, "train", 2)
    about = read_trial(finish(t, tmp_path / "tiny") / "trial.json")
    assert [part["physics"] for part in about["earlier_provenance"]] == ["Hopper is odd"]
    assert about["provenance"]["physics"] == "golden"


# Failures


def failure(t: Trial, suite_folder: Path) -> dict[str, Any]:
    outcome = worker.run(t, suite_folder)
    about = read_trial(t.folder(suite_folder) / "trial.json")
    assert outcome.status == about["status"] == "failed"
    assert outcome.error == about["error"]
    assert "Traceback" in about["traceback"]
    return about


def test_a_trial_to_which_another_run_gave_other_settings_is_left_as_it_is(tmp_path: Path) -> None:
    folder = finish(planned(tmp_path)["happo"], tmp_path / "tiny")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = planned(tmp_path, algorithms={"happo": {"clip": 0.3}})["happo"]
    outcome = worker.run(other, tmp_path / "tiny")
    assert outcome.status == "failed"
    assert outcome.error == f"{folder}: another run gave it other settings"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_trial_that_is_done_is_not_said_to_have_failed(tmp_path: Path) -> None:
    """As where its worker was lost between the end of the trial and that of its process."""
    t = planned(tmp_path)["happo"]
    about = finish(t, tmp_path / "tiny") / "trial.json"
    before = about.read_bytes()
    status.record_failure(t, tmp_path / "tiny", "its process was ended by SIGKILL")
    assert about.read_bytes() == before


def test_a_diverged_update_keeps_its_diagnostics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    t, calls, real = planned(tmp_path)["happo"], [0], OnPolicy.update

    def update(self: OnPolicy, rollout: Any) -> Any:
        calls[0] += 1
        if calls[0] == 4:
            raise Diverged("kl_mean of agent 1 not finite", [{"agent": "1", "kl_mean": float("nan"), "kl_max": 7.0}])
        return real(self, rollout)

    monkeypatch.setattr(OnPolicy, "update", update)
    assert failure(t, tmp_path / "tiny")["error"] == "Diverged: kl_mean of agent 1 not finite"
    table = updates(t.folder(tmp_path / "tiny"))
    assert list(table["step"].unique()) == [50, 100, 150, 200]
    last = table.iloc[-1]
    assert (last["step"], last["agent"], last["kl_max"]) == (200, "1", 7.0)
    assert np.isnan(last["kl_mean"])


@pytest.mark.parametrize("label", FIVE)
def test_a_reward_that_is_no_number_fails_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    real, calls = MujocoBatch.step, [0]

    def step(self: MujocoBatch, actions: Any) -> None:
        real(self, actions)
        calls[0] += self.auto_reset
        if self.auto_reset and calls[0] > 80:
            self.reward[0] = np.nan

    monkeypatch.setattr(MujocoBatch, "step", step)
    assert failure(planned(tmp_path)[label], tmp_path / "tiny")["error"].startswith("Diverged")


def test_an_evaluation_that_is_no_number_fails_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = MujocoBatch.step

    def step(self: MujocoBatch, actions: Any) -> None:
        real(self, actions)
        if not self.auto_reset:
            self.reward[0] = np.nan

    monkeypatch.setattr(MujocoBatch, "step", step)
    assert "evaluation at step 0" in failure(planned(tmp_path)["happo"], tmp_path / "tiny")["error"]


def test_a_fresh_episode_that_is_no_number_fails_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = session.Session._episodes

    def episodes(self: session.Session, kind: str, count: int, stream: str) -> pd.DataFrame:
        played = real(self, kind, count, stream)
        return played.assign(episode_return=np.nan) if kind == "absolute" or count > 2 else played

    monkeypatch.setattr(session.Session, "_episodes", episodes)
    t = planned(tmp_path)["happo"]
    assert "the fresh episodes of the policy of step" in failure(t, tmp_path / "tiny")["error"]
    records = files.read_table(t.folder(tmp_path / "tiny") / "records.parquet")
    assert {*records["kind"]} == {"grid"}


def test_a_failed_trial_that_is_tried_again_ends_as_if_it_had_not_failed(
    tmp_path: Path, finished: dict[str, Path]
) -> None:
    t, calls, real = planned(tmp_path)["happo"], [0], OnPolicy.update

    def update(self: OnPolicy, rollout: Any) -> Any:
        calls[0] += 1
        if calls[0] == 4:
            raise Diverged("unlucky", [])
        return real(self, rollout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OnPolicy, "update", update)
        failure(t, tmp_path / "tiny")
    folder = finish(t, tmp_path / "tiny")
    assert_same_trial(folder, finished["happo"])
    about = read_trial(folder / "trial.json")
    assert about["error"] == ""
    assert "traceback" not in about


@pytest.mark.parametrize("name", ["records.parquet", "updates.parquet"])
def test_tables_are_written_anew_from_the_checkpoint(tmp_path: Path, finished: dict[str, Path], name: str) -> None:
    t = planned(tmp_path)["happo"]
    folder = interrupt(t, tmp_path / "tiny", session.Session, "train", 3)
    (folder / name).write_bytes(b"broken")
    assert_same_trial(finish(t, tmp_path / "tiny"), finished["happo"])


def test_a_damaged_checkpoint_is_said_and_the_one_before_it_goes_on(
    tmp_path: Path, finished: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    t = planned(tmp_path)["happo"]
    folder = interrupt(t, tmp_path / "tiny", session.Session, "train", 5)
    flip(folder / "checkpoint.pt", 10_000)
    assert_same_trial(finish(t, tmp_path / "tiny"), finished["happo"])
    assert capsys.readouterr().err == (
        f"{folder / 'checkpoint.pt'}: was damaged after it was written: a part of it differs from its checksum; "
        "going on from the checkpoint before it, at step 100\n"
    )


def test_a_trial_whose_checkpoints_are_both_damaged_says_how_to_start_anew(tmp_path: Path) -> None:
    t = planned(tmp_path)["happo"]
    folder = interrupt(t, tmp_path / "tiny", session.Session, "train", 5)
    for name in session.CHECKPOINTS:
        flip(folder / name, 10_000)
    assert "delete its folder to start this trial anew" in failure(t, tmp_path / "tiny")["error"]


def test_the_checkpoint_of_another_trial_is_refused(tmp_path: Path) -> None:
    folders = [interrupt(t, tmp_path / "tiny", session.Session, "train", 3) for t in planned(tmp_path).values()]
    for name in session.CHECKPOINTS:
        shutil.copy(folders[0] / "checkpoint.pt", folders[1] / name)
    error = failure(planned(tmp_path)["mappo"], tmp_path / "tiny")["error"]
    assert "checkpoint.previous.pt: belongs to another trial" in error
    assert "delete its folder to start this trial anew" in error


def test_a_checkpoint_of_another_version_fails_the_trial_and_says_what_to_do(tmp_path: Path) -> None:
    t = planned(tmp_path)["happo"]
    folder = interrupt(t, tmp_path / "tiny", session.Session, "train", 3)
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    saved["environments"]["raw"] = saved["environments"]["raw"][:, 1:]
    torch.save(saved, folder / "checkpoint.pt")
    assert "of another version of the benchmark; delete its folder" in failure(t, tmp_path / "tiny")["error"]


def test_too_little_memory_for_a_checkpoint_is_not_taken_for_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starved(*_: Any, **__: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    t = planned(tmp_path)["happo"]
    interrupt(t, tmp_path / "tiny", session.Session, "train", 3)
    monkeypatch.setattr(torch, "load", starved)
    error = failure(t, tmp_path / "tiny")["error"]
    assert "can't allocate memory" in error
    assert "delete" not in error


def test_a_checkpoint_whose_trial_json_was_deleted_goes_on(tmp_path: Path, finished: dict[str, Path]) -> None:
    t = planned(tmp_path)["happo"]
    folder = interrupt(t, tmp_path / "tiny", session.Session, "train", 3)
    (folder / "trial.json").unlink()
    assert_same_trial(finish(t, tmp_path / "tiny"), finished["happo"])


def test_episodes_are_the_same_however_many_are_played_at_once(
    tmp_path: Path, finished: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "AT_ONCE", 3)
    here, there = records(finish(planned(tmp_path)["happo"], tmp_path / "tiny")), records(finished["happo"])
    assert list(here["length"]) == list(there["length"])
    assert np.allclose(here["episode_return"], there["episode_return"], rtol=1e-5)


def test_a_full_disk_is_an_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome = worker.run(planned(tmp_path)["happo"], tmp_path / "tiny")
    assert outcome.status == "failed"
    assert "No space left" in outcome.error


@pytest.mark.parametrize(("told", "threads"), [({}, 1), ({"learner_threads": 2}, 2)])
def test_a_trial_computes_with_one_thread_unless_the_suite_says_more(
    tmp_path: Path, told: dict[str, int], threads: int
) -> None:
    torch.set_num_threads(3)
    try:
        trial = planned(tmp_path, steps=100, **told)["happo"]
        folder = finish(trial, tmp_path / "tiny")
        assert torch.get_num_threads() == threads
        about = read_trial(folder / "trial.json")
        assert about["learner_threads"] == threads
        assert restored(about).config_hash() == trial.config_hash()
    finally:
        torch.set_num_threads(1)


def test_the_number_of_threads_is_part_of_what_a_trial_means(tmp_path: Path) -> None:
    one, two = (planned(tmp_path, **told)["happo"] for told in ({}, {"learner_threads": 2}))
    assert one.config_hash() != two.config_hash()


def test_the_time_left_is_that_of_training_and_evaluation(tmp_path: Path) -> None:
    trial = planned(tmp_path)["happo"]
    with closing(session.Session(trial, trial.folder(tmp_path / "tiny"))) as running:
        running.begin()
        assert running._seconds_left() is None
        running.step, running.seconds, running.evaluation_seconds = trial.steps // 4, 10.0, 5.0
        running._last_evaluation_seconds = 2.0
        assert running._seconds_left() == 3 * 15.0 + 20 * 2.0
        running.step = trial.steps
        assert running._seconds_left() == 40.0  # the fresh episodes
        running.play_fresh_episodes()
        assert running._seconds_left() == 0.0


@pytest.mark.parametrize(("seconds", "step"), [(1e9, 100), (-1.0, 150)], ids=["evaluated", "between evaluations"])
def test_progress_is_written_while_a_trial_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, step: int
) -> None:
    """At evaluations, every 100 steps, and after updates where it was written so many seconds before; 50 steps each."""
    monkeypatch.setattr(session, "PROGRESS_SECONDS", seconds)
    folder = interrupt(planned(tmp_path)["happo"], tmp_path / "tiny", session.Session, "train", 4)
    progress = files.read_json(folder / "progress.json")
    assert progress.keys() == {"step", "seconds", "evaluation"}
    assert progress["step"] == step


def test_updates_before_an_evaluation_that_is_not_finite_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    t = planned(tmp_path)["happo"]
    whole = session.Session._episodes

    def not_finite(self: Any, kind: str, *arguments: Any) -> pd.DataFrame:
        frame = whole(self, kind, *arguments)
        return frame.assign(episode_return=np.nan) if self.step else frame

    monkeypatch.setattr(session.Session, "_episodes", not_finite)
    outcome = worker.run(t, tmp_path / "tiny")
    assert (outcome.status, outcome.diverged) == ("failed", True)
    folder = t.folder(tmp_path / "tiny")
    assert set(records(folder)["step"]) == {0}
    assert updates(folder)["step"].max() == t.every


def test_of_equal_evaluations_the_first_is_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "play", lambda *given: replace(played := play(*given), returns=played.returns * 0 + 1))
    rows = records(finish(planned(tmp_path, steps=200)["happo"], tmp_path / "tiny"))
    assert set(rows.loc[rows["kind"] == "absolute", "step"]) == {0}


def test_a_damaged_checkpoint_does_not_take_the_place_of_the_whole_one(tmp_path: Path) -> None:
    t = planned(tmp_path)["happo"]
    folder = interrupt(t, tmp_path / "tiny", session.Session, "train", 5)
    flip(folder / "checkpoint.pt", 10_000)
    running = session.Session(t, folder)
    running.train_until(200)
    running.close()
    for name in session.CHECKPOINTS:
        check_archive(folder / name)


def test_seeds_are_those_of_the_published_results() -> None:
    own, environments = setup.seeds(0)
    purposes = [4334430513956379144, 2440950710608614359, 8226343694796210948, 6619194650426729951]
    assert [*own.values()] == purposes
    assert int(environments.generate_state(1)[0]) == 1216546553
    streams = [setup.evaluation_seeds(name, 1)[0] for name in ("suite", "fresh", "study")]
    assert [int(one.generate_state(1)[0]) for one in streams] == [85631862, 1171450763, 58053880]
