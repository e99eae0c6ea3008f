"""Videos that lie in a suite's folder, which the page shows by their places there: they stay files of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from bench.store.trials import POLICIES, trial_folder


@dataclass(frozen=True)
class Video:
    """A file that the page plays."""

    name: str
    """The name of the file without its ending."""
    url: str
    """From the suite's folder, where the page lies."""


def of_suite(folder: Path) -> list[Video]:
    """Those of several trials: `<suite>/videos/*.mp4`."""
    return _in(folder, folder / "videos")


def of_trial(folder: Path, task: str, algorithm: str, seed: int) -> list[Video]:
    """Those in the folder of a trial or of its published team: `play.mp4`, as `bench.play` names it, or any other."""
    trial = task, algorithm, seed
    return [*_in(folder, trial_folder(folder, *trial)), *_in(folder, trial_folder(folder, *trial, POLICIES))]


def _in(suite: Path, folder: Path) -> list[Video]:
    found = sorted(folder.glob("*.mp4"))
    return [Video(path.stem, quote(path.relative_to(suite).as_posix())) for path in found]
