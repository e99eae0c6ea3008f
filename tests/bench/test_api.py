"""The benchmark from Python: training, acting with what was trained, reading results."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from filelock import FileLock
from test_report import write_trial

import bench
from algorithms import METHODS
from bench.report.__main__ import main as report
from bench.store import files
from bench.store.files import StoreError
from bench.store.trials import RECORD_COLUMNS, TABLES, read_trial
from bench.suite.resolving import load, trials
from bench.suite.restored import task_of
from bench.suite.trial import Trial
from bench.tasks import registry
from bench.trial import session, worker
from bench.trial.collect import play_episodes
from bench.trial.setup import evaluation_seeds
from bench.trial.trained import TrainedTeam

HOPPER: dict[str, Any] = {"name": "mamujoco/Hopper-3x1", "episode_length": 25}
SMALL: dict[str, Any] = {"steps": 100, "episodes": 2, "envs": 2, "rollout_length": 25, "hidden_sizes": [16]}
MINE = METHODS["happo"]
"""A method of one's own, by the name `python:test_api:MINE`."""
_OTHER = MINE


def train(algorithm: str = "happo", task: Any = HOPPER, **changes: Any) -> pd.DataFrame:
    return bench.train(algorithm, task, **(SMALL | changes))


def planned(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **keywords: Any) -> Trial:
    """The trial that `bench.train` would run."""
    asked: list[Trial] = []

    def run(trial: Trial, *_: Any, **__: Any) -> worker.Outcome:
        asked.append(trial)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(worker, "run", run)
        with pytest.raises(KeyboardInterrupt):
            bench.train(*arguments, **keywords)
    return asked[0]


