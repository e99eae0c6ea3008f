"""Rollouts and minibatches: true successors, disjoint parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import rollout, team

from algorithms.rollout import Continuous, Discrete, Team, minibatches


def test_the_successor_of_a_last_step_is_the_state_before_the_reset() -> None:
    members = team((2,), (1,), state=1)
    data = rollout(members, T=3, E=2, ending=0.0)
    data.ends, data.end_state = torch.tensor([[1, 0]]), torch.tensor([[99.0]])
    data.state = torch.arange(8.0).view(4, 2, 1)
    assert data.successors(data.state, data.end_state)[..., 0].tolist() == [[2, 3], [99, 5], [6, 7]]


def test_minibatches_are_disjoint_and_cover_every_sample_once() -> None:
    parts = list(minibatches(10, 3, torch.Generator().manual_seed(0)))
    assert [len(part) for part in parts] == [4, 3, 3]  # type: ignore[arg-type]
    assert sorted(torch.cat(parts).tolist()) == list(range(10))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sizes", "spaces", "more", "wrong"),
    [
        ((), (), {}, "a team with 0 observation_sizes and 0 action_spaces"),
        ((3, 3), (Continuous(1),), {}, "a team with 2 observation_sizes and 1 action_spaces"),
        ((3,), (Discrete((2,)),), {"has_mask": (True, True)}, "a team with 1 observation_sizes and 2 has_mask"),
        ((3,), (Discrete(()),), {}, r"an action without a choice: Discrete\(\)"),
        ((3,), (Discrete((2, 0)),), {}, r"an action without a choice: Discrete\(2, 0\)"),
    ],
)
def test_a_team_that_cannot_be_is_refused(sizes: Any, spaces: Any, more: Any, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        Team(sizes, spaces, 1, **more)
