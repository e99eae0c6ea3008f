"""Exact multi-agent trust-region learning, iterated: monotonic improvement, exact maximisers, simultaneous steps."""

from __future__ import annotations

from itertools import permutations
from math import sqrt

import pytest
import torch
from finite_games import (
    BY_COUNT,
    DRIVERS,
    DRIVERS_DELTA,
    Case,
    close,
    every,
    matrix_game,
    normal,
    on_random_games,
    policy,
    random_game,
    three_agents,
)
from torch import Tensor

from algorithms.exact import (
    average,
    expected_advantage,
    expected_return,
    kl,
    kl_max,
    lower_bound,
    maximise_penalised,
    maximise_within,
    multi_agent_advantage,
    penalty_coefficient,
    sequential_update,
    simultaneous_update,
    state_distribution,
    surrogate,
)

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
def test_no_agent_of_the_exact_algorithm_has_a_better_choice(case: Case) -> None:
    """new^m maximises L^{1:m}(new^{1:m-1}, .) - C KLmax(old^m, .), written out: steps towards other policies do not
    raise it."""
    game, C = case.game, penalty_coefficient(case.game, case.old)
    new = sequential_update(game, case.old, case.order)
    for m, i in enumerate(case.order):
        agents, updated = case.order[: m + 1], [new[j] for j in case.order[:m]]

        def term(candidate: Tensor, i: int = i, agents: list[int] = agents, updated: list[Tensor] = updated) -> float:
            return surrogate(game, case.old, agents, updated, candidate) - C * kl_max(case.old[i], candidate)

        best = term(new[i])
        for other in (case.old[i], case.new[i]):
            for share in (1e-3, 0.1, 1.0, -1e-3):
                candidate = (1 - share) * new[i] + share * other
                if (candidate > 0).all():
                    assert term(candidate) <= best + 1e-9 * case.scale


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
    """In a Nash equilibrium (Kuba et al. 2022): here one driver turns, at 2 a step for ever."""
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
