"""What trials cost that run at once: two against one alone, and the peak memory of each.

Each trial has a fresh process with one torch thread, as `bench.run` gives it.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import mean, median
from typing import Any

from algorithms import Learner
from algorithms.replay_buffer import transition_bytes
from bench.suite.trial import Trial
from bench.trial.collect import Collector
from bench.trial.setup import learner_and_batch, prepare_process

ROUNDS = 5
SECONDS = 1.0
"""Of training in one turn, about."""

Spent = tuple[float, float]
"""Seconds by the clock and seconds of a core."""


def measure(trial: Trial) -> dict[str, Any]:
    """Two trials at once against twice one alone, in turns, and the larger peak of memory of the two in MB.

    `two_core_share` is how much of a core each of the two had: well below 1, other programs had the rest, or there are
    fewer cores than trials.
    """
    with _worker(trial) as first, _worker(replace(trial, seed=1)) as second:
        both = (first, second)
        updates = math.ceil(SECONDS / max([pipe.recv()[0] for pipe in both]))
        turns = [(_turn(updates, both[number % 2]), _turn(updates, *both)) for number in range(ROUNDS)]
        peaks = _turn(0, *both)
    measured, full = (max(column) / 1e6 for column in zip(*peaks, strict=True))
    return {
        "task": trial.task.label,
        "algorithm": trial.label,
        "two_over_twice_one": median(two_over_twice_one(one[0], together) for one, together in turns),
        "two_core_share": mean(cpu / seconds for _, together in turns for seconds, cpu in together),
        "peak_memory_mb": measured,
        "peak_memory_full_replay_mb": full,
    }


def two_over_twice_one(one: Spent, two: Sequence[Spent]) -> float:
    """Steps/s of two together over twice the steps/s of one alone, all having done the same number of steps."""
    return sum(one[0] / seconds for seconds, _ in two) / 2


@contextmanager
def _worker(trial: Trial) -> Iterator[Connection]:
    """A process that trains when told to; it ends with the context, whatever happens."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_without_ctrl_c, args=(trial, theirs), daemon=True)
    process.start()
    theirs.close()  # so that the process's death ends the pipe
    try:
        yield ours
    finally:
        process.terminate()
        process.join()


def _turn(updates: int, *pipes: Connection) -> list[Any]:
    """What each spent on its updates, all begun at once; for none, what `_work` tells at its end."""
    for pipe in pipes:
        pipe.send(updates)
    return [pipe.recv() for pipe in pipes]


def _without_ctrl_c(trial: Trial, pipe: Connection) -> None:
    """Do the work; Ctrl-C is for the command, which ends this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _work(trial, pipe)


def _work(trial: Trial, pipe: Connection) -> None:
    """Tell the cost of a first update, then of as many as are asked for; asked for none, the peak memory."""
    prepare_process()
    learner, made = learner_and_batch(trial)
    with closing(made) as batch:
        collector = Collector(batch, trial.settings.rollout_length)

        def train(updates: int) -> Spent:
            start, cpu = time.perf_counter(), time.process_time()
            for _ in range(updates):
                learner.update(collector.collect(learner))
            return time.perf_counter() - start, time.process_time() - cpu

        pipe.send(train(1))
        while updates := pipe.recv():
            pipe.send(train(updates))
    peak = peak_bytes()
    pipe.send((peak, peak + unfilled_bytes(learner)))
    pipe.close()


def peak_bytes() -> float:
    """The most memory that this process ever held.

    On Linux `getrusage` also counts what the parent held when it made this process; the kernel's own table does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        words = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:")).split()
        return float(words[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1.0 if sys.platform == "darwin" else 1024.0)


def unfilled_bytes(learner: Learner) -> float:
    """What a replay buffer has reserved and not yet written to; 0 without one."""
    replay = getattr(learner, "replay_buffer", None)
    if replay is None:
        return 0.0
    return float((replay.rows - replay.filled) * replay.envs * transition_bytes(learner.team))  # type: ignore[attr-defined]
