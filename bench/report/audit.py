"""Fairness audit: everything besides the algorithm that differs between the algorithms compared on a task.

A fact is one value per algorithm: a setting, an option of the task, a budget, or where the trials ran. It is

- `equal` if all algorithms have the same value;
- `by method` if it differs only where the methods leave no choice: some lack it (`–`), or it means something else in
  them. What a rollout is for differs between methods that learn from the current rollout and those that learn from a
  replay buffer, and an actor takes many gradient steps or one natural-gradient step per update, so rollouts, batches
  and gradient steps are compared within each kind only;
- `differs` otherwise: someone chose to give the algorithms different values, and that may explain a difference of
  returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd

from bench.cli.command import counted, first_of
from bench.report.algorithms import in_order
from bench.report.formats import NONE
from bench.report.load import ReportError, SuiteResults, parts_run
from bench.store.provenance import commit_in_words

Trial = Mapping[str, Any]
DIFFERS, BY_METHOD, EQUAL = "differs", "by method", "equal"
UNKNOWN = "not recorded"
UNRECORDED = (
    "activation of the networks",
    "normalisation of observations",
    "normalisation of values",
    "normalisation of rewards",
)
"""What `trial.json` does not hold: the code of the commit decides it."""
WITHIN_KIND = ("rollout", "samples per gradient", "gradient steps", "uses of", "return estimate", "n_step")
"""How the names of facts begin that are compared only between methods of one kind."""
OF_ACTORS = ("of the actor", "by the actor")
"""How the names of those end that are of actors."""
SHARING_CRITICS = ("ippo",)
"""The methods whose agents share a critic where they share an actor; that of the others sees the state once."""
NAMES = {
    "share_actors": "parameter sharing",
    "hidden_sizes": "network sizes",
    "envs": "number of environments",
    "rollout_length": "rollout length (steps of each environment)",
    "entropy_coef": "entropy coefficient",
    "gamma": "discount",
    "actor_lr": "learning rate of actors",
    "critic_lr": "learning rate of critics",
    "observation": "observation mode",
}
"""Settings and options by the words of the field; the others are called as in the suite file."""


@dataclass(frozen=True)
class Fact:
    """One thing that may differ."""

    name: str
    values: Mapping[str, str]
    """label -> the value as text."""
    verdict: str
    """`differs`, `by method` or `equal`."""


@dataclass(frozen=True)
class Audit:
    """The facts of one task, or of several of which all are the same."""

    tasks: tuple[str, ...]
    labels: tuple[str, ...]
    unequal: tuple[Fact, ...]
    """Those that differ, then those that differ by method."""
    partial: tuple[Fact, ...]
    """Those that only some of the algorithms have, which agree."""
    equal: tuple[Fact, ...]


def audits(trials: Sequence[Trial], records: pd.DataFrame, order: Iterable[str] = ()) -> list[Audit]:
    """The audit of every task, tasks with the same facts together. Trials that wait say nothing yet.

    Any trials will do, of one suite or of several: the algorithms compared are the labels that share a task.
    """
    ran = [trial for trial in trials if trial["status"] != "waiting"]
    measured, order = _measured(records), list(order)
    found: dict[Any, list[str]] = {}
    for task in sorted({trial["task"] for trial in ran}):
        mine = [trial for trial in ran if trial["task"] == task]
        labels = tuple(in_order((trial["algorithm"] for trial in mine), order))
        groups = {label: [trial for trial in mine if trial["algorithm"] == label] for label in labels}
        facts = tuple(_facts(groups, {label: measured.get((task, label)) for label in labels}))
        found.setdefault((labels, _hashable(facts)), []).append(task)
    return [_audit(tuple(tasks), labels, facts) for (labels, facts), tasks in found.items()]


def _hashable(facts: Iterable[Fact]) -> tuple[Any, ...]:
    return tuple((fact.name, tuple(fact.values.items()), fact.verdict) for fact in facts)


def _audit(tasks: tuple[str, ...], labels: tuple[str, ...], plain: tuple[Any, ...]) -> Audit:
    facts = [Fact(name, dict(values), verdict) for name, values, verdict in plain]
    by_method = [fact for fact in facts if fact.verdict == BY_METHOD]
    partial = [fact for fact in by_method if len({*fact.values.values()} - {NONE}) == 1]
    return Audit(
        tasks,
        labels,
        unequal=(*(fact for fact in facts if fact.verdict == DIFFERS), *(x for x in by_method if x not in partial)),
        partial=tuple(partial),
        equal=tuple(fact for fact in facts if fact.verdict == EQUAL),
    )


def unfair(found: Iterable[Audit]) -> list[str]:
    """What differs and is not by method, one line each."""
    return [
        f"{audit.tasks[0]}: {fact.name}: " + ", ".join(f"{label} {fact.values[label]}" for label in audit.labels)
        for audit in found
        for fact in audit.unequal
        if fact.verdict == DIFFERS
    ]


def refuse_unfair(suite: object) -> None:
    """Stop where algorithms of a suite differ in what is not part of their methods; studies are not audited."""
    if not isinstance(suite, SuiteResults):
        return
    if not suite.trials:
        raise ReportError(f"{suite.folder}: has no trial.json and no trials.parquet, so its fairness cannot be audited")
    lines = unfair(audits(suite.trials, suite.records, suite.algorithms.methods))
    if lines:
        raise ReportError(f"{suite.folder}: not a fair comparison: {first_of(lines, between='; ')}")


def _facts(groups: Mapping[str, Sequence[Trial]], measured: Mapping[str, float | None]) -> Iterator[Fact]:
    rows: dict[str, dict[str, str]] = {}
    for label, trials in groups.items():
        each = [_values(trial, measured[label]) for trial in trials]
        names = dict.fromkeys(name for values in each for name in values)
        about = {name: _joined([values.get(name, NONE) for values in each]) for name in names}
        about["seeds"] = str(len(trials))
        for name, value in about.items():
            rows.setdefault(name, dict.fromkeys(groups, NONE))[label] = value
    for name, of_label in rows.items():
        kinds = {label: kind(trials[0].get("settings", {}), name) for label, trials in groups.items()}
        yield Fact(name, of_label, verdict(of_label, kinds))


def verdict(values: Mapping[str, str], kinds: Mapping[str, str]) -> str:
    """`equal`, `by method` or `differs`, given label -> value, and label -> the kind within which it is compared."""
    if len({*values.values()}) == 1:
        return EQUAL
    groups: dict[str, set[str]] = {}
    for label, value in values.items():
        if value != NONE:
            groups.setdefault(kinds[label], set()).add(value)
    return DIFFERS if any(len(group) > 1 for group in groups.values()) else BY_METHOD


def kind(settings: Mapping[str, Any], fact: str) -> str:
    """The kind of method within which a fact is compared, as the settings tell; empty where all are of one kind."""
    if not fact.startswith(WITHIN_KIND):
        return ""
    if "buffer_size" in settings:
        return "replay buffer"
    return "trust region" if fact.endswith(OF_ACTORS) and "delta" in settings else "rollout"


def _joined(values: list[str]) -> str:
    """The value of all seeds, or each value with the number of its seeds."""
    counts = {value: values.count(value) for value in sorted({*values})}
    if len(counts) == 1:
        return values[0]
    return ", ".join(f"{value} ({counted(count, 'seed')})" for value, count in counts.items())


def _values(trial: Trial, measured: float | None) -> dict[str, str]:
    """Every fact of one trial. What has no value in its method is left out, and shown as a dash."""
    plain = {**trial.get("options", {}), **trial.get("settings", {})}
    values = {NAMES.get(key, key): text(value) for key, value in plain.items()}
    values |= _data_use(trial, measured)
    values["steps"] = text(trial["steps"])
    values["evaluation"] = ", ".join(f"{key} {text(value)}" for key, value in trial.get("evaluate", {}).items())
    values["tuning"] = tuning(trial)
    return values | _provenance(trial)


def _data_use(trial: Trial, measured: float | None) -> dict[str, str]:
    """What is made of the data, computed from settings, and the critic's gradient steps from the records.

    With T = rollout_length, E = envs, an update per T E environment steps and e epochs of m minibatches each, a network
    takes e m / (T E) gradient steps per environment step, each on T E / m of them; with a replay buffer
    update_to_data, each on batch_size. One that all agents share sees each environment step once for each of them.
    Every step of the environment is used
    (gradient steps per environment step) x (environment steps per gradient step) times.
    """
    settings = trial.get("settings", {})
    found: dict[str, str] = {}
    if "gae_lambda" in settings:
        found["return estimate"] = f"GAE, lambda {text(settings['gae_lambda'])}"
    elif "n_step" in settings:
        found["return estimate"] = f"{text(settings['n_step'])}-step"
    block = settings.get("envs", 0) * settings.get("rollout_length", 0)
    if not block:
        return found
    found["rollout (environment steps per update)"] = text(block)
    for who in ("actor", "critic"):
        if "batch_size" in settings:
            per_step, samples = settings.get("update_to_data", 0.0), float(settings["batch_size"])
        elif f"{who}_epochs" in settings:
            parts = settings.get(f"{who}_minibatches", 1)
            per_step, samples = settings[f"{who}_epochs"] * parts / block, block / parts
        elif who == "actor" and "cg_steps" in settings:
            per_step, samples = 1 / block, float(block)  # one natural-gradient step per update
        else:
            continue
        found[f"gradient steps per 1,000 environment steps of the {who}"] = text(1000 * per_step)
        each = " of each agent" if _is_shared(trial, who) else ""
        found[f"samples per gradient step of the {who}"] = text(samples) + each
        found[f"uses of each environment step by the {who}"] = text(per_step * samples)
    if measured is not None:
        found["gradient steps per 1,000 environment steps, measured"] = text(1000 * measured)
    return found


def _is_shared(trial: Trial, who: str) -> bool:
    """Whether one network is fitted to the samples of all agents: a shared actor, and its critic if decentralised."""
    decentralised = trial.get("method", trial["algorithm"]) in SHARING_CRITICS
    return bool(trial.get("settings", {}).get("share_actors")) and (who == "actor" or decentralised)


def _measured(records: pd.DataFrame) -> dict[tuple[str, str], float]:
    """(task, label) -> `gradient_updates` per environment step at the end of training, in the median over seeds."""
    if records.empty:
        return {}
    last = records[records["kind"] == "grid"].sort_values("step").groupby(["task", "algorithm", "seed"]).tail(1)
    last = last[last["step"] > 0]
    ratio = last["gradient_updates"].astype(float) / last["step"]
    table = last[["task", "algorithm"]].assign(ratio=ratio).dropna()
    return {
        (str(task), str(label)): float(rows["ratio"].median())
        for task, of_task in table.groupby("task")
        for label, rows in of_task.groupby("algorithm")
    }


def tuning(trial: Trial) -> str:
    """The budget that the settings of a trial were tuned with."""
    about = trial.get("tuning")
    if not about:
        return "none stated"
    trials, seeds = counted(about["trials"], "trial"), counted(about["seeds"], "seed")
    return f"{trials} of {about['steps']:,} steps on {seeds} (study {about['study']})"


def tunings(trials: Sequence[Trial]) -> dict[str, str]:
    """label -> the budget of its tuning, or, of one that was not tuned, the tuned one whose settings it has but one."""
    of = {trial["algorithm"]: trial for trial in trials}
    found = {label: tuning(trial) for label, trial in of.items()}
    tuned = {label: trial for label, trial in of.items() if trial.get("tuning")}
    for label, (other, twin) in product(of.keys() - tuned, tuned.items()):
        mine, theirs = of[label].get("settings", {}), twin.get("settings", {})
        differ = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
        if len(differ) == 1 and of[label].get("method") == twin.get("method"):
            found[label] = f"the settings of {other} but for {differ[0]}"
    return found


def _provenance(trial: Trial) -> dict[str, str]:
    """Where the trial and its earlier parts ran."""
    found = [_place(part) for part in parts_run(trial)]
    names = dict.fromkeys(name for place in found for name in place)
    return {name: " then ".join(dict.fromkeys(place.get(name, UNKNOWN) for place in found)) for name in names}


def _place(source: Mapping[str, Any]) -> dict[str, str]:
    machine = source.get("machine", {})
    return {
        "commit": commit_in_words(source, 12),
        "processor": str(machine.get("cpu") or UNKNOWN),
        "system": str(machine.get("system") or UNKNOWN),
        "matrix library": str(source.get("matmul") or UNKNOWN),
        "NUMERICS": str(source.get("numerics", UNKNOWN)),
        **{package: str(version) for package, version in sorted(source.get("versions", {}).items())},
    }


def text(value: Any) -> str:
    """A setting as text: numbers to four digits, lists by their members."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return " x ".join(text(part) for part in value) or "none"
    return NONE if value is None else str(value)
