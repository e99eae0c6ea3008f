"""What a worker does with a trial: bring it to its end from its checkpoint, in a process of its own within limits."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.runner.backends import Channel
from bench.runner.process import Died, Limits, call
from bench.store.files import FolderGone, StoreError, refuse_other_folder
from bench.store.places import working
from bench.store.remote import Remote, StoreGone
from bench.suite.trial import Trial
from bench.trial import worker
from bench.trial.status import at_work, record_failure
from bench.trial.worker import Outcome, Stopped

MEMORY_FACTOR = 4.0
"""A trial that takes so many times the memory that was expected is ended."""


PATIENCE_SECONDS = 10.0
"""So long a worker waits for a trial that another one held."""


@dataclass(frozen=True)
class Effort:
    """What a run may use, and how long it tries."""

    env_threads: int = 1
    """Threads that step the environments of each trial."""
    stall: float = 600.0
    """Seconds without a step after which a trial is ended."""
    retries: int = 1
    """How often a trial is started again whose process died or was ended."""

    def cores(self, *trials: Trial) -> int:
        """That each of these keeps busy at most: environments, where they heed threads, and updates take turns."""
        stepping = self.env_threads if any(t.task.robot for t in trials) else 1
        return max(stepping, *(t.learner_threads for t in trials), 1)


@dataclass(frozen=True)
class Attempt:
    """The function that workers are given, whichever engine they belong to."""

    results: Path | Remote
    """Where the results of the suite lie, for the command and for all workers."""
    effort: Effort
    began: tuple[int, int] | None = None
    """The folder that was at `results` when the run began; None on other machines, where it has another number."""

    def __call__(self, priced: tuple[Trial, float], channel: Channel) -> Outcome:
        """`priced`: a trial, and the bytes of memory that it is expected to take.

        A trial at which another run is at work is `busy`, one that was told to stop `running`, one whose store was not
        reached `cut off`.
        """
        trial, memory = priced
        if moved := self._moved():
            return Outcome(trial, "failed", moved)
        try:
            if not self._is_free(trial, channel):
                return Outcome(trial, "busy")
        except StoreGone as gone:
            return Outcome(trial, "cut off", str(gone))
        except (OSError, StoreError) as gone:  # a lost mount, a file system that became read-only
            return Outcome(trial, "failed", str(gone))
        limits = Limits(self.effort.stall, MEMORY_FACTOR * memory)
        arguments = (trial, self.results, self.effort.env_threads, None)
        for left in reversed(range(self.effort.retries + 1)):
            try:
                return call(
                    worker.run, *arguments, limits=limits, say=channel.tell, progress=channel.tell, stop=channel
                )
            except Died as died:
                if moved := self._moved():
                    return Outcome(trial, "failed", moved)
                error = str(died)
                if left:
                    channel.tell(f" again  {trial.name}  {error}")
            except Stopped:
                return Outcome(trial, "running")
        give_up(trial, self.results, error)
        return Outcome(trial, "failed", error)

    def _moved(self) -> str:
        """Why nothing may be written where the run began; empty where the folder is still the same one."""
        try:
            if self.began:
                refuse_other_folder(working(self.results), self.began)
        except FolderGone as gone:
            return str(gone)
        return ""

    def _is_free(self, trial: Trial, channel: Channel) -> bool:
        """Whether nobody is at work on a trial. A process whose worker was lost lets go within seconds."""
        end = time.monotonic() + (0 if self.began else PATIENCE_SECONDS)
        while True:
            free = not at_work(trial, self.results)
            if free or channel.is_set() or time.monotonic() >= end:
                return free
            time.sleep(0.2)


def give_up(trial: Trial, results: Path | Remote, error: str) -> None:
    """Note why a trial failed that cannot do so itself any more, if that can be written."""
    with suppress(OSError, StoreError):
        record_failure(trial, results, error)
