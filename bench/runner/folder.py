"""The folder of a suite's results: one process works there at a time, and what it holds keeps its meaning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.store import files
from bench.suite.model import SuiteError
from bench.suite.trial import Trial
from bench.trial.status import read_status

LOCK = ".lock"
"""The file in a suite's results that the run at work there holds."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a suite's results; refused while another process holds it."""
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout:
        raise SuiteError(
            f"{folder}: another bench.run or bench.train is at work there; wait for it or choose another folder"
        ) from None


def refuse_changed(planned: Sequence[Trial], folder: Path) -> None:
    """A stored trial of the same name must have meant the same, and all in the folder the same budget."""
    if (folder / "study.yaml").exists():
        raise SuiteError(f"{folder}: holds the results of a study; choose another name or folder")
    one = planned[0]
    budget: dict[str, Any] = {"steps": one.steps, "evaluate": {"every": one.every, "episodes": one.episodes}}
    for stored in files.read_trials(folder):
        was = {key: stored[key] for key in budget}
        if stored["status"] != "waiting" and was != budget:
            raise SuiteError(
                f"{folder}: holds trials with {was}, not with {budget} (config {stored['config_hash']}, now "
                f"{one.config_hash()}); choose another name or folder"
            )
    for t in planned:
        about = read_status(t, folder)
        hash_then = about.get("config_hash")
        if about.get("status", "waiting") != "waiting" and hash_then != t.config_hash():
            raise SuiteError(
                f"{t.folder(folder)}: holds a trial with other settings (config {hash_then}, now {t.config_hash()}); "
                f"choose another name or folder, or delete {t.folder(folder).parent}"
            )
