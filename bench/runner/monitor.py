"""The live display of a suite: the progress of each trial, as those who run them tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.progress_bar import ProgressBar
from rich.table import Table

from bench.cli.command import counted, one_line
from bench.cli.display import Display, clock
from bench.suite.trial import Trial
from bench.trial.link import Progress
from bench.trial.worker import Outcome

MAX_ROWS = 20
"""Running trials that are shown, and pairings of task and algorithm."""
MANY = 100
"""Trials from which the table begins with what is done of each pairing of task and algorithm."""
BAR_WIDTH = 30


@dataclass
class State:
    """The last known progress of a trial."""

    trial: Trial
    estimate: float
    """Seconds that it takes, as was expected."""
    status: str = "waiting"
    step: int = 0
    evaluation: float | None = None
    seconds: float = 0.0
    told: float | None = None
    """Seconds that it still takes, as it said."""

    @property
    def rate(self) -> float:
        """Training steps per second."""
        return self.step / self.seconds if self.seconds else 0.0

    @property
    def left(self) -> float:
        """Seconds that it still takes: as it said, before that by the estimate."""
        return self.estimate if self.told is None else self.told

    @property
    def progress(self) -> str:
        """How far it is, in a line."""
        value = "" if self.evaluation is None else f"return {self.evaluation or 0:z,.0f}"
        share = f"{self.step / self.trial.steps:.0%}"
        return f"{self.step:,} steps ({share})  {value}  {self.rate:,.0f} steps/s  {clock(self.left)} left"


@dataclass
class Group:
    """The trials of a pairing of task and algorithm."""

    trials: int = 0
    done: int = 0
    failed: int = 0


class Monitor(Display):
    """Shows the progress of trials. `estimates` are seconds per trial.

    What is shown of all trials is counted as they end, so that ten thousand cost no more than ten.
    """

    def __init__(self, trials: Sequence[Trial], estimates: Sequence[float], jobs: int):
        super().__init__()
        self.states = {t.name: State(t, seconds) for t, seconds in zip(trials, estimates, strict=True)}
        self.running: dict[str, State] = {}
        self.jobs = max(jobs, 1)
        self.counts = Counter[str]()
        self.waiting_seconds = sum(estimates)
        """Expected of the trials that have not begun."""
        self.groups: dict[tuple[str, str], Group] = {}
        for t in trials:
            self._group(t).trials += 1

    def _group(self, trial: Trial) -> Group:
        return self.groups.setdefault((trial.task.label, trial.label), Group())

    def hear(self, message: str | Progress) -> None:
        """Show what a trial tells."""
        if isinstance(message, str):
            self.say(message)
        elif (state := self.states[message.trial]).status in ("waiting", "running"):
            self._begin(state)
            state.step, state.evaluation, state.seconds = message.step, message.evaluation, message.seconds
            state.told = message.left

    def _begin(self, state: State) -> None:
        if state.status == "waiting":
            state.status = "running"
            self.waiting_seconds -= state.estimate
            self.running[state.trial.name] = state

    def ended(self, outcome: Outcome) -> None:
        """Print a permanent line about a trial that ended, above the live table."""
        state = self.states[outcome.trial.name]
        self._begin(state)
        self.running.pop(state.trial.name, None)
        state.status, state.step = outcome.status, outcome.trial.steps
        state.seconds, state.evaluation = outcome.seconds, outcome.evaluation
        self.counts[state.status] += 1
        group = self._group(state.trial)
        group.done, group.failed = group.done + (state.status == "done"), group.failed + (state.status == "failed")
        detail = (
            one_line(outcome.error)
            or f"return {state.evaluation or 0:z,.0f}  {clock(state.seconds)}  {state.rate:,.0f} steps/s"
        )
        self.say(f"{outcome.status:>6}  {self.counts.total()}/{len(self.states)}  {outcome.trial.name}  {detail}")

    def look(self) -> None:
        """Nothing: trials tell."""

    def lines(self) -> Iterator[str]:
        """A line for each running trial, or the totals and the first of them."""
        shown = [*self.running.values()]
        if len(shown) > MAX_ROWS:
            yield f"        {self._title()}"
        for state in shown[:MAX_ROWS]:
            yield f"        {state.trial.name}  {state.progress}"

    def _title(self) -> str:
        running = [*self.running.values()]
        each = [state.left for state in running]
        left = max([(self.waiting_seconds + sum(each)) / max(self.jobs, len(running)), *each])
        of, done, failed = counted(len(self.states), "trial"), self.counts["done"], self.counts["failed"]
        return f"{done:,} of {of} done, {failed} failed, about {clock(left)} left"

    def table(self) -> Table:
        """The running trials, under a title with the totals; of many trials first what is done of each pairing."""
        outer = Table.grid()
        outer.add_row(self._title())
        if len(self.states) > MANY:
            outer.add_row(self._summary())
        outer.add_row(self._rows())
        return outer

    def _summary(self) -> Table:
        """What is done of each pairing of task and algorithm, those with the most to do first."""
        table = Table()
        for column in ("task", "algorithm"):
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        for column in ("done", "failed"):
            table.add_column(column, justify="right", no_wrap=True)
        by_left = sorted(self.groups.items(), key=lambda item: item[1].done + item[1].failed - item[1].trials)
        for (task, label), group in by_left[:MAX_ROWS]:
            done = f"{group.done} of {group.trials}"
            table.add_row(task.removeprefix("mamujoco/"), label, done, str(group.failed or ""))
        if more := len(by_left) - MAX_ROWS:
            table.caption = f"and {counted(more, 'pairing')} more" if more > 0 else None
        return table

    def _rows(self) -> Table:
        table = Table()
        for column in ("algorithm", "seed", "task"):
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        for column in ("step", "return", "steps/s", "left"):
            table.add_column(column, justify="right", no_wrap=True)
        running = [*self.running.values()]
        for state in running[:MAX_ROWS]:
            table.add_row(
                state.trial.label,
                str(state.trial.seed),
                state.trial.task.label.removeprefix("mamujoco/"),
                f"{state.step:,} ({state.step / state.trial.steps:.0%})",
                "" if state.evaluation is None else f"{state.evaluation:z,.0f}",
                f"{state.rate:,.0f}",
                clock(state.left),
            )
        if len(running) > MAX_ROWS:
            table.caption = f"and {counted(len(running) - MAX_ROWS, 'trial')} more"
        return table


class Bar(Monitor):
    """A monitor of one trial: a bar on a terminal."""

    def __init__(self, trial: Trial):
        super().__init__([trial], [0.0], jobs=1)

    def table(self) -> Table:
        """One row: the trial, the bar, and how far it is."""
        (state,) = self.states.values()
        table = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=state.trial.steps, completed=state.step, width=BAR_WIDTH)
        table.add_row(state.trial.name, bar, state.progress)
        return table
