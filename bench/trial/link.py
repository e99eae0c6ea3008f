"""What a trial tells whoever runs it."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a trial is."""

    trial: str
    """Its name."""
    step: int
    seconds: float
    """Of training."""
    evaluation: float | None
    """Mean return of the last evaluation."""
    left: float | None = None
    """Seconds that it still takes, evaluation included; None before it has trained."""


class Link:
    """The way from a trial to whoever runs it, in this process: nobody waits for it, and messages go to stderr."""

    def beat(self) -> None:
        """Say that the trial is alive: called after every step of a batch of environments."""

    def at(self, doing: str) -> None:
        """Say what it is doing, for the message in case that it dies of it."""

    def progress(self, progress: Progress) -> None:
        """Say how far it is."""

    def say(self, line: str) -> None:
        """Tell the user something that is no failure."""
        print(line, file=sys.stderr)
