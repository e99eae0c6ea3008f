"""Methods by name: the rows of `algorithms.registry`, and the user's own.

One of the user's own is a `Method` in a module (`python:package.module:METHOD`) or behind an entry point of the group
`bench.algorithms`.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, get_type_hints

from algorithms import KNOWN, SettingError
from algorithms.registry import Method
from algorithms.validation import is_checked
from bench.tasks import plugins

GROUP = "bench.algorithms"


def method(name: str) -> Method:
    """The method of that name; refuses an unknown name and an entry point whose name is taken."""
    plugins.refuse_taken(name, GROUP, (*KNOWN, plugins.PREFIX), "algorithm")
    return KNOWN[name] if name in KNOWN else _own(name)


def valid() -> list[str]:
    """The names that an algorithm may have, for messages."""
    return [
        *KNOWN,
        *(name for name in plugins.points(GROUP) if name not in KNOWN),
        f"{plugins.PREFIX}package.module:METHOD",
    ]


def origin(method: Method) -> dict[str, Any]:
    """The version of the package that a method of the user's own comes from: part of a trial's config hash."""
    return {} if method.name in KNOWN else {"algorithm_versions": plugins.versions(method.name, GROUP)}


@cache
def _own(name: str) -> Method:
    """A method of the user's own, under the name by which it was found."""
    try:
        found = plugins.find(name, GROUP, "algorithm")
    except KeyError:
        raise SettingError("algorithm", f"unknown algorithm {name!r}; valid: {', '.join(valid())}") from None
    if not isinstance(found, Method):
        raise SettingError("algorithm", f"{name} is no algorithms.registry.Method but {type(found).__name__}")
    if wrong := _wrong_with(found.settings):
        raise SettingError("algorithm", f"{name}: {wrong}")
    return replace(found, name=name)


def _wrong_with(settings: Any) -> str:
    """Why a class cannot be one of settings; empty if it can."""
    known = [field.name for field in fields(settings)] if is_dataclass(settings) else []
    for needed in ("envs", "rollout_length"):
        if needed not in known:
            return f"its settings must be a dataclass with {needed}"
    if not settings.__dataclass_params__.frozen:
        return f"its settings {settings.__name__} must be a frozen dataclass"
    hints = get_type_hints(settings, include_extras=True)
    for key in known:
        if not is_checked(hints[key]):
            return f"its setting {key} must have a type that is checked, such as algorithms.config.Positive"
    return ""
