"""The live display of a suite: the progress of each trial.

Trials write their progress to files, so it does not matter in which process they run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress_bar import ProgressBar
from rich.table import Table

from bench.cli.command import counted, one_line
from bench.cli.display import Display, clock
from bench.store import files
from bench.suite.trial import Trial
from bench.trial.worker import Outcome

MAX_ROWS = 20
BAR_WIDTH = 30


@dataclass
class State:
    """The last known progress of a trial."""

    trial: Trial
    status: str = "waiting"
    step: int = 0
    evaluation: float | None = None
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Training steps per second."""
        return self.step / self.seconds if self.seconds else 0.0


class Monitor(Display):
    """Shows the progress of trials. `estimates` are seconds per trial."""

    def __init__(self, trials: Sequence[Trial], suite_folder: Path, estimates: Sequence[float], jobs: int):
        super().__init__()
        self.states = {trial: State(trial) for trial in trials}
        self.estimates = dict(zip(trials, estimates, strict=True))
        self.folder, self.jobs = suite_folder, jobs

    def ended(self, outcome: Outcome) -> None:
        """Print a permanent line about a trial that ended, above the live table."""
        state = self.states[outcome.trial]
        state.status, state.step = outcome.status, outcome.trial.steps
        state.seconds, state.evaluation = outcome.seconds, outcome.evaluation
        ended = sum(s.status in ("done", "failed") for s in self.states.values())
        detail = (
            one_line(outcome.error)
            or f"return {state.evaluation or 0:z,.0f}  {clock(state.seconds)}  {state.rate:,.0f} steps/s"
        )
        self.say(f"{outcome.status:>6}  {ended}/{len(self.states)}  {outcome.trial.name}  {detail}")

    def look(self) -> None:
        """Read the progress of all trials that have not ended."""
        for state in self.states.values():
            if state.status in ("waiting", "running"):
                self._look(state)

    def lines(self) -> Iterator[str]:
        """A line for each running trial."""
        for state in self._running():
            yield f"        {state.trial.name}  {self._progress(state)}"

    def _look(self, state: State) -> None:
        """Read the progress file of a trial, if it has started."""
        path = state.trial.folder(self.folder) / "progress.json"
        try:
            if path.stat().st_mtime < self.started:  # left by an earlier run
                return
            progress = files.read_json(path)
        except (OSError, files.StoreError):  # the trial has not started, or just ended
            return
        state.status = "running"
        state.step, state.evaluation, state.seconds = (progress[key] for key in ("step", "evaluation", "seconds"))

    def _running(self) -> list[State]:
        return [state for state in self.states.values() if state.status == "running"]

    def _progress(self, state: State) -> str:
        value = "" if state.evaluation is None else f"return {state.evaluation or 0:z,.0f}"
        share = f"{state.step / state.trial.steps:.0%}"
        return f"{state.step:,} steps ({share})  {value}  {state.rate:,.0f} steps/s  {clock(self._left(state))} left"

    def _left(self, state: State) -> float:
        """Seconds that a trial still takes: by its own rate, before that by the estimate."""
        if state.status in ("done", "failed"):
            return 0.0
        if not state.rate:
            return self.estimates[state.trial]
        return (state.trial.steps - state.step) / state.rate

    def table(self) -> Table:
        """The running trials, under a title with the totals."""
        counts = {status: sum(s.status == status for s in self.states.values()) for status in ("done", "failed")}
        left = sum(self._left(state) for state in self.states.values()) / self.jobs
        of = counted(len(self.states), "trial")
        title = f"{counts['done']} of {of} done, {counts['failed']} failed, about {clock(left)} left"
        table = Table(title=title, title_justify="left", expand=False)
        for column in ("algorithm", "seed", "task"):
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        for column in ("step", "return", "steps/s", "left"):
            table.add_column(column, justify="right", no_wrap=True)
        for state in self._running()[:MAX_ROWS]:
            table.add_row(
                state.trial.label,
                str(state.trial.seed),
                state.trial.task.label.removeprefix("mamujoco/"),
                f"{state.step:,} ({state.step / state.trial.steps:.0%})",
                "" if state.evaluation is None else f"{state.evaluation:z,.0f}",
                f"{state.rate:,.0f}",
                clock(self._left(state)),
            )
        return table


class Bar(Monitor):
    """The same for one trial: a bar on a terminal."""

    def __init__(self, trial: Trial, suite_folder: Path):
        super().__init__([trial], suite_folder, [0.0], jobs=1)

    def table(self) -> Table:
        """One row: the trial, the bar, and how far it is."""
        (state,) = self.states.values()
        table = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=state.trial.steps, completed=state.step, width=BAR_WIDTH)
        table.add_row(state.trial.name, bar, self._progress(state))
        return table
