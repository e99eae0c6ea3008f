"""Trials: one algorithm on one task with one seed, with every setting resolved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import algorithms
from algorithms.registry import Method, Settings
from bench.store.trials import trial_folder
from bench.suite import methods
from bench.suite.model import EvaluationSeeds, Matrix, Tuning
from bench.tasks.registry import Task

RIDGE = "games/ridge"
"""J of Gaussian policies on it is known with any discount."""


@dataclass(frozen=True)
class Trial:
    """One algorithm on one task with one seed, with every setting resolved."""

    suite: str
    task: Task
    label: str
    method: Method
    settings: Settings
    seed: int
    steps: int
    every: int
    episodes: int
    tuning: Tuning | None = None
    """Where the settings were tuned; not part of `config`, which holds their values."""
    evaluation_seeds: EvaluationSeeds = "suite"
    learner_threads: int = 1
    improvement_every: int = 0
    """Around every so many updates the return of the joint policy is measured; 0: never. It changes no other number."""
    improvement_episodes: int = 0
    keep: bool = False
    """Whether its last checkpoint stays, so that it can be given more steps."""

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the method by its name, as functions are: the user's own may hold lambdas, which cannot be pickled."""
        return self.__dict__ | {"method": self.method.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"method": methods.method(state["method"])})

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{self.task.label} {self.label} seed {self.seed}"

    def config(self) -> dict[str, Any]:
        """Everything that its numbers depend on, except the seed and the code."""
        return {
            "task": self.task.name,
            "options": self.task.options.named(),
            "algorithm": self.method.name,
            "settings": asdict(self.settings),
            "steps": self.steps,
            "evaluate": {"every": self.every, "episodes": self.episodes},
            "evaluation_seeds": self.evaluation_seeds,
            "numerics": algorithms.NUMERICS,
            **({"learner_threads": self.learner_threads} if self.learner_threads > 1 else {}),
            **self.task.origin(),
            **methods.origin(self.method),
        }

    @property
    def measures_exactly(self) -> bool:
        """Whether the return of its joint policy is computed where others play episodes to measure improvement."""
        gamma = getattr(self.settings, "gamma", None)
        known = gamma is not None and self.task.family.exact_scores is not None
        return known and (gamma != 1 or self.task.name.startswith(RIDGE))

    def config_hash(self) -> str:
        """Twelve hex digits of the SHA-256 of `config`."""
        canonical = json.dumps(self.config(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def identity(self) -> dict[str, Any]:
        """Whose its files are, as each of them says."""
        about = {"suite": self.suite, "task": self.task.label, "algorithm": self.label, "seed": self.seed}
        return about | {"config_hash": self.config_hash()}

    def folder(self, suite_folder: Path) -> Path:
        """The folder of its files."""
        return trial_folder(suite_folder, self.task.label, self.label, self.seed)


class Pairing(NamedTuple):
    """An algorithm on a task, with the settings that it has there."""

    task: Task
    label: str
    method: Method
    settings: Settings


def over_seeds(
    matrix: Matrix, pairings: Iterable[Pairing], tuning: Mapping[str, Tuning], keep: bool = False
) -> list[Trial]:
    """The trials of pairings, in rounds by seed: a suite that is stopped half-way is a complete smaller suite."""
    chosen = [*pairings]
    return [
        Trial(
            suite=matrix.name,
            **pairing._asdict(),
            seed=seed,
            steps=matrix.steps,
            every=matrix.evaluate.every,
            episodes=matrix.evaluate.episodes,
            tuning=tuning.get(pairing.label),
            evaluation_seeds=matrix.evaluation_seeds,
            learner_threads=matrix.learner_threads,
            improvement_every=matrix.diagnostics.improvement_every,
            improvement_episodes=matrix.diagnostics.improvement_episodes,
            keep=keep,
        )
        for seed in range(matrix.first_seed, matrix.first_seed + matrix.seeds)
        for pairing in chosen
    ]
