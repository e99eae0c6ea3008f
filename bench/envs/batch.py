"""What every kind of environment looks like to the runner: E copies stepped as one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from algorithms import Team

Floats = NDArray[np.float32]


class EnvBatch(Protocol):
    """E environments. Arrays are reused: they hold until the next `step`."""

    team: Team
    envs: int
    observations: list[Floats]
    """N x [E, O_i]: what the agents act on next."""
    state: Floats
    """[E, S]"""
    reward: NDArray[np.float64]
    """[E], the team reward of the last step."""
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    """[E]: how the last step ended an episode, if it did."""
    ended: NDArray[np.intp]
    """[K]: the environments whose episode the last step ended."""
    end_observations: list[Floats]
    """N x [K, O_i]: their true last observations, before the reset."""
    end_state: Floats
    """[K, S]"""
    masks: list[NDArray[np.bool_] | None] | None
    """N x [E, logits_i]: what the agents may do next, for each that the environment tells; None where it tells none."""
    end_masks: list[NDArray[np.bool_] | None] | None
    """N x [K, logits_i]: what they might have done after the last step, had the episode gone on."""
    active: NDArray[np.bool_] | None
    """[E, N]: which agents are there to act next; None where none ever leaves before its episode ends."""
    end_active: NDArray[np.bool_] | None
    """[K, N]: which were there after the last step, had the episode gone on: nobody after a termination."""

    def step(self, actions: Sequence[NDArray[Any]]) -> None:
        """Step every environment with N x [E, A_i] actions, clipped to [-1, 1] or indices; one that ends starts anew.

        A batch made with `auto_reset=False` leaves an environment that ended as it is and steps it no more.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on, generators included."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on, bit for bit, where `state_dict` was taken."""
        ...

    def close(self) -> None:
        """Close the environments; the batch is used no more."""
        ...
