"""A trial's identity: one algorithm on one task with one seed, with every setting resolved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import algorithms
from algorithms.registry import Settings
from bench.store.files import trial_folder
from bench.suite.model import EvaluationSeeds, Matrix, Tuning
from bench.tasks.registry import Task


@dataclass(frozen=True)
class Trial:
    """One algorithm on one task with one seed, with every setting resolved."""

    suite: str
    task: Task
    label: str
    algorithm: str
    settings: Settings
    seed: int
    steps: int
    every: int
    episodes: int
    tuning: Tuning | None = None
    """Where the settings come from; their values are what `config` holds."""
    evaluation_seeds: EvaluationSeeds = "suite"

    @property
    def name(self) -> str:
        """How messages call this trial."""
        return f"{self.task.label} {self.label} seed {self.seed}"

    def config(self) -> dict[str, Any]:
        """All that its numbers follow from, apart from the seed and the code."""
        return {
            "task": self.task.name,
            "options": self.task.options.named(),
            "algorithm": self.algorithm,
            "settings": asdict(self.settings),
            "steps": self.steps,
            "evaluate": {"every": self.every, "episodes": self.episodes},
            "evaluation_seeds": self.evaluation_seeds,
            "numerics": algorithms.NUMERICS,
            **self.task.origin(),
        }

    def config_hash(self) -> str:
        """Twelve hex digits of the SHA-256 of `config`."""
        canonical = json.dumps(self.config(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def folder(self, suite_folder: Path) -> Path:
        """Where its files lie."""
        return trial_folder(suite_folder, self.task.label, self.label, self.seed)


Pairing = tuple[Task, str, str, Settings]
"""task, label, algorithm and the settings that belong to both"""


def over_seeds(matrix: Matrix, paired: Iterable[Pairing], tuning: Mapping[str, Tuning]) -> list[Trial]:
    """The trials of pairings: one for each seed."""
    return [
        Trial(
            suite=matrix.name,
            task=task,
            label=label,
            algorithm=algorithm,
            settings=settings,
            seed=seed,
            steps=matrix.steps,
            every=matrix.evaluate.every,
            episodes=matrix.evaluate.episodes,
            tuning=tuning.get(label),
            evaluation_seeds=matrix.evaluation_seeds,
        )
        for task, label, algorithm, settings in paired
        for seed in range(matrix.first_seed, matrix.first_seed + matrix.seeds)
    ]
