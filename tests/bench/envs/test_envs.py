"""The batch against MaMuJoCo's own environments, number by number."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from filelock import FileLock

from bench.envs import mujoco as mujoco_batch
from bench.envs import views
from bench.envs.mujoco import MujocoBatch
from bench.envs.robots import ROBOTS, Fields, reference
from bench.envs.views import compile_view
from bench.tasks import registry

with contextlib.redirect_stderr(io.StringIO()):  # it prints a notice
    from gymnasium_robotics import mamujoco_v1
    from gymnasium_robotics.envs.multiagent_mujoco.obsk import get_parts_and_edges

ROBOT_PARTITIONS = [(robot, spec.partitions[0]) for robot, spec in ROBOTS.items()]
TASKS = [
    *(name for name in registry.names() if name.startswith("mamujoco/")),
    "mamujoco/ManySegmentSwimmer-2x1",
    "mamujoco/ManySegmentSwimmer-3x2",
    "mamujoco/ManySegmentAnt-1x2",
    "mamujoco/ManySegmentAnt-2x1",
    "mamujoco/ManySegmentAnt-3x1",
]
CASES = [(name, obsk) for name in TASKS for obsk in ([None] if "-1x" in name else [0, 1, 2])]
"""Every task with every depth of observation; whole robots have none."""
SLICED = {
    "Ant-8x1": 1,
    "HalfCheetah-3x2": 2,
    "Walker2d-3x2": 2,
    "Walker2d-6x1": 1,
    "Humanoid-17x1": 1,
    "HumanoidStandup-17x1": 1,
}
"""What MaMuJoCo cannot cut by itself, and how many joints in the order of the actuators make an agent."""
RANGES = {"Humanoid": 0.4, "HumanoidStandup": 0.4, "Pusher": 2.0}
"""The greatest control of each actuator, where it is not 1."""
FALLING = ("Hopper", "Walker2d", "Humanoid")
"""Robots of which random actions end episodes early."""
ASSETS = Path(mamujoco_v1.__file__).parent / "assets"


@contextlib.contextmanager
def assets() -> Iterator[Path]:
    """The folder into which MaMuJoCo writes models for a moment, for one process at a time."""
    with FileLock(Path(tempfile.gettempdir(), "mamujoco-assets.lock")):
        yield ASSETS


def mamujoco(name: str, obsk: int | None) -> Any:
    """MaMuJoCo's environment for a task, built by MaMuJoCo's own means; None observes the whole state."""
    task = name.removeprefix("mamujoco/")
    robot, partition = task.split("-")
    factorization = None
    if obsk is not None and task in SLICED:
        (joints,), edges, free = get_parts_and_edges(robot, None)
        by_actuator = {joint.act_ids: joint for joint in joints}
        size = SLICED[task]
        parts = [tuple(by_actuator[i + k] for k in range(size)) for i in range(0, len(joints), size)]
        factorization = {"partition": parts, "edges": edges, "globals": free}
    with assets() if robot.startswith("ManySegment") else contextlib.nullcontext():
        theirs = mamujoco_v1.parallel_env(
            robot,
            None if obsk is None and not robot.startswith("ManySegment") else partition,
            agent_obsk=obsk,
            agent_factorization=factorization,
        )
    for near in [] if obsk is None else theirs.k_dicts:
        for joints in near.values():  # by label; three joints of Pusher have the same, and stand in any order
            joints.sort(key=lambda joint: (joint.label, joint.act_ids))
    return theirs


def make(name: str, obsk: int | None, *numbers: int, **options: Any) -> MujocoBatch:
    """A task's batch by its name and options, with one environment per number."""
    depth = {} if obsk is None else {"obsk": obsk}
    batch = registry.make(registry.task(name, {**depth, **options}), seeds(*numbers))
    assert isinstance(batch, MujocoBatch)
    return batch


def seeds(*numbers: int) -> list[np.random.SeedSequence]:
    return [np.random.SeedSequence(number) for number in numbers]


