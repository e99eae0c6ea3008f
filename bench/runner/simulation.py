"""A run on a cluster, simulated on the costs of its trials. Numbers only: no trials, no torch.

A worker runs one trial at a time and takes the next one, in their order, as soon as it is free; no round waits for the
one before it. The command that hands trials out (the driver) is one process, in which every trial takes DRIVER_SECONDS.
A worker's process fails at random, with a constant rate while a trial runs, and goes on at once from the last
checkpoint. So a heap of the times at which workers are free is the whole simulation, and what happens to one trial
depends on no other; simpy would add processes, an environment and an interpreter's switch per event to these few lines.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRIVER_SECONDS = 0.02
"""What the command takes to hand out one trial and to hear of its end."""
WINDOW = 10.0
"""Peaks are means over so many seconds."""
FILES_PER_START, FILES_PER_SAVE, FILES_AT_END = 1, 4, 4
"""By the worker of a trial: trial.json; checkpoint, two tables, progress.json; policy, two tables, trial.json."""
FILES_THAT_STAY = 5
"""Of a trial that is done: trial.json, the tables, the policy, and the lock."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Job:
    """What one trial takes of a worker."""

    start: float
    """Seconds until its process trains; spent again after each failure."""
    first: float
    """Seconds until its first checkpoint."""
    interval: float
    """Seconds from one checkpoint to the next."""
    saves: int
    """Checkpoints, at least 1."""
    last: float
    """Seconds after the last checkpoint."""
    memory: float = 0.0
    """Bytes."""
    save_bytes: float = 0.0
    """Bytes written at each checkpoint, apart from the replay buffer."""
    replay_bytes: float = 0.0
    """Bytes of a checkpoint's replay buffer once that is full."""
    full: float = 1.0
    """How many checkpoints after the first it is full."""
    end_bytes: float = 0.0
    """Bytes written at the end."""
    progress: float = 0.0
    """Times that progress.json is written, apart from the checkpoints."""

    @property
    def seconds(self) -> float:
        """From start to end, without failures."""
        return self.start + self.first + (self.saves - 1) * self.interval + self.last

    @property
    def stretch(self) -> float:
        """The longest time in seconds in which nothing is saved."""
        return self.start + max(self.first, self.interval * (self.saves > 1), self.last)

    def sizes(self) -> Array:
        """Bytes written at each checkpoint."""
        return self.save_bytes + self.replay_bytes * np.minimum(np.arange(self.saves) / self.full, 1.0)


@dataclass(frozen=True)
class Run:
    """What became of a job; times in seconds since the run began."""

    job: Job
    worker: int
    end: float
    starts: Array
    """When its process started: once, and after each failure."""
    saved: Array
    """When its checkpoints were written."""

    @property
    def begin(self) -> float:
        """When it was handed to the worker."""
        return float(self.starts[0])

    @property
    def failures(self) -> int:
        """How often its process failed."""
        return len(self.starts) - 1

    @property
    def lost(self) -> float:
        """Seconds that failures cost: work since the last checkpoint, and starting again."""
        return self.end - self.begin - self.job.seconds if self.failures else 0.0


def simulate(
    jobs: Sequence[Job], workers: int, fail_rate: float = 0.0, seed: int = 0, driver: float = DRIVER_SECONDS
) -> list[Run]:
    """The runs of jobs that are handed out in their order.

    `fail_rate`: failures per hour of a process at work. The number of failures grows with exp(rate x stretch) of a job.
    `driver`: seconds of the command for each job. A job's failures follow from the seed and its place in the order.
    """
    free = [(0.0, worker) for worker in range(workers)]
    runs, driver_free = [], 0.0
    for number, job in enumerate(jobs):
        since, worker = free[0]
        begin = driver_free = max(since, driver_free) + driver
        starts, saved, seconds = lived(job, lifetimes(fail_rate / 3600, f"{seed}/{number}"))
        runs.append(Run(job, worker, begin + seconds, begin + starts, begin + saved))
        heapq.heapreplace(free, (begin + seconds, worker))
    return runs


def lifetimes(rate: float, seed: str) -> Iterator[float]:
    """Seconds after which one process after the other fails, with `rate` failures per second."""
    if not rate:
        return itertools.repeat(math.inf)
    generator = random.Random(seed)
    return (generator.expovariate(rate) for _ in itertools.count())


