"""Reference scores: what a return is worth on each task, so that tasks can be averaged.

A normalised return is 0 where a random policy stands and 1 where a recorded reference does. `scores.json` holds both,
with how they were obtained; `python -m bench.reference` measures them. Nothing here imports torch or gymnasium.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.store import files

PATH = Path(__file__).with_name("scores.json")
OBSERVED = ("observation=", "obsk=")
"""Options in a task's label that say what agents see, which no return depends on."""


@dataclass(frozen=True)
class Score:
    """The two fixed points of one task: mean returns per episode."""

    random: float
    """Of uniformly random actions; normalised 0."""
    reference: float | None
    """Of the recorded reference; normalised 1. None where none has been recorded."""

    def normalised(self, value: float) -> float:
        """(value - random) / (reference - random), without unit. Needs a reference."""
        return (value - self.random) / self.span

    @property
    def span(self) -> float:
        """reference - random: the return that is 1 on the normalised scale. Needs a reference."""
        assert self.reference is not None
        return self.reference - self.random


def key(label: str) -> str:
    """The name under which a task's scores stand: its label without the options that change no return."""
    name, *options = label.split(":")
    return ":".join([name, *(option for option in options if not option.startswith(OBSERVED))])


def score(label: str) -> Score | None:
    """The score of the task that tables call `label`; None where nothing has been measured."""
    entry = read().get(key(label))
    return entry and Score(entry["random"]["mean"], entry.get("reference", {}).get("mean"))


@cache
def read() -> Mapping[str, Any]:
    """The contents of scores.json: task -> how its two scores were obtained."""
    found: dict[str, Any] = files.read_json(PATH)
    return found
