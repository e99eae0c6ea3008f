"""Algorithms by name: the rows of `algorithms.registry`, and methods of the user's own beside them.

One of the user's own is a `Method` in a module (`python:package.module:METHOD`) or behind an entry point of the group
`bench.algorithms`. Once found it is a row of the registry like the others, in this process.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import algorithms
from algorithms import SettingError
from algorithms.registry import Method
from bench.tasks import plugins

GROUP = "bench.algorithms"


def method(name: str) -> Method:
    """The method of that name, refusing what is none."""
    plugins.refuse_taken(name, GROUP, (*BUILT_IN, plugins.PREFIX), "algorithm")
    if name not in algorithms.METHODS:
        try:
            found = plugins.find(name, GROUP, "algorithm")
        except KeyError:
            raise SettingError("algorithm", f"unknown algorithm {name!r}; valid: {', '.join(valid())}") from None
        _check(name, found)
        algorithms.METHODS[name] = found
    return algorithms.METHODS[name]


BUILT_IN = tuple(algorithms.METHODS)


def valid() -> list[str]:
    """What an algorithm may be called."""
    return [
        *BUILT_IN,
        *(name for name in plugins.points(GROUP) if name not in BUILT_IN),
        f"{plugins.PREFIX}package.module:METHOD",
    ]


def _check(name: str, found: object) -> None:
    """A method needs settings that say how much is collected for an update."""
    if not isinstance(found, Method):
        raise SettingError("algorithm", f"{name} is no algorithms.registry.Method but {type(found).__name__}")
    known = [field.name for field in fields(found.settings)] if is_dataclass(found.settings) else []
    for needed in ("envs", "rollout_length"):
        if needed not in known:
            raise SettingError("algorithm", f"{name}: its settings must be a dataclass with {needed}")
