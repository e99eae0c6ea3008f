"""Advantages by hand: discounted sums, ends and time limits, standardisation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from algorithms.advantages import explained_variance, gae, standardise


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers)[:, None]


def test_gae_sums_discounted_deltas_by_hand() -> None:
    """gamma = lambda = 1/2: deltas 1 + 2/2 - 1 = 1, 2 + 4/2 - 2 = 2, 3 + 8/2 - 4 = 3; A_t = delta_t + A_{t+1} / 4."""
    no = torch.zeros(3, 1, dtype=torch.bool)
    A = gae(column(1, 2, 3), column(1, 2, 4), column(2, 4, 8), no, no, 0.5, 0.5)
    torch.testing.assert_close(A, column(1 + 2.75 / 4, 2 + 3 / 4, 3))


def test_gae_after_a_terminated_step_neither_bootstraps_nor_goes_on() -> None:
    """The second step terminates: delta_2 = 2 - 2 = 0, and nothing of the third reaches the second."""
    terminated, no = column(0, 1, 0).bool(), torch.zeros(3, 1, dtype=torch.bool)
    A = gae(column(1, 2, 3), column(1, 2, 4), column(2, 4, 8), terminated, no, 0.5, 0.5)
    torch.testing.assert_close(A, column(1 + 0 / 4, 0, 3))


def test_gae_after_a_truncated_step_bootstraps_but_does_not_go_on() -> None:
    """The second step is cut by a time limit: delta_2 = 2 + 4/2 - 2 = 2, which nothing of the third reaches."""
    truncated, no = column(0, 1, 0).bool(), torch.zeros(3, 1, dtype=torch.bool)
    A = gae(column(1, 2, 3), column(1, 2, 4), column(2, 4, 8), no, truncated, 0.5, 0.5)
    torch.testing.assert_close(A, column(1 + 2 / 4, 2, 3))


def test_advantages_are_standardised_by_hand_over_all_steps_and_environments() -> None:
    A = torch.tensor([[1.0, 2.0], [3.0, 6.0]])  # mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5
    torch.testing.assert_close(standardise(A), (A - 3) / math.sqrt(3.5))


def test_equal_advantages_standardise_to_zero_rather_than_to_nothing() -> None:
    assert torch.equal(standardise(torch.full((3, 2), 5.0)), torch.zeros(3, 2))


def test_explained_variance_is_one_for_the_truth_and_zero_for_a_constant() -> None:
    returns = torch.tensor([1.0, 2.0, 5.0])
    assert explained_variance(returns, returns) == pytest.approx(1)
    assert explained_variance(torch.full((3,), 7.0), returns) == pytest.approx(0, abs=1e-6)