def untimed(records: pd.DataFrame) -> pd.DataFrame:
    return records.drop(columns=["suite", "seconds"])


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results with HAPPO, trained."""
    folder = tmp_path_factory.mktemp("results") / "mine"
    train(results=folder)
    return folder


@pytest.fixture(scope="module")
def trained(mine: Path) -> Path:
    """The folder of that trial."""
    return Path(bench.read(mine).trials["folder"][0])


# train


def test_training_gives_the_numbers_of_a_suite(mine: Path, tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    suite = {
        "name": "suite",
        "steps": 100,
        "seeds": 1,
        "evaluate": {"every": 50, "episodes": 2},
        "tasks": [HOPPER],
        "algorithms": {"happo": {"envs": 2, "rollout_length": 25, "hidden_sizes": [16]}},
    }
    path.write_text(yaml.safe_dump(suite))
    (trial,) = trials(load(path)[0], path)
    worker.run(trial, tmp_path)
    here, there = bench.read(mine), bench.read(tmp_path)
    pd.testing.assert_frame_equal(untimed(here.records), untimed(there.records), check_exact=True)
    assert here.trials["config_hash"][0] == there.trials["config_hash"][0]


def test_records_hold_the_grid_and_the_fresh_episodes(mine: Path) -> None:
    records = train(results=mine)
    assert tuple(records.columns) == RECORD_COLUMNS
    assert records.groupby(["kind", "step"]).size().drop("absolute").to_dict() == {
        ("grid", 0): 2,
        ("grid", 50): 2,
        ("grid", 100): 2,
        ("final", 100): 20,
    }


@pytest.mark.parametrize(
    ("algorithm", "steps", "every"),
    [
        ("happo", 100_000, 4_000),  # 25 updates
        ("happo", 104_000, 8_000),  # 26 updates: 13 evaluations
        ("happo", 1_000_000, 40_000),
        ("happo", 116_000, 116_000),  # 29 updates: nothing divides them
        ("maddpg", 100_000, 4_000),
    ],
)
def test_without_a_grid_there_are_at_most_25_evaluations(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, steps: int, every: int
) -> None:
    trial = planned(monkeypatch, algorithm, "mamujoco/Hopper-3x1", steps=steps)
    assert (trial.steps, trial.every) == (steps, every)


def test_a_grid_settings_and_options_are_those_given(monkeypatch: pytest.MonkeyPatch) -> None:
    task = {"name": "mamujoco/Ant-4x2", "observation": "global"}
    trial = planned(monkeypatch, "hatrpo", task, steps=8000, seed=3, evaluate_every=8000, episodes=7, delta=0.02)
    assert (trial.task.label, trial.label) == ("mamujoco/Ant-4x2:observation=global", "hatrpo")
    assert (trial.steps, trial.every, trial.episodes, trial.seed) == (8000, 8000, 7, 3)
    assert trial.settings.delta == 0.02  # type: ignore[union-attr]


def test_a_method_of_ones_own_is_labelled_by_its_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = planned(monkeypatch, "python:test_api:MINE", HOPPER, **SMALL)
    assert (trial.method.name, trial.label) == ("python:test_api:MINE", "MINE")
    assert planned(monkeypatch, "python:test_api:_OTHER", HOPPER, **SMALL).label == "OTHER"


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"algorithm": "hapo"}, ["algorithm: unknown algorithm 'hapo'", "happo, hatrpo"]),
        ({"algorithm": 3}, ["unknown algorithm '3'"]),
        ({"clipp": 0.1}, ["clipp: unknown setting", "clip, "]),
        ({"clip": -1}, ["clip: -1 is out of range"]),
        ({"envs": 2.5}, ["envs: 2.5 is not a whole number"]),
        ({"task": "mamujoco/Hoper-3x1"}, ["tasks.0.name", "did you mean mamujoco/Hopper-3x1?"]),
        ({"task": {"episode_length": 25}}, ["tasks.0.name: a task needs a name"]),
        ({"task": HOPPER | {"obs": 2}}, ["tasks.0.obs: unknown setting 'obs'", "obsk"]),
        ({"task": 3}, ["tasks.0: 3 is not a word"]),
        ({"steps": 110}, ["steps: 110 is not a multiple of evaluate.every = 50; the nearest is 100"]),
        ({"steps": 1e2}, ["steps: 100.0 is not a whole number; write 100"]),
        ({"steps": 0}, ["steps", "greater than or equal to 1"]),
        ({"evaluate_every": 30}, ["evaluate.every: 30 is not a multiple of happo's rollout_length x envs = 50"]),
        ({"episodes": 0}, ["evaluate.episodes"]),
        ({"seed": -1}, ["seed"]),
        ({"steps": 10**13, "evaluate_every": None}, ["steps", "less than or equal to 10000000000"]),
        ({"results": "a b"}, ["train: results: ", "'a b'"]),
        ({"share_actors": True}, ["share_actors: happo cannot share actors"]),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        train(**{"results": tmp_path / "new"} | changes)
    assert "\n" not in str(caught.value)
    assert [part for part in parts if part not in str(caught.value)] == []
    assert not (tmp_path / "new").exists()


# Results


def test_without_results_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert len(train()) == 46
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_trial_that_is_done_is_not_run_again(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "run", lambda *_: pytest.fail("run again"))
    pd.testing.assert_frame_equal(train(results=mine), bench.read(mine).records)


def test_an_interrupted_trial_goes_on(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = session.Session.train, [0]

    def stopped(self: session.Session) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        whole(self)

    monkeypatch.setattr(session.Session, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(results=tmp_path / "mine")
    pd.testing.assert_frame_equal(
        untimed(train(results=tmp_path / "mine")), untimed(bench.read(mine).records), check_exact=True
    )
    assert calls == [3]  # the update before the interruption was not made again


def test_trials_of_one_folder_are_one_suite_to_the_report(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(mine, tmp_path / mine.name))
    train("hatrpo", results=folder)
    assert {*bench.read(folder).records["algorithm"]} == {"happo", "hatrpo"}
    assert report([str(folder)]) == 0
    assert "hatrpo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"clip": 0.1}, "seed-00: holds a trial with other settings"),
        ({"seed": 1, "steps": 50}, "holds trials with {'steps': 100,"),
    ],
)
def test_a_folder_keeps_its_meaning(mine: Path, changes: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError) as caught:
        train(results=mine, **changes)
    assert part in str(caught.value)


def test_a_trial_at_which_a_run_is_at_work_is_refused(mine: Path) -> None:
    trial = next(mine.glob("trials/*/happo/seed-*"))
    with FileLock(trial.with_name("seed-01") / ".lock"), pytest.raises(ValueError, match="another process is at work"):
        train(results=mine, seed=1)


# A failure


def test_a_failed_training_is_an_error_that_says_why_and_where(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        train(results=tmp_path, actor_lr=1e30, critic_lr=1e30)
    assert str(caught.value).startswith("mamujoco/Hopper-3x1:episode_length=25 happo seed 0: Diverged: ")
    assert "session.py" in caught.value.__notes__[0]
    assert bench.read(tmp_path).trials["status"][0] == "failed"


# The caller's process


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("settings", [{}, {"actor_lr": 1e30}], ids=["done", "failed"])
def test_the_callers_process_is_as_before(settings: dict[str, float]) -> None:
    def now() -> list[Any]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        drawn = [random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()]  # noqa: NPY002
        return [torch.get_num_threads(), handlers, drawn]

    before = now()
    try:
        train(**settings)  # type: ignore[arg-type]
    except RuntimeError:
        assert settings
    assert now() == before


@pytest.mark.usefixtures("two_threads")
def test_training_and_evaluation_compute_with_one_thread(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    team, threads = bench.load_team(trained), []

    def look(*arguments: Any) -> Any:
        threads.append(torch.get_num_threads())
        return play_episodes(*arguments)

    monkeypatch.setattr("bench.trial.trained.play_episodes", look)
    team.evaluate(episodes=1)
    monkeypatch.setattr(session, "play_episodes", look)
    train()
    assert {*threads} == {1}
    assert torch.get_num_threads() == 2


# Progress


def test_nothing_is_printed_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    train()
    assert capsys.readouterr() == ("", "")


def test_progress_that_is_asked_for_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    train(progress=True)
    assert "done  1/1  mamujoco/Hopper-3x1:episode_length=25 happo seed 0  return" in capsys.readouterr().out


# load_team


@pytest.mark.parametrize("policy", ["best", "last"])
def test_a_team_has_the_weights_of_its_policy(trained: Path, policy: Any) -> None:
    saved = torch.load(trained / "policy.pt", weights_only=True)[policy]
    loaded = bench.load_team(trained, policy).learner.policy.state_dict()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)


def test_a_team_says_what_it_is(trained: Path) -> None:
    team = bench.load_team(str(trained))
    assert (team.task.label, team.algorithm) == ("mamujoco/Hopper-3x1:episode_length=25", "happo")
    assert (team.seed, team.policy, team.settings.envs) == (0, "best", 2)
    assert (team.sizes.size, [space.size for space in team.sizes.action_spaces]) == (3, [1, 1, 1])


@pytest.mark.parametrize("algorithm", ["happo", "maddpg"])
def test_a_team_plays_the_episodes_that_were_recorded(tmp_path: Path, algorithm: str) -> None:
    few = {"warmup_steps": 0, "batch_size": 8} if algorithm == "maddpg" else {}
    records = train(algorithm, results=tmp_path, **few)
    team = bench.load_team(bench.read(tmp_path).trials["folder"][0])
    played = play_episodes(team.learner, team.task, evaluation_seeds("fresh", 20))
    assert list(played.returns) == list(records.query("kind == 'absolute'")["episode_return"])


def test_equal_seeds_are_equal_episodes(trained: Path) -> None:
    team = bench.load_team(trained)
    assert list(team.evaluate(5, seed=1)) == list(team.evaluate(5, seed=1))
    assert list(team.evaluate(5, seed=1))[:3] == pytest.approx(list(team.evaluate(3, seed=1)), rel=1e-5)
    assert not {*team.evaluate(5, seed=1)} & {*team.evaluate(5, seed=2)}


@pytest.mark.parametrize("episodes", [0, -1])
def test_no_episodes_are_refused(trained: Path, episodes: int) -> None:
    with pytest.raises(ValueError, match="is not at least 1"):
        bench.load_team(trained).evaluate(episodes)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mamujoco/Hopper-3x1", {}),
        ("mamujoco/Hopper-3x1", {"obsk": 0, "episode_length": 9}),
        ("mamujoco/Hopper-3x1", {"observation": "global"}),
        ("mamujoco/Hopper-1x3", {"observation": "paper"}),
        ("pettingzoo/simple_spread_v3", {"N": 2, "continuous_actions": True}),
        ("python:own_envs:Plain", {"size": [1, 2], "timer": 7, "episode_length": 3}),
        ("python:own_envs:Named", {"word": "a=b:c"}),
    ],
)
def test_a_task_is_found_by_its_label_and_options(name: str, options: dict[str, Any]) -> None:
    task = registry.task(name, options)
    assert task_of(task.label, task.options.named()) == task


def test_a_method_and_an_environment_of_ones_own_are_found_again(tmp_path: Path) -> None:
    train("python:test_api:MINE", {"name": "python:own_envs:Plain", "size": 3}, results=tmp_path)
    team = bench.load_team(bench.read(tmp_path).trials["folder"][0])
    assert (team.algorithm, team.sizes.observation_sizes) == ("MINE", (3, 3))


def test_another_policy_is_refused(trained: Path) -> None:
    with pytest.raises(ValueError, match="'worst' is neither 'best' nor 'last'"):
        bench.load_team(trained, "worst")  # type: ignore[arg-type]


def test_a_published_trial_without_its_team_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^folder: ''; a published trial whose trained team is not published has none$"
    ):
        bench.load_team("")


def test_a_folder_that_is_no_trial_is_refused(mine: Path) -> None:
    with pytest.raises(StoreError, match=r"mine: no trial there; valid: its folder, or SUITE/task/algorithm/seed$"):
        bench.load_team(mine)


def test_a_trial_that_is_not_done_is_refused(trained: Path, tmp_path: Path) -> None:
    about = read_trial(trained / "trial.json")
    files.write_sealed_json(tmp_path / "trial.json", about | {"status": "running"})
    with pytest.raises(StoreError, match="this trial is running, not done"):
        bench.load_team(tmp_path)


@pytest.mark.parametrize(
    ("content", "part"),
    [(None, "cannot be read"), (b"", "was damaged or changed"), (b"broken", "was damaged or changed")],
)
def test_a_policy_that_cannot_be_read_is_named(trained: Path, tmp_path: Path, content: bytes | None, part: str) -> None:
    shutil.copy(trained / "trial.json", tmp_path)
    if content is not None:
        (tmp_path / "policy.pt").write_bytes(content)
    with pytest.raises(StoreError, match=rf"policy\.pt: {part}"):
        bench.load_team(tmp_path)


def test_a_policy_of_other_networks_is_refused(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "seed-00")
    about = read_trial(trained / "trial.json")
    about["settings"]["hidden_sizes"] = [8]
    files.write_sealed_json(tmp_path / "seed-00" / "trial.json", about)
    with pytest.raises(StoreError, match="of another version of the benchmark"):
        bench.load_team(tmp_path / "seed-00")


def test_a_task_that_is_no_longer_there_is_named(trained: Path, tmp_path: Path) -> None:
    about = read_trial(trained / "trial.json")
    files.write_sealed_json(tmp_path / "trial.json", about | {"task": "python:gone:Gone", "options": {}})
    with pytest.raises(ValueError, match="cannot import gone"):
        bench.load_team(tmp_path)


# act


def observed(team: TrainedTeam, *shape: int) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.normal(size=(*shape, size)) for size in team.sizes.observation_sizes]


def test_actions_are_those_of_the_learner_within_bounds(trained: Path) -> None:
    team = bench.load_team(trained)
    seen = [100 * x for x in observed(team, 4)]
    raw = team.learner.act([torch.tensor(x, dtype=torch.float32) for x in seen], explore=False)
    for action, mean in zip(team.act(seen), raw, strict=True):
        assert (action.dtype, action.shape) == (np.float32, (4, 1))  # type: ignore[comparison-overlap]
        np.testing.assert_array_equal(action, np.clip(mean.numpy(), -1, 1))


def test_one_environment_may_come_without_its_axis(trained: Path) -> None:
    team = bench.load_team(trained)
    seen = observed(team, 1)
    single = team.act([x[0] for x in seen])
    assert [x.shape for x in single] == [(1,)] * 3
    for one, many in zip(single, team.act(seen), strict=True):
        np.testing.assert_array_equal(one, many[0])


def test_actions_are_the_callers_own(trained: Path) -> None:
    team = bench.load_team(trained)
    first = team.act(observed(team, 2))
    kept = [x.copy() for x in first]
    team.act([-x for x in observed(team, 2)])
    for now, before in zip(first, kept, strict=True):
        np.testing.assert_array_equal(now, before)


@pytest.fixture(scope="module")
def choosing(tmp_path_factory: pytest.TempPathFactory) -> TrainedTeam:
    """Agents whose actions are choices: of three, masked, and of pairs."""
    folder = tmp_path_factory.mktemp("choosing")
    train("happo", "python:own_envs:Choosing", results=folder)
    return bench.load_team(bench.read(folder).trials["folder"][0])


def test_choices_are_indices_and_a_forbidden_one_is_never_made(choosing: TrainedTeam) -> None:
    seen = observed(choosing, 3)
    for allowed in range(3):
        mask = np.arange(3) == allowed
        a, b = choosing.act(seen, [np.tile(mask, (3, 1)), None])
        assert (a.dtype, a.tolist()) == (np.int64, [[allowed]] * 3)  # type: ignore[comparison-overlap]
        assert b.shape == (3, len(choosing.sizes.action_spaces[1].choices))  # type: ignore[union-attr]


def test_a_masked_team_acts_in_its_task(choosing: TrainedTeam) -> None:
    batch = registry.make(choosing.task, np.random.SeedSequence(0).spawn(2))
    for _ in range(3):
        batch.step(choosing.act(batch.observations, batch.masks))


@pytest.mark.parametrize(
    ("seen", "masks", "message"),
    [
        ([(2,)], None, "observations: 1 arrays for 2 agents"),
        ([(2,), (3,)], None, r"observations: agent 1 has an array of shape \(3,\), not \(2,\) or \(E, 2\)"),
        ([(4, 5, 2), (2,)], None, r"observations: agent 0 has an array of shape \(4, 5, 2\)"),
        ([(), (2,)], None, r"observations: agent 0 has an array of shape \(\)"),
        ([(3, 2), (4, 2)], None, "different numbers of environments"),
        ([(2,), (2,)], [(3,)], "masks: 1 arrays for 2 agents"),
        ([(2,), (2,)], [(4,), None], r"masks: agent 0 has an array of shape \(4,\), not \(3,\)"),
        ([(2,), (2,)], [(2, 3), None], "different numbers of environments"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    choosing: TrainedTeam, seen: list[Any], masks: list[Any] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        choosing.act([np.zeros(x) for x in seen], masks and [None if x is None else np.ones(x) for x in masks])


# read


def test_results_are_three_frames(mine: Path, trained: Path) -> None:
    results = bench.read(str(mine))
    assert tuple(results.records.columns) == RECORD_COLUMNS
    assert {*results.updates["agent"]} == {"0", "1", "2", "team"}
    assert results.trials[["algorithm", "seed", "status", "folder"]].to_numpy().tolist() == [
        ["happo", 0, "done", str(trained)]
    ]


def test_a_published_suite_has_its_tables_only(mine: Path, tmp_path: Path) -> None:
    for name in TABLES:
        shutil.copy(mine / f"{name}.parquet", tmp_path)
    results = bench.read(tmp_path)
    pd.testing.assert_frame_equal(results.records, bench.read(mine).records)
    assert len(results.updates)
    assert results.trials.empty


def test_reading_writes_nothing(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path.joinpath(*trained.parts[-4:]))
    assert len(bench.read(tmp_path).records) == 46
    assert [path.name for path in tmp_path.iterdir()] == ["trials"]


@pytest.mark.parametrize("name", [".", "none"])
def test_a_folder_without_records_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="no records there"):
        bench.read(tmp_path / name)


def test_a_folder_of_trials_that_wait_is_not_said_to_hold_none(tmp_path: Path) -> None:
    write_trial(tmp_path, "happo", returns=(), final=None, absolute=None, status="waiting")
    for path in tmp_path.rglob("*.parquet"):
        path.unlink()
    with pytest.raises(StoreError, match=r"no records there yet; none of its trials has been evaluated$"):
        bench.read(tmp_path)


# Imports


def loaded(code: str) -> set[str]:
    """What of the heavy packages is loaded after `code` in a process of its own."""
    code += "\nimport sys; print(*({'torch', 'gymnasium', 'mujoco', 'algorithms'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {*done.stdout.split()}


@pytest.mark.parametrize("code", ["import bench.report.__main__, bench.store.files", "import bench; bench.read"])
def test_reading_results_loads_no_torch(code: str) -> None:
    assert loaded(code) == set()


def test_training_is_there_when_it_is_asked_for() -> None:
    assert loaded("import bench\nbench.train") >= {"torch", "algorithms"}
    assert {"train", "load_team", "read"} <= {*dir(bench)}


def test_a_name_that_is_not_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="'bench' has no attribute 'trane'"):
        bench.trane  # noqa: B018


def test_an_environment_that_breaks_its_contract_is_refused_in_the_words_of_the_check(tmp_path: Path) -> None:
    task = "python:own_envs:NaNReward"
    with pytest.raises(ValueError, match=r"NaNReward happo seed 0: rewards: that of b at step 5 of seed 0 is nan"):
        bench.train("happo", task, results=tmp_path, **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["s3://bucket/quick", Path("s3://bucket/quick")])
def test_a_place_in_a_store_is_refused_where_a_folder_is_needed(
    place: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^results: 's3:.*; bench.run trains into stores$"):
        bench.train("ippo", "games/driving", results=place)
    with pytest.raises(ValueError, match=r"^folder: 's3:.*; bench.read has those of copies$"):
        bench.load_team(place)
    assert [*tmp_path.iterdir()] == []
