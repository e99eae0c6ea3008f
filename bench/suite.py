"""Suite files: YAML -> checked `Suite` -> trials. An error is one line with the file, the key and the valid values."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

import algorithms
from algorithms import SettingError
from algorithms.registry import Settings
from bench import methods, tasks
from bench.store import slug, trial_folder
from bench.tasks import Task
from bench.yaml12 import parse

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$")]
Positive = Annotated[int, Field(ge=1)]
Seeds = Annotated[int, Field(ge=1, le=10_000)]
EvaluationSeeds = Literal["suite", "study"]
"""Which seeds the episodes of the evaluation grid are drawn from: studies choose settings on other episodes than suites
compare them on."""
M = TypeVar("M", bound=BaseModel)

SKIP = "skip"
"""What `per_task` says of a pairing that is left out."""

KINDS = {
    "dict_type": "a mapping of names to settings",
    "model_type": "a mapping of keys to values",
    "list_type": "a list",
    "string_type": "a word",
    "int_type": "a whole number",
}
"""What each kind of value is called in errors."""
UNKNOWN = ("extra_forbidden", "invalid_key")
"""pydantic's words for a key that a suite does not have, the second for one that is no word."""
STUDY_KEYS = ("trials", "space", "objectives", "pruner", "sampler", "sampler_seed")
"""What a study says besides the keys of a suite."""
KEY = "[key]"
"""The end of pydantic's path to a key that is wrong, after the key itself."""


class SuiteError(Exception):
    """A suite that cannot be run; the message is one line."""


class Strict(BaseModel):
    """A part of a file: no unknown keys, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Tuning(Strict):
    """Where settings were tuned: what a comparison must say of them."""

    study: Name
    trials: Positive
    """Tuning trials of this algorithm that finished, the defaults among them."""
    steps: Positive
    """Environment steps of each task and seed of a tuning trial."""
    first_seed: int
    seeds: Positive
    hash: str
    """Of the study's table of trials."""
    overridden: str = ""
    """Settings that `--set` changed after that, joined by commas."""

    def used(self) -> range:
        """The seeds that the settings were chosen by, and so must not be judged by."""
        return range(self.first_seed, self.first_seed + self.seeds)


