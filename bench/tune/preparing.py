"""What a study is to do and will cost. It makes environments, so commands do it in a process of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.runner.cost import Cost, costs, refuse_replays_beyond_memory
from bench.runner.summary import physics_warning
from bench.store.studies import earlier_references
from bench.suite.model import SuiteError
from bench.suite.trial import Trial
from bench.trial.link import Link
from bench.tune.storage import finished_trials
from bench.tune.study import Plan, load


@dataclass(frozen=True)
class Prepared:
    """A study that is ready to run."""

    plan: Plan
    """The study with its names resolved."""
    document: dict[str, Any]
    """The study file with everything that overrides it."""
    where: str
    """Optuna's storage."""
    left: Counter[str]
    """label -> tuning trials of its budget that have not finished."""
    prices: Mapping[Trial, Cost]
    """What a trial with the default settings costs, of each label that is not finished."""
    warning: str
    """About physics that differ from golden.json; mostly empty."""


def prepared(file: Path, changes: Sequence[str], results: Path, storage: str | None, jobs: int, link: Link) -> Prepared:
    """Read a study and measure its costs. `results` is where the results of all studies lie."""
    link.at(f"reading {file}")
    plan, document = load(file, changes)
    folder = results / plan.study.name
    where = storage or str(folder / "journal.log")
    left = Counter({label: plan.study.trials - n for label, n in finished_trials(plan, folder, where).items()})
    todo = [t for label, own in plan.defaults.items() if left[label] for t in own]
    if todo and (folder / "tuning.parquet").exists():
        _refuse_other_scale(folder)
    refuse_replays_beyond_memory(todo, jobs)
    prices = costs(todo, fresh_episodes=False, link=link)
    return Prepared(plan, document, where, left, prices, physics_warning(todo))


def _refuse_other_scale(folder: Path) -> None:
    """Raise SuiteError where reference scores were measured again since the tuning trials of a study."""
    if earlier := earlier_references(folder):
        was = "; ".join(f"{task}, where 1 was a return of {value:,.0f}" for task, value in earlier.items())
        raise SuiteError(
            f"{folder}: its tuning trials were valued by reference scores that have been measured again since: {was}; "
            "more of them could not be compared with these: give the study another name or use another --results"
        )
