"""Values that settings may have: types with bounds, and the strict reading of a mapping into a dataclass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

S = TypeVar("S")


LARGEST = 3.4e38
"""Just below the greatest number that 32 bits hold."""


@dataclass(frozen=True)
class Bounds:
    """The interval a number must lie in; `open_low` leaves the lower end out. No number may exceed `LARGEST`."""

    low: float
    high: float = math.inf
    open_low: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and value <= min(self.high, LARGEST)

    def __str__(self) -> str:
        if self.high < math.inf:
            return f"from {'just above ' if self.open_low else ''}{self.low:.10g} to {self.high:.10g}"
        return f"{'above' if self.open_low else 'at least'} {self.low:.10g}"


# Upper bounds only catch typing errors that would fill the memory or never finish.
Count = Annotated[int, Bounds(1, 1_000)]
Steps = Annotated[int, Bounds(0, 10**10)]
Positive = Annotated[float, Bounds(0, open_low=True)]
NonNegative = Annotated[float, Bounds(0)]
Fraction = Annotated[float, Bounds(0, 1)]
LONGEST_LIST = 16
"""Most entries of a setting that is a list (`hidden_sizes`)."""


class SettingError(ValueError):
    """A setting that does not exist or cannot have the value given; `key` names it."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


def near(word: object, known: Iterable[str]) -> str:
    """The hint "; did you mean ...?" for a misspelt word; empty without a near match."""
    found = get_close_matches(str(word)[:100], [*known], n=1)
    return f"; did you mean {found[0]}?" if found else ""


def strict(cls: type[S], mapping: Mapping[str, Any]) -> S:
    """`mapping` as a `cls`: refuses unknown and missing keys, and values of another type or out of bounds."""
    values = checked(cls, mapping)
    for field in fields(cls):  # type: ignore[arg-type]
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise SettingError(field.name, "missing: this setting has no default")
    return cls(**values)


def checked(cls: type, mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `mapping` as `cls` has them; a `cls` may need more."""
    if not isinstance(mapping, Mapping):
        raise SettingError("settings", f"{mapping!r} is not a mapping of names to values")
    hints = get_type_hints(cls, include_extras=True)
    known = [field.name for field in fields(cls)]
    values = {}
    for key, value in mapping.items():
        if key not in known:
            raise SettingError(str(key), f"unknown setting {key!r}{near(key, known)}; valid: {', '.join(known)}")
        if not is_checked(hints[key]):
            raise SettingError(key, f"its type {hints[key]} is none that is checked, as algorithms.config.Positive is")
        values[key] = _typed(key, value, hints[key])
    return values


def is_checked(hint: Any) -> bool:
    """Whether values of that type can be checked."""
    if get_origin(hint) is tuple:
        return is_checked(get_args(hint)[0])
    kind, *about = get_args(hint) if get_origin(hint) is Annotated else [None]
    bounded = kind in (int, float) and bool(about) and isinstance(about[0], Bounds)
    return hint is bool or get_origin(hint) is Literal or bounded


def _typed(key: str, value: Any, hint: Any) -> Any:
    """`value` as what `hint` says: a word of a list, a bool, a number within bounds or a tuple of such."""
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple) or not value:
            raise SettingError(key, f"{value!r} is not a list of numbers, for example [128, 128]")
        if len(value) > LONGEST_LIST:
            raise SettingError(key, f"{len(value)} numbers are out of range: must be from 1 to {LONGEST_LIST}")
        return tuple(_typed(key, item, get_args(hint)[0]) for item in value)
    if get_origin(hint) is Literal:
        if not any(value == word and type(value) is type(word) for word in get_args(hint)):  # 1 is not true
            words = [str(word).lower() if isinstance(word, bool) else str(word) for word in get_args(hint)]
            raise SettingError(key, f"{value!r} is none of {', '.join(words)}")
        return value
    if hint is bool:
        if not isinstance(value, bool):
            raise SettingError(key, f"{value!r} is not true or false")
        return value
    kind, bounds, *_ = get_args(hint)
    allowed = int if kind is int else int | float
    if isinstance(value, bool) or not isinstance(value, allowed):
        raise SettingError(key, f"{value!r} is not {'a whole number' if kind is int else 'a number'} {bounds}")
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingError(key, f"{value!r} is not a finite number; must be {bounds}")
    if value not in bounds:
        limit = f" and at most {LARGEST:g}" if value > LARGEST and math.isinf(bounds.high) else ""
        raise SettingError(key, f"{value!r} is out of range: must be {bounds}{limit}")
    return kind(value)
