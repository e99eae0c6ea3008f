"""Uniformly random actions for a batch of environments."""

from __future__ import annotations

import numpy as np

from algorithms import Continuous, Discrete
from bench.envs.batch import EnvBatch


def random_actions(batch: EnvBatch, random: np.random.Generator) -> list[np.ndarray]:
    """N x [E, A_i]: uniform in [-1, 1], or uniform over the allowed choices of each component."""
    masks = batch.masks or [None for _ in batch.team.action_spaces]
    spaces = zip(batch.team.action_spaces, masks, strict=True)
    return [random_action(space, mask, batch.envs, random) for space, mask in spaces]


def random_action(
    space: Continuous | Discrete, mask: np.ndarray | None, envs: int, random: np.random.Generator
) -> np.ndarray:
    """[E, A] of one agent; `mask` [E, choice_count] says what is allowed."""
    if isinstance(space, Continuous):
        return random.uniform(-1, 1, (envs, space.size)).astype(np.float32)
    keys = random.random((envs, space.choice_count))
    keys = keys if mask is None else np.where(mask, keys, -1.0)
    parts = np.split(keys, np.cumsum(space.choices)[:-1], axis=1)
    return np.stack([part.argmax(axis=1) for part in parts], axis=1).astype(np.float32)
