"""The games: what they pay and where they lead, against their tables; what is said of J, against play."""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, stats

from bench.envs.game_batch import GameBatch, RidgeBatch, TableBatch
from bench.envs.games import Ridge, Table, clipped_moments, coordination, driving, random_game

Floats = NDArray[np.float64]
LENGTH = 20
TRANSITION = [0.11809684898409484, 0.0032418891283136435, 0.7191872647955979, 0.07408255000897389, 0.08539144708301973]
INITIAL = [0.03247260351904675, 0.10290195581650732, 0.7868135271734459, 0.0025926249369916344, 0.07521928855400845]


@cache
def game(seed: int = 3) -> Table:
    return random_game(seed, agents=3, states=4, actions=2)


def seeds(count: int, entropy: int = 0) -> list[np.random.SeedSequence]:
    return np.random.SeedSequence(entropy).spawn(count)


def joint(table: Table, policies: Sequence[Floats]) -> Floats:
    """The probability of each joint action in each state; policies N x [S, A_i] -> [S, A_1, ..., A_N]"""
    letters = string.ascii_lowercase[: len(policies)]
    return np.asarray(np.einsum(",".join(f"S{a}" for a in letters) + "->S" + letters, *policies))


def under(table: Table, policies: Sequence[Floats]) -> tuple[Floats, Floats]:
    """The mean reward [S] and the transitions [S, S] of a joint policy."""
    p = joint(table, policies).reshape(table.states, -1)
    transition = table.transition.reshape(table.states, -1, table.states)
    return (p * table.reward.reshape(table.states, -1)).sum(1), np.einsum("sa,sat->st", p, transition)


def discounted(table: Table, policies: Sequence[Floats], gamma: float) -> float:
    """J = initial . V, V = (I - gamma P)^-1 r."""
    reward, transition = under(table, policies)
    return float(table.initial @ np.linalg.solve(np.eye(table.states) - gamma * transition, reward))


def random_policies(table: Table, seed: int) -> list[Floats]:
    random = np.random.default_rng(seed)
    return [random.dirichlet(np.ones(count), size=table.states) for count in table.actions]


def alike(table: Table, *probabilities: float) -> list[Floats]:
    """Agents with two actions that choose 1 with these probabilities in every state."""
    return [np.tile([1 - p, p], (table.states, 1)) for p in probabilities]


def states_of(batch: GameBatch) -> NDArray[np.intp]:
    return np.asarray(batch.state.argmax(axis=1))


def drawn(policies: Sequence[Floats], state: NDArray[np.intp], random: np.random.Generator) -> list[Any]:
    """Actions of agents that look at the state, N x [E, 1]"""
    u = random.random((len(policies), len(state), 1))
    return [
        (x >= policy[state].cumsum(axis=1)[:, :-1]).sum(1, keepdims=True) for x, policy in zip(u, policies, strict=True)
    ]


def at_random(batch: GameBatch, table: Table, random: np.random.Generator) -> list[NDArray[np.int64]]:
    return [random.integers(count, size=(batch.envs, 1)) for count in table.actions]


# Tables


@pytest.mark.parametrize("table", [game(), coordination(4), driving()])
def test_probabilities_of_a_table_add_up_to_one(table: Table) -> None:
    for p in (table.transition, table.initial):
        assert (p >= 0).all()
        np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=1e-15 * 8)
    assert table.transition.shape == (*table.reward.shape, table.states)


def test_a_seed_makes_one_game_for_ever() -> None:
    """Results that are stored go by it: another game needs another VERSION."""
    table = random_game(0, agents=3, states=5, actions=3)
    assert table.reward[0, 0, 0, 0] == 0.6369616873214543
    assert table.transition[4, 2, 1, 0].tolist() == pytest.approx(TRANSITION, rel=1e-14)
    assert table.initial.tolist() == pytest.approx(INITIAL, rel=1e-14)
    other = random_game(1, agents=3, states=5, actions=3)
    assert not np.isclose(table.reward, other.reward).any()