def random_actions(batch: MujocoBatch, steps: int, seed: int = 0, scale: float = 1.0) -> list[list[np.ndarray]]:
    """T x N x [E, A_i] in [-scale, scale]."""
    random = np.random.default_rng(seed)
    return [
        [random.uniform(-scale, scale, (batch.envs, s.size)).astype(np.float32) for s in batch.team.action_spaces]
        for _ in range(steps)
    ]


def time_limit(environment: Any) -> Any:
    """The wrapper that cuts the episodes of MaMuJoCo's environment."""
    wrapper = environment.single_agent_env
    while not isinstance(wrapper, gymnasium.wrappers.TimeLimit):
        wrapper = wrapper.env
    return wrapper


def seen(batch: MujocoBatch) -> dict[str, Any]:
    """All that a batch shows after a step, copied."""
    return {
        "state": batch.state.copy(),
        "observations": [x.copy() for x in batch.observations],
        "reward": batch.reward.copy(),
        "terminated": batch.terminated.copy(),
        "truncated": batch.truncated.copy(),
        "ended": batch.ended.copy(),
        "end_state": batch.end_state.copy(),
        "end_observations": [x.copy() for x in batch.end_observations],
    }


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        a, b = list(a.values()), list(b.values())
    if isinstance(a, list):
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert np.array_equal(a, b)


def compare_with_mamujoco(name: str, obsk: int | None, steps: int, **options: Any) -> tuple[int, int]:
    """Step both from the same seeds with the same actions; how many episodes terminated, and how many were cut."""
    batch = make(name, obsk, 0, 1, 2, **options)
    start, controls, shown = seen(batch), [], []
    for action in random_actions(batch, steps):
        batch.step(action)
        controls.append(batch.control.copy())
        shown.append(seen(batch))
    theirs = mamujoco(name, obsk)
    if options:
        time_limit(theirs)._max_episode_steps = options["episode_length"]
    agents = theirs.possible_agents
    terminations = truncations = 0

    def assert_observes(observations: dict[str, Any], mine: list[np.ndarray], state: np.ndarray, row: int) -> None:
        assert np.array_equal(np.float32(theirs.state()), state[row])
        for agent, x in zip(agents, mine, strict=True):
            assert x.dtype == np.float32
            assert np.array_equal(np.float32(observations[agent]), x[row])

    for e in range(3):
        observations, _ = theirs.reset(seed=e)
        assert_observes(observations, start["observations"], start["state"], e)
        for control, ours in zip(controls, shown, strict=True):
            observations, reward, terminated, truncated, _ = theirs.step(
                theirs.map_global_action_to_local_actions(control[e])
            )
            assert reward[agents[0]] == ours["reward"][e]
            assert terminated[agents[0]] == ours["terminated"][e]
            assert truncated[agents[0]] == ours["truncated"][e]
            over = terminated[agents[0]] or truncated[agents[0]]
            assert (e in ours["ended"]) == over
            if over:
                row = list(ours["ended"]).index(e)
                assert_observes(observations, ours["end_observations"], ours["end_state"], row)
                observations, _ = theirs.reset()
                terminations += terminated[agents[0]]
                truncations += truncated[agents[0]]
            assert_observes(observations, ours["observations"], ours["state"], e)
    return terminations, truncations


@pytest.mark.parametrize(("name", "obsk"), CASES)
def test_observations_rewards_and_ends_are_mamujocos(name: str, obsk: int | None) -> None:
    _, truncations = compare_with_mamujoco(name, obsk, steps=55, episode_length=25)
    assert truncations > 0


@pytest.mark.parametrize("robot", FALLING)
def test_a_termination_is_mamujocos(robot: str) -> None:
    name = f"mamujoco/{robot}-{ROBOTS[robot].partitions[0]}"
    terminations, truncations = compare_with_mamujoco(name, 1, steps=150)
    assert terminations > 0
    assert truncations == 0


def test_a_termination_of_ant_is_mamujocos() -> None:
    terminations, _ = compare_with_mamujoco("mamujoco/Ant-4x2", 1, steps=400)
    assert terminations > 0


