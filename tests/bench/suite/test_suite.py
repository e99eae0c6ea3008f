"""Suites and tasks: what is refused, in which words, and what a valid suite becomes."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

import algorithms
from algorithms import METHODS, SettingError
from bench import run
from bench.envs.robots import ROBOTS
from bench.suite.model import SuiteError
from bench.suite.overrides import only
from bench.suite.resolving import load, trials
from bench.suite.trial import Trial
from bench.tasks import registry

SMALL: dict[str, Any] = {
    "name": "demo",
    "steps": 400,
    "seeds": 2,
    "evaluate": {"every": 200, "episodes": 2},
    "tasks": ["mamujoco/Hopper-3x1", {"name": "mamujoco/HalfCheetah-2x3", "episode_length": 50}],
    "algorithms": {"happo": None, "clipped": {"algorithm": "mappo", "clip": 0.1}, "maddpg": {"batch_size": 16}},
    "defaults": {"envs": 2, "rollout_length": 50, "hidden_sizes": [16]},
}


def document(**changes: Any) -> dict[str, Any]:
    """A small valid suite with some keys changed; None takes one out."""
    changed = copy.deepcopy(SMALL) | changes
    return {key: value for key, value in changed.items() if value is not None}


def write(folder: Path, content: dict[str, Any] | str | None = None, **changes: Any) -> Path:
    path = folder / "suite.yaml"
    text = content if isinstance(content, str) else yaml.safe_dump(content or document(**changes), sort_keys=False)
    path.write_text(text)
    return path


def made(folder: Path, *overrides: str, **changes: Any) -> list[Trial]:
    path = write(folder, **changes)
    return trials(load(path, overrides)[0], path)


def refusal(folder: Path, capsys: pytest.CaptureFixture[str], path: Path, *arguments: str) -> str:
    """What bench.run says of a suite that it refuses: one line, exit status 2, nothing printed or written."""
    results = folder / "results"
    status = run.main([str(path), "--results", str(results), *arguments])
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert len(err) <= 301
    assert not results.exists()
    return err


def says(message: str, *parts: str) -> None:
    missing = [part for part in parts if part not in message]
    assert not missing, f"{message!r} lacks {missing}"


# Tasks

ROBOTIC = [name for name in registry.names() if name.startswith("mamujoco/")]


def test_there_is_a_task_for_every_partition() -> None:
    partitions = {
        "Ant": ["2x4", "2x4d", "4x2", "8x1", "1x8"],
        "HalfCheetah": ["2x3", "3x2", "6x1", "1x6"],
        "Hopper": ["3x1", "1x3"],
        "Walker2d": ["2x3", "3x2", "6x1", "1x6"],
        "Humanoid": ["9|8", "17x1", "1x17"],
        "HumanoidStandup": ["9|8", "17x1", "1x17"],
        "Swimmer": ["2x1", "1x2"],
        "Reacher": ["2x1", "1x2"],
        "Pusher": ["3p", "1x7"],
        "CoupledHalfCheetah": ["1p1", "1x12"],
        "ManySegmentSwimmer": ["10x2", "1x20"],
        "ManySegmentAnt": ["2x3", "1x6"],
    }
    assert [f"mamujoco/{robot}-{cut}" for robot, cuts in partitions.items() for cut in cuts] == ROBOTIC


@pytest.mark.parametrize("name", [*ROBOTIC, "mamujoco/ManySegmentSwimmer-4x3", "mamujoco/ManySegmentAnt-5x1"])
def test_every_task_can_be_made(name: str) -> None:
    agents = {"9|8": 2, "3p": 3, "1p1": 2}
    _, _, partition = name.rpartition("-")
    team = registry.team(registry.task(name, {}))
    assert team.size == (agents[partition] if partition in agents else int(partition.split("x")[0]))


def test_a_task_at_its_defaults_is_labelled_by_its_name() -> None:
    defaults = {"observation": "local", "obsk": 1, "episode_length": 1000}
    assert registry.task("mamujoco/Ant-2x4", {}).label == "mamujoco/Ant-2x4"
    assert registry.task("mamujoco/Ant-2x4", defaults) == registry.task("mamujoco/Ant-2x4", {})


def test_a_label_names_what_is_not_at_its_default() -> None:
    task = registry.task("mamujoco/Ant-2x4", {"episode_length": 50, "obsk": 0})
    assert task.label == "mamujoco/Ant-2x4:obsk=0:episode_length=50"
    assert registry.task("mamujoco/Ant-2x4", {"observation": "paper"}).label == "mamujoco/Ant-2x4:observation=paper"


def test_a_label_names_no_episode_length_that_is_the_robots_own() -> None:
    assert registry.task("mamujoco/Reacher-2x1", {"episode_length": 50}).label == "mamujoco/Reacher-2x1"
    assert registry.task("mamujoco/Reacher-2x1", {"episode_length": 1000}).label.endswith("-2x1:episode_length=1000")
    assert registry.task("mamujoco/Pusher-3p", {"episode_length": 50}).label == "mamujoco/Pusher-3p:episode_length=50"


@pytest.mark.parametrize("name", ["", "Hopper-3x1", "brax/Hopper-3x1", "/Hopper-3x1", "mamujoco"])
def test_a_task_of_an_unknown_kind_is_refused_with_the_form_of_a_name_and_the_robots(name: str) -> None:
    with pytest.raises(SettingError) as refused:
        registry.task(name, {})
    says(str(refused.value), repr(name), "mamujoco/<robot>-<partition>", *ROBOTS, "python -m bench.tasks")


@pytest.mark.parametrize("robot", ["", "Cheetah", "hopper", "Humanoid9"])
def test_an_unknown_robot_is_refused_with_the_robots_that_there_are(robot: str) -> None:
    with pytest.raises(SettingError) as refused:
        registry.task(f"mamujoco/{robot}-2x3", {})
    says(str(refused.value), f"unknown robot {robot!r}", *ROBOTS, "python -m bench.tasks")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mamujoco/halfcheetah-2x3", "HalfCheetah-2x3"),
        ("Mamujoco/HalfCheetah-2x3", "HalfCheetah-2x3"),
        ("Hopper-3x1", "Hopper-3x1"),
        ("MAMUJOCO/MANYSEGMENTANT-50x1", "ManySegmentAnt-50x1"),
        ("mamujoco/Cheetah-6x1", "HalfCheetah-6x1"),
        ("mamujoco/Humanoidstandup-9|8", "HumanoidStandup-9|8"),
    ],
)
def test_a_name_that_is_nearly_right_is_refused_with_the_right_one(name: str, meant: str) -> None:
    with pytest.raises(SettingError, match=f"did you mean mamujoco/{re.escape(meant)}[?]"):
        registry.task(name, {})


@pytest.mark.parametrize("name", ["mamujoco/Horse-2x3", "Mamujoco/HalfCheetah-9x9", "", "-", "/"])
def test_a_name_that_resembles_no_task_is_refused_without_a_guess(name: str) -> None:
    with pytest.raises(SettingError) as refused:
        registry.task(name, {})
    assert "did you mean" not in str(refused.value)


@pytest.mark.parametrize("partition", ["101x1", "1x101", "11x10"])
def test_too_many_segments_are_refused_with_their_number(partition: str) -> None:
    total = {"101x1": 101, "1x101": 101, "11x10": 110}[partition]
    with pytest.raises(SettingError, match=f"{total} segments exceed 100"):
        registry.task(f"mamujoco/ManySegmentAnt-{partition}", {})


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Ant-2x4e", ["'2x4e'", "Ant-2x4, ", "Ant-2x4d, ", "Ant-4x2, ", "Ant-8x1, ", "Ant-1x8"]),
        ("Hopper-3x1-v1", ["'3x1-v1'", "Hopper-3x1, mamujoco/Hopper-1x3"]),
        ("Hopper-3x01", ["'3x01'", "Hopper-3x1, mamujoco/Hopper-1x3"]),
        ("Hopper", ["''", "Hopper-3x1, mamujoco/Hopper-1x3"]),
        ("Humanoid-9x8", ["'9x8' of Humanoid: 9 x 8 joints are 72, it has 17", "Humanoid-9|8, mamujoco/Humanoid-17x1"]),
        (
            "HalfCheetah-4x2",
            ["'4x2' of HalfCheetah: 4 x 2 joints are 8, it has 6", "HalfCheetah-2x3", "HalfCheetah-6x1"],
        ),
    ],
)
def test_an_unknown_partition_is_refused_with_those_of_its_robot(name: str, parts: list[str]) -> None:
    with pytest.raises(SettingError) as refused:
        registry.task(f"mamujoco/{name}", {})
    says(str(refused.value), "unknown partition", *parts)
    others = [f"mamujoco/{robot}-" for robot in ROBOTS if robot != name.split("-")[0]]
    assert not any(other in str(refused.value) for other in others)


@pytest.mark.parametrize("robot", ["ManySegmentSwimmer", "ManySegmentAnt"])
@pytest.mark.parametrize(
    "partition", ["0x2", "2x0", "1x1", "101x1", "1x101", "11x10", "99999x99999", "2", "1٠x2", "2x3x1"]
)
def test_too_few_or_too_many_segments_are_refused_with_how_many_there_may_be(robot: str, partition: str) -> None:
    with pytest.raises(SettingError) as refused:
        registry.task(f"mamujoco/{robot}-{partition}", {})
    says(str(refused.value), f"unknown partition {partition!r} of {robot}", "any NxM", "2 to 100 segments in all")


@pytest.mark.parametrize("partition", ["1x2", "2x1", "100x1", "1x100", "4x25", "10x10"])
def test_a_robot_of_2_to_100_segments_is_known(partition: str) -> None:
    assert (
        registry.task(f"mamujoco/ManySegmentSwimmer-{partition}", {}).label
        == f"mamujoco/ManySegmentSwimmer-{partition}"
    )


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("Hopper-3x1", "Hopper-1x3"),
        ("Humanoid-9|8", "Humanoid-1x17"),
        ("CoupledHalfCheetah-1p1", "CoupledHalfCheetah-1x12"),
        ("ManySegmentSwimmer-4x3", "ManySegmentSwimmer-1x12"),
    ],
)
def test_no_depth_of_observation_is_refused_with_the_task_that_it_would_be(name: str, whole: str) -> None:
    with pytest.raises(SettingError) as refused:
        registry.task(f"mamujoco/{name}", {"obsk": None})
    assert refused.value.key == "obsk"
    says(str(refused.value), "null", "one agent of the whole robot", f"task mamujoco/{whole}", "from 0 to 100")


@pytest.mark.parametrize("obsk", [0, 1, None])
def test_obsk_is_refused_for_a_whole_robot(obsk: int | None) -> None:
    with pytest.raises(SettingError, match="has no meaning for mamujoco/Hopper-1x3, whose one agent") as refused:
        registry.task("mamujoco/Hopper-1x3", {"obsk": obsk})
    assert refused.value.key == "obsk"


@pytest.mark.parametrize("mode", ["global", "paper"])
def test_obsk_is_refused_where_it_has_no_meaning(mode: str) -> None:
    with pytest.raises(SettingError, match=mode) as refused:
        registry.task("mamujoco/Hopper-3x1", {"observation": mode, "obsk": 1})
    assert refused.value.key == "obsk"


@pytest.mark.parametrize(
    ("options", "key", "hint"),
    [
        ({"observation": "Local"}, "observation", "local, global, paper"),
        ({"observation": None}, "observation", "local, global, paper"),
        ({"observation": ["local"]}, "observation", "local, global, paper"),
        ({"obsk": -1}, "obsk", "-1 is out of range: must be from 0 to 100"),
        ({"obsk": 101}, "obsk", "101 is out of range: must be from 0 to 100"),
        ({"obsk": 10**12}, "obsk", "from 0 to 100"),
        ({"obsk": True}, "obsk", "whole number"),
        ({"obsk": 1.0}, "obsk", "whole number"),
        ({"episode_length": 0}, "episode_length", "0 is out of range: must be from 1 to 1000000000"),
        ({"episode_length": 10**23}, "episode_length", "from 1 to 1000000000"),
        ({"episode_length": "50"}, "episode_length", "whole number"),
        ({"episode_lenght": 50}, "episode_lenght", "observation, obsk, episode_length"),
    ],
)
def test_a_bad_option_is_refused_with_what_is_valid(options: dict[str, Any], key: str, hint: str) -> None:
    with pytest.raises(SettingError, match=hint) as refused:
        registry.task("mamujoco/Hopper-3x1", options)
    assert refused.value.key == key


# What a suite becomes


def test_trials_are_seeds_by_tasks_by_algorithms_so_that_half_a_suite_is_a_complete_smaller_one(tmp_path: Path) -> None:
    cheetah = "mamujoco/HalfCheetah-2x3:episode_length=50"
    assert [(t.task.label, t.label, t.seed) for t in made(tmp_path)] == [
        (task, label, seed)
        for seed in (0, 1)
        for task in ("mamujoco/Hopper-3x1", cheetah)
        for label in ("happo", "clipped", "maddpg")
    ]


def test_a_label_may_name_another_algorithm(tmp_path: Path) -> None:
    trial = next(t for t in made(tmp_path) if t.label == "clipped")
    assert trial.method is METHODS["mappo"]
    assert trial.settings == METHODS["mappo"].settings(envs=2, rollout_length=50, hidden_sizes=(16,), clip=0.1)  # type: ignore[call-arg]


def test_an_algorithms_own_settings_win_over_the_defaults(tmp_path: Path) -> None:
    both = {"happo": {"gamma": 0.9, "hidden_sizes": [8, 8]}, "mappo": None}
    happo, mappo = made(tmp_path, tasks=["mamujoco/Hopper-3x1"], seeds=1, algorithms=both)
    one, other = (asdict(trial.settings) for trial in (happo, mappo))
    assert (one["gamma"], one["hidden_sizes"]) == (0.9, (8, 8))
    assert (other["gamma"], other["hidden_sizes"]) == (0.99, (16,))


def test_a_default_goes_only_to_algorithms_that_have_it(tmp_path: Path) -> None:
    defaults = SMALL["defaults"] | {"clip": 0.3}
    found = {t.label: t.settings for t in made(tmp_path, defaults=defaults)}
    assert found["happo"].clip == 0.3  # type: ignore[union-attr]
    assert found["clipped"].clip == 0.1  # type: ignore[union-attr]
    assert not hasattr(found["maddpg"], "clip")


def test_an_own_value_hides_a_default_that_this_algorithm_could_not_take(tmp_path: Path) -> None:
    found = made(
        tmp_path,
        tasks=[{"name": "mamujoco/Hopper-3x1", "observation": "global"}],
        seeds=1,
        algorithms={"mappo": None, "happo": {"share_actors": False}},
        defaults=SMALL["defaults"] | {"share_actors": True},
    )
    assert [t.settings.share_actors for t in found] == [True, False]  # type: ignore[union-attr]


def test_first_seed_moves_the_seeds(tmp_path: Path) -> None:
    assert {t.seed for t in made(tmp_path, first_seed=1000)} == {1000, 1001}


def test_every_method_can_stand_in_a_suite(tmp_path: Path) -> None:
    labels = [t.label for t in made(tmp_path, algorithms=dict.fromkeys(METHODS), seeds=1)]
    assert labels == [*METHODS, *METHODS]


def test_numbers_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    text = yaml.safe_dump(document(algorithms=None)) + "algorithms: {happo: {actor_lr: 5e-4, critic_lr: 1e-3}}\n"
    path = write(tmp_path, text)
    settings = trials(load(path)[0], path)[0].settings
    assert (settings.actor_lr, settings.critic_lr) == (5e-4, 1e-3)  # type: ignore[union-attr]


# --set


def test_set_changes_a_value_like_the_file_would(tmp_path: Path) -> None:
    overrides = ["algorithms.happo.clip=0.05", "steps=800", "tasks.1.episode_length=20", "defaults.hidden_sizes=[8]"]
    found = made(tmp_path, *overrides)
    happo = next(t for t in found if t.label == "happo")
    assert (happo.settings.clip, happo.steps, happo.settings.hidden_sizes) == (0.05, 800, (8,))  # type: ignore[union-attr]
    assert found[-1].task.options.episode_length == 20  # type: ignore[attr-defined]


def test_set_gives_an_option_to_a_task_that_has_only_a_name(tmp_path: Path) -> None:
    first = made(tmp_path, "tasks.0.obsk=2", "tasks.0.episode_length=30")[0]
    assert first.task.label == "mamujoco/Hopper-3x1:obsk=2:episode_length=30"


def test_set_makes_the_mappings_on_the_way(tmp_path: Path) -> None:
    text = yaml.safe_dump(document(defaults=None))
    path = write(tmp_path, text)
    suite, _ = load(path, ["defaults.envs=2", "defaults.rollout_length=50"])
    assert suite.defaults == {"envs": 2, "rollout_length": 50}


def test_the_last_set_wins(tmp_path: Path) -> None:
    assert made(tmp_path, "seeds=3", "seeds=1")[-1].seed == 0


def test_set_changes_only_the_place_it_names_where_yaml_shares_a_mapping(tmp_path: Path) -> None:
    text = yaml.safe_dump(document(algorithms=None)) + "algorithms: {happo: &both {gamma: 0.9}, mappo: *both}\n"
    path = write(tmp_path, text)
    happo, mappo = trials(load(path, ["algorithms.happo.gamma=0.8", "seeds=1"])[0], path)[:2]
    assert (happo.settings.gamma, mappo.settings.gamma) == (0.8, 0.9)


# --only


def test_only_takes_the_part_that_every_selection_names(tmp_path: Path) -> None:
    chosen = only(made(tmp_path), ["algorithm=happo,maddpg", "seed=1", "task=mamujoco/Hopper-3x1"])
    assert [(t.task.label, t.label, t.seed) for t in chosen] == [
        ("mamujoco/Hopper-3x1", "happo", 1),
        ("mamujoco/Hopper-3x1", "maddpg", 1),
    ]


def test_only_knows_a_task_by_name_and_by_label(tmp_path: Path) -> None:
    found = made(tmp_path)
    by_name = only(found, ["task=mamujoco/HalfCheetah-2x3"])
    assert by_name == only(found, ["task=mamujoco/HalfCheetah-2x3:episode_length=50"])
    assert len(by_name) == 6


def test_only_knows_a_task_by_the_end_of_its_name(tmp_path: Path) -> None:
    found = made(tmp_path)
    assert only(found, ["task=Hopper-3x1"]) == only(found, ["task=mamujoco/Hopper-3x1"])
    assert only(found, ["task=HalfCheetah-2x3"]) == only(found, ["task=mamujoco/HalfCheetah-2x3"])


def test_only_knows_a_label_with_a_list(tmp_path: Path) -> None:
    tasks = [{"name": "python:own_envs:Shaped", "shape": shape} for shape in ([1, 2], [3, 4])]
    found = made(tmp_path, tasks=tasks)
    label = found[0].task.label
    for named in (label, label.removeprefix("python:own_envs:")):
        assert {t.task.label for t in only(found, [f"task={named}"])} == {label}


def test_only_takes_a_label_for_that_task_alone(tmp_path: Path) -> None:
    tasks: list[Any] = ["mamujoco/Hopper-3x1", {"name": "mamujoco/Hopper-3x1", "episode_length": 50}]
    found = made(tmp_path, tasks=tasks)
    assert {t.task.label for t in only(found, ["task=mamujoco/Hopper-3x1"])} == {"mamujoco/Hopper-3x1"}


def test_an_end_that_several_tasks_have_names_none_of_them(tmp_path: Path) -> None:
    found = made(tmp_path, tasks=["mamujoco/Walker2d-2x3", "mamujoco/HalfCheetah-2x3"])
    with pytest.raises(SuiteError, match="no task '2x3' left to choose from; valid: mamujoco/Walker2d-2x3, mamujoco/H"):
        only(found, ["task=2x3"])


# The hash


def hashes(folder: Path, *overrides: str, **changes: Any) -> dict[tuple[str, str], str]:
    return {(t.task.name, t.label): t.config_hash() for t in made(folder, *overrides, **changes)}


def test_the_hash_is_twelve_hex_digits(tmp_path: Path) -> None:
    assert all(len(h) == 12 and int(h, 16) >= 0 for h in hashes(tmp_path).values())


def test_the_hash_is_the_same_for_all_seeds(tmp_path: Path) -> None:
    found = made(tmp_path, seeds=3)
    assert len({t.config_hash() for t in found if t.label == "happo" and "Hopper" in t.task.name}) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": 7},
        {"first_seed": 1000},
        {"name": "other"},
        {"tasks": list(reversed(SMALL["tasks"]))},
        {"algorithms": dict(reversed(SMALL["algorithms"].items()))},
        {"defaults": dict(reversed(SMALL["defaults"].items()))},
        {"evaluate": {"episodes": 2, "every": 200}},
        {"defaults": SMALL["defaults"] | {"gamma": 0.99}},
        {"algorithms": SMALL["algorithms"] | {"hatrpo": None}},
    ],
)
def test_the_hash_stays_where_no_number_can_change(tmp_path: Path, changes: dict[str, Any]) -> None:
    before, after = hashes(tmp_path), hashes(tmp_path, **changes)
    assert all(after[key] == value for key, value in before.items())


def test_the_hash_stays_when_set_says_what_is_there_already(tmp_path: Path) -> None:
    same = ["algorithms.clipped.clip=1e-1", "steps=400", "defaults.hidden_sizes=[16]", "algorithms.happo.gamma=0.99"]
    assert hashes(tmp_path, *same) == hashes(tmp_path)


def test_a_whole_number_for_a_real_setting_has_the_hash_of_the_real_number(tmp_path: Path) -> None:
    assert hashes(tmp_path, "defaults.gamma=1") == hashes(tmp_path, "defaults.gamma=1.0")


@pytest.mark.parametrize(
    "override",
    ["steps=800", "evaluate.every=100", "evaluate.episodes=3", "defaults.hidden_sizes=[17]", "defaults.gamma=0.98"],
)
def test_the_hash_changes_with_what_all_trials_share(tmp_path: Path, override: str) -> None:
    before, after = hashes(tmp_path), hashes(tmp_path, override)
    assert all(after[key] != value for key, value in before.items())


@pytest.mark.parametrize("key", list(METHODS["hatrpo"].settings.__dataclass_fields__))
def test_the_hash_changes_with_every_setting(tmp_path: Path, key: str) -> None:
    other = {"hidden_sizes": "[32]", "envs": "1", "rollout_length": "25", "share_actors": "true", "value_clip": "0.2"}
    other |= {"order": "fixed", "factor_bound": "2", "kl_budget": "joint"}
    method = "hatrpo" if key in ("order", "factor_bound") else "matrpo"
    default = METHODS[method].settings.__dataclass_fields__[key].default
    value = other.get(key) or str(default + 1 if isinstance(default, int) else default * 0.5)  # type: ignore[operator]
    where = {"algorithms": {method: None}, "tasks": ["mamujoco/Hopper-3x1"]}
    if key == "share_actors":
        where["tasks"] = [{"name": "mamujoco/Hopper-3x1", "observation": "global"}]  # type: ignore[list-item]
    assert hashes(tmp_path, f"algorithms.{method}.{key}={value}", **where) != hashes(tmp_path, **where)


@pytest.mark.parametrize("override", ["obsk=0", "observation=global", "episode_length=51"])
def test_the_hash_changes_with_a_task_option(tmp_path: Path, override: str) -> None:
    before, after = hashes(tmp_path), hashes(tmp_path, f"tasks.1.{override}")
    changed = {name for (name, label), value in before.items() if after[name, label] != value}
    assert changed == {"mamujoco/HalfCheetah-2x3"}


def test_the_hash_changes_with_the_mujoco_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = hashes(tmp_path)
    monkeypatch.setattr("bench.tasks.mujoco.mujoco_version", lambda: "3.4.0")
    assert all(hashes(tmp_path)[key] != value for key, value in before.items())


def test_the_identity_of_a_mujoco_trial_stays(tmp_path: Path) -> None:
    """Results that are stored go by it."""
    first = made(tmp_path)[0]
    assert first.config() | {"settings": {}} == {
        "task": "mamujoco/Hopper-3x1",
        "options": {"observation": "local", "obsk": 1, "episode_length": 1000},
        "algorithm": "happo",
        "settings": {},
        "steps": 400,
        "evaluate": {"every": 200, "episodes": 2},
        "evaluation_seeds": "suite",
        "numerics": algorithms.NUMERICS,
        "mujoco": metadata.version("mujoco"),
    }
    text = json.dumps(first.config(), sort_keys=True, separators=(",", ":"))
    assert first.config_hash() == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_the_hash_tells_two_algorithms_apart(tmp_path: Path) -> None:
    found = hashes(tmp_path, algorithms={"happo": None, "mappo": None})
    assert len({*found.values()}) == len(found)


# What is refused

LISTED = "`python -m bench.tasks` lists them"


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        # names that do not exist
        ({"tasks": ["Hopper-3x1"]}, ["tasks.0.name", "'Hopper-3x1'", "did you mean mamujoco/Hopper-3x1?", LISTED]),
        ({"tasks": ["Nope-3x1"]}, ["tasks.0.name", "'Nope-3x1'", "mamujoco/<robot>-<partition>", LISTED]),
        ({"tasks": ["mamujoco/Cheetah-6x1"]}, ["tasks.0.name", "'Cheetah'", "'mamujoco/Cheetah-6x1'", LISTED]),
        ({"tasks": ["mamujoco/Hopper-6x1"]}, ["tasks.0.name", "'6x1'", "mamujoco/Hopper-3x1, mamujoco/Hopper-1x3"]),
        ({"tasks": ["mamujoco/HalfCheetah-4x2"]}, ["tasks.0.name", "4 x 2 joints are 8, it has 6"]),
        ({"tasks": ["mamujoco/ManySegmentSwimmer-0x2"]}, ["tasks.0.name", "'0x2'", "2 to 100 segments"]),
        ({"tasks": ["mamujoco/Hopper-3x1", {"obsk": 1}]}, ["tasks.1.name", "needs a name", LISTED]),
        ({"tasks": [{"name": 5}]}, ["tasks.0.name", LISTED]),
        ({"algorithms": {"hapo": None}}, ["algorithms.hapo", "'hapo'", *METHODS]),
        ({"algorithms": {"mine": {"algorithm": "ppo"}}}, ["algorithms.mine.algorithm", "'ppo'", *METHODS]),
        ({"algorithms": {"mine": {"algorithm": 3}}}, ["algorithms.mine.algorithm", "3", *METHODS]),
        # unknown keys
        ({"step": 400}, ["step:", "did you mean steps?", "evaluate", "defaults"]),
        ({"colour": 1}, ["colour:", "unknown key", "name, steps, seeds"]),
        ({"strategy": 1}, ["strategy:", "unknown key", "name, steps, seeds"]),
        ({"evaluate": {"every": 200, "episode": 2}}, ["evaluate.episode:", "did you mean episodes?"]),
        ({"evaluate": {"every": 200}}, ["evaluate.episodes:", "missing", "needed: every, episodes"]),
        ({"evaluate": {"every": 200, "episodes": 2, "seed": 1}}, ["evaluate.seed", "every, episodes"]),
        ({"algorithms": {"happo": {"clipp": 0.1}}}, ["algorithms.happo.clipp", "actor_lr", "clip"]),
        ({"algorithms": {"hatrpo": {"clip": 0.1}}}, ["algorithms.hatrpo.clip", "delta"]),
        ({"defaults": SMALL["defaults"] | {"gama": 1}}, ["defaults.gama", "did you mean gamma?"]),
        ({"defaults": SMALL["defaults"] | {"delta": 0.1}}, ["defaults.delta", "no algorithm of this suite", "clip"]),
        ({"tasks": [{"name": "mamujoco/Hopper-3x1", "obk": 1}]}, ["tasks.0.obk", "observation, obsk"]),
        (
            {"tasks": [{"name": "mamujoco/Hopper-3x1", "agent_obsk": None}]},
            ["tasks.0.agent_obsk", "unknown setting 'agent_obsk'", "valid: observation, obsk, episode_length"],
        ),
        # values of another type
        ({"seeds": True}, ["seeds:", "True", "whole number"]),
        ({"steps": "400"}, ["steps:", "'400'", "whole number"]),
        ({"steps": 1e6}, ["steps:", "1000000.0", "write 1000000"]),
        ({"steps": 400.5}, ["steps:", "400.5"]),
        ({"seeds": 0}, ["seeds:", "0", "1"]),
        ({"seeds": -1}, ["seeds:", "-1", "1"]),
        ({"first_seed": -1}, ["first_seed:", "-1", "0"]),
        ({"evaluate": 5}, ["evaluate:", "5"]),
        ({"evaluate": {"every": "x", "episodes": 2}}, ["evaluate.every:", "'x'"]),
        ({"name": 5}, ["name:", "5"]),
        ({"tasks": "mamujoco/Hopper-3x1"}, ["tasks:", "list"]),
        ({"tasks": [5]}, ["tasks.0", "5"]),
        ({"algorithms": ["happo"]}, ["algorithms:", "mapping"]),
        ({"algorithms": {"happo": 5}}, ["algorithms.happo", "5"]),
        ({"algorithms": {"strong": 5}}, ["algorithms.strong", "5"]),
        ({"algorithms": {"happo": {"envs": True}}}, ["algorithms.happo.envs", "True", "whole number"]),
        ({"algorithms": {"happo": {"gamma": "0.9"}}}, ["algorithms.happo.gamma", "'0.9'", "number"]),
        ({"algorithms": {"happo": {"gamma": 1.5}}}, ["algorithms.happo.gamma", "1.5", "0 to 1"]),
        ({"algorithms": {"happo": {"hidden_sizes": 16}}}, ["algorithms.happo.hidden_sizes", "16", "[128, 128]"]),
        ({"algorithms": {"happo": {"hidden_sizes": []}}}, ["algorithms.happo.hidden_sizes", "[]"]),
        ({"defaults": {"envs": 2.0}}, ["defaults.envs", "2.0", "whole number"]),
        ({"defaults": [1]}, ["defaults:", "[1]"]),
        # names that cannot be folders
        ({"name": "../up"}, ["name:", "'../up'", "letter or digit"]),
        ({"name": ""}, ["name:", "''", "letter or digit"]),
        ({"name": "a/b"}, ["name:", "'a/b'"]),
        ({"name": "a" * 101}, ["name:", "1 to 100 letters"]),
        ({"seeds": 10**8}, ["seeds:", "100000000"]),
        (
            {"algorithms": {"a b": {"algorithm": "happo"}}},
            ["suite.yaml: algorithms: the key 'a b' must be 1 to 100 letters, digits"],
        ),
        # nothing where something must be
        ({"tasks": []}, ["suite.yaml: tasks: needs at least one task\n"]),
        ({"algorithms": {}}, ["suite.yaml: algorithms: needs at least one algorithm\n"]),
        # what holds another kind of value
        ({"tasks": [["mamujoco/Hopper-3x1"]]}, ["tasks.0: ", " is not a word or a mapping of names to settings\n"]),
        ({"keep": "yes"}, ["suite.yaml: keep: 'yes' is not true or false\n"]),
        # twice
        ({"tasks": ["mamujoco/Hopper-3x1"] * 2}, ["tasks.1", "mamujoco/Hopper-3x1", "twice"]),
        (
            {"tasks": ["mamujoco/Hopper-3x1", {"name": "mamujoco/Hopper-3x1", "obsk": 1}]},
            ["tasks.1", "mamujoco/Hopper-3x1", "twice"],
        ),
        # what does not fit together
        ({"evaluate": {"every": 130, "episodes": 2}}, ["evaluate.every", "130", "= 100", "nearest is 100"]),
        ({"evaluate": {"every": 170, "episodes": 2}}, ["evaluate.every", "170", "= 100", "nearest is 200"]),
        ({"evaluate": {"every": 7, "episodes": 2}}, ["evaluate.every", "7", "nearest is 100"]),
        ({"steps": 500}, ["steps", "500", "evaluate.every = 200", "nearest is"]),
        ({"steps": 100}, ["steps", "100", "nearest is 200"]),
        (
            {"algorithms": {"happo": {"actor_minibatches": 101}}},
            ["algorithms.happo.actor_minibatches", "101", "holds 100 samples"],
        ),
        (
            {"algorithms": {"happo": {"share_actors": True}}},
            ["algorithms.happo.share_actors", "its update is sequential"],
        ),
        (
            {"tasks": ["mamujoco/HalfCheetah-6x1"], "algorithms": {"mappo": {"share_actors": True}}},
            ["algorithms.mappo.share_actors", "equal", "8/1", "9/1"],
        ),
        (
            {"tasks": [{"name": "mamujoco/Hopper-3x1", "observation": "global", "obsk": 2}]},
            ["tasks.0.obsk", "'global'", "local"],
        ),
        (
            {"tasks": [{"name": "mamujoco/Hopper-3x1", "obsk": None}]},
            ["tasks.0.obsk", "null", "task mamujoco/Hopper-1x3"],
        ),
        (
            {"tasks": [{"name": "mamujoco/Hopper-1x3", "obsk": 1}]},
            ["tasks.0.obsk", "mamujoco/Hopper-1x3", "whole state"],
        ),
        (
            {"tasks": [{"name": "mamujoco/Hopper-3x1", "episode_length": 0}]},
            ["tasks.0.episode_length", "0", "from 1 to 1000000000"],
        ),
    ],
)
def test_a_bad_value_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], parts: list[str]
) -> None:
    path = write(tmp_path, **changes)
    says(refusal(tmp_path, capsys, path), str(path), *parts)


@pytest.mark.parametrize("key", ["name", "steps", "seeds", "evaluate", "tasks", "algorithms"])
def test_a_missing_key_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    content = document()
    del content[key]
    path = write(tmp_path, content)
    says(refusal(tmp_path, capsys, path), str(path), f"{key}: missing", "name, steps, seeds, evaluate")


def test_a_suite_of_many_mistakes_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal(tmp_path, capsys, write(tmp_path, {"name": "../x", "steps": "x", "seed": 1}))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["empty", "name, steps, seeds"]),
        ("# only a comment\n", ["empty", "name, steps, seeds"]),
        ("- a\n- b\n", ["not a mapping"]),
        ("just words", ["not a mapping"]),
        ("name: [1\n", ["not valid YAML", "line"]),
        ("name: a\nname: b\n", ["not valid YAML", "'name'", "twice"]),
        ("algorithms: {happo: {clip: 1, clip: 2}}\n", ["not valid YAML", "'clip'", "twice"]),
        ("{[a]: b}\n", ["not valid YAML"]),
        (yaml.safe_dump(SMALL) + "1: 2\n", ["suite.yaml: 1: unknown key; valid: name, steps"]),
        ("{name: x, 1: 2}", ["suite.yaml: 1: unknown key; valid: name, steps"]),
        (yaml.safe_dump(SMALL | {"algorithms": {1: None}}), [": algorithms: the key 1 is not a word"]),
        (yaml.safe_dump(SMALL | {"defaults": {1: 2}}), [": defaults: the key 1 is not a word"]),
        (yaml.safe_dump(SMALL | {"algorithms": {"happo": {1: 2}}}), [": algorithms.happo: the key 1 is not a word"]),
        (
            yaml.safe_dump(SMALL | {"tasks": [{"name": "mamujoco/Hopper-3x1", 1: 2}]}),
            [": tasks.0: the key 1 is not a word"],
        ),
        ("name: !!python/name:os.system x\n", ["not valid YAML"]),
    ],
)
def test_a_file_that_is_no_suite_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, parts: list[str]
) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    says(refusal(tmp_path, capsys, path), str(path), *parts)


@pytest.mark.parametrize("content", [b"\x80\x81\xff", b"PK\x03\x04\x00\x00\x00"])
def test_a_binary_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    path = tmp_path / "suite.yaml"
    path.write_bytes(content)
    says(refusal(tmp_path, capsys, path), str(path))


def test_a_missing_file_is_refused_with_the_suites_that_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "quick.yaml").touch()
    monkeypatch.chdir(tmp_path)
    message = refusal(tmp_path, capsys, Path("suites/quik.yaml"))
    says(message, "suites/quik.yaml", "No such file", os.path.join("suites", "quick.yaml"))


def test_a_directory_as_suite_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    says(refusal(tmp_path, capsys, tmp_path), str(tmp_path), "directory")


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("steps", ["--set steps", "path=value"]),
        ("=5", ["--set =5", "path=value"]),
        ("steps.more=1", ["--set steps.more=1", "nowhere"]),
        ("tasks.9.obsk=1", ["--set tasks.9.obsk=1", "'9'", "nowhere"]),
        ("tasks.first=x", ["--set tasks.first=x", "'first'", "nowhere"]),
        (".=1", ["--set .=1", "path=value"]),
        ("algorithms..clip=1", ["--set algorithms..clip=1", "path=value"]),
        ("tasks.٠=", ["--set tasks.٠=", "'٠'", "nowhere"]),
        (f"tasks.{'9' * 5000}=x", ["nowhere"]),
        ("tasks.0.obk=1", ["tasks.0.obk", "observation, obsk"]),
        ("steps=[1", ["--set steps=[1", "not YAML"]),
        ("steps=", ["steps:", "None"]),
        ("steps=yes", ["steps:", "'yes'"]),
        ("colour=1", ["colour", "unknown key"]),
        ("algorithms.nope.clip=1", ["algorithms.nope", "'nope'", "happo"]),
        ("algorithms.happo.clipp=1", ["algorithms.happo.clipp", "clip"]),
    ],
)
def test_a_bad_set_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, parts: list[str]
) -> None:
    says(refusal(tmp_path, capsys, write(tmp_path), "--set", override), *parts)


@pytest.mark.parametrize(
    ("selection", "parts"),
    [
        ("algorithm=hatrpo", ["'hatrpo'", "happo, maddpg, clipped"]),
        ("algorithm=happo,nope", ["'nope'", "happo"]),
        ("task=Hopper", ["'Hopper'", "mamujoco/Hopper-3x1", "mamujoco/HalfCheetah-2x3"]),
        ("seed=2", ["'2'", "0, 1"]),
        ("seed=", ["''", "0, 1"]),
        ("method=happo", ["task=", "algorithm=", "seed="]),
        ("happo", ["task=", "algorithm=", "seed="]),
    ],
)
def test_a_bad_only_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], selection: str, parts: list[str]
) -> None:
    says(refusal(tmp_path, capsys, write(tmp_path), "--only", selection), f"--only {selection}", *parts)


@pytest.mark.parametrize("option", ["--jobs", "--env-threads"])
@pytest.mark.parametrize("number", ["0", "-1", "two", "1.5", "", "٣", "1025", "99999999999", "9" * 5000])
def test_a_bad_number_of_jobs_or_threads_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, number: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run.main([str(write(tmp_path)), option, number, "--results", str(tmp_path / "results")])
    assert stopped.value.code == 2
    says(capsys.readouterr().err, option, repr(number)[:40], "from 1 to 1024")
    assert not (tmp_path / "results").exists()


def test_load_says_which_file(tmp_path: Path) -> None:
    path = write(tmp_path, seeds=0)
    with pytest.raises(SuiteError, match=r"suite\.yaml: seeds"):
        load(path)


def test_a_mapping_that_holds_itself_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "name: loop\nalgorithms: &a {happo: *a}\n")
    assert "holds itself" in refusal(tmp_path, capsys, path)
