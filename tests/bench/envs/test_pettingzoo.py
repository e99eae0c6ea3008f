"""PettingZoo environments as a batch: the same numbers as the bare environment, and what is refused."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import gymnasium.spaces.utils
import numpy as np
import own_envs
import pytest
import torch
from gymnasium import spaces
from mpe2 import simple_reference_v3, simple_speaker_listener_v4, simple_spread_v3
from pettingzoo.utils import BaseParallelWrapper

from algorithms import Continuous, Discrete
from bench.envs import mujoco
from bench.envs.errors import EnvError
from bench.envs.parallel import ParallelBatch
from bench.envs.random_play import random_action, random_actions
from bench.envs.spaces import control, sense, write_mask
from bench.trial.collect import Collector, play

PARTICLES = {
    f"{module.__name__}-{continuous}": partial(module.parallel_env, continuous_actions=continuous)
    for module in (simple_spread_v3, simple_reference_v3, simple_speaker_listener_v4)
    for continuous in (False, True)
}
MAKERS: dict[str, Callable[..., Any]] = {
    **PARTICLES,
    "plain": own_envs.Plain,
    "early": own_envs.Early,
    "choosing": own_envs.Choosing,
}


def batch(make: Callable[..., Any], count: int = 2, entropy: int = 0, **options: Any) -> ParallelBatch:
    return ParallelBatch(make, np.random.SeedSequence(entropy).spawn(count), **options)


def zeros(made: ParallelBatch) -> list[np.ndarray]:
    return [np.zeros((made.envs, space.size), np.float32) for space in made.team.action_spaces]


def walk(made: ParallelBatch, steps: int) -> None:
    random = np.random.default_rng(0)
    for _ in range(steps):
        made.step(random_actions(made, random))


# Spaces

SPACES = {
    "box": (spaces.Box(-1, 1, (2, 3), np.float32), 6),
    "choice": (spaces.Discrete(4, start=3), 4),
    "flags": (spaces.MultiBinary(5), 5),
    "choices": (spaces.MultiDiscrete([2, 3]), 5),
    "tuple": (spaces.Tuple((spaces.Discrete(2), spaces.Box(0, 1, (2,), np.float32))), 4),
    "dict": (spaces.Dict(b=spaces.Discrete(3), a=spaces.Box(0, 9, (1,), np.float64)), 4),
}


@pytest.mark.parametrize(("space", "size"), SPACES.values(), ids=SPACES)
def test_an_observation_is_flattened_as_gymnasium_does(space: spaces.Space[Any], size: int) -> None:
    space.seed(0)
    made = sense(space)
    assert made.size == size
    for _ in range(5):
        sample, row = space.sample(), np.full(size, 7, np.float32)
        made.write(row, sample)
        np.testing.assert_array_equal(row, np.asarray(gymnasium.spaces.utils.flatten(space, sample), np.float32))


def test_an_observed_choice_is_one_hot_counted_from_its_start() -> None:
    row = np.ones(4, np.float32)
    sense(spaces.Discrete(4, start=3)).write(row, 5)
    assert row.tolist() == [0, 0, 1, 0]
    with pytest.raises(ValueError, match="3 to 6"):
        sense(spaces.Discrete(4, start=3)).write(row, 2)


def test_a_mask_is_no_part_of_the_observation() -> None:
    plain = spaces.Box(-1, 1, (2,), np.float32)
    made = sense(spaces.Dict(observation=plain, action_mask=spaces.MultiBinary(3)))
    row = np.zeros(2, np.float32)
    made.write(row, {"observation": np.array([1, 2], np.float32), "action_mask": np.ones(3, np.int8)})
    assert (made.size, made.masked, row.tolist()) == (2, True, [1, 2])
    more = sense(spaces.Dict(observation=plain, goal=spaces.Discrete(3), action_mask=spaces.MultiBinary(3)))
    assert (more.size, more.masked) == (5, True)


def test_a_shorter_observation_is_not_stretched() -> None:
    with pytest.raises(ValueError, match=r"shape \(1,\), its space \(3,\)"):
        sense(spaces.Box(0, 1, (3,), np.float32)).write(np.zeros(3, np.float32), np.zeros(1, np.float32))


def test_a_space_without_a_size_is_refused() -> None:
    with pytest.raises(ValueError, match="no fixed number"):
        sense(spaces.Sequence(spaces.Discrete(2)))


def test_actions_from_minus_one_to_one_span_a_boxs_bounds() -> None:
    made = control(spaces.Box(np.array([[0.0, -2.0]], np.float32), np.array([[1.0, 6.0]], np.float32)))
    assert made.space == Continuous(2)
    actions = made.convert(np.array([[-1, -1], [0, 0], [1, 1], [-9, 9]], np.float32))
    assert [x.tolist() for x in actions] == [[[0, -2]], [[0.5, 2]], [[1, 6]], [[0, 6]]]
    assert {(x.dtype, x.shape) for x in actions} == {(np.dtype(np.float32), (1, 2))}


def test_choices_count_from_their_start() -> None:
    one = control(spaces.Discrete(3, start=-1))
    assert one.space == Discrete((3,))
    assert one.convert(np.array([[0], [2]], np.float32)) == [-1, 1]
    many = control(spaces.MultiDiscrete([[2, 3]], start=[[0, 5]]))  # type: ignore[list-item]
    assert many.space == Discrete((2, 3))
    assert many.convert(np.array([[1, 2]], np.float32))[0].tolist() == [[1, 7]]
    flags = control(spaces.MultiBinary((2, 2)))
    assert flags.space == Discrete((2, 2, 2, 2))
    assert flags.convert(np.array([[1, 0, 0, 1]], np.float32))[0].tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("space", [spaces.Discrete(3, start=4), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)])
def test_every_random_action_is_in_its_space(space: spaces.Space[Any]) -> None:
    made = control(space)
    actions = made.convert(random_action(made.space, None, 50, np.random.default_rng(0)))
    assert all(space.contains(action) for action in actions)
    assert len({str(action) for action in actions}) > 2


@pytest.mark.parametrize(
    ("space", "complaint"),
    [
        (spaces.Box(-np.inf, 1, (1,), np.float32), "finite bounds"),
        (spaces.Box(0, 255, (1,), np.uint8), "valid: Box of floats"),
        (spaces.Tuple((spaces.Discrete(2),)), "valid: Box of floats"),
    ],
)
def test_actions_that_no_policy_can_take_are_refused(space: spaces.Space[Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        control(space)


def test_a_mask_may_be_one_array_or_one_for_each_component() -> None:
    row = np.zeros(5, np.bool_)
    write_mask(row, (np.array([1, 0], np.int8), np.array([0, 1, 1], np.int8)))
    assert row.tolist() == [True, False, False, True, True]
    write_mask(row, np.array([0, 1, 1, 0, 0]))
    assert row.tolist() == [False, True, True, False, False]


def test_a_random_action_obeys_its_mask() -> None:
    mask = np.array([[True, False, True, False, False, True]])
    actions = [random_action(Discrete((3, 3)), mask, 1, np.random.default_rng(k))[0].tolist() for k in range(50)]
    assert {tuple(action) for action in actions} == {(0.0, 2.0), (2.0, 2.0)}


# Against the bare environment


def expected_row(environment: Any, name: str, seen: Any) -> np.ndarray:
    plain = seen["observation"] if isinstance(seen, dict) else seen
    return np.asarray(plain, np.float32).reshape(-1)


@pytest.mark.parametrize("name", MAKERS)
def test_a_batch_says_what_the_bare_environment_says_across_resets(name: str) -> None:
    made, random = batch(MAKERS[name], 3), np.random.default_rng(0)
    bare = [MAKERS[name]() for _ in range(3)]
    for environment, seed in zip(bare, made.seeds, strict=True):
        environment.reset(seed=int(seed))
    ends = 0
    for _ in range(60):
        actions, seeds = random_actions(made, random), made.seeds.copy()
        converted = made.converted(np.concatenate(actions, axis=1))
        made.step(actions)
        for e, environment in enumerate(bare):
            acted = list(environment.agents)
            seen, reward, _, truncated, _ = environment.step(
                {agent: converted[made.agents.index(agent)][e] for agent in acted}
            )
            assert made.reward[e] == sum(reward[agent] for agent in acted) / len(acted)
            assert (e in made.ended) == (not environment.agents)
            if not environment.agents:
                ends += 1
                k = made.ended.tolist().index(e)
                assert made.truncated[e] == any(truncated.values())
                assert made.terminated[e] == (not made.truncated[e])
                for i, agent in enumerate(made.agents):
                    row = expected_row(environment, agent, seen[agent]) if truncated.get(agent) else 0
                    np.testing.assert_array_equal(made.end_observations[i][k], row)
                assert made.seeds[e] != seeds[e]
                seen, _ = environment.reset(seed=int(made.seeds[e]))
            for i, agent in enumerate(made.agents):
                there = agent in environment.agents
                row = expected_row(environment, agent, seen[agent]) if there else 0
                np.testing.assert_array_equal(made.observations[i][e], row)
                assert made.active is not None
                assert made.active[e, i] == there
                if made.masks is not None and (mask := made.masks[i]) is not None:
                    assert mask[e].tolist() == (seen[agent]["action_mask"] > 0).tolist()
    assert ends >= 6


@pytest.mark.parametrize("make", PARTICLES.values(), ids=PARTICLES)
def test_mpe2s_states_are_all_observations(make: Callable[..., Any]) -> None:
    own, ours = batch(make, own_state=True), batch(make, own_state=False)
    random = np.random.default_rng(0)
    for _ in range(30):
        np.testing.assert_array_equal(own.state, ours.state)
        np.testing.assert_array_equal(ours.state, np.concatenate(ours.observations, axis=1))
        actions = random_actions(own, random)
        own.step(actions)
        ours.step(actions)


def test_what_equals_what_is_told_where_the_state_is_all_observations() -> None:
    assert batch(own_envs.Plain).team.first_equal_feature == (0, 1, 2, 3, 0, 1, 2, 3)
    assert batch(PARTICLES["mpe2.simple_spread_v3-False"]).team.first_equal_feature == ()


def test_the_team_has_the_sizes_of_its_agents() -> None:
    team = batch(PARTICLES["mpe2.simple_speaker_listener_v4-False"], leaves=False).team
    assert (team.observation_sizes, team.action_spaces) == ((3, 11), (Discrete((3,)), Discrete((5,))))
    assert (team.state_size, team.agents_leave, team.has_mask) == (14, False, ())
    masked = batch(own_envs.Choosing).team
    assert (masked.action_spaces, masked.has_mask) == ((Discrete((3,)), Discrete((2, 3))), (True, False))


def test_a_batch_is_as_many_batches_of_one() -> None:
    seeds = np.random.SeedSequence(3).spawn(3)
    many, ones = ParallelBatch(own_envs.Plain, seeds), [ParallelBatch(own_envs.Plain, [seed]) for seed in seeds]
    random = np.random.default_rng(0)
    for _ in range(30):
        actions = random_actions(many, random)
        many.step(actions)
        for e, one in enumerate(ones):
            one.step([x[e : e + 1] for x in actions])
            assert one.reward[0] == many.reward[e]
            np.testing.assert_array_equal(one.state[0], many.state[e])


# Ends


def test_who_left_observes_zeros_and_earns_nothing() -> None:
    """`a` dies at step 4, `b` is cut off at step 12."""
    made = batch(own_envs.Early, 1)
    for step in range(1, 13):
        made.step(zeros(made))
        assert made.active is not None
        expected = [True, True] if step < 4 or step == 12 else [False, True]
        assert made.active[0].tolist() == expected
        assert bool(made.observations[0].any()) == expected[0]
        if step > 4:
            assert made.reward[0] == made.environments[0].x["b"] or step == 12
    assert made.ended.tolist() == [0]
    assert (made.truncated[0], made.terminated[0]) == (True, False)
    assert made.end_active is not None
    assert made.end_active.tolist() == [[False, True]]
    assert not made.end_observations[0].any()
    assert made.end_observations[1].any()
    made.step(zeros(made))
    assert len(made.ended) == len(made.end_active) == len(made.end_observations[0]) == 0


class Dying(own_envs.Plain):
    def leaving(self) -> dict[str, str]:
        return dict.fromkeys(self.agents, "terminated" if self.time == 3 else "")


def test_when_all_are_terminated_so_is_the_episode() -> None:
    made = batch(Dying, 1)
    for _ in range(3):
        made.step(zeros(made))
    assert (made.truncated[0], made.terminated[0]) == (False, True)
    assert made.end_active is not None
    assert not made.end_active.any()


class Both(own_envs.Plain):
    """Says of each agent that it is terminated and truncated."""

    def step(self, actions: dict[str, Any]) -> own_envs.Answers:
        answers = super().step(actions)
        answers[2].update(answers[3])
        return answers


def test_who_is_terminated_was_not_cut_off() -> None:
    made = batch(Both, 1)
    for _ in range(own_envs.TIMER):
        made.step(zeros(made))
    assert (made.truncated[0], made.terminated[0]) == (False, True)


@pytest.mark.parametrize("length", [3, own_envs.TIMER, 50])
def test_an_episode_is_cut_at_its_limit_or_by_itself(length: int) -> None:
    made, steps = batch(own_envs.Plain, 1, episode_length=length), 0
    while not len(made.ended):
        made.step(zeros(made))
        steps += 1
    assert steps == min(length, own_envs.TIMER)
    assert made.truncated[0]
    assert made.end_active is not None
    assert made.end_active.all()
    assert made.end_observations[0].any()


def test_without_reset_an_environment_that_ended_is_left_as_it_is() -> None:
    made = batch(own_envs.Plain, 2, auto_reset=False)
    for _ in range(own_envs.TIMER):
        made.step(zeros(made))
    assert made.ended.tolist() == [0, 1]
    time = made.environments[0].time
    made.step(zeros(made))
    assert (made.environments[0].time, len(made.ended)) == (time, 0)


def test_nobody_may_leave_where_nobody_leaves() -> None:
    made = batch(own_envs.Early, 1, leaves=False)
    with pytest.raises(EnvError, match="environment 0: agent a is not there before the episode's end"):
        walk(made, 5)


# What is refused


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("WrongShape", r"environment 0, agent a: observation has shape \(1,\), its space \(2,\)"),
        ("NoObservation", "environment 0, agent b: no observation"),
        ("NoReward", "environment 0: agent b acted and got no reward"),
        ("NoTermination", "environment 0: agent b acted and got no termination"),
        ("FourAnswers", "environment 0: step must return observations, rewards"),
        ("NaNObservation", r"environment 0, agent b: observation\[0\] is nan"),
        ("NaNReward", "environment 0, agent b: reward is nan"),
        ("LargeReward", r"environment 0, agent b: reward is 1e\+300, beyond 1e\+18"),
        ("LargeObservation", r"environment 0, agent b: observation\[0\] is [0-9.]+e\+3[01], beyond 1e\+18"),
        ("ListObservation", "environment 0, agent a: observation is no array but list"),
        ("NothingSeen", "the observation space of agent a: .* has no numbers at all"),
        ("NoInfos", "^reset must return observations and infos, a dict of agents each"),
        ("HalfMask", "agent a: observation action_mask has values other than 0 and 1"),
        ("Raising", r"environment 0: step raised KeyError: 'nine' \(.*own_envs.py:\d+\)"),
        ("Exiting", r"environment 0: step raised SystemExit: 3 \(.*own_envs.py:\d+\)"),
        ("Stranger", "environment 0: agent c appeared, which is none of possible_agents"),
        ("NothingAllowed", "environment 0, agent a: action_mask allows nothing"),
        ("ShortMask", "agent a: observation action_mask has 2 numbers for 3 choices"),
        ("Unbounded", "the action space of agent a: .* has no finite bounds"),
        ("BrokenState", r"environment 0: state raised ValueError: need at .* \(.*own_envs.py:\d+\) at step 12"),
        ("NoneState", "^state holds None, which is no number"),
        ("EmptyState", "^state has no numbers at all"),
        (
            "MistakenState",
            r"^state raised AttributeError: 'MistakenState' .* has no attribute 'y' \(.*own_envs.py:",
        ),
        ("WordState", "^state holds 'north', which is no number"),
        ("Stays", r"environment 0: a was terminated or truncated at step 4 of seed \d+ and is still in agents"),
        ("Silent", r"environment 0: a left at step 3 of seed \d+ and was neither terminated nor truncated"),
        ("Back", r"environment 0: a came back at step 6 of seed \d+"),
        ("Twice", r"environment 0: b is in agents twice at step 4 of seed \d+"),
        ("Fewer", r"environment 0: agent a is not there after the reset to seed \d+, and is one of possible_agents"),
        ("Shared", r"environment 0: possible_agents were \['a', 'b'\] and became \['b'\], after the reset to seed \d+"),
        ("Defaulted", r"environment 0: agent b acted and got no reward at step 1 of seed \d+"),
        ("Cancelling", r"environment 0, agent a: reward is 2e\+18, beyond 1e\+18 at step 1 of seed \d+"),
        ("TextReward", r"environment 0, agent a: reward is no number but '1.0' at step 1 of seed \d+"),
        ("NoFlag", r"environment 0, agent b: termination is no number but None at step 1 of seed \d+"),
        ("LateInfo", r"environment 0, agent a: info lacks action_mask at step 12 of seed \d+"),
        ("InfoOfSome", r"environment 0, agent b: no info at step 1 of seed \d+"),
        ("Pet", "Pet is no pettingzoo.ParallelEnv"),
    ],
)
def test_what_is_broken_is_refused_by_name(name: str, complaint: str) -> None:
    with pytest.raises(EnvError, match=complaint):
        walk(batch(getattr(own_envs, name)), 2 * own_envs.TIMER)


@pytest.mark.parametrize(("name", "reward"), [("SmallIntegers", 100.0), ("Half", 30000.0)])
def test_rewards_are_added_up_in_double_precision(name: str, reward: float) -> None:
    made = batch(getattr(own_envs, name))
    walk(made, 1)
    assert made.reward.tolist() == [reward, reward]


def test_a_state_in_parts_is_laid_in_a_row_by_its_keys() -> None:
    made = batch(own_envs.DictState, 1)
    walk(made, 3)
    x = [np.float32(place) for place in made.environments[0].x.values()]
    assert made.own_state
    assert made.state.tolist() == [[*x, 1.0, 2.0, 3.0]]


@pytest.mark.parametrize("wrap", [own_envs.AttributeState, lambda: BaseParallelWrapper(own_envs.AttributeState())])
def test_an_attribute_called_state_is_no_state_also_below_a_wrapper(wrap: Callable[..., Any]) -> None:
    made = batch(wrap)
    walk(made, 2)
    assert not made.own_state


def test_a_wrapper_may_have_a_state_where_what_it_wraps_has_an_attribute() -> None:
    class Own(BaseParallelWrapper):
        def state(self) -> Any:
            return np.ones(3)

    assert batch(lambda: Own(own_envs.AttributeState())).state.tolist() == [[1, 1, 1]] * 2


def test_a_list_of_agents_that_is_emptied_later_does_no_harm() -> None:
    walk(batch(own_envs.Emptied), 2 * own_envs.TIMER)


def test_every_environment_is_closed_also_where_one_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(batch(own_envs.Counted, 3)):
        assert own_envs.Counted.open == 3
    assert own_envs.Counted.open == 0
    monkeypatch.setattr(own_envs.Counted, "fails_at", 3)
    with pytest.raises(RuntimeError, match="one too many"):
        batch(own_envs.Counted, 4)
    assert own_envs.Counted.open == 0


def test_an_environment_that_cannot_be_closed_hinders_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    class Stuck(own_envs.Counted):
        def close(self) -> None:
            super().close()
            raise OSError("stuck")

    batch(Stuck, 2).close()
    assert own_envs.Counted.open == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"Stuck: close raised OSError: stuck \(.*test_pettingzoo.py:\d+\)", line)


def test_what_close_raises_does_not_hide_the_first_error() -> None:
    class Both(own_envs.Opening):
        def step(self, actions: dict[str, Any]) -> Any:
            raise ValueError("the first")

    with pytest.raises(EnvError, match="step raised ValueError: the first"), closing(batch(Both, 2)) as made:
        walk(made, 1)


def test_an_interrupted_construction_closes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Any, seed: int | None = None, options: Any = None) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(own_envs.Counted, "reset", interrupted)
    with pytest.raises(KeyboardInterrupt):
        batch(own_envs.Counted, 3)
    assert own_envs.Counted.open == 0


def test_a_whole_number_of_another_kind_than_its_space_is_no_choice() -> None:
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        sense(spaces.Discrete(4)).write(np.zeros(4, np.float32), np.float32(2.7))


def test_a_single_number_is_not_stretched_over_a_flattened_space() -> None:
    space = spaces.Dict(a=spaces.Box(0, 1, (2,), np.float32))
    with pytest.raises(ValueError, match="has 1 numbers, its space 2"):
        sense(space).write(np.zeros(2, np.float32), {"a": np.zeros(1, np.float32)})


def test_mujoco_s_environment_is_closed_with_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Any] = []
    monkeypatch.setattr(mujoco, "close", closed.append)
    mujoco.MujocoBatch("Hopper", "3x1", np.random.SeedSequence(0).spawn(1)).close()
    monkeypatch.setattr(mujoco.MujocoBatch, "_begin_all", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mujoco.MujocoBatch("Hopper", "3x1", np.random.SeedSequence(0).spawn(1))
    assert len(closed) == 2


def test_copies_that_differ_are_refused() -> None:
    sizes = iter([2, 3])
    with pytest.raises(EnvError, match="spaces of agent a differ between two copies"):
        batch(lambda: own_envs.Plain(next(sizes)))


# Resume


def stored(made: ParallelBatch) -> dict[str, Any]:
    """Its state as a checkpoint stores and reads it."""
    file = io.BytesIO()
    state = made.state_dict()
    torch.save({k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in state.items()}, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("steps", [0, 7, 31])
def test_a_fresh_batch_goes_on_bit_for_bit(name: str, steps: int) -> None:
    made, random = batch(MAKERS[name], 2), np.random.default_rng(1)
    for _ in range(steps):
        made.step(random_actions(made, random))
    fresh = batch(MAKERS[name], 2, entropy=9)
    fresh.load_state_dict(stored(made))
    for _ in range(30):
        actions = random_actions(made, random)
        for each in (made, fresh):
            each.step(actions)
        np.testing.assert_array_equal(made.state, fresh.state)
        np.testing.assert_array_equal(made.reward, fresh.reward)
        np.testing.assert_array_equal(made.active, fresh.active)
        assert made.ended.tolist() == fresh.ended.tolist()
    assert made.seeds.tolist() == fresh.seeds.tolist()
    assert len(made.state_dict()["actions"]) <= 25


def test_an_episode_that_cannot_be_played_again_is_refused() -> None:
    made = batch(own_envs.Chance)
    for _ in range(5):
        made.step(zeros(made))
    with pytest.raises(EnvError, match="went another way when it was played again"):
        batch(own_envs.Chance).load_state_dict(made.state_dict())


# Learners


class Fixed:
    """A learner that does 1 wherever it can, and keeps what it was told."""

    def __init__(self, made: ParallelBatch):
        self.made, self.masks = made, []  # type: ignore[var-annotated]

    def act(self, observations: Sequence[torch.Tensor], explore: bool, masks: Any = None) -> list[torch.Tensor]:
        self.masks.append(masks)
        random = np.random.default_rng(len(self.masks))
        return [torch.from_numpy(x + 0.25 * isinstance(s, Continuous)) for x, s in self.chosen(random)]

    def chosen(self, random: np.random.Generator) -> Any:
        return zip(random_actions(self.made, random), self.made.team.action_spaces, strict=True)


def test_a_rollout_holds_who_was_there() -> None:
    made = batch(own_envs.Early, 2)
    rollout = Collector(made, 20).collect(Fixed(made))  # type: ignore[arg-type]
    assert rollout.active is not None
    assert rollout.end_active is not None
    alone = [4 <= t < 12 or t >= 16 for t in range(21)]
    assert rollout.active[:, 0].tolist() == [[not left, True] for left in alone]
    assert not rollout.actions[0][4:12].any()
    assert rollout.actions[0][:4].all()
    assert rollout.ends.tolist() == [[11, 0], [11, 1]]
    assert rollout.end_active.tolist() == [[False, True]] * 2
    assert rollout.masks is rollout.end_masks is None


def test_a_rollout_holds_the_masks_that_its_actions_obey() -> None:
    made = batch(own_envs.Choosing, 3)
    learner = Fixed(made)
    rollout = Collector(made, 20).collect(learner)  # type: ignore[arg-type]
    assert rollout.masks is not None
    assert rollout.end_masks is not None
    assert rollout.masks[1] is rollout.end_masks[1] is None
    assert rollout.masks[0].shape == (21, 3, 3)  # type: ignore[union-attr]
    assert rollout.end_masks[0].shape == (3, 3)  # type: ignore[union-attr]
    chosen = rollout.actions[0].long()
    assert rollout.masks[0][:-1].gather(2, chosen).all()  # type: ignore[index]


def test_an_evaluation_passes_masks() -> None:
    made = batch(own_envs.Choosing, 2, auto_reset=False)
    learner = Fixed(made)
    played = play(learner, made)  # type: ignore[arg-type]
    assert played.lengths.tolist() == [own_envs.TIMER] * 2
    assert all(masks[0].dtype == torch.bool and masks[1] is None for masks in learner.masks)
