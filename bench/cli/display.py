"""What the user sees while trials run: one live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from bench.cli import command

POLL_SECONDS = 1.0
LINE_SECONDS = 15.0


def clock(seconds: float) -> str:
    """`h:mm:ss`, and days from 48 hours on: `3 d 4 h`."""
    minutes, seconds = divmod(round(seconds), 60)
    if minutes >= 48 * 60:
        days, hours = divmod(round(minutes / 60), 24)
        return f"{days} d {hours} h"
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


class _Console(Console):
    """rich's, which would end the process where nobody reads what it prints any more."""

    def on_broken_pipe(self) -> None:
        """Leave the exception that is on its way to whoever prints."""
        raise


class Display(ABC):
    """A context that looks every second how far things are and shows it, until it is left."""

    def __init__(self) -> None:
        self.console = _Console()
        self.started = time.time()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._live = Live(console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, _k: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if self.console.is_terminal:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line that stays, if that is possible: trials are worth more than what is said of them."""
        try:
            self.console.print(line, soft_wrap=True, markup=False, highlight=False)
        except OSError as failure:
            command.mute(failure)

    @abstractmethod
    def look(self) -> None:
        """See how far things are."""

    @abstractmethod
    def table(self) -> Table:
        """What a terminal shows until the next look."""

    @abstractmethod
    def lines(self) -> Iterable[str]:
        """What is printed now and then where there is no terminal."""

    def _watch(self) -> None:
        last = 0.0
        while not self._stop.wait(POLL_SECONDS):
            self.look()
            if self.console.is_terminal:
                self._live.update(self.table(), refresh=True)
            elif time.monotonic() - last > LINE_SECONDS:
                last = time.monotonic()
                for line in self.lines():
                    self.say(line)
