"""Observations of MaMuJoCo compiled into index arrays over MuJoCo's data, by probing them with marked numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from bench.envs.robots import Array, Fields

FIELDS = ("cinert", "cvel", "qfrc_actuator", "cfrc_ext", "xpos", "xipos", "ten_J", "ten_length", "ten_velocity")
"""The arrays of `mujoco.MjData` that observations and rewards are gathered from, besides qpos and qvel."""


@dataclass(frozen=True)
class View:
    """A compiled observation: which numbers of the raw row it gathers, and between which bounds it clips each."""

    index: NDArray[np.intp]
    low: Array
    high: Array

    def of(self, raw: Array) -> Array:
        """The observations in raw rows.  [E, R] -> [E, F]"""
        return np.clip(raw[:, self.index], self.low, self.high)


def physics(data: Any) -> Array:
    """All that the next `mj_step` depends on besides the control, as one view of MuJoCo's memory.

    qpos, qvel and qacc_warmstart lie there in a row, each from a multiple of 64 bytes on; what else could lie between
    them (activations, histories) none of the robots has.
    """
    first, last = data.qpos, data.qacc_warmstart
    size = _offset(first, last) + last.size
    if not 0 <= size - (first.size + data.qvel.size + last.size) < 16:
        raise RuntimeError(f"MuJoCo {mujoco.__version__} does not keep qpos, qvel and qacc_warmstart in a row")
    return as_strided(first, (size,))


def _offset(first: Array, other: Array) -> int:
    """How many numbers after `first` the array `other` begins."""
    return (other.ctypes.data - first.ctypes.data) // first.itemsize


def arrays(data: Any) -> dict[str, Array]:
    """What is copied out of MuJoCo's data, as flat views, in its order in the raw row."""
    return {"physics": physics(data)} | {field: getattr(data, field).reshape(-1) for field in FIELDS}


def layout(data: Any) -> dict[str, slice]:
    """Where each of `arrays` stands in the raw row, and qpos and qvel."""
    sizes = {field: array.size for field, array in arrays(data).items()}
    ends = np.cumsum(list(sizes.values())).tolist()
    places = {field: slice(end - size, end) for (field, size), end in zip(sizes.items(), ends, strict=True)}
    for field in ("qpos", "qvel"):
        start = _offset(data.qpos, getattr(data, field))
        places[field] = slice(start, start + getattr(data, field).size)
    return places


def compile_view(observe: Callable[[], Array], data: Any, derive: Callable[[Fields], Array]) -> View:
    """Find what `observe` gathers from `data` and from the features derived of it, by marking every number.

    A first probe within every clip's bounds tells the indices, two more far beyond them tell the bounds. A last one,
    on both sides of every bound, must give what `observe` gives: an observation that computes anything else is refused.
    """
    places, ours = layout(data), arrays(data)
    saved = {field: array.copy() for field, array in ours.items()}
    total = sum(array.size for array in ours.values())

    def probe(values: Array) -> tuple[Array, Array]:
        """The raw row that holds `values`, and what `observe` makes of them."""
        for field, array in ours.items():
            array[:] = values[places[field]]
        derived = derive({field: values[None, place] for field, place in places.items()})[0]
        return np.concatenate([values, derived]), np.asarray(observe(), dtype=np.float64)

    random = np.random.default_rng(0)
    try:
        marks, seen = probe(random.uniform(-0.9, 0.9, total))  # no mark is a simple function of others
        (tops, high), (bottoms, low) = probe(np.full(total, 1e9)), probe(np.full(total, -1e9))
        row, expected = probe(random.uniform(-30, 30, total))
    finally:
        for field, array in ours.items():
            array[:] = saved[field]
    order = np.argsort(marks)
    index = order[np.searchsorted(marks, seen, sorter=order).clip(0, len(marks) - 1)]
    view = View(index, np.where(low == bottoms[index], -np.inf, low), np.where(high == tops[index], np.inf, high))
    if not (np.array_equal(marks[index], seen) and np.array_equal(view.of(row[None])[0], expected)):
        raise NotImplementedError(f"an observation that is not a gather of qpos, qvel, {', '.join(FIELDS)}")
    return view