@pytest.mark.parametrize("agents", [2, 4, 6])
def test_coordination_pays_for_two_joint_actions_only(agents: int) -> None:
    half = agents // 2
    paid = {(0,) * half + (1,) * half, (1,) * half + (0,) * half}
    payoff = coordination(agents).reward[0]
    assert {a for a in product((0, 1), repeat=agents) if payoff[a]} == paid
    assert {float(payoff[a]) for a in paid} == {1.0}


@pytest.mark.parametrize("agents", [2, 4, 6])
def test_a_shared_policy_earns_at_most_2_over_2_to_the_n_of_the_optimum(agents: int) -> None:
    table = coordination(agents)
    grid = np.linspace(0, 1, 101)
    J = [discounted(table, alike(table, *[p] * agents), 0.9) for p in grid]
    assert max(J) == pytest.approx(2 / 2**agents, rel=1e-12)
    assert grid[np.argmax(J)] == 0.5
    half = agents // 2
    assert discounted(table, alike(table, *[0.0] * half, *[1.0] * half), 0.9) == 1.0
    assert table.returns(1) == (2 / 2**agents, 1.0)


def test_each_drivers_gradient_is_right_and_the_joint_step_is_wrong() -> None:
    table = driving()

    def J(p: float, q: float) -> float:
        return discounted(table, alike(table, p, q), 0.9)

    def slopes(p: float, q: float) -> tuple[float, float]:  # J is linear in each
        return J(1, q) - J(0, q), J(p, 1) - J(p, 0)

    assert J(0.5, 0.5) == 0.25
    assert slopes(0.5, 0.5) == (0.5, 0.5)
    assert J(1, 0.5) == J(0.5, 1) == 0.5
    assert J(1, 1) == 0.0
    assert slopes(1, 1) == (-1.0, -1.0)
    assert J(2 / 3, 2 / 3) == pytest.approx(1 / 3)
    assert slopes(2 / 3, 2 / 3) == pytest.approx((0, 0), abs=1e-15)
    assert J(1, 0) == J(0, 1) == 1.0


def test_the_best_return_is_that_of_the_best_of_all_policies() -> None:
    """With two steps left, over all deterministic plans that may depend on the step, by enumeration."""
    table = random_game(5, agents=2, states=2, actions=2)
    reward = table.reward.reshape(2, 4)
    transition = table.transition.reshape(2, 4, 2)
    best = 0.0
    for first, last in product(product(range(4), repeat=2), repeat=2):
        V = reward[[0, 1], list(last)]
        V = reward[[0, 1], list(first)] + transition[[0, 1], list(first)] @ V
        best = max(best, float(table.initial @ V))
    assert table.returns(2)[1] == pytest.approx(best, rel=1e-14)


# Batches against tables


def test_a_step_pays_what_the_table_says_and_leads_where_it_may() -> None:
    table, random = game(), np.random.default_rng(0)
    batch = TableBatch(table, seeds(50), episode_length=10**6)
    counts = np.zeros(table.transition.shape)
    for _ in range(2000):
        before, actions = states_of(batch), at_random(batch, table, random)
        batch.step(actions)
        place = (before, *[a[:, 0] for a in actions])
        assert np.array_equal(batch.reward, table.reward[place])
        np.add.at(counts, (*place, states_of(batch)), 1)
    n = counts.sum(axis=-1, keepdims=True)
    z = (counts - n * table.transition) / np.sqrt(n * table.transition * (1 - table.transition))
    assert np.abs(z).max() < 4.5
    assert z.std() == pytest.approx(1, abs=0.15)


def test_everybody_observes_the_state_as_one_of_s() -> None:
    batch = TableBatch(game(), seeds(4000))
    assert batch.team.observation_sizes == (4, 4, 4)
    assert batch.team.state_size == 4
    assert (batch.state.sum(axis=1) == 1).all()
    assert {*states_of(batch).tolist()} == {0, 1, 2, 3}
    assert all(np.array_equal(x, batch.state) for x in batch.observations)


def test_first_states_are_drawn_from_the_initial_distribution() -> None:
    table = game()
    counts = np.bincount(states_of(TableBatch(table, seeds(20_000))), minlength=4)
    assert stats.chisquare(counts, 20_000 * table.initial).pvalue > 1e-3