def lived(job: Job, alive: Iterable[float]) -> tuple[Array, Array, float]:
    """The starts of a job's processes, its checkpoints, and its end, in seconds after its begin.

    `alive`: seconds after which the first process fails, then the second, and so on.
    """
    work = job.first + job.interval * np.arange(job.saves)  # seconds of training and evaluating before each checkpoint
    total = job.seconds - job.start
    starts, saved, now, done = [], [], 0.0, 0
    for lasts in alive:
        starts.append(now)
        base = work[done - 1] if done else 0.0
        ahead = job.start + (work[done:] - base)
        end = job.start + (total - base)
        reached = int(np.searchsorted(ahead, lasts, side="right"))
        saved.append(now + ahead[:reached])
        if lasts >= end:
            return np.array(starts), np.concatenate(saved), now + end
        now, done = now + lasts, done + reached
    raise ValueError("the processes end before the job does")


@dataclass(frozen=True)
class Forecast:
    """What a run would take; times in seconds, peaks as means over WINDOW."""

    makespan: float
    """From the first trial that is handed out to the last that ends."""
    busy: float
    """Seconds in which workers had a trial, added up."""
    efficiency: float
    """`busy` over workers x makespan."""
    longest: float
    """Of the trial that takes the longest."""
    lost: float
    """Seconds that failures cost, added up."""
    failures: int
    most_failures: int
    """Of one trial."""
    files: float
    """Files written; one that is written again counts again."""
    written: float
    """Bytes."""
    submissions_peak: float
    """Trials handed out per second."""
    outcomes_peak: float
    """Trials that end per second."""
    files_peak: float
    """Per second."""
    bytes_peak: float
    """Per second."""
    node_memory: float
    """Bytes that the fullest node takes at some time."""


def forecast(runs: Sequence[Run], workers: int, workers_per_node: int) -> Forecast:
    """What the runs, at least one, amount to."""
    begins, ends = np.array([r.begin for r in runs]), np.array([r.end for r in runs])
    starts, saved = np.concatenate([r.starts for r in runs]), np.concatenate([r.saved for r in runs])
    end_bytes, progress = np.array([r.job.end_bytes for r in runs]), np.array([r.job.progress for r in runs])
    makespan, busy, failures = float(ends.max()), float((ends - begins).sum()), [r.failures for r in runs]
    files = _binned([(starts, FILES_PER_START), (saved, FILES_PER_SAVE), (ends, FILES_AT_END)], makespan) + _spread(
        begins, ends, progress, makespan
    )
    written = _binned([(saved, np.concatenate([r.job.sizes() for r in runs])), (ends, end_bytes)], makespan)
    width = min(WINDOW, makespan)
    return Forecast(
        makespan=makespan,
        busy=busy,
        efficiency=busy / (workers * makespan),
        longest=float((ends - begins).max()),
        lost=sum(r.lost for r in runs),
        failures=sum(failures),
        most_failures=max(failures),
        files=float(files.sum()),
        written=float(written.sum()),
        submissions_peak=float(_binned([(begins, 1)], makespan).max()) / width,
        outcomes_peak=float(_binned([(ends, 1)], makespan).max()) / width,
        files_peak=float(files.max()) / width,
        bytes_peak=float(written.max()) / width,
        node_memory=_fullest_node(runs, workers_per_node),
    )


def _edges(makespan: float) -> Array:
    """The ends of windows from 0 to the makespan or beyond."""
    width = min(WINDOW, makespan)
    windows = math.ceil(makespan / width)
    return np.linspace(0.0, windows * width, windows + 1)


def _binned(events: Iterable[tuple[Array, Array | float]], makespan: float) -> Array:
    """What happens in each window, of events at times with weights."""
    edges = _edges(makespan)
    parts = [
        np.histogram(np.minimum(times, edges[-1]), edges, weights=np.broadcast_to(weights, times.shape))[0]
        for times, weights in events
    ]
    total: Array = np.sum(parts, axis=0)
    return total


def _spread(begins: Array, ends: Array, counts: Array, makespan: float) -> Array:
    """What happens in each window, of counts spread evenly from begins to ends."""
    rates = counts / (ends - begins)
    times, changes = np.concatenate([begins, ends]), np.concatenate([rates, -rates])
    order = np.argsort(times)
    times, rate = times[order], np.cumsum(changes[order])
    so_far = np.concatenate([[0.0], np.cumsum(rate[:-1] * np.diff(times))])
    counted: Array = np.diff(np.interp(_edges(makespan), times, so_far))
    return counted


def _fullest_node(runs: Sequence[Run], workers_per_node: int) -> float:
    """The most memory in bytes that the trials of one node take at once."""
    changes = sorted(
        change
        for r in runs
        for node in [r.worker // workers_per_node]
        for change in ((r.end, -r.job.memory, node), (r.begin, r.job.memory, node))
    )  # at one time ends come first: they take from the sum
    used, most = dict[int, float](), 0.0
    for _, memory, node in changes:
        used[node] = used.get(node, 0.0) + memory
        most = max(most, used[node])
    return most
