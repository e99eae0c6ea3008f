"""The list of tasks as a user sees it, and that every task on it can be learned."""

from __future__ import annotations

import importlib.util
import json
import pickle
import subprocess
import sys
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from helpers import finite

import algorithms
from algorithms import Diagnostics
from bench.tasks import __main__ as tasks_main
from bench.tasks import registry
from bench.trial.collect import Collector
from bench.trial.setup import seeds

WALKS = importlib.util.find_spec("Box2D") is not None
"""Whether multiwalker can be made here."""
HERE = [name for name in registry.names() if WALKS or name != "pettingzoo/multiwalker_v9"]
LEARNED = HERE
"""Those with continuous actions."""
SIZES = {
    "mamujoco/Hopper-3x1": ([8, 9, 8], [1, 1, 1], 11),  # own joint 2, joints next to it 1, 2, 1, root 5
    "mamujoco/HalfCheetah-3x2": ([11, 12, 10], [2, 2, 2], 17),  # own joints 4, joints next to them 2, 3, 1, root 5
    "mamujoco/HalfCheetah-1x6": ([17], [6], 17),
    "mamujoco/Humanoid-1x17": ([348], [17], 348),
    "mamujoco/Reacher-1x2": ([10], [2], 10),
    "mamujoco/ManySegmentSwimmer-10x2": ([5, *[6] * 8, 5], [2] * 10, 44),  # own joints 4, segments next to them 1 or 2
}
"""Numbers that each agent observes, numbers that it does, numbers in the state."""


