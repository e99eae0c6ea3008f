"""Gymnasium's spaces as a learner has them: observations as rows of numbers, actions in [-1, 1] or indices."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatdim, flatten
from numpy.typing import NDArray

from algorithms import Continuous, Discrete

Row = NDArray[np.float32]
ACTIONS = "Box of floats with finite bounds, Discrete, MultiDiscrete, MultiBinary"


@dataclass(frozen=True)
class ObservationEncoder:
    """How what an agent observes becomes a row of `size` numbers."""

    size: int
    write: Callable[[Row, Any], None]
    masked: bool = False
    """Whether the observation brings the agent's action mask, which is no part of the row."""


def sense(space: spaces.Space[Any]) -> ObservationEncoder:
    """Boxes are flattened, choices one-hot, all else as Gymnasium flattens it; raises ValueError for what has no size.

    A Dict with the key `action_mask` is observed without it.
    """
    if isinstance(space, spaces.Dict) and "action_mask" in space.spaces:
        return _without_mask(space)
    if space.is_np_flattenable and not flatdim(space):
        raise ValueError(f"{space} has no numbers at all")
    if isinstance(space, spaces.Box):
        return ObservationEncoder(math.prod(space.shape), _write_array(space.shape))
    if isinstance(space, spaces.Discrete):
        return ObservationEncoder(int(space.n), _write_choice(int(space.n), int(space.start)))
    if not space.is_np_flattenable:
        raise ValueError(f"{space} has no fixed number of features")

    def write(row: Row, observation: Any) -> None:
        found = np.asarray(flatten(space, observation))
        if found.shape != row.shape:  # numpy would stretch a single number
            raise ValueError(f"has {found.size} numbers, its space {row.size}")
        row[:] = found

    return ObservationEncoder(flatdim(space), write)


def _without_mask(space: spaces.Dict) -> ObservationEncoder:
    kept = [key for key in space.spaces if key != "action_mask"]
    alone = kept == ["observation"]
    inner = sense(space["observation"] if alone else spaces.Dict({key: space[key] for key in kept}))

    def write(row: Row, observation: Any) -> None:
        inner.write(row, observation["observation"] if alone else {key: observation[key] for key in kept})

    return ObservationEncoder(inner.size, write, masked=True)


def _write_array(shape: tuple[int, ...]) -> Callable[[Row, Any], None]:
    flat = len(shape) == 1

    def write(row: Row, observation: Any) -> None:
        if not isinstance(observation, np.ndarray | np.generic):
            raise ValueError(f"is no array but {type(observation).__name__}")
        if observation.shape != shape:  # numpy would stretch a shorter one
            raise ValueError(f"has shape {observation.shape}, its space {shape}")
        row[:] = observation if flat else observation.reshape(-1)

    return write


def _write_choice(n: int, start: int) -> Callable[[Row, Any], None]:
    def write(row: Row, observation: Any) -> None:
        index = operator.index(observation) - start  # of a number that is not whole int would take a part
        if not 0 <= index < n:
            raise ValueError(f"is {observation}, its space has {start} to {start + n - 1}")
        row[:] = 0
        row[index] = 1

    return write


def write_mask(row: NDArray[np.bool_], mask: Any) -> None:
    """One array, or one per component, of numbers that are 0 for what is forbidden."""
    parts = mask if isinstance(mask, tuple | list) else [mask]
    found = np.concatenate([np.ravel(part) for part in parts])
    if found.size != row.size:
        raise ValueError(f"action_mask has {found.size} numbers for {row.size} choices")
    row[:] = found
    if (row != found).any():
        raise ValueError("action_mask has values other than 0 and 1")


@dataclass(frozen=True)
class ActionDecoder:
    """How an agent's actions become those of its environment."""

    space: Continuous | Discrete
    convert: Callable[[Row], list[Any]]
    """[E, size] -> E actions, all of them new arrays"""


def control(space: spaces.Space[Any]) -> ActionDecoder:
    """[-1, 1] is mapped affinely to a Box's bounds, indices count from a space's `start`; raises ValueError."""
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise ValueError(f"{space} has no finite bounds; valid: {ACTIONS}")
        return ActionDecoder(Continuous(low.size), _affine(space, low, high))
    if isinstance(space, spaces.Discrete):
        return ActionDecoder(Discrete((int(space.n),)), _indices(space, (), int(space.start)))
    if isinstance(space, spaces.MultiDiscrete):
        choices = tuple(int(n) for n in space.nvec.reshape(-1))
        return ActionDecoder(Discrete(choices), _indices(space, space.nvec.shape, space.start.reshape(-1)))
    if isinstance(space, spaces.MultiBinary):
        return ActionDecoder(Discrete((2,) * math.prod(space.shape)), _indices(space, space.shape, 0))
    raise ValueError(f"{space} is no space that can be acted in; valid: {ACTIONS}")


def _affine(space: spaces.Box, low: NDArray[np.float64], high: NDArray[np.float64]) -> Callable[[Row], list[Any]]:
    center, half = (high + low) / 2, (high - low) / 2

    def convert(actions: Row) -> list[Any]:
        inside = np.maximum(np.minimum(actions, 1.0), -1.0) * half + center
        np.maximum(np.minimum(inside, high, out=inside), low, out=inside)  # rounding may have gone beyond
        return list(inside.astype(space.dtype).reshape(len(actions), *space.shape))

    return convert


def _indices(space: spaces.Space[Any], shape: tuple[int, ...], start: Any) -> Callable[[Row], list[Any]]:
    def convert(actions: Row) -> list[Any]:
        return list((actions.astype(space.dtype) + start).astype(space.dtype).reshape(len(actions), *shape))

    return convert
