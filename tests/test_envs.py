"""The batch against MaMuJoCo's own environments, number by number."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
import torch

from bench.envs.mujoco import ROBOTS, MujocoBatch, compile_view, reference

PARTITIONS = [(robot, partition) for robot, spec in ROBOTS.items() for partition in spec.partitions]


def seeds(*numbers: int) -> list[np.random.SeedSequence]:
    return [np.random.SeedSequence(number) for number in numbers]


def random_actions(batch: MujocoBatch, steps: int, seed: int = 0, scale: float = 1.0) -> list[list[np.ndarray]]:
    """T x N x [E, A_i] in [-scale, scale]."""
    random = np.random.default_rng(seed)
    return [
        [random.uniform(-scale, scale, (batch.envs, s.size)).astype(np.float32) for s in batch.team.action_spaces]
        for _ in range(steps)
    ]


def set_time_limit(environment: Any, steps: int) -> None:
    """Give MaMuJoCo's environment another episode length than 1000."""
    wrapper = environment.single_agent_env
    while not isinstance(wrapper, gymnasium.wrappers.TimeLimit):
        wrapper = wrapper.env
    wrapper._max_episode_steps = steps


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


def compare_with_mamujoco(robot: str, partition: str, obsk: int, steps: int, episode_length: int) -> tuple[int, int]:
    """Step both from the same seeds with the same actions; how many episodes terminated, and how many were cut."""
    batch = MujocoBatch(robot, partition, seeds(0, 1, 2), obsk=obsk, episode_length=episode_length)
    actions = random_actions(batch, steps)
    start = seen(batch)
    shown = []
    for action in actions:
        batch.step(action)
        shown.append(seen(batch))
    theirs = reference(robot, partition, obsk)
    set_time_limit(theirs, episode_length)
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
        for action, ours in zip(actions, shown, strict=True):
            observations, reward, terminated, truncated, _ = theirs.step(
                {agent: a[e] for agent, a in zip(agents, action, strict=True)}
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


@pytest.mark.parametrize("obsk", [0, 1, 2])
@pytest.mark.parametrize(("robot", "partition"), PARTITIONS)
def test_local_observations_rewards_and_ends_are_mamujocos(robot: str, partition: str, obsk: int) -> None:
    terminations, truncations = compare_with_mamujoco(robot, partition, obsk, steps=150, episode_length=25)
    assert truncations > 0
    assert terminations > 0 or robot in ("HalfCheetah", "Ant")


def test_an_episode_of_full_length_is_mamujocos() -> None:
    assert compare_with_mamujoco("HalfCheetah", "6x1", 1, steps=1005, episode_length=1000) == (0, 3)


def test_a_termination_of_ant_is_mamujocos() -> None:
    terminations, _ = compare_with_mamujoco("Ant", "4x2", 1, steps=400, episode_length=1000)
    assert terminations > 0


@pytest.mark.long
@pytest.mark.parametrize("obsk", [0, 1, 2])
@pytest.mark.parametrize(("robot", "partition"), PARTITIONS)
def test_a_thousand_steps_are_mamujocos(robot: str, partition: str, obsk: int) -> None:
    compare_with_mamujoco(robot, partition, obsk, steps=1010, episode_length=1000)


@pytest.mark.parametrize(("robot", "partition"), PARTITIONS)
def test_the_team_has_mamujocos_sizes(robot: str, partition: str) -> None:
    team = MujocoBatch(robot, partition, seeds(0)).team
    theirs = reference(robot, partition, 1)
    agents = theirs.possible_agents
    assert team.observation_sizes == tuple(theirs.observation_space(agent).shape[0] for agent in agents)
    assert tuple(space.size for space in team.action_spaces) == tuple(
        theirs.action_space(agent).shape[0] for agent in agents
    )
    theirs.reset(seed=0)
    assert team.state_size == len(theirs.state())
    assert not team.observes_id


@pytest.mark.parametrize(("robot", "partition"), [("Ant", "4x2"), ("HalfCheetah", "2x3"), ("Hopper", "3x1")])
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
    assert paper.team == plain.team
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


def test_observation_modes_leave_physics_and_rewards_alone() -> None:
    batches = [MujocoBatch("Hopper", "3x1", seeds(0), observation=mode) for mode in ("local", "global", "paper")]
    for action in random_actions(batches[0], 60):
        for batch in batches:
            batch.step(action)
        assert batches[0].reward == batches[1].reward == batches[2].reward


@pytest.mark.parametrize("robot", ["Ant", "Hopper"])
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


@pytest.mark.parametrize(
    ("robot", "observation"), [("Ant", "local"), ("Hopper", "local"), ("HalfCheetah", "paper"), ("Walker2d", "global")]
)
def test_a_fresh_batch_goes_on_bit_for_bit_from_a_saved_state(robot: str, observation: Any) -> None:
    def make(*numbers: int) -> MujocoBatch:
        partition = ROBOTS[robot].partitions[0]
        return MujocoBatch(robot, partition, seeds(*numbers), observation=observation, episode_length=40)

    batch = make(0, 1, 2)
    actions = random_actions(batch, 150)
    for action in actions[:57]:  # in the middle of an episode
        batch.step(action)
    saved = batch.state_dict()
    following = []
    for action in actions[57:]:
        batch.step(action)
        following.append(seen(batch))
    fresh = make(7, 8, 9)
    fresh.load_state_dict(saved)
    resets = 0
    for action, expected in zip(actions[57:], following, strict=True):
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
                assert_same(once.end_state[list(once.ended).index(e)], once.state[e])
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


def test_a_compiled_view_is_the_gather_with_its_clips() -> None:
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body><freejoint/><geom size='1'/></body></worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    before = data.qpos.copy()
    view = compile_view(lambda: np.concatenate([data.qpos[2:4], np.clip(data.qvel[::-1], -10, 5)]), data)
    assert list(view.index) == [2, 3, 12, 11, 10, 9, 8, 7]  # qpos has 7 numbers
    assert list(view.low) == [-np.inf] * 2 + [-10] * 6
    assert list(view.high) == [np.inf] * 2 + [5] * 6
    assert_same(data.qpos, before)


@pytest.mark.parametrize(
    "compute",
    [
        lambda data: data.qpos[:1] + data.qpos[1:2],
        lambda data: (data.qpos[:1] + data.qpos[2:3]) / 2,
        lambda data: data.qpos[:1] - data.qvel[:1],
        lambda data: -data.qpos,
        lambda data: np.abs(data.qpos),
        lambda data: 0.5 * data.qvel,
        lambda data: np.cos(data.qpos),
        lambda data: data.qvel**2,
        lambda data: np.ones(3),
    ],
    ids=["sum", "mean", "difference", "negative", "absolute", "half", "cosine", "square", "constant"],
)
@pytest.mark.parametrize("robot", list(ROBOTS))
def test_an_observation_that_computes_is_refused(robot: str, compute: Callable[[Any], np.ndarray]) -> None:
    data = reference(robot, ROBOTS[robot].partitions[0], 1).single_agent_env.unwrapped.data
    with pytest.raises(NotImplementedError, match="not a gather"):
        compile_view(lambda: compute(data), data)


def test_a_refused_observation_leaves_the_data_as_it_was() -> None:
    data = reference("Hopper", "3x1", 1).single_agent_env.unwrapped.data
    before = data.qpos.copy()
    with pytest.raises(NotImplementedError):
        compile_view(lambda: np.cos(data.qpos), data)
    assert_same(data.qpos, before)


def test_building_an_environment_prints_nothing() -> None:
    code = """
import numpy as np
from bench import tasks
for name in tasks.names():
    tasks.make(tasks.task(name, {}), [np.random.SeedSequence(0)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
