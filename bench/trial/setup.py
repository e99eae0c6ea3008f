"""What a trial starts from: seeds for every purpose, the process, the untrained learner and its environments."""

from __future__ import annotations

import numpy as np
import torch

import algorithms
from algorithms import Learner
from bench.envs.batch import EnvBatch
from bench.suite.trial import Trial
from bench.tasks import registry

EVALUATION_SEED = 210911251
"""What evaluation episodes are drawn from: the same for all trials, and apart from what any of them trains on."""


EVALUATION_STREAMS = ("suite", "fresh", "study")
"""Of evaluation seeds: for the grid of suites, for the episodes at the end of a trial, and for the grid of studies."""


def seeds(seed: int) -> tuple[dict[str, int], np.random.SeedSequence]:
    """One seed per purpose of the learner and one for the environments, spawned from the trial's seed."""
    *purposes, environments = np.random.SeedSequence(seed).spawn(len(algorithms.PURPOSES) + 1)
    numbers = [int(child.generate_state(1, np.uint64)[0] >> 1) for child in purposes]
    return dict(zip(algorithms.PURPOSES, numbers, strict=True)), environments


def evaluation_seeds(stream: str, count: int) -> list[np.random.SeedSequence]:
    """The seeds of the first `count` episodes of a stream; no two streams have one in common."""
    streams = np.random.SeedSequence(EVALUATION_SEED).spawn(len(EVALUATION_STREAMS))
    return streams[EVALUATION_STREAMS.index(stream)].spawn(count)


def prepare_process() -> None:
    """One thread, as joblib runs a single job in the parent, where more would give other bits; and a heap that stays.

    glibc hands freed memory back above thresholds that rise with the largest block ever freed, up to 32 MB. Below that
    the activations of every update, some MB, would be given back and faulted in again.
    """
    torch.set_num_threads(1)
    torch.empty(30 * 2**18)  # 30 MB, freed at once


def learner_and_batch(trial: Trial, env_threads: int = 1) -> tuple[Learner, EnvBatch]:
    """The untrained learner and the training environments of a trial."""
    own, environments = seeds(trial.seed)
    batch = registry.make(trial.task, environments.spawn(trial.settings.envs), env_threads=env_threads)
    return trial.method.build(batch.team, trial.settings, own), batch
