"""The replay buffer: n-step transitions by hand, ends and time limits, the ring, and what it stores."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from helpers import generator, rollout, same, saved_and_loaded, team

from algorithms import Discrete, Rollout, Team
from algorithms.replay_buffer import ReplayBuffer, transition_bytes

ALONE = team((1,), (1,), state=1)


def story(T: int, E: int = 2, first: int = 0, ends: dict[tuple[int, int], str] | None = None) -> Rollout:
    """One agent whose reward at step t of environment e is 100 e + t, and whose state and observation say the same.

    A true successor at an end is that of the step plus 1000.
    """
    kinds = ends or {}
    number = 100.0 * torch.arange(E) + torch.arange(first, first + T + 1)[:, None]
    when = torch.tensor(sorted(kinds), dtype=torch.long).reshape(-1, 2)
    after = torch.tensor([[1000.0 + 100 * e + first + t] for t, e in sorted(kinds)]).reshape(-1, 1)
    flags: dict[str, Any] = {kind: torch.zeros(T, E, dtype=torch.bool) for kind in ("terminated", "truncated")}
    for (t, e), kind in kinds.items():
        flags[kind][t, e] = True
    x = number[..., None]
    return Rollout(
        [x],
        x.clone(),
        [x[:-1] / 1000],
        number[:-1].clone(),
        **flags,
        ends=when,
        end_observations=[after],
        end_state=after,
    )


def drawn(buffer: ReplayBuffer, n: int, gamma: float = 0.5) -> dict[int, tuple[float, float, float]]:
    """By the number that a transition starts with: return, discount and next state, of many samples."""
    batch = buffer.sample(2000, n, gamma, generator())
    assert torch.equal(batch.state, batch.observations[0])
    torch.testing.assert_close(batch.actions[0], batch.state / 1000)
    assert torch.equal(batch.next_state, batch.next_observations[0])
    columns = (batch.state.flatten(), batch.reward_sum, batch.discount, batch.next_state.flatten())
    return {int(s): (r, d, after) for s, r, d, after in zip(*(x.tolist() for x in columns), strict=True)}


def buffer_of(*rollouts: Rollout, rows: int = 50) -> ReplayBuffer:
    buffer = ReplayBuffer(ALONE, 2 * rows, 2)
    for data in rollouts:
        buffer.add(data)
    return buffer


def test_one_step_transitions_hold_the_reward_the_discount_and_the_next_state() -> None:
    got = drawn(buffer_of(story(4)), n=1)
    assert got == {100 * e + t: (100 * e + t, 0.5, 100 * e + t + 1) for e in (0, 1) for t in range(4)}


def test_one_step_transitions_bootstrap_after_a_time_limit_from_the_true_successor_and_not_after_an_end() -> None:
    got = drawn(buffer_of(story(4, ends={(1, 0): "truncated", (2, 1): "terminated"})), n=1)
    assert got[1] == (1, 0.5, 1001)
    assert got[102] == (102, 0.0, 1102)
    assert got[2] == (2, 0.5, 3)


def test_n_step_returns_are_discounted_sums_by_hand() -> None:
    """gamma = 1/2, three steps: r_t + r_{t+1} / 2 + r_{t+2} / 4, then 1/8 of the value at t + 3."""
    got = drawn(buffer_of(story(5)), n=3)
    assert got[0] == (0 + 1 / 2 + 2 / 4, 1 / 8, 3)
    assert got[101] == (101 + 102 / 2 + 103 / 4, 1 / 8, 104)
    assert sorted(got) == [0, 1, 2, 100, 101, 102]


def test_n_step_returns_stop_at_an_end_and_at_a_time_limit() -> None:
    """Step 1 of environment 0 terminates, step 2 of environment 1 is cut; neither mixes in the next episode."""
    got = drawn(buffer_of(story(5, ends={(1, 0): "terminated", (2, 1): "truncated"})), n=3)
    assert got[0] == (0 + 1 / 2, 0.0, 1001)
    assert got[1] == (1, 0.0, 1001)
    assert got[2] == (2 + 3 / 2 + 4 / 4, 1 / 8, 5)
    assert got[100] == (100 + 101 / 2 + 102 / 4, 1 / 8, 1102)
    assert got[101] == (101 + 102 / 2, 1 / 4, 1102)
    assert got[102] == (102, 1 / 2, 1102)


def test_n_step_returns_go_on_from_one_rollout_into_the_next() -> None:
    got = drawn(buffer_of(story(2), story(2, first=2)), n=3)
    assert got[1] == (1 + 2 / 2 + 3 / 4, 1 / 8, 4)


def test_the_ring_overwrites_the_oldest_and_no_window_crosses_the_write_position() -> None:
    """Four rows, six steps: rows 4, 5, 2, 3; a window from 4 or 5 over the write position would mix 5 with 2."""
    buffer = buffer_of(story(3), story(3, first=3), rows=4)
    assert buffer.filled == 4
    assert {start: row[0] for start, row in drawn(buffer, n=1, gamma=1.0).items() if start < 100} == {
        t: t for t in (2, 3, 4, 5)
    }
    windows = {start: row[0] for start, row in drawn(buffer, n=3, gamma=1.0).items() if start < 100}
    assert windows == {2: 2 + 3 + 4, 3: 3 + 4 + 5}


def test_of_a_rollout_longer_than_the_ring_the_end_is_kept() -> None:
    assert sorted(drawn(buffer_of(story(7, ends={(5, 0): "truncated"}), rows=3), n=1)) == [4, 5, 6, 104, 105, 106]


def test_a_ring_that_is_not_full_gives_only_what_it_holds() -> None:
    assert sorted(drawn(buffer_of(story(2)), n=2)) == [0, 100]


def test_a_loaded_ring_draws_the_same_and_goes_on_the_same() -> None:
    ours, theirs = buffer_of(story(3), story(3, first=3), rows=4), buffer_of(rows=4)
    theirs.load_state_dict(saved_and_loaded(ours.state_dict()))
    assert drawn(ours, n=2) == drawn(theirs, n=2)
    for buffer in (ours, theirs):
        buffer.add(story(3, first=6))
    assert drawn(ours, n=2) == drawn(theirs, n=2)


def echoes(T: int = 6, seed: int = 0) -> tuple[Team, Rollout]:
    """Two agents, one seeing the state backwards and one a number of its own besides, and random steps of theirs."""
    plain = team((2, 2), (1, 2), state=2)
    data = rollout(plain, seed, T, E=3, ending=0.4)
    for state, (first, second) in (
        (data.state, data.observations),
        (data.end_state, data.end_observations),
    ):
        first.copy_(state.flip(-1))
        second[..., 0] = state[..., 1]
    return dataclasses.replace(plain, first_equal_feature=(0, 1, 1, 0, 1, 5)), data


@pytest.mark.parametrize("n", [1, 3])
def test_features_that_repeat_others_are_stored_once_and_sampled_as_they_were(n: int) -> None:
    members, _ = echoes()
    whole = ReplayBuffer(dataclasses.replace(members, first_equal_feature=()), 12, 3)
    sparing = ReplayBuffer(members, 12, 3)
    for k in range(3):
        data = echoes(seed=k)[1]
        for buffer in (whole, sparing):
            buffer.add(data)
    assert (whole.features.shape[-1], sparing.features.shape[-1]) == (6, 3)
    ours, theirs = (vars(buffer.sample(500, n, 0.5, generator())) for buffer in (sparing, whole))
    for name, x in ours.items():
        y = theirs[name]
        if x is not None and x != [None, None]:  # there are no masks, and nobody leaves
            assert same(x, y) if isinstance(x, list) else torch.equal(x, y), name


def test_the_ends_of_episodes_leave_the_replay_with_their_rows() -> None:
    buffer = buffer_of(rows=4)
    for first in range(0, 40, 2):
        buffer.add(story(2, first=first, ends={(0, 1): "terminated", (1, 0): "truncated"}))
        assert buffer.end_features[:, 0].tolist() == [
            x for k in (first - 2, first) if k >= 0 for x in (1100.0 + k, 1000.0 + k + 1)
        ]
    assert drawn(buffer, n=1)[139] == (139, 0.5, 140)


def test_a_transition_takes_the_memory_that_is_foretold() -> None:
    members, _ = echoes()
    buffer = ReplayBuffer(members, 300, 3)
    stored = (buffer.features, buffer.actions, buffer.reward, buffer.terminated, buffer.ended)
    assert sum(x.nbytes for x in stored) == transition_bytes(members) * 101 * 3
    assert transition_bytes(members) == 4 * (3 + 3 + 1) + 2


def test_actions_stored_in_the_replay_are_those_that_the_environment_saw() -> None:
    data = story(2)
    data.actions = [torch.tensor([[[3.0], [-2.0]], [[0.5], [1.0]]])]
    buffer = ReplayBuffer(ALONE, 4, 2)
    buffer.add(data)
    assert buffer.actions[:2].flatten().tolist() == [1, -1, 0.5, 1]


def test_a_rollout_of_another_number_of_environments_is_refused() -> None:
    members = team()
    replay = ReplayBuffer(members, 30, 3)
    with pytest.raises(ValueError, match="a rollout of 1 environments for a replay buffer of 3"):
        replay.add(rollout(members, E=1))


def test_more_than_256_choices_are_stored_as_they_are() -> None:
    members = team((1,), (Discrete((300,)),), state=1)
    data = rollout(members)
    data.actions[0].fill_(299.0)
    buffer = ReplayBuffer(members, 90, 3)
    buffer.add(data)
    assert set(buffer.sample(20, 1, 0.9, generator()).actions[0].flatten().tolist()) == {299.0}


@pytest.mark.parametrize("rows", [4, 20])
def test_the_state_of_a_ring_of_another_size_is_refused(rows: int) -> None:
    """Rows of a smaller ring would be at other times, and rows that were never written would be drawn."""
    members = team()
    one, other = ReplayBuffer(members, 9 * 3, 3), ReplayBuffer(members, rows * 3, 3)
    for seed in range(2):
        one.add(rollout(members, seed))
    with pytest.raises(ValueError, match=f"not that of a replay buffer of {rows} rows of 3 environments"):
        other.load_state_dict(one.state_dict())
    assert other.added == 0
