"""Multi-agent trust-region learning on finite games: the lemmas of Kuba et al. 2022 hold, and the code is theirs.

A property is checked on 100 random games, and on 1000 with `-m long`, the same ones in every run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations, product
from math import log, sqrt

import pytest
import torch
from helpers import generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from algorithms.exact import (
    Game,
    JointPolicy,
    action_values,
    average,
    compound_advantage,
    expected_advantage,
    expected_return,
    kl,
    kl_max,
    lower_bound,
    maximise_penalised,
    maximise_within,
    multi_agent_advantage,
    multi_agent_values,
    penalty_coefficient,
    sequential_update,
    simultaneous_update,
    state_distribution,
    state_values,
    surrogate,
)

DRIVERS = [[-2.0, 2.0], [2.0, -1.0]]
"""Two drivers before a tree. Straight on they hit it (-2), one of them turning passes it (2), both turning is nearly as
bad (-1). Found among the 2 x 2 games with rewards from -2 to 2, as the one whose return falls most."""

DRIVERS_DELTA = 0.2

BY_COUNT = [-1.0, 2.0, -1.0, -1.0]
"""The reward of three agents of whom k act, k = 0, ..., 3: one must, and only one. Found by search, too."""

# Random games


@dataclass
class Case:
    """A game, two joint policies for it, and an order of its agents."""

    game: Game
    old: list[Tensor]
    new: list[Tensor]
    order: list[int]
    random: torch.Generator

    @property
    def n(self) -> int:
        return len(self.order)

    @property
    def scale(self) -> float:
        """The largest value that the game can have."""
        return float(self.game.reward.abs().max()) / (1 - self.game.gamma)


def normal(random: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=random, dtype=torch.float64)


def random_policy(game: Game, random: torch.Generator, sharpness: float = 1) -> list[Tensor]:
    return [(sharpness * normal(random, len(game.initial), a)).softmax(-1) for a in game.actions]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """1 to 4 agents of 2 or 3 actions, 1 to 5 states, from even to almost deterministic; new policies near and far."""
    actions = draw(st.lists(st.integers(2, 3), min_size=1, max_size=4))
    S, gamma = draw(st.integers(1, 5)), draw(st.sampled_from([0.0, 0.02, 0.1, 0.5, 0.9, 0.99]))
    sharpness, distance = draw(st.sampled_from([0.5, 1, 4])), draw(st.sampled_from([1e-3, 0.1, 1]))
    order = draw(st.permutations(range(len(actions))))
    random = generator(draw(st.integers(0, 2**31)))
    transition = (sharpness * normal(random, S, *actions, S)).softmax(-1)
    game = Game(transition, normal(random, S, *actions), normal(random, S).softmax(-1), gamma)
    old, other = random_policy(game, random, sharpness), random_policy(game, random, sharpness)
    new = [(1 - distance) * p + distance * q for p, q in zip(old, other, strict=True)]
    return Case(game, old, new, [*order], random)


def on_random_games(holds: Callable[[Case], None]) -> Callable[[int], None]:
    """The test that `holds` raises for no case."""

    @pytest.mark.parametrize("examples", [100, pytest.param(1000, marks=pytest.mark.long)])
    def test(examples: int) -> None:
        settings(max_examples=examples, derandomize=True, deadline=None)(given(cases())(holds))()

    test.__name__, test.__doc__ = holds.__name__, holds.__doc__
    return test


def close(found: Tensor | float, expected: Tensor | float, tolerance: float = 1e-10) -> None:
    """Absolutely and relatively."""
    found, expected = (torch.as_tensor(x, dtype=torch.float64) for x in (found, expected))
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def every(old: JointPolicy, new: JointPolicy, agents: list[int]) -> list[Tensor]:
    """The joint policy in which these agents have their new policies and the rest their old ones."""
    return [new[i] if i in agents else old[i] for i in range(len(old))]


def joint(policies: JointPolicy) -> Tensor:
    """[S, A_1, ..., A_n], written out action by action."""
    S, sizes = len(policies[0]), [p.shape[1] for p in policies]
    table = torch.ones(S, *sizes, dtype=torch.float64)
    for s, a in product(range(S), product(*map(range, sizes))):
        for policy, action in zip(policies, a, strict=True):
            table[s, *a] *= policy[s, action]
    return table


def per_state(table: Tensor) -> Tensor:
    """The sum over all joint actions.  [S, ...] -> [S]"""
    return table.flatten(1).sum(1)


# Values


@on_random_games
def test_values_returns_and_state_distributions_are_those_of_long_rollouts(case: Case) -> None:
    """V <- r + gamma P V and rho <- initial + gamma P^T rho, until gamma^t is 1e-14."""
    game, weights = case.game, joint(case.old)
    r = per_state(weights * game.reward)
    P = torch.stack([per_state(weights * game.transition[..., s]) for s in range(len(r))], dim=1)
    V, discounted, now, J = torch.zeros_like(r), torch.zeros_like(r), game.initial, 0.0
    for t in range(1 if game.gamma == 0 else int(log(1e-14) / log(game.gamma)) + 1):
        V = r + game.gamma * P @ V
        discounted = discounted + game.gamma**t * now
        J += game.gamma**t * now.dot(r).item()
        now = P.T @ now
    close(state_values(game, case.old), V)
    close(state_distribution(game, case.old), discounted)
    close(expected_return(game, case.old), J)
    close(action_values(game, case.old), game.reward + game.gamma * (game.transition * V).sum(-1))


@on_random_games
def test_the_discounted_state_distribution_adds_up_to_the_horizon_and_earns_the_return(case: Case) -> None:
    rho = state_distribution(case.game, case.old)
    close(rho.sum(), 1 / (1 - case.game.gamma))
    close(rho.dot(average(case.game.reward, case.old)), expected_return(case.game, case.old), 1e-9)


@on_random_games
def test_the_difference_of_two_returns_is_the_advantage_of_one_where_the_other_goes(case: Case) -> None:
    """J(new) - J(old) = E_{s ~ rho_new, a ~ new}[A_old(s, a)] (Kakade and Langford 2002)."""
    A = multi_agent_advantage(case.game, case.old, [], range(case.n))
    difference = state_distribution(case.game, case.new).dot(average(A, case.new))
    close(difference, expected_return(case.game, case.new) - expected_return(case.game, case.old), 1e-9)


# Decomposition


@on_random_games
def test_the_advantage_of_any_ordered_subset_is_the_sum_of_its_agents_advantages(case: Case) -> None:
    """A^{i_1:m}(s, a^{i_1:m}) = sum_j A^{i_j}(s, a^{i_1:j-1}, a^{i_j}), m = 1, ..., n."""
    for m in range(1, case.n + 1):
        agents = case.order[:m]
        total = torch.zeros(1, dtype=torch.float64)
        for j, i in enumerate(agents):
            own = multi_agent_advantage(case.game, case.old, agents[:j], [i])  # [S, A_{i_1}, ..., A_{i_j}]
            total = total + own.view(*own.shape, *[1] * (m - 1 - j))
        close(total, multi_agent_advantage(case.game, case.old, [], agents))


@on_random_games
def test_a_multi_agent_advantage_is_what_its_definition_says_action_by_action(case: Case) -> None:
    """A^i(s, a^j, a^i) = E_{rest}[Q | a^j, a^i] - E_{rest}[Q | a^j], for every cut of the order into j and i."""
    Q, weights = action_values(case.game, case.old), joint(case.old)
    S, sizes = len(Q), case.game.actions

    def conditional(s: int, fixed: dict[int, int]) -> Tensor:
        """E[Q(s, a)], a ~ old but where it is fixed."""
        index = (s, *(slice(fixed[k], fixed[k] + 1) if k in fixed else slice(None) for k in range(case.n)))
        return (weights[index] * Q[index]).sum() / weights[index].sum()

    middle, end = case.n // 2, max(1, case.n - 1)
    before, agents = case.order[:middle], case.order[middle:end]
    A = multi_agent_advantage(case.game, case.old, before, agents)
    for s, a in product(range(S), product(*(range(sizes[i]) for i in [*before, *agents]))):
        fixed = dict(zip([*before, *agents], a, strict=True))
        expected = conditional(s, fixed) - conditional(s, {i: fixed[i] for i in before})
        close(A[s, *a], expected)


@on_random_games
def test_an_advantage_averages_to_zero_over_its_agents_policies_and_its_best_is_never_negative(case: Case) -> None:
    *before, last = case.order
    A = multi_agent_advantage(case.game, case.old, before, [last])
    close((A * case.old[last].view(len(A), *[1] * len(before), -1)).sum(-1), torch.zeros(A.shape[:-1]))
    assert (A.amax(-1) >= -1e-12 * case.scale).all()


def test_without_agents_a_multi_agent_value_is_v_and_with_all_of_them_q_in_their_order() -> None:
    game, pi = three_agents()
    assert torch.equal(multi_agent_values(game, pi, [2, 0, 1]), action_values(game, pi).permute(0, 3, 1, 2))
    close(multi_agent_values(game, pi, []), state_values(game, pi))


def test_an_agent_cannot_stand_in_both_subsets() -> None:
    game, pi = three_agents()
    with pytest.raises(ValueError, match="once each"):
        multi_agent_advantage(game, pi, [1], [0, 1])


# The surrogate


@on_random_games
def test_samples_of_the_old_policies_weighted_by_the_ratios_give_the_exact_surrogate(case: Case) -> None:
    """E_old[(new/old - 1) M_m] = L^{1:m}, and E_old[new/old M_m] = sum_{j <= m} L^{1:j} = E[A^{1:m}], where
    M_m = (prod_{j < m} new^j / old^j) A."""
    game, old, new = case.game, case.old, case.new
    rho, weights, total = state_distribution(game, old), joint(old), 0.0
    A = action_values(game, old) - state_values(game, old).view(-1, *[1] * case.n)
    for m, i in enumerate(case.order):
        agents, updated = case.order[: m + 1], [new[j] for j in case.order[:m]]
        M = compound_advantage(game, old, agents, updated)
        close(M, joint(every(old, new, agents[:-1])) / weights * A, 1e-9 * max(1, case.scale))
        ratio = joint(every(old, new, [i])) / weights
        L = surrogate(game, old, agents, updated, new[i])
        total += L
        tolerance = 1e-10 * max(1, case.scale / (1 - game.gamma))
        close(rho.dot(per_state(weights * (ratio - 1) * M)), L, tolerance)
        close(rho.dot(per_state(weights * ratio * M)), total, tolerance)
        close(rho.dot(per_state(joint(every(old, new, agents)) * A)), total, tolerance)


@on_random_games
def test_no_update_gains_nothing(case: Case) -> None:
    for m, i in enumerate(case.order):
        updated = [case.new[j] for j in case.order[:m]]
        L = surrogate(case.game, case.old, case.order[: m + 1], updated, case.old[i])
        assert abs(L) <= 1e-11 * case.scale / (1 - case.game.gamma)


@on_random_games
def test_the_surrogates_agree_with_the_return_to_first_order(case: Case) -> None:
    """J(old + x (new - old)) = J(old) + sum_m L^{1:m} + O(x^2): a tenth of x leaves a hundredth of the difference."""

    def difference(x: float) -> float:
        near = [(1 - x) * p + x * q for p, q in zip(case.old, case.new, strict=True)]
        L = sum(
            surrogate(case.game, case.old, case.order[: m + 1], [near[j] for j in case.order[:m]], near[i])
            for m, i in enumerate(case.order)
        )
        return expected_return(case.game, near) - expected_return(case.game, case.old) - L

    largest = max(abs(difference(x)) for x in (1.0, 0.3, 0.1))
    assert abs(difference(1e-3)) <= 1e-3 * max(largest, 1e-9 * case.scale)


# The lower bound


@on_random_games
def test_the_lower_bound_is_never_above_the_return(case: Case) -> None:
    """J(new) >= J(old) + sum_m [L^{1:m} - C KLmax], for policies near and far."""
    bound = lower_bound(case.game, case.old, case.new, case.order)
    assert bound <= expected_return(case.game, case.new) + 1e-11 * case.scale


@on_random_games
def test_the_lower_bound_is_the_same_for_every_order(case: Case) -> None:
    close(
        lower_bound(case.game, case.old, case.new, case.order),
        lower_bound(case.game, case.old, case.new, sorted(case.order)),
        1e-9,
    )


def test_the_lower_bound_by_hand() -> None:
    """One state, gamma 1/2, reward 1 for the second action: at even odds V = 1, A = -+1/2, C = 4 1/2 1/2 / (1/4) = 4.
    For odds 1:3 with rho = 2, L = 2 (3/4 - 1/4) / 2 = 1/2 and KL = log(2/sqrt 3)."""
    game = matrix_game([0.0, 1.0], gamma=0.5)
    old, new = [policy(0.5, 0.5)], [policy(0.25, 0.75)]
    close(expected_return(game, old), 1)
    close(penalty_coefficient(game, old), 4)
    close(state_distribution(game, old), torch.tensor([2.0]).double())
    close(surrogate(game, old, [0], [], new[0]), 0.5)
    close(kl_max(old[0], new[0]), log(2 / sqrt(3)))
    close(lower_bound(game, old, new, [0]), 1 + 0.5 - 4 * log(2 / sqrt(3)))


@on_random_games
def test_the_kl_is_the_sum_over_actions_of_old_times_the_log_of_old_over_new(case: Case) -> None:
    for old, new in zip(case.old, case.new, strict=True):
        expected = [
            sum(p * log(p / q) for p, q in zip(old[s].tolist(), new[s].tolist(), strict=True)) for s in range(len(old))
        ]
        close(kl(old, new), torch.tensor(expected, dtype=torch.float64), 1e-13)
        assert kl_max(old, new) == kl(old, new).max()
        assert (kl(old, new) > -1e-17).all()


def test_the_kl_of_what_old_never_does_is_nothing_and_of_what_new_never_does_infinite() -> None:
    sure, even = policy(0, 1), policy(0.5, 0.5)
    close(kl_max(sure, even), log(2))
    assert kl_max(even, sure) == float("inf")
    assert kl_max(sure, sure) == 0


# Sequential maximisation


@on_random_games
def test_the_exact_algorithm_never_lowers_the_return_whatever_the_order(case: Case) -> None:
    """Three iterations, each in another order: J(new) >= the lower bound >= J(old)."""
    pi = case.old
    for _ in range(3):
        order = torch.randperm(case.n, generator=case.random).tolist()
        new = sequential_update(case.game, pi, order)
        bound = lower_bound(case.game, pi, new, order)
        assert expected_return(case.game, new) >= bound - 1e-11 * case.scale
        assert bound >= expected_return(case.game, pi) - 1e-11 * case.scale
        pi = new


@on_random_games
def test_each_agent_of_the_exact_algorithm_keeps_or_raises_its_term_of_the_bound(case: Case) -> None:
    """L^{1:m}(new^{1:m-1}, new^m) - C KLmax(old^m, new^m) >= 0, and > 0 where the agent has anything to gain."""
    game, C = case.game, penalty_coefficient(case.game, case.old)
    new = sequential_update(game, case.old, case.order)
    for m, i in enumerate(case.order):
        agents, updated = case.order[: m + 1], [new[j] for j in case.order[:m]]
        term = surrogate(game, case.old, agents, updated, new[i]) - C * kl_max(case.old[i], new[i])
        assert term >= -1e-12 * case.scale
        g = expected_advantage(game, case.old, agents, updated)
        if g.abs().max() > 1e-3 * case.scale:
            assert term > 0


@on_random_games
def test_no_other_policy_has_a_greater_penalised_surrogate_than_the_exact_maximiser(case: Case) -> None:
    """The objective is concave, so that it is enough to look near the maximiser, in every direction: here to random
    policies, to single actions, to the old policy, and to each of them in one state alone."""
    game, old, i = case.game, case.old, case.order[-1]
    C, rho = penalty_coefficient(game, old), state_distribution(game, old)
    g = expected_advantage(game, old, case.order, [case.new[j] for j in case.order[:-1]])
    best = maximise_penalised(rho, g, old[i], C)

    def objective(candidate: Tensor) -> float:
        penalty = C * kl_max(old[i], candidate) if C > 0 else 0.0
        return rho.dot(average(g, [candidate])).item() - penalty

    top = objective(best)
    assert top >= 0
    for target in directions(case, old[i]):
        for x in (1e-6, 1e-4, 1e-2, 0.5, 1 - 1e-9):
            assert objective((1 - x) * best + x * target) <= top + 1e-9 * top + 1e-13 * case.scale / (1 - game.gamma)


def directions(case: Case, old: Tensor) -> list[Tensor]:
    """Policies [S, A_i] to go towards."""
    S, A = old.shape
    whole = [old, *((k * normal(case.random, S, A)).softmax(-1) for k in (0.3, 1, 3, 10) for _ in range(4))]
    whole += [torch.eye(A, dtype=torch.float64)[a].expand(S, A) for a in range(A)]
    return whole + [torch.where(torch.arange(S)[:, None] == s, target, old) for s in range(S) for target in whole[1:]]


@on_random_games
def test_no_other_policy_within_the_trust_region_has_a_greater_surrogate_than_its_maximiser(case: Case) -> None:
    """Those tried are mixed with the old policy until their mean KL is within delta too."""
    game, old, i, delta = case.game, case.old, case.order[-1], 0.01
    rho = state_distribution(game, old)
    g = expected_advantage(game, old, case.order, [case.new[j] for j in case.order[:-1]])
    best = maximise_within(rho, g, old[i], delta)
    mean = rho / rho.sum()
    assert mean.dot(kl(old[i], best)) <= delta * (1 + 1e-6)
    top = rho.dot(average(g, [best])).item()
    assert top >= -1e-12 * case.scale
    for target in directions(case, old[i]):
        for x in (0.5**k for k in range(14)):
            candidate = (1 - x) * old[i] + x * target
            if mean.dot(kl(old[i], candidate)) <= delta:
                break
        assert rho.dot(average(g, [candidate])).item() <= top + 1e-6 * top + 1e-12 * case.scale
        for x in (1e-4, 1e-2):  # near the maximiser: a gain must be paid for by the multiplier
            beside = (1 - x) * best + x * candidate
            if mean.dot(kl(old[i], beside)) <= delta:
                assert rho.dot(average(g, [beside])).item() <= top + 1e-6 * top + 1e-12 * case.scale


def test_the_maximiser_of_two_actions_by_hand() -> None:
    """p = 1/2 + x at g = -+a: L = 2 rho a x and KL = -log(1 - 4 x^2) / 2, so that 4 rho a x^2 + 2 C x = rho a."""
    rho, a, C = 2.0, 0.5, 4.0
    new = maximise_penalised(torch.tensor([rho]).double(), policy(-a, a), policy(0.5, 0.5), C)
    x = (sqrt(C**2 + 4 * (rho * a) ** 2) - C) / (4 * rho * a)
    close(new, policy(0.5 - x, 0.5 + x), 1e-8)


def test_within_a_trust_region_two_actions_move_until_the_kl_is_delta() -> None:
    new = maximise_within(torch.tensor([2.0]).double(), policy(-0.5, 0.5), policy(0.5, 0.5), 0.02)
    x = sqrt(1 - 2.718281828459045 ** (-2 * 0.02)) / 2
    close(new, policy(0.5 - x, 0.5 + x), 1e-8)


def test_every_state_moves_as_far_as_the_one_that_moves_furthest() -> None:
    """The penalty sees the largest KL only: elsewhere moving is free up to that, however little there is to gain."""
    game, pi = three_agents()
    for old, new in zip(pi, sequential_update(game, pi, [1, 2, 0]), strict=True):
        close(kl(old, new) / kl_max(old, new), torch.ones(len(old)), 1e-9)


def test_where_nothing_can_be_gained_the_old_policy_is_kept() -> None:
    game, pi = matrix_game([[1.0, 1.0], [1.0, 1.0]], gamma=0.9), [policy(0.3, 0.7), policy(0.5, 0.5)]
    for new in (sequential_update(game, pi, [1, 0]), sequential_update(game, pi, [0, 1], delta=0.1)):
        assert all(map(torch.equal, new, pi))


def test_with_discount_zero_nothing_is_penalised_and_the_first_agents_best_action_is_taken() -> None:
    game = matrix_game([[0.0, 3.0], [2.0, 0.0]], gamma=0.0)
    new = sequential_update(game, [policy(0.5, 0.5), policy(0.5, 0.5)], [0, 1])
    close(expected_return(game, new), 3)


def test_an_action_that_was_nearly_given_up_can_be_taken_up_again() -> None:
    """KL(old, new) costs nothing where old is nearly 0: at KL 1 the other action keeps 1 / e."""
    new = maximise_within(torch.ones(1).double(), policy(0, 1), policy(1, 1e-40), 1.0)
    close(new, policy(2.718281828459045**-1, 1 - 2.718281828459045**-1), 1e-6)


def test_exact_iterations_end_where_no_agent_can_gain_alone() -> None:
    """In a Nash equilibrium (Kuba et al. 2022, section 3): here one driver turns, at 2 a step for ever."""
    game, pi = matrix_game(DRIVERS, gamma=0.1), [policy(0.6, 0.4), policy(0.5, 0.5)]
    assert multi_agent_advantage(game, pi, [], [0]).max() > 0.1
    for k in range(40):
        pi = sequential_update(game, pi, [k % 2, 1 - k % 2])
    close(expected_return(game, pi), 2 / 0.9, 1e-6)


# Simultaneous steps


def test_with_one_agent_sequential_and_simultaneous_updates_are_the_same() -> None:
    game, pi = random_game(0, (3,), S=4, gamma=0.9)
    for delta in (None, 0.01):
        assert torch.equal(sequential_update(game, pi, [0], delta)[0], simultaneous_update(game, pi, delta)[0])


def test_the_first_agent_of_a_sequential_update_moves_as_in_a_simultaneous_one_and_the_next_does_not() -> None:
    game, pi = three_agents()
    one_by_one, at_once = sequential_update(game, pi, [2, 0, 1], 0.01), simultaneous_update(game, pi, 0.01)
    assert torch.equal(one_by_one[2], at_once[2])
    assert not torch.allclose(one_by_one[0], at_once[0])


def test_simultaneous_trust_region_steps_lower_the_return_and_sequential_ones_do_not() -> None:
    """From even odds, J = 1/4. Each driver's own step raises it to 0.39, both together lower it to -0.04."""
    game, old = matrix_game(DRIVERS, gamma=0.0), [policy(0.5, 0.5)] * 2
    J, new = expected_return(game, old), simultaneous_update(game, old, DRIVERS_DELTA)
    assert J == 0.25
    for i in range(2):
        assert expected_return(game, every(old, new, [i])) == pytest.approx(0.394, abs=1e-3)
    assert expected_return(game, new) == pytest.approx(-0.040, abs=1e-3)
    for order in permutations(range(2)):
        new = sequential_update(game, old, order, DRIVERS_DELTA)
        assert expected_return(game, new) == pytest.approx(0.827, abs=1e-3)