def test_a_time_limit_truncates_and_keeps_the_true_last_state() -> None:
    table, random = game(), np.random.default_rng(0)
    cut, endless = (TableBatch(table, seeds(30), episode_length=n) for n in (3, 100))
    for step in range(1, 4):
        actions = at_random(cut, table, random)
        cut.step(actions)
        endless.step(actions)
        assert not cut.terminated.any()
        assert cut.truncated.tolist() == [step == 3] * 30
    assert cut.ended.tolist() == [*range(30)]
    assert np.array_equal(cut.end_state, endless.state)
    assert not np.array_equal(cut.state, endless.state)
    cut.step(actions)
    assert len(cut.ended) == len(cut.end_state) == 0


@pytest.mark.parametrize("table", [coordination(4), driving()])
def test_a_game_of_one_step_pays_its_table_terminates_and_shows_nothing(table: Table) -> None:
    plans = np.array([*product((0, 1), repeat=len(table.actions))])
    batch = TableBatch(table, seeds(len(plans)))
    for _ in range(2):
        batch.step([column[:, None].astype(np.float32) for column in plans.T])
        assert batch.reward.tolist() == [table.reward[0][tuple(plan)] for plan in plans]
        assert batch.terminated.all()
        assert not batch.truncated.any()
        assert len(batch.ended) == len(plans)
        assert not batch.state.any()
        assert not batch.end_state.any()


def test_an_action_that_does_not_exist_is_refused() -> None:
    batch = TableBatch(driving(), seeds(1))
    with pytest.raises(ValueError, match="invalid entry"):
        batch.step([np.array([[2.0]]), np.array([[0.0]])])


def test_without_auto_reset_a_game_that_ended_stands_still() -> None:
    table = game()
    batch = TableBatch(table, seeds(3), episode_length=2, auto_reset=False)
    actions = [np.zeros((3, 1))] * 3
    batch.step(actions)
    batch.step(actions)
    last, state = batch.state.copy(), batch.state_dict()
    batch.step(actions)
    assert np.array_equal(batch.state, last)
    assert not batch.reward.any()
    assert not batch.truncated.any()
    assert len(batch.ended) == 0
    assert batch.state_dict()["random"] == state["random"]


def test_an_episode_depends_on_its_own_seed_alone() -> None:
    table, random = game(), np.random.default_rng(0)
    three = TableBatch(table, seeds(3), episode_length=4)
    one = TableBatch(table, seeds(3)[1:2], episode_length=4)
    for _ in range(10):
        actions = at_random(three, table, random)
        three.step(actions)
        one.step([a[1:2] for a in actions])
        assert np.array_equal(three.state[1:2], one.state)
        assert three.reward[1] == one.reward[0]


def test_a_batch_goes_on_to_the_bit() -> None:
    table, random = game(), np.random.default_rng(0)
    batch, fresh = (TableBatch(table, seeds(5, k), episode_length=7) for k in (0, 1))
    for _ in range(10):
        batch.step(at_random(batch, table, random))
    fresh.load_state_dict(batch.state_dict())
    assert np.array_equal(fresh.state, batch.state)
    for _ in range(10):
        actions = at_random(batch, table, random)
        batch.step(actions)
        fresh.step(actions)
        for name in ("state", "reward", "truncated", "ended", "end_state"):
            assert np.array_equal(getattr(batch, name), getattr(fresh, name))


# J against play


@pytest.mark.parametrize("seed", range(3))
def test_the_discounted_return_of_a_random_policy_is_that_of_its_episodes(seed: int) -> None:
    table, gamma, random = game(seed), 0.8, np.random.default_rng(seed)
    policies = random_policies(table, seed)
    batch = TableBatch(table, seeds(2000, seed), episode_length=10**6)
    G = np.zeros(batch.envs)
    for t in range(80):  # 0.8^80 is 2e-8
        batch.step(drawn(policies, states_of(batch), random))
        G += gamma**t * batch.reward
    error = G.std(ddof=1) / np.sqrt(batch.envs)
    assert abs(G.mean() - discounted(table, policies, gamma)) < 4 * error