@pytest.mark.parametrize(("name", "steps"), [("Reacher-2x1", 55), ("Pusher-3p", 105), ("HalfCheetah-6x1", 1005)])
def test_an_episode_of_gymnasiums_own_length_is_mamujocos(name: str, steps: int) -> None:
    assert compare_with_mamujoco(f"mamujoco/{name}", 1, steps) == (0, 3)


@pytest.mark.long
@pytest.mark.parametrize(("name", "obsk"), CASES)
def test_a_thousand_steps_are_mamujocos(name: str, obsk: int | None) -> None:
    compare_with_mamujoco(name, obsk, steps=1010)


@pytest.mark.parametrize(("robot", "partition"), ROBOT_PARTITIONS)
def test_an_episode_is_as_long_as_gymnasiums(robot: str, partition: str) -> None:
    name = f"mamujoco/{robot}-{partition}"
    length = time_limit(mamujoco(name, 1))._max_episode_steps
    assert length == {"Reacher": 50, "Pusher": 100}.get(robot, 1000)
    assert registry.task(name, {}).options.episode_length == length  # type: ignore[attr-defined]
    assert make(name, 1, 0).episode_length == length


@pytest.mark.parametrize("name", TASKS)
def test_the_team_has_mamujocos_sizes(name: str) -> None:
    team = make(name, None, 0).team
    theirs = mamujoco(name, None if "-1x" in name else 1)
    agents = theirs.possible_agents
    assert team.observation_sizes == tuple(theirs.observation_space(agent).shape[0] for agent in agents)
    assert tuple(space.size for space in team.action_spaces) == tuple(
        theirs.action_space(agent).shape[0] for agent in agents
    )
    theirs.reset(seed=0)
    assert team.state_size == len(theirs.state())
    assert not team.observes_id


# Actions


@pytest.mark.parametrize("name", TASKS)
def test_each_action_reaches_its_own_actuator_in_the_actuators_units(name: str) -> None:
    batch, theirs = make(name, None, 0, 1), mamujoco(name, None if "-1x" in name else 1)
    scale = RANGES.get(name.removeprefix("mamujoco/").split("-")[0], 1.0)
    (action,) = random_actions(batch, 1)
    batch.set_control(action)
    for e in range(2):
        local = theirs.map_global_action_to_local_actions(batch.control[e])
        for agent, a in zip(theirs.possible_agents, action, strict=True):
            assert_same(local[agent], scale * a[e].astype(np.float64))


@pytest.mark.parametrize(("robot", "partition"), ROBOT_PARTITIONS)
def test_the_ends_of_an_action_are_the_ends_of_its_actuators_range(robot: str, partition: str) -> None:
    batch = MujocoBatch(robot, partition, seeds(0))
    low, high = batch.model.actuator_ctrlrange.T
    assert (high == RANGES.get(robot, 1.0)).all()
    assert (low == -high).all()
    for end, expected in ((1.0, high), (-1.0, low), (0.0, 0 * low)):
        batch.set_control([np.full((1, s.size), end, np.float32) for s in batch.team.action_spaces])
        assert_same(batch.control[0], expected)


