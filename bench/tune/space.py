"""Search spaces: the ranges of tuned settings in a study file, and sampling from them with Optuna."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations, product
from pathlib import Path
from typing import Annotated, Any, Literal

import optuna
from pydantic import Field

from algorithms import SettingError
from algorithms.registry import Settings
from bench.suite.model import Strict, SuiteError
from bench.suite.reading import validated
from bench.suite.trial import Pairing

MOST_COMBINATIONS = 10_000
"""Combinations of values that are tried one by one before a study begins."""
LARGEST_INT, LARGEST_FLOAT = 2**53, 1e30
"""Bounds of ranges: Optuna computes with float64, which does not have every whole number above the one, networks with
float32, in which what is far beyond the other is no number any more."""

BoundOfInts = Annotated[int, Field(ge=-LARGEST_INT, le=LARGEST_INT)]
BoundOfFloats = Annotated[float, Field(ge=-LARGEST_FLOAT, le=LARGEST_FLOAT, allow_inf_nan=False)]


class Parameter(Strict):
    """The range of one tuned setting."""

    when: dict[str, Any] = Field(default_factory=dict, max_length=1)
    """Condition {parameter: value or values} on an earlier parameter; if it does not hold, the default is used."""

    def active(self, values: Mapping[str, Any]) -> bool:
        """Whether its condition holds, given the values of the parameters before it."""
        return all(name in values and values[name] in _list(wanted) for name, wanted in self.when.items())


class Float(Parameter):
    """A real number."""

    kind: Literal["float"]
    low: BoundOfFloats
    high: BoundOfFloats
    log: bool = False

    def ask(self, trial: optuna.Trial, name: str) -> Any:
        """Sample a value."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def setting(self, held: Any) -> Any:
        """The value of the setting that Optuna stores as `held`."""
        return held

    def extremes(self) -> list[Any]:
        """The values that are validated on behalf of the range."""
        return [self.low, self.high]

    def has(self, value: Any) -> bool:
        """Whether the range contains the value."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high


class Int(Float):
    """A whole number."""

    kind: Literal["int"]  # type: ignore[assignment]
    low: BoundOfInts
    high: BoundOfInts

    def ask(self, trial: optuna.Trial, name: str) -> Any:
        """Sample a value."""
        return trial.suggest_int(name, self.low, self.high, log=self.log)

    def values(self) -> Sequence[Any]:
        """All values."""
        return range(self.low, self.high + 1)

    def has(self, value: Any) -> bool:
        """Whether the range contains the value."""
        return super().has(value) and value == int(value)


class Categorical(Parameter):
    """One of several values. Lists, such as hidden sizes, are stored as JSON text: Optuna takes only scalars."""

    kind: Literal["categorical"]
    choices: Annotated[list[Any], Field(min_length=2, max_length=100)]

    def ask(self, trial: optuna.Trial, name: str) -> Any:
        """Sample a value."""
        return self.setting(trial.suggest_categorical(name, [scalar(choice) for choice in self.choices]))

    def setting(self, held: Any) -> Any:
        """The value of the setting that Optuna stores as `held`."""
        return next(choice for choice in self.choices if scalar(choice) == held)

    def extremes(self) -> list[Any]:
        """The values that are validated on behalf of the range."""
        return self.choices

    def values(self) -> Sequence[Any]:
        """All values."""
        return self.choices

    def has(self, value: Any) -> bool:
        """Whether the range contains the value."""
        return scalar(value) in map(scalar, self.choices)


PARAMETER_KINDS: dict[str, type[Float] | type[Categorical]] = {"float": Float, "int": Int, "categorical": Categorical}
Parameters = dict[str, Float | Categorical]
"""The search space of one algorithm: setting -> its range, in sampling order."""


def scalar(value: Any) -> Any:
    """A value in the form in which Optuna stores it."""
    return json.dumps(list(value)) if isinstance(value, list | tuple) else value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def ask(trial: optuna.Trial, parameters: Parameters) -> dict[str, Any]:
    """Sample a value for every active parameter."""
    values: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if parameter.active(values):
            values[name] = parameter.ask(trial, name)
    return values


def point(parameters: Parameters, settings: Settings) -> dict[str, Any]:
    """The default settings as a point of the space, in the form in which Optuna stores values."""
    values: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if parameter.active(values):
            own = getattr(settings, name)
            values[name] = list(own) if isinstance(own, tuple) else own
    return {name: scalar(value) for name, value in values.items()}


def extremes(parameters: Parameters) -> Iterator[dict[str, Any]]:
    """All combinations of extreme values of every two parameters (of the only one, if there is one) for validation."""
    for names in combinations(parameters, min(2, len(parameters))):
        for values in product(*(parameters[name].extremes() for name in names)):
            chosen = dict(zip(names, values, strict=True))
            if all(parameters[name].active(chosen) or not parameters[name].when for name in names):
                yield chosen


def combined(parameters: Parameters, names: Sequence[str]) -> list[dict[str, Any]] | None:
    """All combinations of values that the parameters `names` can have together, with those of their conditions.

    None if they are more than MOST_COMBINATIONS.
    """
    needed = {*names}
    for name in reversed(parameters):
        if name in needed:
            needed |= {*parameters[name].when}
    found: list[dict[str, Any]] = [{}]
    for name, parameter in parameters.items():
        if name not in needed or not isinstance(parameter, Int | Categorical):
            continue
        active = [parameter.active(values) for values in found]
        if sum(len(parameter.values()) if on else 1 for on in active) > MOST_COMBINATIONS:
            return None
        found = [
            longer
            for values, on in zip(found, active, strict=True)
            for longer in ([values | {name: value} for value in parameter.values()] if on else [values])
        ]
    return found


def spaces(document: Mapping[str, Any], labels: Mapping[str, Pairing], path: Path) -> dict[str, Parameters]:
    """label -> parameters: the shared ones that its method has as settings, then its own."""
    shared, own = document["shared"], document["own"]
    for label in own:
        if label not in labels:
            raise SuiteError(f"{path}: space.own.{label}: not an algorithm of this study; valid: {', '.join(labels)}")
    made: dict[str, Parameters] = {}
    for label, pairing in labels.items():
        known = pairing.method.settings.__dataclass_fields__
        entries = {name: ("space.shared", entry) for name, entry in shared.items() if name in known}
        entries |= {name: (f"space.own.{label}", entry) for name, entry in own.get(label, {}).items()}
        if not entries:
            raise SuiteError(f"{path}: space: nothing to tune of {label}; valid: {', '.join(known)}")
        for name, (where, _) in entries.items():
            if name not in known:
                reason = f"{pairing.method.name} has no such setting; valid: {', '.join(known)}"
                raise SuiteError(f"{path}: {where}.{name}: {reason}")
        made[label] = {name: _parameter(entry, f"{where}.{name}", path) for name, (where, entry) in entries.items()}
        for name, (where, _) in entries.items():
            _check(name, made[label], pairing, f"{path}: {where}.{name}")
    for name in shared:
        if not any(name in parameters for parameters in made.values()):
            raise SuiteError(f"{path}: space.shared.{name}: no algorithm of this study has this setting")
    return made


def _parameter(entry: Any, where: str, path: Path) -> Float | Categorical:
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if not isinstance(kind, str) or kind not in PARAMETER_KINDS:
        valid, example = ", ".join(PARAMETER_KINDS), "{kind: float, low: 1e-4, high: 1e-2, log: true}"
        raise SuiteError(f"{path}: {where}.kind: {kind!r} is none of {valid}; write for example {example}")
    made = validated(PARAMETER_KINDS[kind], entry, path, f"{where}.")
    if isinstance(made, Float) and (made.low >= made.high or (made.log and made.low <= 0)):
        needed = "low must be below high" + " and above 0 where log is true" * made.log
        raise SuiteError(f"{path}: {where}: {needed}, not {made.low} and {made.high}")
    if isinstance(made, Categorical):
        held = [scalar(choice) for choice in made.choices]
        if twice := [value for value in held if held.count(value) > 1]:
            raise SuiteError(f"{path}: {where}.choices: {twice[0]} stands there twice")
    return made


def _refuse_wrong_choices(name: str, parameter: Float | Categorical, pairing: Pairing, where: str) -> None:
    """Report a choice that the setting itself refuses, which says more than that the default is not among them."""
    for value in parameter.extremes():
        try:
            pairing.method.configure(asdict(pairing.settings) | {name: value})
        except SettingError as error:
            raise SuiteError(f"{where}: {name}={value}: {error}") from None


def _check(name: str, parameters: Parameters, pairing: Pairing, where: str) -> None:
    """Refuse a condition that cannot hold and a range without the default, which is the first tuning trial."""
    for parent, wanted in parameters[name].when.items():
        before = list(parameters)[: list(parameters).index(name)]
        if parent not in before:
            raise SuiteError(f"{where}.when.{parent}: not a parameter before it; valid: {', '.join(before) or 'none'}")
        if parameters[parent].kind == "float":
            raise SuiteError(f"{where}.when.{parent}: is a float; a condition needs an int or a categorical parameter")
        for value in _list(wanted):
            if not parameters[parent].has(value):
                raise SuiteError(f"{where}.when.{parent}: {value!r} is not among the values of {parent}")
    default = asdict(pairing.settings)[name]
    if name in point(parameters, pairing.settings) and not parameters[name].has(default):
        _refuse_wrong_choices(name, parameters[name], pairing, where)
        raise SuiteError(
            f"{where}: its default {scalar(default)} lies outside; the defaults are the first trial of every "
            "algorithm: widen the range, or set another default under defaults or algorithms"
        )
