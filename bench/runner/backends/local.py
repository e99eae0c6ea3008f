"""This machine: joblib's threads, each of which waits for a process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

from joblib import Parallel, delayed

from bench.runner.backends import Ask, Backend, Function, Hear, T, Work
from bench.suite.model import SuiteError


@dataclass(frozen=True)
class Here:
    """The channel between two threads of one process."""

    tell: Hear
    is_set: Callable[[], bool]


def jobs_here(asked: int | None, cores: int) -> int:
    """How many pieces of work with so many cores each this machine does at once, unless the user has said so."""
    return asked or max((os.cpu_count() or 1) // cores, 1)


class Local(Backend):
    """As many threads as there are jobs."""

    remote = False

    def __init__(self, jobs: int | None):
        self._asked = jobs
        self.share_out(1)

    def share_out(self, cores: int) -> None:
        self.jobs = jobs_here(self._asked, cores)

    def at_once(self, cores: int) -> int:
        """As many as there are jobs."""
        return self.jobs

    def in_parallel(self, cores: int) -> int:
        """No more than there are processors."""
        return min(self.jobs, os.cpu_count() or 1)

    def run(self, function: Function[T], work: Iterable[Work[T]], ask: Ask, hear: Hear) -> Generator[Any]:
        """What the function raises goes through."""
        stop, at_work = threading.Event(), set[threading.Event]()
        channel = Here(hear, stop.is_set)

        def noted(item: T) -> Any:
            ended = threading.Event()
            at_work.add(ended)
            try:
                return function(item, channel)
            finally:
                ended.set()
                at_work.discard(ended)

        parallel = Parallel(
            n_jobs=self.jobs, backend="threading", return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1
        )
        try:
            yield from parallel(delayed(noted)(each.item) for each in work)
        finally:
            stop.set()
            for ended in [*at_work]:
                ended.wait()


def connect(address: str | None, jobs: int | None) -> Local:
    """By default as many jobs as there are cores for."""
    if address is not None:
        raise SuiteError(f"--address {address}: nobody is asked with --on local; leave it out")
    return Local(jobs)