def test_simultaneous_steps_lower_the_return_in_spite_of_the_penalty_and_sequential_ones_do_not() -> None:
    """The bound is for agents that know what those before them do: the penalty alone makes no step small enough."""
    count = torch.stack(torch.meshgrid(*[torch.arange(2)] * 3, indexing="ij")).sum(0)
    game = matrix_game(torch.tensor(BY_COUNT)[count].tolist(), gamma=0.05)
    old = [policy(0.75, 0.25)] * 3
    J, new = expected_return(game, old), simultaneous_update(game, old)
    close(J, 0.25 / 0.95 * 1.0625, 1e-2)
    for i in range(3):
        assert expected_return(game, every(old, new, [i])) == pytest.approx(0.496, abs=1e-3)
    assert expected_return(game, new) == pytest.approx(-0.188, abs=1e-3)
    for order in permutations(range(3)):
        assert expected_return(game, sequential_update(game, old, order)) > J


# Games


def policy(*probabilities: float) -> Tensor:
    """Of one state.  [1, A]"""
    return torch.tensor([probabilities], dtype=torch.float64)


def matrix_game(reward: object, gamma: float) -> Game:
    """One state, for ever."""
    r = torch.tensor([reward], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    return Game(one.expand(*r.shape, 1), r, one, gamma)


def random_game(seed: int, actions: tuple[int, ...], S: int, gamma: float) -> tuple[Game, list[Tensor]]:
    random = generator(seed)
    transition, initial = normal(random, S, *actions, S).softmax(-1), normal(random, S).softmax(-1)
    game = Game(transition, normal(random, S, *actions), initial, gamma)
    return game, random_policy(game, random)


def three_agents(gamma: float = 0.9) -> tuple[Game, list[Tensor]]:
    return random_game(0, (2, 3, 2), S=4, gamma=gamma)


def test_a_game_refuses_what_is_no_game() -> None:
    one = torch.ones(1, dtype=torch.float64)
    reward, transition = torch.zeros(1, 2, 3).double(), torch.ones(1, 2, 3, 1).double()
    assert Game(transition, reward, one, 0.9).actions == (2, 3)
    for wrong, said in (
        ((transition.float(), reward, one, 0.9), "transition must be float64"),
        ((transition, reward[0], one, 0.9), "reward is"),
        ((transition[..., 0], reward, one, 0.9), "transition is"),
        ((transition / 2, reward, one, 0.9), "transition holds no probabilities"),
        ((transition, reward, 2 * one, 0.9), "initial holds no probabilities"),
        ((transition, reward, one, 1.0), "gamma must be"),
    ):
        with pytest.raises(ValueError, match=said):
            Game(*wrong)
