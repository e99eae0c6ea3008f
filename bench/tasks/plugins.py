"""The user's own objects by name: `python:package.module:attribute`, or an entry point of an installed package."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from typing import Any

from algorithms import SettingError
from bench.envs.errors import error_line

PREFIX = "python:"


def find(name: str, group: str, key: str) -> Any:
    """Import the object named `python:module:attribute`, or by an entry point of `group`.

    Raises SettingError with the key `key` if that fails, and KeyError for a name that is neither.
    """
    if name.startswith(PREFIX):
        module, colon, attribute = name.removeprefix(PREFIX).partition(":")
        if not (colon and module and attribute):
            raise SettingError(key, f"{name!r} is not of the form {PREFIX}package.module:attribute")
        return _imported(name, module, attribute, key)
    point = points(group)[name][0]
    return _imported(name, point.module, point.attr, key)


@cache
def points(group: str) -> dict[str, list[metadata.EntryPoint]]:
    """name -> entry points of a group: one each, unless two packages use the same name."""
    found: dict[str, list[metadata.EntryPoint]] = {}
    for point in metadata.entry_points(group=group):
        others = found.setdefault(point.name, [])
        if point.value not in [other.value for other in others]:
            others.append(point)
    return found


def refuse_taken(name: str, group: str, taken: Iterable[str], key: str) -> None:
    """Raise SettingError if two entry points have that name, or it is one of `taken` or begins with a prefix in it."""
    own = points(group).get(name, [])
    packages = " and ".join(point.dist.name if point.dist else "no package" for point in own)
    if len(own) > 1:
        raise SettingError(
            key, f"two entry points of {group} are called {name}, those of {packages}: uninstall one of them"
        )
    for begins in taken if own else ():
        if name == begins or (begins[-1] in "/:" and name.startswith(begins)):
            holder = f"names with {begins} are" if begins[-1] in "/:" else f"{begins} is"
            raise SettingError(
                key,
                f"the entry point {name!r} of {group}, of the package {packages}, has a name that is taken: "
                f"{holder} built into the benchmark; uninstall the package, or rename it there",
            )


def _imported(name: str, module: str, attribute: str, key: str) -> Any:
    """The attribute of a module; raises SettingError of one line if it cannot be imported or does not exist."""
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        hint = "install it, or start in the folder that holds it"
        raise SettingError(key, f"{name}: cannot import {module}: {error}; {hint}") from error
    except (Exception, SystemExit) as error:
        raise SettingError(key, f"{name}: importing {module} raised {error_line(error)}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = ", ".join(word for word in vars(found) if not word.startswith("_")) or "nothing public"
            raise SettingError(key, f"{name}: {module} has no {attribute}; it has {public}")
        found = getattr(found, part)
    return found


@cache
def versions(name: str, group: str) -> dict[str, str]:
    """package -> version of the package that an object comes from; "no version" for a file that is in no package."""
    if name in points(group):
        point = points(group)[name][0]
        if point.dist is not None:
            return {point.dist.name: point.dist.version}
    top = name.removeprefix(PREFIX).partition(":")[0].partition(".")[0]
    return {package: metadata.version(package) for package in sorted(_packages().get(top, []))} or {top: "no version"}


@cache
def _packages() -> Mapping[str, list[str]]:
    """Module -> names of the installed packages that have it; reads what all packages say they installed."""
    return metadata.packages_distributions()
