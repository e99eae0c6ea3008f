"""The start of a trial: seeds for every purpose, settings of the process, the untrained learner, its environments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

import algorithms
from algorithms import Learner
from bench.envs.batch import EnvBatch
from bench.suite.trial import Trial
from bench.tasks import registry

EVALUATION_SEED = 210911251
"""The seed of all evaluation episodes: the same for all trials, and used in no training."""


EVALUATION_STREAMS = ("suite", "fresh", "study")
"""Streams of evaluation seeds: the grid of suites, the final episodes of a trial, the grid of studies."""


def seeds(seed: int) -> tuple[dict[str, int], np.random.SeedSequence]:
    """One seed per purpose of the learner and one for the environments, spawned from the trial's seed."""
    *purposes, environments = np.random.SeedSequence(seed).spawn(len(algorithms.PURPOSES) + 1)
    numbers = [int(child.generate_state(1, np.uint64)[0] >> 1) for child in purposes]
    return dict(zip(algorithms.PURPOSES, numbers, strict=True)), environments


def evaluation_seeds(stream: str, count: int) -> list[np.random.SeedSequence]:
    """The seeds of the first `count` episodes of a stream; no two streams have one in common."""
    streams = np.random.SeedSequence(EVALUATION_SEED).spawn(len(EVALUATION_STREAMS))
    return streams[EVALUATION_STREAMS.index(stream)].spawn(count)


def episode_seeds(seed: int, count: int) -> list[np.random.SeedSequence]:
    """The seeds of episodes that a user asks for by a number: no trial trains or is evaluated on them."""
    return np.random.SeedSequence([EVALUATION_SEED, seed]).spawn(count)


def seed_noise(learner: Any, seed: int) -> None:
    """Let a learner explore with the same noise whatever it did before."""
    for generator in getattr(learner, "generators", {}).values():
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)


@contextmanager
def one_thread() -> Iterator[None]:
    """As trials compute: more threads add in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def prepare_process(learner_threads: int = 1) -> None:
    """Set the number of torch's threads (more add in another order), and make glibc keep freed memory.

    glibc returns freed memory to the system above thresholds that rise with the largest block ever freed, up to 32 MB;
    otherwise the activations of every update, a few MB, would be returned and faulted in again.
    """
    torch.set_num_threads(learner_threads)
    torch.empty(30 * 2**18)  # 30 MB, freed at once


def learner_and_batch(trial: Trial, env_threads: int = 1) -> tuple[Learner, EnvBatch]:
    """The untrained learner and the training environments of a trial."""
    own, environments = seeds(trial.seed)
    batch = registry.make(trial.task, environments.spawn(trial.settings.envs), env_threads=env_threads)
    try:
        return trial.method.build(batch.team, trial.settings, own), batch
    except BaseException:
        batch.close()
        raise
