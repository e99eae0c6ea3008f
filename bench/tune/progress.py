"""The live display of a study: how much of each algorithm's budget is used, by all processes together."""

from __future__ import annotations

import time
from contextlib import suppress

from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from bench.cli.command import one_line
from bench.cli.display import Display, clock
from bench.store import files
from bench.store.trials import read_trial
from bench.suite.model import SuiteError
from bench.tune.queue import Queue
from bench.tune.storage import OPTUNA_FINISHED
from bench.tune.study import Plan
from bench.tune.work import TuningOutcome


class Progress(Display):
    """Shows how much of each algorithm's budget is used."""

    def __init__(self, plan: Plan, queue: Queue):
        super().__init__()
        self.plan, self.queue = plan, queue
        self.trials: dict[str, list[FrozenTrial]] = {}
        self.look()
        self.done_before = self._done()

    def ended(self, outcome: TuningOutcome) -> None:
        """Print a permanent line about a tuning trial that ended, above the live table."""
        detail = one_line(outcome.error) or f"return {outcome.value:.3f}  {clock(outcome.seconds)} of training"
        self.say(f"{outcome.state:>8}  {outcome.label} trial {outcome.number}  {detail}")

    def look(self) -> None:
        """Read the tuning trials from the storage."""
        with suppress(SuiteError):  # the work will meet it too, and end with it
            self.trials = {label: self.queue.trials(label) for label in self.plan.labels}

    def lines(self) -> list[str]:
        """One line for all algorithms."""
        return [f"          {self._title()}"]

    def _in(self, label: str, *states: TrialState) -> list[FrozenTrial]:
        return [t for t in self.trials.get(label, []) if t.state in states]

    def _done(self) -> int:
        return sum(len(self._in(label, *OPTUNA_FINISHED)) for label in self.plan.labels)

    def _title(self) -> str:
        done, budget = self._done(), self.plan.study.trials * len(self.plan.labels)
        new = done - self.done_before
        left = (time.time() - self.started) / new * max(budget - done, 0) if new else None
        return f"{done} of {budget} tuning trials done" + ("" if left is None else f", about {clock(left)} left")

    def table(self) -> Table:
        """One row per algorithm."""
        table = Table(title=self._title(), title_justify="left", expand=False)
        table.add_column("algorithm", no_wrap=True)
        for column in ("done", "defaults", "best", "running"):
            table.add_column(column, justify="right", no_wrap=True)
        for label in self.plan.labels:
            complete = {t.number: t.values[0] for t in self._in(label, TrialState.COMPLETE)}
            table.add_row(
                label,
                f"{len(self._in(label, *OPTUNA_FINISHED))} of {self.plan.study.trials}",
                f"{complete[0]:.3f}" if 0 in complete else "",
                f"{max(complete.values()):.3f}" if complete else "",
                ", ".join(self._at(label, t.number) for t in self._in(label, TrialState.RUNNING)),
            )
        return table

    def _at(self, label: str, number: int) -> str:
        """A running tuning trial with the share of its steps that are done."""
        instances, folder = self.plan.defaults[label], self.queue.trial_folder(label, number)
        steps = 0
        for t in instances:
            try:
                about = read_trial(t.folder(folder) / "trial.json")
                done = about["status"] == "done"
                steps += t.steps if done else files.read_json(t.folder(folder) / "progress.json")["step"]
            except files.StoreError:  # not begun
                continue
        return f"trial {number} ({steps / sum(t.steps for t in instances):.0%})"
