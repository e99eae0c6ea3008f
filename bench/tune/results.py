"""The results of a study: `tuning.parquet`, `importances.parquet`, `best.yaml` and a verdict per algorithm."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from bench.cli.command import counted
from bench.store import files
from bench.store.checksums import with_line
from bench.store.studies import best, tuning_hash
from bench.suite.model import Tuning
from bench.suite.reading import unshared
from bench.suite.yaml12 import dump
from bench.tune.queue import Queue
from bench.tune.storage import OPTUNA_FINISHED
from bench.tune.study import Plan
from bench.tune.work import mean_of_tasks

LEAST_FOR_IMPORTANCES = 4
"""Fewest complete tuning trials from which importances are computed."""


def write(plan: Plan, queue: Queue) -> pd.DataFrame:
    """Write the tables and best settings of the tuning trials finished so far; returns the table of tuning trials."""
    table = pd.DataFrame([_row(plan, label, t) for label in plan.labels for t in queue.trials(label, *OPTUNA_FINISHED)])
    if table.empty:
        return table
    files.write_table(queue.folder / "tuning.parquet", table)
    files.write_table(queue.folder / "importances.parquet", importances(plan, queue))
    files.write_text(queue.folder / "best.yaml", _best_yaml(plan, table))
    return table


def _row(plan: Plan, label: str, t: FrozenTrial) -> dict[str, Any]:
    """A finished tuning trial as a row of `tuning.parquet`; `value` is the mean normalised return of its trials."""
    returns = t.user_attrs.get("returns", {})
    by_trial = {d: returns[key] for d in plan.defaults[label] if (key := f"{d.task.label} seed {d.seed}") in returns}
    failed = t.state == TrialState.FAIL
    return {
        "study": plan.study.name,
        "algorithm": label,
        "number": t.number,
        "state": t.state.name.lower(),
        "value": None if failed or not by_trial else mean_of_tasks(by_trial),
        "seconds": float(t.user_attrs.get("seconds", 0.0)),
        "default": t.number == 0,
        "params": json.dumps(t.params, sort_keys=True),
        "returns": json.dumps(returns, sort_keys=True),
        "first_seed": plan.study.first_seed,
        "seeds": plan.study.seeds,
        "error": t.user_attrs.get("error", ""),
        "refused": json.dumps(t.user_attrs.get("refused", [])),
    }


def importances(plan: Plan, queue: Queue) -> pd.DataFrame:
    """PED-ANOVA's importance of each parameter of each algorithm (Watanabe et al. 2023): shares that sum to 1.

    The question is which parameters matter for being among the better half of the complete tuning trials.
    """
    rows = []
    for label in plan.labels:
        complete = queue.trials(label, TrialState.COMPLETE)
        if len({t.values[0] for t in complete}) >= LEAST_FOR_IMPORTANCES:
            found = optuna.importance.get_param_importances(
                queue.study(label),
                evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.5),
                target=lambda t: -t.values[0],  # the evaluator takes lower values for better ones
            )
            rows += [(label, name, float(share), len(complete)) for name, share in found.items()]
    return pd.DataFrame(rows, columns=["algorithm", "parameter", "importance", "trials"])


def _best_yaml(plan: Plan, table: pd.DataFrame) -> str:
    """The best settings found, with the others that the study sets, as a file for `bench.run --include`."""
    study = plan.study
    document: dict[str, Any] = {"algorithms": {}, "tuning": {}}
    for label in plan.labels:
        if (row := best(table, label)) is None:
            continue
        own = dict(study.algorithms[label] or {})
        known = plan.defaults[label][0].settings.__dataclass_fields__
        set_by_study = {key: value for key, value in study.defaults.items() if key in known} | own
        document["algorithms"][label] = set_by_study | _values(plan, label, json.loads(row["params"]))
        document["tuning"][label] = Tuning(
            study=study.name,
            trials=int((table["algorithm"] == label).sum()),
            steps=study.steps,
            first_seed=study.first_seed,
            seeds=study.seeds,
            hash=tuning_hash(table),
        ).model_dump(exclude_defaults=True)
    head = "# Made by bench.tune. For another suite: python -m bench.run SUITE.yaml --include THIS_FILE\n"
    if study.per_task:
        head += "# Without what per_task sets in the study; a suite has its own.\n"
    body = dump(unshared(document), default_flow_style=None, width=120)
    return with_line(head + body)


def _values(plan: Plan, label: str, params: dict[str, Any]) -> dict[str, Any]:
    """Optuna's values as settings, with lists decoded; what was not active is as the study has it by default."""
    default = asdict(plan.defaults[label][0].settings)
    return {
        name: parameter.setting(params[name]) if name in params else default[name]
        for name, parameter in plan.spaces[label].items()
    }


def verdict(table: pd.DataFrame, label: str) -> str:
    """In one line: whether tuning found better settings than the defaults, and in how many pairings they are better."""
    top = best(table, label)
    if top is None:
        return "no tuning trial was completed"
    mine = table[(table["algorithm"] == label) & (table["number"] == 0)]
    first = dict(mine.iloc[0]) if len(mine) else None
    if first is None or first["state"] != "complete":
        value = f"best {top['value']:#.4g} (trial {top['number']})"
        return f"{value}; the defaults {'diverged' if first else 'have not been tried'}"
    if top["number"] == 0:
        trials = counted(int((table["algorithm"] == label).sum()), "trial")
        return f"the defaults, {first['value']:#.4g}, were the best of {trials}"
    ours, theirs = json.loads(top["returns"]), json.loads(first["returns"])
    wins = sum(ours[key] > theirs[key] for key in theirs)
    best_value, default = distinct(top["value"], first["value"])
    return (
        f"best {best_value} (trial {top['number']}) beats the defaults, {default}, in {wins} of "
        f"{counted(len(theirs), 'pairing')} of task and seed"
    )


def _refused(plan: Plan, table: pd.DataFrame) -> list[str]:
    """A line for each algorithm of which points were drawn that cannot be trained."""
    lines = []
    for label in plan.labels:
        mine = table.loc[table["algorithm"] == label, "refused"]
        if reasons := [reason for text in mine for reason in json.loads(text)]:
            points = counted(len(reasons), "point")
            lines.append(f"{label}: {points} that cannot be trained, drawn again at no cost; the last: {reasons[-1]}")
    return lines


def distinct(one: float, other: float) -> tuple[str, str]:
    """Two numbers as text with four significant digits, or as many as make the texts differ."""
    for digits in range(4, 17):
        if f"{one:#.{digits}g}" != f"{other:#.{digits}g}":
            break
    else:
        digits = 17  # of which no two doubles have all in common
    return f"{one:#.{digits}g}", f"{other:#.{digits}g}"


def summary(plan: Plan, table: pd.DataFrame, folder: Path) -> str:
    """The lines printed at the end of a study."""
    width = max(map(len, plan.labels))
    lines = [f"{label:<{width}}  {verdict(table, label)}" for label in plan.labels] if len(table) else []
    if len(table):
        if "seconds" in plan.study.objectives:
            lines.append("The best settings are those of the highest return; the seconds are reported only.")
        lines += _refused(plan, table)
        lines.append(
            "Returns are normalised (0: random, 1: reference) and of the tuning seeds; the best of many noisy trials "
            "flatters itself, so compare again on other seeds:"
        )
        lines.append(f"  python -m bench.run SUITE.yaml --include {shlex.quote(str(folder / 'best.yaml'))}")
    return "\n".join(lines)
