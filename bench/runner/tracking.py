"""Trackers that are told of trials while a suite runs: in processes of their own, which no trial notices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.runner.process import Died, Limits, call
from bench.store.tracking import write_runs
from bench.store.trials import trial_files
from bench.trial.link import Link

POLL_SECONDS = 5.0
STALL_SECONDS = 120.0
"""That a tracker may take for the run of one trial."""


@contextmanager
def tracked(suite: Path, trackers: Sequence[str], say: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile, and once more at the end, tell trackers of the trials in a suite's folder that have ended.

    It looks at files alone, so it does not matter where trials run. A tracker that fails is said once and left alone.
    """
    if not trackers:
        yield
        return
    stop, left = threading.Event(), [*trackers]

    def look() -> None:
        for tracker in [*left]:
            try:
                call(_write, suite, tracker, limits=Limits(STALL_SECONDS), say=say)
            except (Died, OSError) as error:
                left.remove(tracker)
                say(f"--log {tracker}: {error}; it is told no more, the trials go on")

    def watch() -> None:
        seen: dict[Path, int] = {}
        while not stop.wait(POLL_SECONDS):
            if (now := _modified(suite)) != seen:
                seen = now
                look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        look()


def _write(suite: Path, tracker: str, link: Link) -> int:
    """In the process."""
    return write_runs(suite, tracker, link.beat)


def _modified(suite: Path) -> dict[Path, int]:
    """The `trial.json` of all trials, each with its time in nanoseconds."""
    found = {}
    for path in trial_files(suite, "trial.json"):
        try:
            found[path] = path.stat().st_mtime_ns
        except OSError:  # replaced meanwhile, or a lost mount
            continue
    return found
