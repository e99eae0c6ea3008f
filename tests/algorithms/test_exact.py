"""Multi-agent trust-region learning on finite games: the lemmas of Kuba et al. 2022 hold, and the code is theirs.

A property is checked on 25 random games, and on 1000 with `-m long`, the same ones in every run.
"""

from __future__ import annotations

from itertools import product
from math import inf, log, sqrt

import pytest
import torch
from finite_games import (
    Case,
    close,
    every,
    joint,
    matrix_game,
    on_random_games,
    per_state,
    policy,
    three_agents,
)
from torch import Tensor

from algorithms.exact import (
    Game,
    action_values,
    average,
    compound_advantage,
    expected_return,
    kl,
    kl_max,
    lower_bound,
    multi_agent_advantage,
    multi_agent_values,
    penalty_coefficient,
    sequential_update,
    state_distribution,
    state_values,
    surrogate,
)

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
    close(penalty_coefficient(game, new), 6)  # where A = (-3/4, 1/4): the largest advantage is a negative one
    close(state_distribution(game, old), torch.tensor([2.0]).double())
    close(surrogate(game, old, [0], [], new[0]), 0.5)
    close(kl_max(old[0], new[0]), log(2 / sqrt(3)))
    close(lower_bound(game, old, new, [0]), 1 + 0.5 - 4 * log(2 / sqrt(3)))


def test_the_lower_bound_by_hand_of_policies_that_drop_an_action() -> None:
    """Without a future the bound is the return itself; with one the KL, which is infinite, leaves none."""
    old, new = [policy(0.5, 0.5)], [policy(0.0, 1.0)]
    close(lower_bound(matrix_game([0.0, 1.0], gamma=0.0), old, new, [0]), 1.0)
    assert lower_bound(matrix_game([0.0, 1.0], gamma=0.5), old, new, [0]) == -inf


def test_the_lower_bound_by_hand_takes_the_greatest_kl_of_two_states() -> None:
    """The game above in two states that are never left, rho = (1, 1): only the second policy moves, so L = 1/4."""
    stay = torch.eye(2).double()[:, None].expand(2, 2, 2)
    game = Game(stay, torch.tensor([[0.0, 1.0]] * 2).double(), torch.tensor([0.5, 0.5]).double(), 0.5)
    old, new = [policy(0.5, 0.5).expand(2, 2)], [torch.cat([policy(0.5, 0.5), policy(0.25, 0.75)])]
    close(state_distribution(game, old), torch.ones(2).double())
    close(kl_max(old[0], new[0]), log(2 / sqrt(3)))
    close(lower_bound(game, old, new, [0]), 1 + 0.25 - 4 * log(2 / sqrt(3)))


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


def test_an_order_is_of_all_agents_once_each() -> None:
    game, pi = matrix_game([0.0, 1.0], gamma=0.5), [policy(0.5, 0.5)]
    for order in ([], [0, 0], [-1], [1]):
        with pytest.raises(ValueError, match="does not name each agent from 0 to 0 once"):
            lower_bound(game, pi, pi, order)
        with pytest.raises(ValueError, match="does not name each agent from 0 to 0 once"):
            sequential_update(game, pi, order)