def test_the_undiscounted_return_of_uniform_actions_is_that_of_their_episodes() -> None:
    table, random = game(), np.random.default_rng(0)
    batch = TableBatch(table, seeds(4000), episode_length=LENGTH)
    G = np.zeros(batch.envs)
    for _ in range(LENGTH):
        batch.step(at_random(batch, table, random))
        G += batch.reward
    assert batch.truncated.all()
    uniform, best = table.returns(LENGTH)
    assert abs(G.mean() - uniform) < 4 * G.std(ddof=1) / np.sqrt(batch.envs)
    assert G.max() > uniform
    assert uniform < best < LENGTH


@pytest.mark.parametrize("table", [coordination(4), driving()])
def test_the_return_of_a_game_of_one_step_does_not_depend_on_gamma(table: Table) -> None:
    random = np.random.default_rng(0)
    policies = random_policies(table, 1)
    J = discounted(table, policies, 0.99)
    np.testing.assert_allclose(discounted(table, policies, 0), J, rtol=1e-12)
    batch = TableBatch(table, seeds(5000))
    batch.step(drawn(policies, np.zeros(5000, np.intp), random))
    assert abs(batch.reward.mean() - J) < 4 * batch.reward.std() / np.sqrt(5000)


# The ridge


def test_the_ridge_pays_nothing_at_its_peak_and_less_everywhere_else() -> None:
    ridge = Ridge(agents=2, steepness=10.0)
    assert ridge.peak.tolist() == [0.75, -0.25]
    assert ridge.reward(ridge.peak) == 0
    assert ridge.reward(np.array([0.75, 0.75])) == -11  # off the ridge by 1: 10 * 1 + 1
    assert ridge.reward(np.array([0.25, 0.25])) == -0.5  # along the ridge
    assert ridge.reward(np.array([3.0, -0.25])) == ridge.reward(np.array([1.0, -0.25]))  # clipped


@pytest.mark.parametrize("agents", [2, 4])
def test_if_all_agents_climb_the_ridge_at_once_the_error_becomes_n_minus_1_times_as_large(agents: int) -> None:
    ridge = Ridge(agents, steepness=1e6)
    a = ridge.peak + 0.01
    best = a - ridge.steepness * (a - ridge.peak).sum() / (1 + ridge.steepness)  # of each while the others stay
    error, after = (a - ridge.peak).sum(), (best - ridge.peak).sum()
    assert after == pytest.approx((1 - agents) * error, rel=1e-4)
    one = a.copy()
    one[0] = best[0]
    assert ridge.reward(one) > ridge.reward(a)
    if agents > 2:
        assert ridge.reward(best) < ridge.reward(a)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.37), (0.9, 0.5), (-2.0, 0.3), (0.3, 3.0), (1.0, 0.01)])
def test_moments_of_a_clipped_gaussian_are_those_of_quadrature(mean: float, std: float) -> None:
    def moment(power: int) -> float:
        density = stats.norm(mean, std)
        inside = integrate.quad(
            lambda x: x**power * density.pdf(x), -1, 1, points=[np.clip(mean, -1, 1)], epsabs=1e-13, limit=200
        )
        return float(inside[0] + density.sf(1) + (-1) ** power * density.cdf(-1))

    first, variance = clipped_moments(mean, std)
    assert first == pytest.approx(moment(1), abs=1e-9)
    assert variance == pytest.approx(moment(2) - moment(1) ** 2, abs=1e-9)


def test_the_return_of_gaussian_policies_and_of_uniform_actions_is_that_of_play() -> None:
    ridge, random = Ridge(agents=3, steepness=4.0), np.random.default_rng(0)
    mean, std = np.array([0.8, -0.3, 0.1]), np.array([0.5, 0.2, 1.0])
    batch = RidgeBatch(ridge, seeds(40_000))
    for actions, J in (
        (mean + std * random.standard_normal((batch.envs, 3)), ridge.J(mean, std)),
        (random.uniform(-1, 1, (batch.envs, 3)), ridge.uniform()),
    ):
        batch.step([column[:, None] for column in actions.T])
        assert batch.terminated.all()
        assert abs(batch.reward.mean() - J) < 4 * batch.reward.std() / 200
