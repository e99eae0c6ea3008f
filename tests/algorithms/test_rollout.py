"""Rollouts and minibatches: true successors, disjoint parts."""

from __future__ import annotations

import torch
from helpers import rollout, team

from algorithms.rollout import minibatches


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