def test_a_range_that_is_not_symmetric_is_reached_too(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = mamujoco("mamujoco/Hopper-3x1", 1)
    theirs.single_agent_env.unwrapped.model.actuator_ctrlrange[:] = [[-1, 1], [-1, 3], [-1.5, -0.5]]
    monkeypatch.setattr(mujoco_batch, "reference", lambda *arguments: theirs)
    batch = MujocoBatch("Hopper", "3x1", seeds(0))
    for actions, controls in (((0.25, -1, 3), (0.25, -1, -0.5)), ((-0.5, 0.5, -1), (-0.5, 2, -1.5))):
        batch.set_control([np.full((1, 1), a, np.float32) for a in actions])
        assert_same(batch.control, np.array([controls]))


# Observation modes


@pytest.mark.parametrize(
    ("robot", "partition"),
    [("Ant", "4x2"), ("HalfCheetah", "2x3"), ("Hopper", "3x1"), ("Reacher", "2x1"), ("Ant", "1x8")],
)
def test_global_observations_are_the_state_and_a_one_hot_index(robot: str, partition: str) -> None:
    batch = MujocoBatch(robot, partition, seeds(0, 1), observation="global", episode_length=20)
    local = MujocoBatch(robot, partition, seeds(0, 1), episode_length=20)
    agents = batch.team.size
    assert batch.team.observes_id
    assert batch.team.observation_sizes == (batch.team.state_size + agents,) * agents
    for action in random_actions(batch, 45):
        batch.step(action)
        local.step(action)
        assert_same(batch.state, local.state)
        assert_same(batch.end_state, local.end_state)
        for i in range(agents):
            one_hot = np.tile(np.eye(agents, dtype=np.float32)[i], (2, 1))
            assert_same(batch.observations[i], np.concatenate([batch.state, one_hot], axis=1))
            ends = len(batch.ended)
            assert_same(batch.end_observations[i], np.concatenate([batch.end_state, one_hot[:ends]], axis=1))


@pytest.mark.parametrize(("robot", "partition"), [("HalfCheetah", "2x3"), ("Walker2d", "2x3")])
def test_paper_observations_are_the_global_ones_standardised(robot: str, partition: str) -> None:
    paper = MujocoBatch(robot, partition, seeds(0, 1), observation="paper", episode_length=20)
    plain = MujocoBatch(robot, partition, seeds(0, 1), observation="global", episode_length=20)
    assert replace(paper.team, first_equal_feature=()) == replace(plain.team, first_equal_feature=())
    for action in random_actions(paper, 45):
        paper.step(action)
        plain.step(action)
        ours = [paper.state, *paper.observations, *paper.end_observations]
        theirs = [plain.state, *plain.observations, *plain.end_observations]
        for x, y in zip(ours, theirs, strict=True):
            y = y.astype(np.float64)
            by_hand = (y - y.mean(axis=1, keepdims=True)) / y.std(axis=1, keepdims=True)
            np.testing.assert_allclose(x, by_hand, rtol=1e-4, atol=1e-5)


def test_paper_observations_have_mean_0_and_standard_deviation_1() -> None:
    batch = MujocoBatch("Hopper", "3x1", seeds(0), observation="paper")
    for x in (batch.state, *batch.observations):
        assert abs(x.mean()) < 1e-6
        assert abs(x.std() - 1) < 1e-6


@pytest.mark.parametrize("mode", ["local", "global", "paper"])
@pytest.mark.parametrize(("robot", "partition"), [("HalfCheetah", "2x3"), ("Ant", "4x2"), ("Humanoid", "17x1")])
def test_every_feature_equals_the_one_that_the_team_says_it_repeats(
    robot: str, partition: str, mode: mujoco_batch.ObservationMode
) -> None:
    """Bit for bit, before and after resets and in last observations: a replay keeps only one of them."""
    batch = MujocoBatch(robot, partition, seeds(0, 1), observation=mode, episode_length=20)
    sources = np.array(batch.team.first_equal_feature)
    assert len(sources) == batch.team.state_size + sum(batch.team.observation_sizes)
    assert len({*sources}) < len(sources)
    for action in random_actions(batch, 45):
        batch.step(action)
        for parts in ([batch.state, *batch.observations], [batch.end_state, *batch.end_observations]):
            features = np.concatenate(parts, axis=1)
            assert_same(features[:, sources], features)


def test_observations_of_the_whole_state_add_to_it_only_what_tells_the_agents_apart() -> None:
    """Global: a zero and a one; standardised: the state by the moments of an observation, and so these two."""
    unique = {
        mode: len({*MujocoBatch("Ant", "4x2", seeds(0), observation=mode).team.first_equal_feature})
        for mode in ("global", "paper")
    }
    assert unique == {"global": 105 + 2, "paper": 105 + 105 + 2}


def test_observation_modes_leave_physics_and_rewards_alone() -> None:
    batches = [MujocoBatch("Hopper", "3x1", seeds(0), observation=mode) for mode in ("local", "global", "paper")]
    for action in random_actions(batches[0], 60):
        for batch in batches:
            batch.step(action)
        assert batches[0].reward == batches[1].reward == batches[2].reward


@pytest.mark.parametrize("robot", ["Ant", "Hopper", "Humanoid", "Pusher"])
def test_actions_are_clipped_at_the_environment(robot: str) -> None:
    partition = ROBOTS[robot].partitions[0]
    wide, clipped = (MujocoBatch(robot, partition, seeds(0, 1)) for _ in range(2))
    for action in random_actions(wide, 50, scale=3.0):
        wide.step(action)
        clipped.step([np.clip(a, -1, 1) for a in action])
        assert_same(seen(wide), seen(clipped))


def test_the_actions_given_are_left_as_they_are() -> None:
    batch = MujocoBatch("Hopper", "3x1", seeds(0))
    action = [np.full((1, 1), 3.0, np.float32) for _ in range(3)]
    batch.step(action)
    assert all((a == 3.0).all() for a in action)


# Saved states and seeds


@pytest.mark.parametrize(
    ("robot", "observation"),
    [*((robot, "local") for robot in ROBOTS), ("HalfCheetah", "paper"), ("Walker2d", "global")],
)
def test_a_fresh_batch_goes_on_bit_for_bit_from_a_saved_state(robot: str, observation: Any) -> None:
    def make(*numbers: int) -> MujocoBatch:
        partition = ROBOTS[robot].partitions[0]
        return MujocoBatch(robot, partition, seeds(*numbers), observation=observation, episode_length=40)

    batch = make(0, 1, 2)
    actions = random_actions(batch, 120)
    for action in actions[:30]:  # in the middle of an episode
        batch.step(action)
    saved = batch.state_dict()
    following = []
    for action in actions[30:]:
        batch.step(action)
        following.append(seen(batch))
    fresh = make(7, 8, 9)
    fresh.load_state_dict(saved)
    resets = 0
    for action, expected in zip(actions[30:], following, strict=True):
        fresh.step(action)
        assert_same(seen(fresh), expected)
        resets += len(fresh.ended)
    assert resets >= 6  # every environment drew two new episodes from its own generator


def test_a_saved_state_shows_the_same_observations_at_once() -> None:
    batch, fresh = MujocoBatch("Ant", "2x4", seeds(0)), MujocoBatch("Ant", "2x4", seeds(1))
    for action in random_actions(batch, 30):
        batch.step(action)
    fresh.load_state_dict(batch.state_dict())
    assert_same([fresh.state, *fresh.observations], [batch.state, *batch.observations])


def test_a_saved_state_stands_still_while_the_batch_goes_on() -> None:
    batch, fresh = MujocoBatch("Hopper", "3x1", seeds(0)), MujocoBatch("Hopper", "3x1", seeds(1))
    saved, state = batch.state_dict(), batch.state.copy()
    for action in random_actions(batch, 60):
        batch.step(action)
    fresh.load_state_dict(saved)
    assert_same(fresh.state, state)


def test_a_saved_state_may_come_back_as_tensors() -> None:
    batch, fresh = MujocoBatch("Hopper", "3x1", seeds(0)), MujocoBatch("Hopper", "3x1", seeds(1))
    actions = random_actions(batch, 60)
    for action in actions[:20]:
        batch.step(action)
    saved = batch.state_dict()
    fresh.load_state_dict({k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in saved.items()})
    for action in actions[20:]:
        batch.step(action)
        fresh.step(action)
        assert_same(seen(fresh), seen(batch))


def test_without_auto_reset_an_ended_environment_stands_still_and_the_others_go_on() -> None:
    once = MujocoBatch("Hopper", "3x1", seeds(0, 1, 2), auto_reset=False, episode_length=60)
    again = MujocoBatch("Hopper", "3x1", seeds(0, 1, 2), episode_length=60)
    ended: list[int] = []
    last = once.state.copy()
    for action in random_actions(once, 60):
        once.step(action)
        again.step(action)
        for e in range(3):
            if e in ended:
                assert_same(once.state[e], last[e])
                assert e not in once.ended
            elif e in once.ended:
                assert_same(once.end_state[list(once.ended).index(e)], once.state[e])  # type: ignore[arg-type]
                assert once.reward[e] == again.reward[e]
                ended.append(e)
            else:
                assert_same(once.state[e], again.state[e])
                assert once.reward[e] == again.reward[e]
        last = once.state.copy()
    assert sorted(ended) == [0, 1, 2]
    assert len({*ended}) == 3


def test_equal_seeds_give_equal_bits() -> None:
    first, second = (MujocoBatch("Walker2d", "2x3", seeds(3, 4), episode_length=30) for _ in range(2))
    for action in random_actions(first, 80):
        first.step(action)
        second.step(action)
        assert_same(seen(first), seen(second))


@pytest.mark.parametrize(("robot", "partition"), ROBOT_PARTITIONS)
def test_every_batch_of_a_task_shows_the_same_observations_in_the_same_order(robot: str, partition: str) -> None:
    batches = [MujocoBatch(robot, partition, seeds(0)) for _ in range(8)]
    for batch in batches:
        assert_same(seen(batch), seen(batches[0]))


def test_pusher_sees_its_joints_in_the_order_of_the_actuators_where_mamujoco_has_none() -> None:
    batch = MujocoBatch("Pusher", "3p", seeds(0), obsk=0)
    upper_arm_roll, pan, lift = batch.observations[0][0, [0, 2, 4]]
    assert_same(np.array([pan, lift, upper_arm_roll]), batch.state[0, :3])


def test_other_seeds_give_other_episodes() -> None:
    batch = MujocoBatch("Walker2d", "2x3", seeds(3, 4))
    assert not np.array_equal(batch.state[0], batch.state[1])


@pytest.mark.parametrize("robot", list(ROBOTS))
def test_a_batch_is_as_many_batches_of_one(robot: str) -> None:
    partition = ROBOTS[robot].partitions[0]
    batch = MujocoBatch(robot, partition, seeds(0, 1, 2), episode_length=40)
    ones = [MujocoBatch(robot, partition, seeds(e), episode_length=40) for e in range(3)]
    for action in random_actions(batch, 90):
        batch.step(action)
        for e, one in enumerate(ones):
            one.step([a[e : e + 1] for a in action])
            assert one.reward[0] == batch.reward[e]
            assert one.terminated[0] == batch.terminated[e]
            assert one.truncated[0] == batch.truncated[e]
            assert_same(one.state[0], batch.state[e])
            assert_same([x[0] for x in one.observations], [x[e] for x in batch.observations])


# Compiled observations


def no_features(fields: Fields) -> np.ndarray:
    return np.zeros((1, 0))


@pytest.fixture
def ball() -> Any:
    """The data of a ball that flies: 7 numbers in qpos, 6 in qvel, from the 8th on."""
    body = "<body><freejoint/><geom size='1'/></body>"
    return mujoco.MjData(mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{body}</worldbody></mujoco>"))


def test_physics_are_a_view_of_positions_velocities_and_warm_start(ball: Any) -> None:
    parts = [ball.qpos, ball.qvel, ball.qacc_warmstart]
    for k, part in enumerate(parts):
        part[:] = k + 1
    numbers = views.physics(ball)
    assert numbers.size == 8 + 8 + 6
    assert [np.count_nonzero(numbers == k + 1) for k in range(3)] == [7, 6, 6]
    numbers[:] = 5.0
    assert all((part == 5.0).all() for part in parts)


def test_a_mujoco_that_keeps_its_numbers_in_another_order_is_refused(ball: Any) -> None:
    odd = SimpleNamespace(qpos=ball.qpos, qvel=ball.qvel, qacc_warmstart=ball.qfrc_passive)
    with pytest.raises(RuntimeError, match="does not keep qpos, qvel and qacc_warmstart in a row"):
        views.physics(odd)


@pytest.mark.parametrize("robot", ROBOTS)
def test_physics_are_all_that_a_step_depends_on(robot: str) -> None:
    model = reference(robot, ROBOTS[robot].partitions[0], 1).single_agent_env.unwrapped.model
    others = [
        getattr(mujoco.mjtState, f"mjSTATE_{part}") for part in ("ACT", "HISTORY", "PLUGIN", "USERDATA", "MOCAP_POS")
    ]
    assert [mujoco.mj_stateSize(model, part) for part in others] == [0] * 5


def test_a_compiled_view_is_the_gather_with_its_clips(ball: Any) -> None:
    before = ball.qpos.copy()
    view = compile_view(lambda: np.concatenate([ball.qpos[2:4], np.clip(ball.qvel[::-1], -10, 5)]), ball, no_features)
    assert list(view.index) == [2, 3, 13, 12, 11, 10, 9, 8]
    assert list(view.low) == [-np.inf] * 2 + [-10] * 6
    assert list(view.high) == [np.inf] * 2 + [5] * 6
    assert_same(ball.qpos, before)


def test_a_clip_may_have_one_side(ball: Any) -> None:
    view = compile_view(
        lambda: np.concatenate([np.maximum(ball.qpos[:1], -3), np.minimum(ball.qvel[:1], 4)]), ball, no_features
    )
    assert list(view.index) == [0, 8]
    assert list(view.low) == [-3, -np.inf]
    assert list(view.high) == [np.inf, 4]


def test_a_view_clips_what_it_gathers_on_both_sides(ball: Any) -> None:
    view = compile_view(lambda: np.clip(ball.qpos[1:4], -1, 2), ball, no_features)
    assert view.of(np.array([[9.0, -5.0, 0.5, 5.0]])).tolist() == [[-1.0, 0.5, 2.0]]


def test_a_feature_that_is_derived_is_found_behind_the_fields(ball: Any) -> None:
    total = sum(array.size for array in views.arrays(ball).values())
    view = compile_view(
        lambda: np.array([ball.qvel[0], np.cos(ball.qpos[1]), np.cos(ball.qpos[0])]),
        ball,
        lambda fields: np.cos(fields["qpos"][:, :2]),
    )
    assert list(view.index) == [8, total + 1, total]
    assert not np.isfinite([view.low, view.high]).any()


def test_a_feature_that_is_derived_otherwise_is_refused(ball: Any) -> None:
    with pytest.raises(NotImplementedError, match="not a gather"):
        compile_view(lambda: np.sin(ball.qpos), ball, lambda fields: np.cos(fields["qpos"]))


@pytest.mark.parametrize(
    "compute",
    [
        lambda data: data.qpos[:1] + data.qpos[1:2],
        lambda data: (data.qpos[:1] + data.qpos[1:2]) / 2,
        lambda data: data.qpos[:1] - data.qvel[:1],
        lambda data: -data.qpos,
        lambda data: np.abs(data.qpos),
        lambda data: 0.5 * data.qvel,
        lambda data: np.cos(data.qpos),
        lambda data: data.qvel**2,
        lambda data: np.ones(3),
        lambda data: np.zeros(3),
    ],
    ids=["sum", "mean", "difference", "negative", "absolute", "half", "cosine", "square", "constant", "zero"],
)
@pytest.mark.parametrize(("robot", "partition"), ROBOT_PARTITIONS)
def test_an_observation_that_computes_is_refused(
    robot: str, partition: str, compute: Callable[[Any], np.ndarray]
) -> None:
    gym = mamujoco(f"mamujoco/{robot}-{partition}", 1).single_agent_env.unwrapped
    with pytest.raises(NotImplementedError, match="not a gather"):
        compile_view(lambda: compute(gym.data), gym.data, lambda fields: ROBOTS[robot].derived(gym, fields))


def test_a_refused_observation_leaves_the_data_as_it_was(ball: Any) -> None:
    before = ball.qpos.copy()
    with pytest.raises(NotImplementedError):
        compile_view(lambda: np.cos(ball.qpos), ball, no_features)
    assert_same(ball.qpos, before)


# Threads


@pytest.mark.parametrize("auto_reset", [True, False])
@pytest.mark.parametrize("threads", [2, 3, 5])
@pytest.mark.parametrize("robot", ["Hopper", "Ant"])
def test_threads_change_no_bit(robot: str, threads: int, auto_reset: bool) -> None:
    def make(env_threads: int) -> MujocoBatch:
        partition = ROBOTS[robot].partitions[0]
        return MujocoBatch(
            robot, partition, seeds(0, 1, 2, 3), episode_length=40, auto_reset=auto_reset, env_threads=env_threads
        )

    alone, together = make(1), make(threads)
    ends = 0
    for action in random_actions(alone, 60):
        alone.step(action)
        together.step(action)
        assert_same(seen(together), seen(alone))
        ends += len(alone.ended)
    assert ends == 4 if not auto_reset else ends >= 4


def test_a_state_saved_with_threads_goes_on_without_and_the_other_way_round() -> None:
    one, three = (MujocoBatch("Hopper", "3x1", seeds(0, 1, 2, 3), env_threads=threads) for threads in (1, 3))
    actions = random_actions(one, 90)
    for action in actions[:30]:
        one.step(action)
        three.step(action)
    of_one, of_three = one.state_dict(), three.state_dict()
    assert_same(of_one, of_three)
    one.load_state_dict(of_three)
    three.load_state_dict(of_one)
    for action in actions[30:]:
        one.step(action)
        three.step(action)
        assert_same(seen(one), seen(three))


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = MujocoBatch("Hopper", "3x1", seeds(0, 1, 2, 3), env_threads=2)
    real, main = mujoco.mj_step, threading.current_thread()

    def fails_elsewhere(*arguments: Any) -> None:
        if threading.current_thread() is not main:
            raise RuntimeError("lost in a thread")
        real(*arguments)

    monkeypatch.setattr(mujoco, "mj_step", fails_elsewhere)
    (action,) = random_actions(batch, 1)
    with pytest.raises(RuntimeError, match="lost in a thread"):
        batch.step(action)


def test_the_work_is_shared_among_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = MujocoBatch("Hopper", "3x1", seeds(0, 1, 2, 3), env_threads=2)
    real, main, where = mujoco.mj_step, threading.current_thread(), []

    def noting(*arguments: Any) -> None:
        where.append(threading.current_thread() is main)
        real(*arguments)

    monkeypatch.setattr(mujoco, "mj_step", noting)
    batch.step(random_actions(batch, 1)[0])
    assert sorted(where) == [False, False, True, True]


def test_threads_end_with_their_batch() -> None:
    before = {*threading.enumerate()}
    batch = MujocoBatch("Hopper", "3x1", seeds(0, 1, 2), env_threads=3)
    for action in random_actions(batch, 3):
        batch.step(action)
    threads = {*threading.enumerate()} - before
    assert len(threads) == 2
    del batch
    gc.collect()
    for thread in threads:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in threads)


# Processes


BUILD = """
import sys
from bench.envs.robots import reference
reference("ManySegmentSwimmer", "10x2", 1)
print("ready", flush=True)
sys.stdin.readline()
for robot, partition in [name.split("-") for name in sys.argv[1:]]:
    reference(robot, partition, 1)
    print("built")
"""


def test_four_processes_build_robots_of_segments_at_the_same_time_and_leave_nothing(tmp_path: Path) -> None:
    names = ["ManySegmentSwimmer-10x2"] * 25 + ["ManySegmentAnt-2x3"] * 5
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with assets() as folder:
        before = sorted(folder.iterdir())
        processes: list[Any] = [
            subprocess.Popen([sys.executable, "-c", BUILD, *names], **pipes, text=True, env=environment)
            for _ in range(4)
        ]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        printed = [process.communicate(timeout=60) for process in processes]
        assert printed == [("built\n" * 30, "")] * 4
        assert sorted(folder.iterdir()) == before
    assert list(tmp_path.iterdir()) == []
