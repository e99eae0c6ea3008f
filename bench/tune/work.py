"""One tuning trial: a point of the search space, evaluated on every task and seed by `bench.trial`.

The objective is the mean over tasks of the mean over seeds of the normalised return of the last evaluation.

- `pruner: none`: one trial after the other.
- `pruner: median`: all trials are trained to the same point of the evaluation grid before any continues from its
  checkpoint, so the intermediate value at a step is the objective as if training ended there. Nothing is pruned before
  the last evaluation in the first quarter of the grid, and in the first four tuning trials.
- `pruner: wilcoxon`: one trial after the other; the intermediate values are their normalised returns, compared with
  those of the best tuning trial on the same task and seed.

The defaults are never pruned. A tuning trial with a trial that diverges fails, and counts towards the budget. Any other
error (a full disk, a killed process) says nothing about the settings: the tuning trial is put aside, and the next
command resumes it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import TrialState

from bench.store import files, scores
from bench.store.trials import CHECKPOINTS
from bench.suite.trial import Trial
from bench.trial import worker
from bench.trial.link import Link
from bench.trial.status import read_status
from bench.tune.queue import Claim, Queue
from bench.tune.study import Plan


@dataclass(frozen=True)
class TuningOutcome:
    """How a tuning trial ended: `complete`, `pruned`, `fail` (a trial diverged) or `aside` (another error)."""

    label: str
    number: int
    state: str
    value: float | None = None
    seconds: float = 0.0
    error: str = ""


class _Failed(Exception):
    """A trial failed."""

    def __init__(self, outcome: worker.Outcome):
        super().__init__(f"{outcome.trial.name}: {outcome.error}")
        self.diverged = outcome.diverged


def work(plan: Plan, folder: Path, where: str, since: float, link: Link) -> TuningOutcome | None:
    """Claim a tuning trial and run it; None if there is none left to claim. `since` is as in `Queue.claim`."""
    claim = Queue(plan, folder, where).claim(since)
    if claim is None:
        return None
    link.at(claim.name)
    try:
        return carry_out(plan, claim, link)
    finally:
        claim.lock.release()


def carry_out(plan: Plan, claim: Claim, link: Link) -> TuningOutcome:
    """Run the trials of a claimed point, and report the result to Optuna."""
    study, own = claim.trial.study, claim.trial
    pruned, error = False, ""
    try:
        instances = plan.instances(claim.label, claim.values)
        pruned = {"median": _by_grid}.get(plan.study.pruner, _one_by_one)(plan, claim, instances, link)
    except _Failed as failed:
        error = str(failed)
        if not failed.diverged:
            return put_aside(claim.label, own.number, claim.folder, error)
    except Exception as reason:  # work could not even begin: a broken file, a full disk
        return put_aside(claim.label, own.number, claim.folder, f"{type(reason).__name__}: {reason}")
    returns = {t: curve for t in instances if len(curve := evaluations(t, claim.folder))}
    ends = {t: normalised(t, curve["return"].iloc[-1]) for t, curve in returns.items()}
    seconds = sum(training_seconds(t, claim.folder) for t in returns)
    own.set_user_attr("returns", {f"{t.task.label} seed {t.seed}": value for t, value in ends.items()})
    own.set_user_attr("seconds", seconds)
    if error or pruned:
        own.set_user_attr("error", error)
        study.tell(own, state=TrialState.FAIL if error else TrialState.PRUNED)
    else:
        study.tell(own, [mean_of_tasks(ends), seconds][: len(plan.study.objectives)])
    _delete_checkpoints(instances, claim.folder)
    state, value = "fail" if error else "pruned" if pruned else "complete", None if error else mean_of_tasks(ends)
    return TuningOutcome(claim.label, own.number, state, value, seconds, error)


def _delete_checkpoints(instances: Sequence[Trial], folder: Path) -> None:
    """Of trials that were cut, with which nobody goes on any more: replay buffers are large."""
    for t in instances:
        for name in CHECKPOINTS:
            (t.folder(folder) / name).unlink(missing_ok=True)


def put_aside(label: str, number: int, folder: Path, error: str) -> TuningOutcome:
    """Leave a tuning trial to the next command, with the reason."""
    files.write_json(folder / "aside.json", {"error": error, "time": time.time()})
    return TuningOutcome(label, number, "aside", error=error)


def _one_by_one(plan: Plan, claim: Claim, instances: Sequence[Trial], link: Link) -> bool:
    """Run one trial after the other; whether the signed-rank test pruned the rest."""
    for index, t in enumerate(instances):
        _advance(t, claim.folder, link, t.steps)
        if plan.study.pruner == "wilcoxon":
            _report(claim.trial, index, normalised(t, evaluations(t, claim.folder)["return"].iloc[-1]))
            if index + 1 < len(instances) and _prune(claim.trial, index):
                return True
    return False


def _by_grid(plan: Plan, claim: Claim, instances: Sequence[Trial], link: Link) -> bool:
    """Train all trials from one point of the grid to the next; whether the median pruned them."""
    every, steps = plan.study.evaluate.every, plan.study.steps
    for step in range(every, steps + 1, every):
        for t in instances:
            _advance(t, claim.folder, link, step)
        values = {t: normalised(t, evaluations(t, claim.folder)["return"].loc[step]) for t in instances}
        _report(claim.trial, step, mean_of_tasks(values))
        if step < steps and _prune(claim.trial, step):
            return True
    return False


def _advance(t: Trial, folder: Path, link: Link, step: int) -> None:
    """Train a trial up to a step of the grid, unless it has reached it; to its last step until it is done.

    The evaluation there is written before that: a trial that was stopped in between is to end too.
    """
    curve = evaluations(t, folder)
    left = step == t.steps and read_status(t, folder).get("status") != "done"
    if left or not len(curve) or curve.index[-1] < step:
        outcome = worker.run(t, folder, until=step, link=link)
        if outcome.status not in ("running", "done"):
            raise _Failed(outcome)


def _report(own: optuna.Trial, step: int, value: float) -> None:
    """Report an intermediate value, unless it was reported before an interruption."""
    if step not in own.storage.get_trial(own._trial_id).intermediate_values:
        own.report(value, step)


def _prune(own: optuna.Trial, step: int) -> bool:
    """Whether a trial is cut at a step: not at one before the last reported, by which alone Optuna goes."""
    last = own.storage.get_trial(own._trial_id).last_step
    return own.number > 0 and step == last and own.should_prune()


def evaluations(t: Trial, folder: Path) -> pd.DataFrame:
    """Mean `return` of each evaluation of a trial and `seconds` of training before it, indexed by step."""
    path = t.folder(folder) / "records.parquet"
    if not path.exists():
        return pd.DataFrame({"return": [], "seconds": []})
    records = files.read_table(path)
    grid = records[records["kind"] == "grid"].groupby("step")
    return pd.DataFrame({"return": grid["episode_return"].mean(), "seconds": grid["seconds"].first()})


def training_seconds(t: Trial, folder: Path) -> float:
    """Seconds of training up to the last evaluation, plus those of later updates if the trial diverged."""
    last = evaluations(t, folder)["seconds"]
    path = t.folder(folder) / "updates.parquet"
    if not path.exists():
        return float(last.iloc[-1])
    updates = files.read_table(path).drop_duplicates("step")
    rates = updates.loc[updates["step"] > last.index[-1], "steps_per_second"]
    return float(last.iloc[-1] + (t.settings.envs * t.settings.rollout_length / rates).sum())


def normalised(t: Trial, value: Any) -> float:
    """A return on the scale of its task's reference scores."""
    score = scores.score(t.task.label)
    assert score is not None
    return score.normalised(float(value))


def mean_of_tasks(values: Mapping[Trial, float]) -> float:
    """The mean over tasks of the mean over seeds, over the trials that were run."""
    tasks = {t.task for t in values}
    means = [fmean(value for t, value in values.items() if t.task == task) for task in sorted(tasks, key=str)]
    return float(np.mean(means))
