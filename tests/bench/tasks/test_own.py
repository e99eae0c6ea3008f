"""Tasks and algorithms of the user's own: options, errors, identity, entry points, and the examples."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
import sys
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, distribution
from pathlib import Path
from typing import Any

import numpy as np
import own_envs
import pytest
import torch
import yaml

from algorithms import METHODS, SettingError
from algorithms.clip import clip_step
from algorithms.config import ClipSettings, Positive
from algorithms.on_policy import OnPolicy
from algorithms.registry import Method
from bench.envs import parallel
from bench.envs.errors import EnvError
from bench.run import main as run
from bench.runner import cost
from bench.store import files
from bench.store.trials import NO_PHYSICS
from bench.suite import methods
from bench.suite.model import SuiteError
from bench.suite.resolving import load, trials
from bench.suite.trial import Trial
from bench.tasks import __main__ as tasks_main
from bench.tasks import checker, plugins, random_episodes, registry
from bench.trial import setup, status, worker
from bench.trial.session import Session

ROOT = Path(__file__).resolve().parents[3]
PLAIN = "python:own_envs:Plain"
MINE = METHODS["happo"]
"""A method of one's own, by the name `python:test_own:MINE`."""
SUITE: dict[str, Any] = {
    "name": "own",
    "steps": 400,
    "seeds": 1,
    "evaluate": {"every": 200, "episodes": 2},
    "tasks": [{"name": PLAIN, "size": 3}],
    "algorithms": {"happo": None},
    "defaults": {"envs": 2, "rollout_length": 50, "hidden_sizes": [8]},
}


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> dict[str, EntryPoint]:
    """Entry points that stand in for those of installed packages, of both groups."""
    found: dict[str, EntryPoint] = {}
    monkeypatch.setattr(plugins, "points", lambda group: {k: [x] for k, x in found.items() if x.group == group})
    return found


def refused(name: str, **options: Any) -> SettingError:
    with pytest.raises(SettingError) as caught:
        registry.team(registry.task(name, options))
    assert "\n" not in str(caught.value)
    return caught.value


def planned(folder: Path, **changes: Any) -> list[Trial]:
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(SUITE | changes))
    return trials(load(path)[0], path)


# Tasks


def test_a_factory_gets_the_options_of_its_task() -> None:
    task = registry.task(PLAIN, {"size": 5, "timer": 7, "episode_length": 3})
    assert registry.team(task).observation_sizes == (5, 5)
    assert (task.episode_length, task.robot) == (3, None)
    batch = registry.make(task, [np.random.SeedSequence(0)])
    assert (batch.environments[0].timer, batch.episode_length) == (7, 3)  # type: ignore[attr-defined]


def test_the_label_names_what_was_told() -> None:
    assert registry.task(PLAIN, {}).label == PLAIN
    assert registry.task(PLAIN, {"timer": 7, "size": 5}).label == f"{PLAIN}:size=5:timer=7"
    assert registry.task(PLAIN, {"episode_length": 9}).label == f"{PLAIN}:episode_length=9"
    assert registry.task("pettingzoo/simple_spread_v3", {"N": 3, "max_cycles": 50}).label.endswith("_v3:max_cycles=50")


def test_lists_reach_a_factory_and_tasks_can_be_told_apart() -> None:
    one, other = (registry.task("python:own_envs:Plain", {"size": x}) for x in ([1, 2], [1, 2.0]))
    assert one.options.named()["size"] == [1, 2]
    assert one != other
    assert len({one, other}) == 2


