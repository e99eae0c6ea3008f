"""What a study is to do and will cost. It makes environments, so commands do it in a process of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.runner.cost import Cost, costs, data_bytes, refuse_replays_beyond_memory
from bench.runner.summary import physics_warning
from bench.store.files import StoreError
from bench.store.studies import earlier_references
from bench.suite.model import SuiteError
from bench.suite.trial import Trial
from bench.trial.link import Link
from bench.tune.space import Parameters
from bench.tune.storage import finished_trials
from bench.tune.study import Plan, load

SIZES = ("envs", "rollout_length", "hidden_sizes", "buffer_size")
"""The settings with which memory grows."""


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
    """What a trial with the default settings costs, of each label that is not finished; its memory is that of the
    largest settings in the space."""
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
    largest = {t: _largest(t, plan.spaces[t.label]) for t in todo}
    refuse_replays_beyond_memory([*largest.values()], jobs)
    prices = {
        t: replace(cost, memory=cost.memory + data_bytes(largest[t]) - data_bytes(t))
        for t, cost in costs(todo, fresh_episodes=False, link=link).items()
    }
    return Prepared(plan, document, where, left, prices, physics_warning(todo))


def _largest(trial: Trial, space: Parameters) -> Trial:
    """The trial with the settings of a space that take most memory."""
    sizes = {name: max(space[name].extremes(), key=np.sum) for name in SIZES if name in space}
    return replace(trial, settings=replace(trial.settings, **sizes))


def _refuse_other_scale(folder: Path) -> None:
    """Raise SuiteError where reference scores were measured again since the tuning trials of a study."""
    earlier: Mapping[str, float] = {}
    with suppress(StoreError):  # what is damaged is made again
        earlier = earlier_references(folder)
    if earlier:
        was = "; ".join(f"{task}, where 1 was a return of {value:,.0f}" for task, value in earlier.items())
        raise SuiteError(
            f"{folder}: its tuning trials were valued by reference scores that have been measured again since: {was}; "
            "more of them could not be compared with these: give the study another name or use another --results"
        )
