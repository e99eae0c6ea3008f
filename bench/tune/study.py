"""Study files: YAML -> checked `Plan`. Tasks, algorithms and settings are read as in suites."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

import algorithms
from algorithms import SettingError
from bench.store import scores
from bench.suite.model import SKIP, EvaluationSeeds, Matrix, Positive, Strict, SuiteError
from bench.suite.overrides import override
from bench.suite.reading import read, validated
from bench.suite.resolving import check_grid, pairings
from bench.suite.trial import Pairing, Trial, over_seeds
from bench.tasks import registry
from bench.tasks.registry import Task
from bench.tune.space import MOST_COMBINATIONS, Parameters, combined, extremes, spaces

FIRST_TUNING_SEED = 1000
"""First seed reserved for tuning; seeds of reported suites begin at 0."""
BLOCK = ("envs", "rollout_length")
"""The settings whose product, the steps of one update, has to fit the evaluation grid."""
SEARCH = {"first_seed", "objectives", "pruner", "sampler", "sampler_seed"}
"""The keys with defaults that define the search: the study.yaml in a folder of results says them in any case."""
MOST_SHOWN = 12
"""Values of a setting that a message lists."""
WILCOXON_LEAST = 5
"""Fewest pairings of task and seed with which the signed-rank test can prune before the last of them."""


class Space(Strict):
    """The search space as a study file gives it."""

    shared: dict[str, Any] = Field(default_factory=dict)
    """Setting -> range, for every algorithm that has it."""
    own: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """label -> setting -> range; overrides `shared`."""


class Study(Matrix):
    """A study file: the keys of a suite, and those of the search."""

    evaluation_seeds: ClassVar[EvaluationSeeds] = "study"
    first_seed: Annotated[int, Field(ge=0, le=2**32)] = FIRST_TUNING_SEED
    trials: Positive
    """Budget of each algorithm in tuning trials; the first one has the default settings."""
    space: Space
    objectives: list[Literal["return", "seconds"]] = Field(default=["return"], min_length=1)
    pruner: Literal["none", "median", "wilcoxon"] = "none"
    sampler: Literal["tpe", "random"] = "tpe"
    sampler_seed: Annotated[int, Field(ge=0, le=2**32)] = 0


@dataclass(frozen=True)
class Plan:
    """A study with its names resolved to tasks, methods and search spaces."""

    path: Path
    """The study file, for messages."""
    study: Study
    defaults: dict[str, list[Trial]]
    """label -> one trial per task and seed, with the default settings."""
    spaces: dict[str, Parameters]

    @property
    def labels(self) -> list[str]:
        """The algorithms, each with a budget of its own."""
        return list(self.spaces)

    def instances(self, label: str, values: dict[str, Any]) -> list[Trial]:
        """The trials of one point of the space: tasks x seeds, seeds innermost."""
        return [replace(t, settings=t.method.configure(asdict(t.settings) | values)) for t in self.defaults[label]]

    def refusal(self, label: str, values: dict[str, Any]) -> str:
        """Why a point of the space cannot be trained on the tasks of the study; empty if it can."""
        for t in {t.task: t for t in self.defaults[label]}.values():
            try:
                made = t.method.configure(asdict(t.settings) | values)
                algorithms.check(registry.team(t.task), made)
                check_grid(self.study, t.task, label, made, self.path)
            except SettingError as error:
                return f"{error.key}: {error}"
            except SuiteError as error:
                return str(error).removeprefix(f"{self.path}: ")
        return ""

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits over everything that the numbers depend on, except the budget and the code."""
        seeds = {label: [(t.config_hash(), t.seed) for t in own] for label, own in self.defaults.items()}
        ranges = {label: {k: p.model_dump() for k, p in own.items()} for label, own in self.spaces.items()}
        study = self.study
        search = [study.objectives, study.pruner, study.sampler, study.sampler_seed]
        canonical = json.dumps([seeds, ranges, search], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def load(path: Path, overrides: Sequence[str] = ()) -> tuple[Plan, dict[str, Any]]:
    """The checked study in the file `path` with `--set` overrides applied, and the mapping it was made from."""
    document = read(path, Study)
    if not {"trials", "space"} & {*document}:
        raise SuiteError(
            f"{path}: says neither trials nor space: a suite, which `python -m bench.run` runs, not a study; a study "
            f"needs {', '.join(key for key, field in Study.model_fields.items() if field.is_required())}"
        )
    for change in overrides:
        override(document, change)
    study = validated(Study, document, path)
    _check_search(study, path)
    found = pairings(study, path)
    _refuse_without_reference((pairing.task for pairing in found), path)
    labels = {pairing.label: pairing for pairing in found}
    made = spaces(study.space.model_dump(), labels, path)
    for pairing in found:
        _check_corners(pairing, made[pairing.label], path)
    for pairing in {(pairing.label, pairing.settings): pairing for pairing in found}.values():
        _check_blocks(study, pairing, made[pairing.label], path)
    defaults = {
        label: over_seeds(study, [pairing for pairing in found if pairing.label == label], {}) for label in labels
    }
    return Plan(path, study, defaults, made), document


def _check_search(study: Study, path: Path) -> None:
    """Refuse keys of a study that contradict each other."""
    if study.first_seed < FIRST_TUNING_SEED:
        raise SuiteError(
            f"{path}: first_seed: {study.first_seed} is below {FIRST_TUNING_SEED}; seeds from there up are for tuning, "
            "those below for results"
        )
    if study.objectives not in (["return"], ["return", "seconds"]):
        raise SuiteError(f"{path}: objectives: {study.objectives} must be [return] or [return, seconds]")
    if len(study.objectives) > 1 and study.pruner != "none":
        raise SuiteError(f"{path}: pruner: {study.pruner} needs one objective; with two, valid: none")
    count = study.seeds * len(study.tasks)
    if study.pruner == "wilcoxon" and count < WILCOXON_LEAST:
        raise SuiteError(
            f"{path}: pruner: wilcoxon needs at least {WILCOXON_LEAST} pairings of task and seed, these are {count}; "
            "valid: none, median"
        )
    if study.pruner == "median" and study.steps == study.evaluate.every:
        raise SuiteError(f"{path}: pruner: median needs evaluations before the end; lower evaluate.every; valid: none")
    tuned = {*study.space.shared}
    for key, entries in study.per_task.items():
        for label, change in entries.items():
            if change == SKIP:
                raise SuiteError(f"{path}: per_task.{key}.{label}: a study has every algorithm on every task")
            settings = change if isinstance(change, dict) else {}  # what is none is refused with its pairing
            if both := sorted({*settings} & (tuned | {*study.space.own.get(label, {})})):
                raise SuiteError(f"{path}: per_task.{key}.{label}.{both[0]}: is tuned by this study")


def _refuse_without_reference(chosen: Iterable[Task], path: Path) -> None:
    """Refuse tasks without a reference score: their returns cannot be normalised and averaged with others."""
    for task in chosen:
        found = scores.score(task.label)
        if found is None or found.reference is None:
            valid = ", ".join(sorted(name for name, entry in scores.read().items() if "reference" in entry))
            remedy = f"`python -m bench.reference {task.name!r} --write` makes one"
            if scores.key(task.label) != task.name:
                remedy = "a task has none with options that change its returns"
            raise SuiteError(
                f"{path}: tasks: {task.label} has no reference score in {scores.PATH.name}; "
                f"{remedy}; tasks that have one: {valid}"
            )


def _check_corners(pairing: Pairing, parameters: Parameters, path: Path) -> None:
    """Refuse a space with a pair of extreme values that the algorithm or the task refuses."""
    for values in extremes(parameters):
        try:
            made = pairing.method.configure(asdict(pairing.settings) | values)
            algorithms.check(registry.team(pairing.task), made)
        except SettingError as error:
            raise SuiteError(
                f"{path}: space: {pairing.label} with {_listed(values)} on {pairing.task.label}: {error.key}: {error}"
            ) from None


def _check_blocks(study: Study, pairing: Pairing, parameters: Parameters, path: Path) -> None:
    """Refuse a space with a value of BLOCK, at a bound or between them, that does not fit the evaluation grid."""
    tuned = [name for name in parameters if name in BLOCK]
    combinations = combined(parameters, tuned)
    if combinations is None:
        raise SuiteError(
            f"{path}: space: {' and '.join(tuned)} of {pairing.label} have more than {MOST_COMBINATIONS:,} "
            "combinations, each of which must fit evaluate.every; narrow the range, or give choices (kind: categorical)"
        )
    fitting: list[dict[str, Any]] = []
    refused: list[tuple[str, dict[str, Any]]] = []
    for values in combinations:
        try:
            check_grid(study, pairing.task, pairing.label, replace(pairing.settings, **values), path)
            fitting.append(values)
        except SuiteError as error:
            refused.append((str(error), values))
    if refused:
        message, values = refused[0]
        fit = _what_fits(fitting, combinations)
        raise SuiteError(f"{message} (space: {pairing.label} with {_listed(values)}; {fit})")


def _what_fits(fitting: Sequence[Mapping[str, Any]], tried: Sequence[Mapping[str, Any]]) -> str:
    """The values of one tuned setting that fit the grid; of several, how many combinations do."""
    if len({*chain.from_iterable(tried)}) > 1:
        return f"{len(fitting):,} of {len(tried):,} combinations fit"
    values = [str(value) for each in fitting for value in each.values()]
    if len(values) == 1:
        return f"only {values[0]} fits"
    return f"write kind: categorical, choices: [{', '.join(values[:MOST_SHOWN])}{', ...' * (len(values) > MOST_SHOWN)}]"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