@pytest.mark.parametrize(
    ("name", "options", "key", "parts"),
    [
        (PLAIN, {"colour": 1}, "colour", ["unknown option 'colour'", "valid: episode_length, size, timer"]),
        (PLAIN, {"size": {"a": 1}}, "size", ["{'a': 1}", "neither a number"]),
        (PLAIN, {"episode_length": 0}, "episode_length", ["0 is not a whole number from 1 to 1000000000"]),
        (PLAIN, {"episode_length": True}, "episode_length", ["True is not a whole number"]),
        ("python:own_envs:fails", {}, "size", ["missing", "valid: episode_length, size"]),
        ("python:own_envs:fails", {"size": 1}, "name", ["raised RuntimeError: no luck (", ") when it was made"]),
        ("python:own_envs", {}, "name", ["not of the form python:package.module:attribute"]),
        ("python:no_such_module:make", {}, "name", ["cannot import no_such_module", "install it, or start in"]),
        ("python:own_envs.deeper:make", {}, "name", ["cannot import own_envs.deeper"]),
        ("python:own_envs:Plane", {}, "name", ["own_envs has no Plane; it has", "Early"]),
        ("python:own_envs:TIMER", {}, "name", ["is no function that makes an environment but 12"]),
        ("python:own_envs:Pet", {}, "name", ["Pet is no pettingzoo.ParallelEnv"]),
        ("python:own_envs:Unbounded", {}, "name", ["the action space of agent a", "finite bounds"]),
        ("pettingzoo/simple_tag_v3", {}, "name", ["pettingzoo/simple_spread_v3", "python:package.module:factory"]),
        ("pettingzoo/simple_spread_v3", {"local_ratio": 1}, "local_ratio", ["continuous_actions, max_cycles, N"]),
        ("pettingzoo/simple_reference_v3", {"N": 4}, "N", ["valid: continuous_actions, max_cycles"]),
        ("pettingzoo/simple_spread_v3", {"continuous_actions": 1}, "continuous_actions", ["1 is not true or false"]),
        ("gym/CartPole", {}, "name", ["'gym/CartPole'", "mamujoco/<robot>", "pettingzoo/<", "python:package.module"]),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(name: str, options: Any, key: str, parts: list[str]) -> None:
    error = refused(name, **options)
    assert error.key == key
    assert [part for part in parts if part not in str(error)] == []


def test_a_module_that_fails_when_it_is_imported_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "failing_module.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    assert "importing failing_module raised ZeroDivisionError" in str(refused("python:failing_module:make"))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pettingzoo.sisl.multiwalker.multiwalker", None)
    with pytest.raises(SettingError, match=r"pip install -e '\.\[sisl\]'"):
        registry.make(registry.task("pettingzoo/multiwalker_v9", {}), [np.random.SeedSequence(0)])


def test_a_suite_names_the_task_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(
        SuiteError, match=r"tasks\.0\.name: python:own_envs:Pet: agents: Pet is no pettingzoo.ParallelEnv"
    ):
        planned(tmp_path, tasks=["python:own_envs:Pet"])


def test_two_tasks_whose_files_would_lie_in_one_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="stands there twice"):
        planned(tmp_path, tasks=[{"name": "python:own_envs:Named", "word": word} for word in ("a b", "a_b")])


def test_an_episode_that_does_not_end_is_refused_before_it_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(random_episodes, "STEPS", 100)
    planned(tmp_path, tasks=["python:own_envs:Endless"])
    assert run([str(tmp_path / "suite.yaml"), "--results", str(tmp_path), "--dry-run"]) == 2
    assert "had not ended after 100 steps: give the task an episode_length" in capsys.readouterr().err


