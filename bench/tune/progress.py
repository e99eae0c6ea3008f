"""What the user sees while a study runs: how far each algorithm's budget is used, whoever works on it."""

from __future__ import annotations

import time

from optuna.trial import TrialState
from rich.table import Table

from bench.cli.display import Display, clock
from bench.store import files
from bench.tune.queue import Ledger
from bench.tune.storage import OPTUNA_FINISHED
from bench.tune.study import Plan
from bench.tune.work import Ended


class Progress(Display):
    """Shows how far each algorithm's budget is used."""

    def __init__(self, plan: Plan, ledger: Ledger):
        super().__init__()
        self.plan, self.ledger = plan, ledger
        self.finished = self.finished_before = self._finished()

    def ended(self, end: Ended) -> None:
        """Say that a tuning trial ended: a line that stays, above the live table."""
        detail = end.error or f"return {end.value:.3f}  {clock(end.seconds)} of training"
        self.say(f"{end.state:>8}  {end.label} trial {end.number}  {detail}")

    def look(self) -> None:
        """Count what has finished."""
        self.finished = self._finished()

    def lines(self) -> list[str]:
        """One line for all."""
        return [f"          {self._title()}"]

    def _finished(self) -> dict[str, int]:
        return {label: len(self.ledger.trials(label, *OPTUNA_FINISHED)) for label in self.plan.labels}

    def _title(self) -> str:
        done, budget = sum(self.finished.values()), self.plan.study.trials * len(self.plan.labels)
        new = done - sum(self.finished_before.values())
        left = (time.time() - self.started) / new * max(budget - done, 0) if new else None
        return f"{done} of {budget} tuning trials done" + ("" if left is None else f", about {clock(left)} left")

    def table(self) -> Table:
        """One row per algorithm."""
        table = Table(title=self._title(), title_justify="left", expand=False)
        table.add_column("algorithm", no_wrap=True)
        for column in ("done", "defaults", "best", "running"):
            table.add_column(column, justify="right", no_wrap=True)
        for label, count in self.finished.items():
            complete = {t.number: t.values[0] for t in self.ledger.trials(label, TrialState.COMPLETE)}
            table.add_row(
                label,
                f"{count} of {self.plan.study.trials}",
                f"{complete[0]:.3f}" if 0 in complete else "",
                f"{max(complete.values()):.3f}" if complete else "",
                ", ".join(self._at(label, t.number) for t in self.ledger.trials(label, TrialState.RUNNING)),
            )
        return table

    def _at(self, label: str, number: int) -> str:
        """A running tuning trial and the share of its steps that are behind it."""
        instances, folder = self.plan.defaults[label], self.ledger.trial_folder(label, number)
        steps = 0
        for t in instances:
            try:
                about = files.read_trial(t.folder(folder) / "trial.json")
                there = about["status"] == "done"
                steps += t.steps if there else files.read_json(t.folder(folder) / "progress.json")["step"]
            except files.StoreError:  # not begun
                continue
        return f"trial {number} ({steps / sum(t.steps for t in instances):.0%})"
