"""Methods by name: the rows of `algorithms.registry`, and the user's own.

One of the user's own is a `Method` in a module (`python:package.module:METHOD`) or behind an entry point of the group
`bench.algorithms`.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from functools import cache

from algorithms import KNOWN, SettingError
from algorithms.registry import Method
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


@cache
def _own(name: str) -> Method:
    """A method of the user's own, under the name by which it was found."""
    try:
        found = plugins.find(name, GROUP, "algorithm")
    except KeyError:
        raise SettingError("algorithm", f"unknown algorithm {name!r}; valid: {', '.join(valid())}") from None
    if not isinstance(found, Method):
        raise SettingError("algorithm", f"{name} is no algorithms.registry.Method but {type(found).__name__}")
    known = [field.name for field in fields(found.settings)] if is_dataclass(found.settings) else []
    for needed in ("envs", "rollout_length"):
        if needed not in known:
            raise SettingError("algorithm", f"{name}: its settings must be a dataclass with {needed}")
    return replace(found, name=name)