def test_an_episode_that_a_policy_never_ends_is_refused_where_nothing_cuts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random actions may end the episodes of an environment in which a deterministic policy plays for ever."""
    monkeypatch.setattr(parallel, "ENDLESS", 30)
    seeds = np.random.SeedSequence(0).spawn(2)
    for options, refused in (({}, True), ({"episode_length": 40}, False)):
        with closing(
            registry.make(registry.task("python:own_envs:Endless", options), seeds, auto_reset=False)
        ) as batch:
            wanted = pytest.raises(EnvError, match="had not ended: give the task an episode_length; it was at step 30")
            with wanted if refused else nullcontext():
                for _ in range(40):
                    batch.step([np.zeros((2, 1), np.float32)] * 2)


def test_a_slow_environment_is_not_taken_for_endless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(random_episodes, "SECONDS", 0.0)
    checker.first_failure.cache_clear()
    assert checker.first_failure(registry.task(PLAIN, {"timer": 13})) == ""
    checker.first_failure.cache_clear()


def test_an_environment_that_breaks_in_the_plan_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned(tmp_path, tasks=["python:own_envs:NaNReward"])
    assert run([str(tmp_path / "suite.yaml"), "--results", str(tmp_path), "--dry-run"]) == 2
    assert "NaNReward happo seed 0: rewards: that of b at step 5 of seed 0 is nan" in capsys.readouterr().err


def own_method(name: str) -> dict[str, Any]:
    return {"algorithms": {"x": {"algorithm": f"python:test_own:{name}"}}}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tasks": ["python:own_envs:Raising"]}, r"playing: raised KeyError: 'nine' \(.*own_envs\.py:\d+\)"),
        ({"tasks": ["python:own_envs:Exiting"]}, r"playing: raised SystemExit: 3 \(.*own_envs\.py:\d+\)"),
        (own_method("BREAKS"), r"RuntimeError: my step \(.*test_own\.py:\d+\)"),
        (own_method("ONE"), r"TypeError: .* int .* \(.*on_policy\.py:\d+\)"),
        (own_method("SHORT"), r"ValueError: the step's ratio is \[1\], not \[20\]"),
        (own_method("NOTHING_SEEN"), r"critic: 'nothing' is none of: centralised, decentralised"),
        (own_method("TWICE"), r"update: 'twice' is none of: simultaneous, sequential"),
        (own_method("LARGE"), r"cannot run on this machine: DefaultCPU.*"),
    ],
)
def test_what_the_users_code_raises_in_the_plan_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], complaint: str
) -> None:
    (t,) = planned(tmp_path, **changes)
    assert run([str(tmp_path / "suite.yaml"), "--results", str(tmp_path), "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(t.name)
    assert re.search(complaint, line)
    assert ("cannot run" in line) == ("cannot run" in complaint)


def breaks(*_: Any) -> Any:
    raise RuntimeError("my\nstep")


def large(*_: Any) -> Any:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.\nframe #0")


def with_step(step: Any, **choices: str) -> Method:
    told: Any = {"critic": "centralised", "update": "sequential", **choices}
    return Method(partial(OnPolicy, step=step, **told), MINE.settings, "of one's own", can_share_actors=False)


BREAKS, ONE, LARGE = with_step(breaks), with_step(lambda *_: 1), with_step(large)
SHORT = with_step(lambda *_: (torch.ones(1), {}))
NOTHING_SEEN, TWICE = with_step(clip_step, critic="nothing"), with_step(clip_step, update="twice")


def test_the_plan_measures_episodes_of_unknown_length() -> None:
    assert cost.longest_episode(registry.task(PLAIN, {"timer": 9})) == 9


# Identity


def test_a_trial_goes_by_the_versions_of_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (particles,) = planned(tmp_path, tasks=[{"name": "pettingzoo/simple_spread_v3", "continuous_actions": True}])
    config, before = particles.config(), particles.config_hash()
    assert config["versions"].keys() == {"mpe2"}
    assert "mujoco" not in config
    monkeypatch.setattr("bench.tasks.mujoco.mujoco_version", lambda: "9")
    assert particles.config_hash() == before
    monkeypatch.setattr("bench.tasks.pettingzoo.metadata.version", lambda package: "9")
    assert particles.config_hash() != before
    (own,) = planned(tmp_path)
    assert (own.config()["versions"], own.config()["options"]) == (
        {"own_envs": "no version"},
        {"episode_length": None, "size": 3},
    )


def test_a_trial_goes_by_the_version_of_its_algorithm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, own = planned(tmp_path, algorithms={"happo": None, "x": {"algorithm": "python:test_own:MINE"}})
    assert "algorithm_versions" not in {**ours.config(), **status.provenance_of(ours)}
    assert own.config()["algorithm_versions"] == {"test_own": "no version"}
    about, before = status._about(own), own.config_hash()
    monkeypatch.setattr(plugins, "versions", lambda name, group: {"test_own": "2.0"})
    assert own.config_hash() != before
    assert "algorithm_versions {'test_own': 'no version'}, now {'test_own': '2.0'}" in status.differences(about, own)


def test_a_task_of_an_installed_package_goes_by_its_version() -> None:
    assert plugins.versions("python:mpe2.simple_spread_v3:parallel_env", "bench.tasks").keys() == {"mpe2"}


def test_the_files_of_all_packages_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes half a second."""
    plugins.versions("python:own_envs:Meeting", "bench.tasks")
    monkeypatch.setattr(plugins.metadata, "packages_distributions", lambda: pytest.fail("read again"))
    assert plugins.versions("python:own_envs:Another", "bench.tasks") == {"own_envs": "no version"}