@dataclass(frozen=True)
class Trial:
    """One algorithm on one task with one seed, with every setting resolved."""

    suite: str
    task: Task
    label: str
    algorithm: str
    settings: Settings
    seed: int
    steps: int
    every: int
    episodes: int
    tuning: Tuning | None = None
    """Where the settings come from; their values are what `config` holds."""
    evaluation_seeds: EvaluationSeeds = "suite"

    @property
    def name(self) -> str:
        """How messages call this trial."""
        return f"{self.task.label} {self.label} seed {self.seed}"

    def config(self) -> dict[str, Any]:
        """All that its numbers follow from, apart from the seed and the code."""
        return {
            "task": self.task.name,
            "options": self.task.options.named(),
            "algorithm": self.algorithm,
            "settings": asdict(self.settings),
            "steps": self.steps,
            "evaluate": {"every": self.every, "episodes": self.episodes},
            "evaluation_seeds": self.evaluation_seeds,
            "numerics": algorithms.NUMERICS,
            **self.task.origin(),
        }

    def config_hash(self) -> str:
        """Twelve hex digits of the SHA-256 of `config`."""
        canonical = json.dumps(self.config(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def folder(self, suite_folder: Path) -> Path:
        """Where its files lie."""
        return trial_folder(suite_folder, self.task.label, self.label, self.seed)


Pairing = tuple[Task, str, str, Settings]
"""task, label, algorithm and the settings that belong to both"""


class Evaluate(Strict):
    """When and how long policies are evaluated."""

    every: Positive
    episodes: Positive


class Matrix(Strict):
    """Tasks x algorithms x seeds as a file states them, tasks and algorithms not yet looked up."""

    evaluation_seeds: ClassVar[EvaluationSeeds]
    name: Name
    steps: Positive
    seeds: Seeds
    first_seed: Annotated[int, Field(ge=0, le=2**32)] = 0
    evaluate: Evaluate
    tasks: Annotated[list[str | dict[str, Any]], Field(min_length=1)]
    algorithms: Annotated[dict[Name, dict[str, Any] | None], Field(min_length=1)]
    defaults: dict[str, Any] = {}
    per_task: dict[str, dict[str, Any]] = {}


class Suite(Matrix):
    """A suite file."""

    evaluation_seeds: ClassVar[EvaluationSeeds] = "suite"
    tuning: dict[Name, Tuning] = {}
    """label -> where its settings were tuned."""


class Included(Strict):
    """The `best.yaml` of a study: settings of labels, and where each was tuned."""

    algorithms: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    tuning: dict[Name, Tuning]


def load(path: Path, overrides: Sequence[str] = (), includes: Sequence[Path] = ()) -> tuple[Suite, dict[str, Any]]:
    """The checked suite in the file `path`, and the mapping it was made from.

    Over what the file says of a label go the settings that `--include` brings, and over those `--set`.
    """
    document = read(path, Suite)
    brought: dict[str, Path] = {}
    for include in includes:
        validated(Suite, document, path)
        for label in _include(document, include, path):
            if label in brought:
                raise SuiteError(
                    f"{include}: algorithms.{label}: {brought[label]} brings settings of {label} too; include one of "
                    "them"
                )
            brought[label] = include
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


def validated(model: type[M], document: dict[str, Any], path: Path, where: str = "") -> M:
    """`document`, the part `where` of the file `path`, as a `model`."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise SuiteError(f"{path}: {where}{_explain(error, model)}") from None


def trials(suite: Suite, path: Path) -> list[Trial]:
    """Tasks x algorithms x seeds; refuses whatever a task, an algorithm or their pairing does not allow."""
    _refuse_tuning_seeds(suite, path)
    return over_seeds(suite, pairings(suite, path), suite.tuning)


def over_seeds(matrix: Matrix, paired: Iterable[Pairing], tuning: Mapping[str, Tuning]) -> list[Trial]:
    """The trials of pairings: one for each seed."""
    return [
        Trial(
            suite=matrix.name,
            task=task,
            label=label,
            algorithm=algorithm,
            settings=settings,
            seed=seed,
            steps=matrix.steps,
            every=matrix.evaluate.every,
            episodes=matrix.evaluate.episodes,
            tuning=tuning.get(label),
            evaluation_seeds=matrix.evaluation_seeds,
        )
        for task, label, algorithm, settings in paired
        for seed in range(matrix.first_seed, matrix.first_seed + matrix.seeds)
    ]


def only(chosen: list[Trial], selections: Iterable[str]) -> list[Trial]:
    """The trials that every selection (`algorithm=happo,mappo`, `task=...`, `seed=0,1`) names."""
    for selection in selections:
        key, equals, values = selection.partition("=")
        of_trial = {
            "task": lambda t: (t.task.label, t.task.name),
            "algorithm": lambda t: (t.label,),
            "seed": lambda t: (str(t.seed),),
        }.get(key)
        if of_trial is None or not equals:
            raise SuiteError(f"--only {selection}: write task=..., algorithm=... or seed=..., values joined by commas")
        wanted = [value.strip() for value in values.split(",")]
        present = {name for t in chosen for name in of_trial(t)}
        for value in wanted:
            if value not in present:
                valid = ", ".join(sorted(present, key=lambda v: (len(v), v)))
                raise SuiteError(f"--only {selection}: no {key} {value!r} left to choose from; valid: {valid}")
        chosen = [t for t in chosen if set(of_trial(t)) & set(wanted)]
    return chosen


@contextmanager
def _at(path: Path, where: str) -> Iterator[None]:
    """Turn a SettingError into a SuiteError that says where in the file it arose."""
    try:
        yield
    except SettingError as error:
        raise SuiteError(f"{path}: {where}.{error.key}: {error}") from None


def _refuse_tuning_seeds(suite: Suite, path: Path) -> None:
    """What settings were chosen by says nothing of how good they are."""
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


def _include(document: dict[str, Any], include: Path, path: Path) -> list[str]:
    """Merge the settings that a study found under the labels of a suite's document, with where they were tuned.

    Returns the labels.
    """
    found = validated(Included, read(include, Included), include)
    labels = [label for label in found.algorithms if label in document["algorithms"]]
    if not labels:
        ours, theirs = ", ".join(document["algorithms"]), ", ".join(found.algorithms)
        raise SuiteError(f"{include}: algorithms: none of {theirs} is an algorithm of {path}; valid: {ours}")
    for label in labels:
        own, tuned = document["algorithms"][label] or {}, found.algorithms[label]
        method, other = own.get("algorithm", label), tuned.get("algorithm", label)
        if method != other:
            raise SuiteError(f"{include}: algorithms.{label}: settings of {other}; {label} is {method} in {path}")
        if label not in found.tuning:
            raise SuiteError(f"{include}: tuning.{label}: missing; a tuned algorithm says where it was tuned")
        document["algorithms"][label] = own | tuned
        document["tuning"] = document.get("tuning", {}) | {label: found.tuning[label].model_dump(exclude_defaults=True)}
    return labels


def _tasks(suite: Matrix, path: Path) -> list[Task]:
    made: list[Task] = []
    for index, entry in enumerate(suite.tasks):
        options = {"name": entry} if isinstance(entry, str) else dict(entry)
        with _at(path, f"tasks.{index}"):
            if not isinstance(options.get("name"), str):
                raise SettingError("name", f"a task needs a name; valid: {', '.join(tasks.names())}")
            task = tasks.task(options.pop("name"), options)
            tasks.team(task)  # one that cannot be made is refused here
        if slug(task.label) in [slug(other.label) for other in made]:
            raise SuiteError(f"{path}: tasks.{index}: {task.label} stands there twice")
        made.append(task)
    return made


def _algorithms(suite: Matrix, path: Path) -> dict[str, tuple[str, Settings]]:
    """label -> (algorithm, settings): the label's own settings over those of `defaults` that the algorithm has."""
    made: dict[str, tuple[str, Settings]] = {}
    unused = set(suite.defaults)
    for label, entry in suite.algorithms.items():
        own = dict(entry or {})
        name = own.pop("algorithm", label)
        with _at(path, f"algorithms.{label}"):
            if not isinstance(name, str):
                raise SettingError("algorithm", f"unknown algorithm {name!r}; valid: {', '.join(methods.valid())}")
            known = methods.method(name).settings.__dataclass_fields__
        shared = {key: value for key, value in suite.defaults.items() if key in known}
        unused -= set(shared)
        with _at(path, "defaults"):
            if shared:
                algorithms.settings(name, {key: value for key, value in shared.items() if key not in own})
        with _at(path, f"algorithms.{label}"):
            made[label] = (name, algorithms.settings(name, shared | own))
    if unused:
        valid = sorted(
            {key for name, _ in made.values() for key in algorithms.METHODS[name].settings.__dataclass_fields__}
        )
        raise SuiteError(
            f"{path}: defaults.{min(unused)}: no algorithm of this suite has this setting; valid: {', '.join(valid)}"
        )
    return made


def pairings(suite: Matrix, path: Path) -> list[Pairing]:
    """Tasks and algorithms without what `per_task` skips; its settings go over those of the label."""
    chosen_tasks, chosen = _tasks(suite, path), _algorithms(suite, path)
    changes = _changes(suite, chosen_tasks, list(chosen), path)
    made = []
    for task in chosen_tasks:
        for label, (algorithm, settings) in chosen.items():
            key, change = changes.get((task, label), ("", {}))
            if change == SKIP:
                continue
            if change:
                with _at(path, f"per_task.{key}.{label}"):
                    settings = algorithms.settings(algorithm, asdict(settings) | change)
            check_grid(suite, task, label, settings, path)
            try:
                algorithms.check(tasks.team(task), settings)
            except SettingError as error:
                where = f"per_task.{key}" if error.key in change else "algorithms"
                raise SuiteError(
                    f"{path}: {where}.{label}.{error.key}: on {task.label}: {error}; per_task may skip this pairing"
                ) from None
            made.append((task, label, algorithm, settings))
    _refuse_empty(chosen_tasks, list(chosen), {(task, label) for task, label, *_ in made}, path)
    return made


def _refuse_empty(chosen: list[Task], labels: list[str], made: set[tuple[Task, str]], path: Path) -> None:
    """A task without any algorithm, or an algorithm without any task, has no place in the suite."""
    for task in chosen:
        if not any((task, label) in made for label in labels):
            raise SuiteError(f"{path}: per_task: skips every algorithm on {task.label}; take it out of tasks instead")
    for label in labels:
        if not any((task, label) in made for task in chosen):
            raise SuiteError(f"{path}: per_task: skips {label} on every task; take it out of algorithms instead")


def _changes(
    suite: Matrix, chosen: list[Task], labels: list[str], path: Path
) -> dict[tuple[Task, str], tuple[str, Any]]:
    """What `per_task` says of a pairing, settings or `skip`, with the key that says it; each entry must be of use.

    A key is the label of a task; where no task has that label it means all tasks of that name.
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
    """Evaluations and the end must fall between two updates of every algorithm on every task."""
    block = settings.rollout_length * settings.envs
    for key, value, unit, of in (
        ("evaluate.every", suite.evaluate.every, block, f"{label}'s rollout_length x envs = {block} on {task.label}"),
        ("steps", suite.steps, suite.evaluate.every, f"evaluate.every = {suite.evaluate.every}"),
    ):
        if value % unit:
            nearest = max(round(value / unit), 1) * unit
            raise SuiteError(f"{path}: {key}: {value} is not a multiple of {of}; the nearest is {nearest}")


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint of pydantic as `key: what is wrong; what would be valid`."""
    first = min(error.errors(), key=lambda e: not _is_about_a_key(e["type"], e["loc"]))  # it explains what is missing
    parts = [str(part) for i, part in enumerate(first["loc"]) if not (first["loc"][0] == "tasks" and i == 2)]
    value = first["input"]
    where, what = ".".join(parts), repr(value)
    if parts[-1] == KEY:
        where, what = ".".join(parts[:-2]), f"the key {value!r}"
    inner: dict[str, type[BaseModel]] = {"evaluate": Evaluate, "tuning": Tuning}
    model = inner.get(where.partition(".")[0], model) if "." in where else model
    if first["type"] in UNKNOWN:
        if model is Suite and where in STUDY_KEYS:
            return f"{where}: a key of studies, which `python -m bench.tune` runs, not of suites"
        fields = list(model.model_fields)
        near = difflib.get_close_matches(str(first["loc"][-1]), fields, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{where}: unknown key{hint}; valid: {', '.join(fields)}"
    if first["type"] == "missing":
        return f"{where}: missing; needed: {', '.join(k for k, f in model.model_fields.items() if f.is_required())}"
    if first["type"] == "int_type" and isinstance(value, float) and value.is_integer():
        return f"{where}: {value!r} is not a whole number; write {int(value)}"
    if first["type"] == "too_short":
        return f"{where}: needs at least one {where.removesuffix('s')}"
    if first["type"] == "string_pattern_mismatch":
        return f"{where}: {what} must be 1 to 100 letters, digits and . _ + -, the first a letter or digit"
    if first["type"] in KINDS:
        return f"{where}: {what} is not {KINDS[first['type']]}"
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"{where}: {message}, not {value!r}"


def _is_about_a_key(kind: str, loc: tuple[int | str, ...]) -> bool:
    return kind in UNKNOWN or loc[-1] == KEY


def override(document: dict[str, Any], change: str) -> None:
    """Apply one `path=value`, its value read as YAML; mappings on the way are made where they are missing."""
    dotted, equals, text = change.partition("=")
    if not equals or "" in dotted.split("."):
        raise SuiteError(f"--set {change}: write path=value, for example algorithms.happo.clip=0.1")
    try:
        value = parse(text)
    except yaml.YAMLError as error:
        raise SuiteError(f"--set {change}: the value is not YAML ({_first_line(error)})") from None
    *way, last = dotted.split(".")
    node: Any = document
    for key in way:
        if isinstance(node, list) and (index := _index(node, key)) is not None:
            if isinstance(node[index], str):  # a task's name alone
                node[index] = {"name": node[index]}
            node = node[index]
        elif isinstance(node, dict):
            node[key] = {} if node.get(key) is None else node[key]
            node = node[key]
        else:
            raise SuiteError(f"--set {change}: {key!r} leads nowhere in this suite")
    if isinstance(node, list) and (index := _index(node, last)) is not None:
        node[index] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise SuiteError(f"--set {change}: {last!r} leads nowhere in this suite")


def _index(items: list[Any], key: str) -> int | None:
    """The place in a list that a part of a `--set` path names."""
    names = [str(index) for index in range(len(items))]
    return names.index(key) if key in names else None


def unshared(value: Any) -> Any:
    """A copy in which no two places are one object, as a YAML anchor and its aliases are."""
    if isinstance(value, dict):
        return {key: unshared(part) for key, part in value.items()}
    return [unshared(part) for part in value] if isinstance(value, list) else value


def read(path: Path, model: type[BaseModel]) -> dict[str, Any]:
    """The mapping in a YAML file, which is to become a `model`."""
    try:
        text = path.read_text()
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read ({error.strerror}){_hint(model)}") from None
    except UnicodeDecodeError:
        raise SuiteError(f"{path}: not a text file") from None
    try:
        document = unshared(parse(text))
    except RecursionError:
        raise SuiteError(f"{path}: a mapping or list in it holds itself") from None
    except yaml.YAMLError as error:
        raise SuiteError(f"{path}: not valid YAML: {_first_line(error)}") from None
    required = ", ".join(key for key, field in model.model_fields.items() if field.is_required())
    needs = f"{'a suite' if model is Suite else 'it'} needs {required}"
    if document is None:
        raise SuiteError(f"{path}: the file is empty; {needs}")
    if not isinstance(document, dict):
        raise SuiteError(f"{path}: not a mapping of keys to values; {needs}")
    return document


def _hint(model: type[BaseModel]) -> str:
    """Where files of that kind lie."""
    if model is Included:
        return "; a study leaves results/<study>/best.yaml"
    near = sorted(str(p) for p in Path("suites").glob("*.yaml"))
    return f"; suites here: {', '.join(near)}" if near else ""


def _first_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())
