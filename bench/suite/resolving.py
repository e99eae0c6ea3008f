"""Validated suite -> trials: tasks and methods are looked up, settings merged, invalid combinations refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import algorithms
from algorithms import SettingError
from algorithms.registry import Method, Settings
from algorithms.validation import checked, near
from bench.store.files import slug
from bench.store.resolved import Algorithm, Resolved
from bench.suite import methods
from bench.suite.model import MOST_EVALUATIONS, MOST_TRIALS, SKIP, Matrix, Suite, SuiteError
from bench.suite.overrides import include, override
from bench.suite.reading import read, validated
from bench.suite.trial import Pairing, Trial, over_seeds
from bench.tasks import registry
from bench.tasks.checker import first_failure
from bench.tasks.registry import Task

LONGEST_NAME = 255
"""Characters of the name of a folder; file systems have no more."""


def _nobody(what: str) -> None:
    """Ignores what `trials` says that it is doing."""


def load(path: Path, overrides: Sequence[str] = (), includes: Sequence[Path] = ()) -> tuple[Suite, dict[str, Any]]:
    """The validated suite in the file `path`, and the mapping it was made from.

    Settings from `--include` override those of a label in the file, and `--set` overrides both.
    """
    document = read(path, Suite)
    brought: dict[str, Path] = {}
    for source in includes:
        validated(Suite, document, path)
        for label in include(document, source, path):
            if label in brought:
                raise SuiteError(
                    f"{source}: algorithms.{label}: {brought[label]} brings settings of {label} too; include one of "
                    "them"
                )
            brought[label] = source
    included = {label: dict(document["algorithms"][label]) for label in brought}
    for change in overrides:
        override(document, change)
    suite = validated(Suite, document, path)
    for label, settings in included.items():
        now = suite.algorithms.get(label) or {}
        changed = [key for key in {**settings, **now} if settings.get(key) != now.get(key)]
        if changed and label in suite.tuning:
            document["tuning"][label]["overridden"] = ", ".join(changed)
    return validated(Suite, document, path), document


def trials(suite: Suite, path: Path, at: Callable[[str], None] = _nobody) -> list[Trial]:
    """Tasks x algorithms x seeds; refuses what a task, an algorithm or their pairing does not allow.

    `at` is told which task is made, which may never return.
    """
    _refuse_tuning_seeds(suite, path)
    return over_seeds(suite, pairings(suite, path, at), suite.tuning, suite.keep)


def resolved(planned: Sequence[Trial], agents: Mapping[str, int] | None = None) -> Resolved:
    """What a suite or study was resolved to, for reports. `agents`: task -> how many agents it has."""
    tasks = list(dict.fromkeys(t.task.label for t in planned))
    known = {t.label: t.method for t in planned}
    place = {name: index for index, name in enumerate(algorithms.KNOWN)}
    labels = sorted(known, key=lambda label: place.get(known[label].name, len(place)))
    pairs = {(t.task.label, t.label) for t in planned}
    return Resolved(
        methods=[*place],
        tasks=tasks,
        algorithms={
            x: Algorithm(known[x].name, known[x].summary, known[x].ablation, _defaults(known[x])) for x in labels
        },
        skipped=[(task, label) for task in tasks for label in labels if (task, label) not in pairs],
        agents=agents or {},
        first_seed=min(t.seed for t in planned),
    )


def _defaults(method: Method) -> dict[str, Any]:
    """The default of every setting of a method that has one."""
    return {field.name: field.default for field in fields(method.settings) if field.default is not MISSING}


@contextmanager
def _at(path: Path, where: str) -> Iterator[None]:
    """Turn a SettingError into a SuiteError that names its place in the file."""
    try:
        yield
    except SettingError as error:
        raise SuiteError(f"{path}: {where}.{error.key}: {error}") from None


def _refuse_tuning_seeds(suite: Suite, path: Path) -> None:
    """Refuse to compare settings on the seeds on which they were chosen, which would favour them."""
    for label, tuning in suite.tuning.items():
        if label not in suite.algorithms:
            valid = ", ".join(suite.algorithms)
            raise SuiteError(f"{path}: tuning.{label}: not an algorithm of this suite; valid: {valid}")
        used, first, count = tuning.used(), suite.first_seed, suite.seeds
        if first < used.stop and used.start < first + count:
            raise SuiteError(
                f"{path}: first_seed: {first} with seeds: {count} meets the seeds {used.start} to {used.stop - 1} on "
                f"which study {tuning.study} tuned {label}; settings are not judged by the seeds they were chosen by"
            )


def _refuse_too_many(suite: Matrix, path: Path) -> None:
    """Refuse more trials than anybody can run, skipped ones counted, before the first of them is made."""
    counts = {"tasks": len(suite.tasks), "algorithms": len(suite.algorithms), "seeds": suite.seeds}
    if (total := math.prod(counts.values())) > MOST_TRIALS:
        product = " x ".join(f"{number:,} {what}" for what, number in counts.items())
        raise SuiteError(f"{path}: {product} are {total:,} trials, more than {MOST_TRIALS:,}")


def _tasks(suite: Matrix, path: Path, at: Callable[[str], None]) -> list[Task]:
    made: dict[str, Task] = {}
    for index, entry in enumerate(suite.tasks):
        options = {"name": entry} if isinstance(entry, str) else dict(entry)
        with _at(path, f"tasks.{index}"):
            if not isinstance(options.get("name"), str):
                raise SettingError("name", "a task needs a name; `python -m bench.tasks` lists them")
            task = registry.task(options.pop("name"), options)
            if len(folder := slug(task.label)) > LONGEST_NAME:
                raise SettingError("name", f"{task.label} has {len(folder)} characters, more than a folder's name may")
            at(f"{path}: making {task.label}")
            _make_once(task)
        if folder in made:
            raise SuiteError(f"{path}: tasks.{index}: {task.label} stands there twice")
        made[folder] = task
    return [*made.values()]


def _make_once(task: Task) -> None:
    """Refuse a task that cannot be made, in the words of `bench.check`."""
    try:
        registry.team(task)
    except SettingError as error:
        wrong = first_failure(task)
        raise SettingError(error.key, f"{task.name}: {wrong}" if wrong else str(error)) from error


def _algorithms(suite: Matrix, path: Path) -> dict[str, tuple[Method, Settings]]:
    """label -> its method and settings: its own override those of `defaults` that the method has."""
    made: dict[str, tuple[Method, Settings]] = {}
    unused = set(suite.defaults)
    for label, entry in suite.algorithms.items():
        own = dict(entry or {})
        name = own.pop("algorithm", label)
        with _at(path, f"algorithms.{label}"):
            if not isinstance(name, str):
                raise SettingError("algorithm", f"unknown algorithm {name!r}; valid: {', '.join(methods.valid())}")
            method = methods.method(name)
        known = method.settings.__dataclass_fields__
        shared = {key: value for key, value in suite.defaults.items() if key in known}
        unused -= set(shared)
        with _at(path, "defaults"):
            if shared:
                checked(method.settings, {key: value for key, value in shared.items() if key not in own})
        with _at(path, f"algorithms.{label}"):
            made[label] = (method, method.configure(shared | own))
    if unused:
        valid = sorted({key for method, _ in made.values() for key in method.settings.__dataclass_fields__})
        raise SuiteError(
            f"{path}: defaults.{min(unused)}: no algorithm of this suite has this setting{near(min(unused), valid)}; "
            f"valid: {', '.join(valid)}"
        )
    return made


def pairings(suite: Matrix, path: Path, at: Callable[[str], None] = _nobody) -> list[Pairing]:
    """Tasks x algorithms without the pairings that `per_task` skips; its settings override those of the label."""
    _refuse_too_many(suite, path)
    chosen_tasks, chosen = _tasks(suite, path, at), _algorithms(suite, path)
    changes = _changes(suite, chosen_tasks, list(chosen), path)
    made: list[Pairing] = []
    for task in chosen_tasks:
        for label, (method, settings) in chosen.items():
            key, change = changes.get((task, label), ("", {}))
            if change == SKIP:
                continue
            if change:
                with _at(path, f"per_task.{key}.{label}"):
                    settings = method.configure(asdict(settings) | change)
            check_grid(suite, task, label, settings, path)
            try:
                algorithms.check(registry.team(task), settings)
            except SettingError as error:
                where = f"per_task.{key}" if error.key in change else "algorithms"
                raise SuiteError(
                    f"{path}: {where}.{label}.{error.key}: on {task.label}: {error}; per_task may skip this pairing"
                ) from None
            made.append(Pairing(task, label, method, settings))
    _refuse_empty(chosen_tasks, list(chosen), {(pairing.task, pairing.label) for pairing in made}, path)
    return made


def _refuse_empty(chosen: list[Task], labels: list[str], made: set[tuple[Task, str]], path: Path) -> None:
    """Refuse a task on which every algorithm is skipped, and an algorithm that is skipped on every task."""
    for task in chosen:
        if not any((task, label) in made for label in labels):
            raise SuiteError(f"{path}: per_task: skips every algorithm on {task.label}; take it out of tasks instead")
    for label in labels:
        if not any((task, label) in made for task in chosen):
            raise SuiteError(f"{path}: per_task: skips {label} on every task; take it out of algorithms instead")


def _changes(
    suite: Matrix, chosen: list[Task], labels: list[str], path: Path
) -> dict[tuple[Task, str], tuple[str, Any]]:
    """(task, label) -> its key in `per_task` and the entry, settings or `skip`; refuses entries without effect.

    A key is the label of a task; if no task has that label, it stands for all tasks of that name.
    """
    made: dict[tuple[Task, str], tuple[str, Any]] = {}
    for key, entries in suite.per_task.items():
        meant = [t for t in chosen if t.label == key] or [t for t in chosen if t.name == key]
        if not meant:
            valid = ", ".join(t.label for t in chosen)
            raise SuiteError(f"{path}: per_task.{key}: not a task of this suite; valid: {valid}")
        if not entries:
            raise SuiteError(f"{path}: per_task.{key}: says nothing; valid: {', '.join(labels)}")
        for label, change in entries.items():
            where = f"{path}: per_task.{key}.{label}"
            if label not in labels:
                raise SuiteError(f"{where}: not an algorithm of this suite; valid: {', '.join(labels)}")
            if change != SKIP and not (isinstance(change, dict) and change):
                raise SuiteError(f"{where}: {change!r} is neither a mapping of settings nor the word {SKIP}")
            if change != SKIP and "algorithm" in change:
                raise SuiteError(
                    f"{where}.algorithm: {change['algorithm']!r} cannot be chosen per task; give it a label of its own "
                    "under algorithms"
                )
            for task in meant:
                if (task, label) in made:
                    raise SuiteError(f"{where}: per_task.{made[task, label][0]}.{label} speaks of this pairing already")
                made[task, label] = (key, change)
    return made


def check_grid(suite: Matrix, task: Task, label: str, settings: Settings, path: Path) -> None:
    """Refuse an evaluation interval that is not a whole number of updates, and steps that are not of intervals."""
    block = settings.rollout_length * settings.envs
    for key, value, unit, of in (
        ("evaluate.every", suite.evaluate.every, block, f"{label}'s rollout_length x envs = {block} on {task.label}"),
        ("steps", suite.steps, suite.evaluate.every, f"evaluate.every = {suite.evaluate.every}"),
    ):
        if value % unit:
            nearest = max(round(value / unit), 1) * unit
            raise SuiteError(f"{path}: {key}: {value} is not a multiple of {of}; the nearest is {nearest}")
    if (evaluations := suite.steps // suite.evaluate.every) > MOST_EVALUATIONS:
        raise SuiteError(
            f"{path}: evaluate.every: {suite.evaluate.every} makes {evaluations:,} evaluations of {suite.steps:,} "
            f"steps, more than {MOST_EVALUATIONS:,}"
        )