def test_a_trial_says_that_it_ran_without_mujoco_and_goes_on_to_the_bit(tmp_path: Path) -> None:
    (whole,) = planned(tmp_path, name="whole")
    (parted,) = planned(tmp_path, name="parted")
    assert worker.run(whole, tmp_path / "whole").status == "done"
    folder = parted.folder(tmp_path / "parted")
    status.register(parted, tmp_path / "parted")
    first = Session(parted, folder)
    first._evaluate_and_save()
    first.train()
    first.train()
    first._evaluate_and_save()
    first.train()  # lost
    assert worker.run(parted, tmp_path / "parted").status == "done"
    tables = [files.read_table(t.folder(tmp_path / t.suite) / "records.parquet") for t in (whole, parted)]
    columns = ["step", "episode", "episode_return", "length"]
    assert tables[0][columns].equals(tables[1][columns])
    about = files.read_json(folder / "trial.json")
    assert about["provenance"]["physics"] == NO_PHYSICS
    assert about["provenance"]["task"] == {"versions": {"own_envs": "no version"}}
    assert "mpe2" in about["provenance"]["versions"]


def test_a_trial_is_told_that_its_environment_went_another_way(tmp_path: Path) -> None:
    (t,) = planned(tmp_path, tasks=["python:own_envs:Chance"])
    status.register(t, tmp_path / "own")
    session = Session(t, t.folder(tmp_path / "own"))
    session._evaluate_and_save()
    session.train()
    session.train()
    session._evaluate_and_save()
    outcome = worker.run(t, tmp_path / "own")
    assert outcome.error.startswith("EnvError: environment 0: its episode went another way when it was played again")


# Entry points


def test_an_entry_point_is_a_task(points: dict[str, EntryPoint], capsys: pytest.CaptureFixture[str]) -> None:
    points["walk/plain"] = EntryPoint("walk/plain", "own_envs:Plain", "bench.tasks")
    assert registry.team(registry.task("walk/plain", {"size": 4})).observation_sizes == (4, 4)
    assert registry.names()[-1] == "walk/plain"
    assert "walk/plain" in str(refused("walk/other"))
    tasks_main.main([])
    assert re.search(r"walk/plain +2 +4 +2 +continuous 1 +-", capsys.readouterr().out)


def of_numpy(name: str, value: str, group: str) -> EntryPoint:
    """An entry point that an installed package might have."""
    return EntryPoint(name, value, group)._for(distribution("numpy"))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["mamujoco/Cat-2x2", "pettingzoo/simple_spread_v3", "python:x"])