def test_the_list_has_a_line_for_every_task_and_nothing_is_printed_besides() -> None:
    command = [sys.executable, "-m", "bench.tasks"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    header, *lines = done.stdout.splitlines()
    assert header.split() == ["task", "agents", "state", "observations", "actions", "papers"]
    families = ["mamujoco/ManySegmentSwimmer-NxM:", "mamujoco/ManySegmentAnt-NxM:", "games/random-<seed>:"]
    families += ["games/coordination-<even", "python:package.module:factory:"]
    assert [line.split()[0] for line in lines] == [*registry.names(), *families]


@pytest.mark.parametrize(
    "name", ["mamujoco/Hopper-3x1", "pettingzoo/simple_spread_v3", "games/ridge", "python:own_envs:Plain"]
)
def test_a_task_holds_its_family_and_both_are_equal_after_pickling(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = registry.task(name, {})
    monkeypatch.setattr(registry, "FAMILIES", ())
    back = pickle.loads(pickle.dumps(task))
    assert (back, hash(back), back.family) == (task, hash(task), task.family)
    assert (back.label, back.robot, back.origin()) == (name, "Hopper" if "Hopper" in name else None, task.origin())
    assert (back.environment() is None) == name.startswith(("mamujoco/", "games/"))
    assert registry.make(back, [np.random.SeedSequence(0)]).team == registry.team(task)


def test_the_list_says_sizes_once_where_agents_agree_and_as_a_range_where_they_are_many(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert tasks_main.main([]) == 0
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in capsys.readouterr().out.splitlines()}
    assert lines["mamujoco/Hopper-3x1"] == "3 11 8, 9, 8 continuous 1 Zhong et al. 2024"
    assert lines["mamujoco/HalfCheetah-1x6"] == "1 17 17 continuous 6 -"
    assert lines["mamujoco/ManySegmentSwimmer-10x2"] == "10 44 5 to 6 continuous 2 Kuba et al. 2022"
    assert lines["pettingzoo/simple_spread_v3"] == "3 54 18 5 -"
    assert lines["pettingzoo/simple_speaker_listener_v4"] == "2 14 3, 11 3, 5 -"


def test_the_list_as_json_has_the_sizes_of_every_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert tasks_main.main(["--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = {row["task"]: row for row in json.loads(out)}
    assert list(rows) == registry.names()
    for name, (observations, actions, state) in SIZES.items():
        row = rows[name]
        assert row["agents"] == len(observations)
        assert (row["observation_sizes"], row["action_sizes"], row["state_size"]) == (observations, actions, state)
    assert [rows[f"mamujoco/{name}"]["episode_length"] for name in ("Ant-4x2", "Reacher-2x1", "Pusher-3p")] == [
        1000,
        50,
        100,
    ]
    assert rows["mamujoco/Walker2d-6x1"]["papers"] == ["Kuba et al. 2022", "Zhong et al. 2024"]
    assert rows["mamujoco/Swimmer-2x1"]["papers"] == []
    assert rows["mamujoco/Hopper-3x1"]["action_spaces"] == ["continuous 1"] * 3
    spread = rows["pettingzoo/simple_spread_v3"]
    assert (spread["action_spaces"], spread["episode_length"], spread["leaves"]) == (["5"] * 3, 25, False)


def test_the_list_says_what_a_task_lacks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "pettingzoo.sisl.multiwalker.multiwalker", None)
    monkeypatch.setattr(tasks_main, "names", lambda: ["pettingzoo/multiwalker_v9"])
    registry.team.cache_clear()
    tasks_main.main([])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("pettingzoo/multiwalker_v9")]
    assert "pip install -e '.[sisl]'" in line


def test_every_task_of_a_paper_exists() -> None:
    assert {*tasks_main.PAPERS} <= {*registry.names()}


def train(
    method: str, name: str, updates: int, options: dict[str, Any] | None = None, **settings: Any
) -> list[Diagnostics]:
    """The rows of a method's first updates on a task."""
    torch.set_num_threads(1)
    own, environments = seeds(0)
    resolved = algorithms.settings(method, settings)
    batch = registry.make(registry.task(name, options or {}), environments.spawn(resolved.envs))
    learner = algorithms.build(method, batch.team, resolved, own)
    collector = Collector(batch, resolved.rollout_length)
    return [row for _ in range(updates) for row in learner.update(collector.collect(learner))]


@pytest.mark.parametrize("name", LEARNED)
def test_happo_updates_on_every_task(name: str) -> None:
    if name == "pettingzoo/multiwalker_v9":
        pytest.importorskip("Box2D")
    rows = train("happo", name, 1, envs=2, rollout_length=5, hidden_sizes=[4], actor_epochs=1, critic_epochs=1)
    assert len(rows) == registry.team(registry.task(name, {})).size + 1
    assert finite(rows)


PARTICLES = [(f"simple_{name}", own) for name in ("spread_v3", "reference_v3", "speaker_listener_v4") for own in (0, 1)]
VARIANTS = [*((method, False) for method in algorithms.METHODS), ("ippo", True), ("mappo", True), ("matrpo", True)]


@pytest.mark.parametrize(
    ("name", "continuous", "method", "shared"),
    [
        pytest.param(*task, *variant, marks=[pytest.mark.long] if (i + j) % 3 else [])
        for i, task in enumerate([*PARTICLES, ("multiwalker_v9", None)])
        for j, variant in enumerate(VARIANTS)
    ],
)
def test_every_method_updates_on_every_task_of_pettingzoos(
    name: str, continuous: int | None, method: str, shared: bool
) -> None:
    if name == "multiwalker_v9":
        pytest.importorskip("Box2D")
    small: dict[str, Any] = {"envs": 2, "rollout_length": 30, "hidden_sizes": [4]}
    small |= {"warmup_steps": 60, "batch_size": 10} if method == "maddpg" else {}
    small |= {"share_actors": True} if shared else {}
    told = {} if continuous is None else {"continuous_actions": bool(continuous)}
    refused = shared and "speaker" in name
    with pytest.raises(algorithms.SettingError, match="equal observation") if refused else nullcontext():
        assert finite(train(method, f"pettingzoo/{name}", 3, told, **small))


@pytest.mark.long
@pytest.mark.parametrize("name", LEARNED)
def test_happo_trains_20_000_steps_on_every_task(name: str) -> None:
    rows = train("happo", name, 5)
    assert len(rows) == 5 * (registry.team(registry.task(name, {})).size + 1)
    assert finite(rows)