def test_an_entry_point_that_takes_a_name_is_unusable_and_the_others_go_on(
    points: dict[str, EntryPoint], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    points[name] = of_numpy(name, "own_envs:Plain", "bench.tasks")
    reason = f"the entry point {name!r} of bench.tasks, of the package numpy, has a name that is taken: names with "
    assert str(refused(name)).startswith(reason)
    assert registry.team(registry.task("pettingzoo/simple_reference_v3", {})).size == 2
    assert tasks_main.main([]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{name} ")]
    assert reason in line


def test_two_entry_points_of_one_name_are_refused_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    two = [of_numpy("walk", f"own_envs:{name}", "some.group") for name in ("Plain", "Early")]
    monkeypatch.setattr(plugins.metadata, "entry_points", lambda group: two)
    plugins.refuse_taken("run", "some.group", (), "name")
    with pytest.raises(
        SettingError, match=r"two entry points of some\.group are called walk, those of numpy and numpy"
    ):
        plugins.refuse_taken("walk", "some.group", (), "name")


def test_an_entry_point_is_an_algorithm(points: dict[str, EntryPoint], tmp_path: Path) -> None:
    points["mine"] = EntryPoint("mine", "test_own:MINE", methods.GROUP)
    (found,) = planned(tmp_path, algorithms={"mine": {"clip": 0.3}})
    assert (found.method.name, found.settings.clip) == ("mine", 0.3)  # type: ignore[union-attr]
    with pytest.raises(SuiteError, match=r"unknown algorithm 'yours'; valid: ippo, .*, mine, python:"):
        planned(tmp_path, algorithms={"yours": None})


def test_an_entry_point_cannot_take_an_algorithms_name(points: dict[str, EntryPoint]) -> None:
    points["happo"] = of_numpy("happo", "test_own:MINE", methods.GROUP)
    with pytest.raises(
        SettingError, match=r"'happo' of bench\.algorithms, of the package numpy, .* happo is built into the benchmark"
    ):
        methods.method("happo")
    assert methods.method("ippo") is METHODS["ippo"]


# Algorithms


def test_a_method_of_ones_own_is_built_with_its_settings(tmp_path: Path) -> None:
    (found,) = planned(tmp_path, algorithms={"label": {"algorithm": "python:test_own:MINE", "clip": 0.3}})
    assert (found.label, found.method.name) == ("label", "python:test_own:MINE")
    assert found.method.name not in METHODS
    learner, _ = setup.learner_and_batch(found)
    assert learner.settings.clip == 0.3  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["happo", "python:test_own:MINE", "python:test_own:ONE"])
def test_a_trial_travels_with_its_method_although_that_may_hold_a_lambda(tmp_path: Path, name: str) -> None:
    (found,) = planned(tmp_path, algorithms={"label": {"algorithm": name}})
    sent = pickle.dumps(found)
    methods._own.cache_clear()  # as in a worker, which has not read the suite
    back = pickle.loads(sent)
    assert (back, hash(back), back.config_hash()) == (found, hash(found), found.config_hash())
    assert (back.method.name, back.method.make) == (name, found.method.make)


@pytest.mark.usefixtures("sigterm_as_before")
def test_a_method_that_workers_cannot_import_fails_its_own_trials_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "only_here.py").write_text(
        f"import os\nassert os.getpid() == {os.getpid()}, 'not in workers'\nfrom test_own import MINE\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    planned(tmp_path, algorithms={"x": {"algorithm": "python:only_here:MINE"}, "happo": None})
    assert run([str(tmp_path / "suite.yaml"), "--results", str(tmp_path), "--jobs", "2"]) == 1
    out, err = capsys.readouterr()
    assert "1 of 2 trials failed" in err
    assert re.search(r"failed .* x seed 0  .*importing only_here raised AssertionError: not in workers", out)
    assert re.search(r"done .* happo seed 0", out)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("python:test_own", "is not of the form"),
        ("python:test_own:NOTHING", "test_own has no NOTHING"),
        ("python:no_such_module:M", "cannot import no_such_module"),
        ("python:test_own:SUITE", "is no algorithms.registry.Method but dict"),
        ("python:test_own:UNSIZED", "its settings must be a dataclass with envs"),
        ("python:test_own:THAWED", "its settings Thawed must be a frozen dataclass"),
        ("python:test_own:UNCHECKED", "its setting target must have a type that is checked, such as algorithms.config"),
    ],
)
def test_what_is_no_method_is_refused(tmp_path: Path, name: str, complaint: str) -> None:
    with pytest.raises(SuiteError, match=rf"algorithms\.x\.algorithm: .*{re.escape(complaint)}"):
        planned(tmp_path, algorithms={"x": {"algorithm": name}})


UNSIZED = Method(MINE.make, own_envs.Pet, "settings that are none", True)  # type: ignore[arg-type]


@dataclass
class Thawed:
    envs: int = 1
    rollout_length: int = 1


@dataclass(frozen=True)
class Unchecked(ClipSettings):
    target: float = 0.01


@dataclass(frozen=True, kw_only=True)
class Required(ClipSettings):
    target: Positive


THAWED = Method(MINE.make, Thawed, "settings that may change", True)  # type: ignore[arg-type]
UNCHECKED = Method(MINE.make, Unchecked, "a setting without bounds", True)
REQUIRED = Method(MINE.make, Required, "a setting without a default", True)


def test_a_setting_without_a_default_is_missed_where_it_is_not_given(tmp_path: Path) -> None:
    asked = {"algorithm": "python:test_own:REQUIRED"}
    with pytest.raises(SuiteError, match=r"algorithms\.x.*target: missing: this setting has no default$"):
        planned(tmp_path, algorithms={"x": asked})
    (found,) = planned(tmp_path, algorithms={"x": asked | {"target": 2}})
    assert found.settings.target == 2  # type: ignore[union-attr]


# examples/

EXAMPLES = ROOT / "examples"


def test_the_examples_are_short() -> None:
    lines = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    assert {"meeting.py", "early.py"} <= lines.keys()
    assert {name: count for name, count in lines.items() if count > 50} == {}


def command(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of examples/ to start in."""
    folder = tmp_path_factory.mktemp("copy") / "examples"
    return Path(shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("results", "__pycache__")))


def test_the_environment_of_the_examples_keeps_its_word(examples: Path) -> None:
    said = command(examples, "bench.check", "python:meeting:Meeting", "--set", "robots=3").splitlines()
    assert [line for line in said[1:] if not line.startswith(("ok", "speed"))] == []


@pytest.mark.long
def test_the_suite_of_the_examples_runs_in_workers_that_find_its_modules(examples: Path) -> None:
    few = ("--set", "steps=400", "--set", "evaluate.every=200", "--set", "evaluate.episodes=1")
    command(examples, "bench.run", "own.yaml", "--jobs", "2", *few)
    records = files.read_table(examples / "results" / "own" / "records.parquet")
    assert {*zip(records["task"], records["algorithm"], records["seed"], strict=True)} == {
        ("python:meeting:Meeting:robots=3", label, seed) for label in ("happo", "early") for seed in (0, 1)
    }
    assert "early" in command(examples, "bench.report", "results/own")


def test_the_example_from_python_trains_compares_and_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    example = import_module("train_from_python")
    monkeypatch.setattr(example, "TASK", {"name": example.TASK, "episode_length": 50})
    results = example.train_all(tmp_path, steps=100, episodes=1, envs=2, rollout_length=25, hidden_sizes=[8])
    table = example.compare(results)
    assert list(table.index) == ["happo", "mappo"]
    assert (table["min"] <= table["mean"]).all()
    example.plot(results, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_factory_is_told_what_it_asks_for_also_where_the_name_is_one_of_ours(tmp_path: Path) -> None:
    task = registry.task("python:own_envs:Length", {"episode_length": 7})
    assert (task.label, task.episode_length) == ("python:own_envs:Length:episode_length=7", None)
    with closing(registry.make(task, np.random.SeedSequence(0).spawn(1))) as made:
        for _ in range(7):
            assert not made.ended.size
            made.step([np.zeros((1, 1), np.float32)] * 2)
    assert made.ended.size
    with pytest.raises(SettingError, match=r"missing: python:own_envs:Length needs it; valid: episode_length$"):
        registry.task("python:own_envs:Length", {})
    with pytest.raises(SettingError, match=r"None \(null\) cannot be told to python:own_envs:Length, which takes it"):
        registry.task("python:own_envs:Length", {"episode_length": None})


def test_a_trial_whose_environments_cannot_be_closed_is_done_all_the_same(tmp_path: Path) -> None:
    (t,) = planned(tmp_path, tasks=["python:own_envs:Opening"])
    assert worker.run(t, tmp_path / "own").status == "done"


def test_a_trial_closes_what_it_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (t,) = planned(tmp_path, tasks=["python:own_envs:Counted"])
    assert worker.run(t, tmp_path / "own").status == "done"
    assert own_envs.Counted.open == 0
    monkeypatch.setattr(Session, "train", lambda self: 1 / 0)
    assert worker.run(t, tmp_path / "fails").status == "failed"
    assert own_envs.Counted.open == 0
