"""The settings of a method with their defaults, as a part of a suite file, each with what it means."""

from __future__ import annotations

import ast
import inspect
import json
from dataclasses import MISSING, fields
from itertools import pairwise
from textwrap import wrap
from typing import Any

from bench.suite.methods import method

WIDTH = 100
"""Columns of a line."""


def shown(name: str) -> str:
    """YAML: every setting with its default, below what the code says of it. Raises SettingError."""
    settings = method(name).settings
    said = _sentences(settings)
    lines = [f"{name}:"]
    for field in fields(settings):
        lines += wrap(said.get(field.name, ""), WIDTH, initial_indent="  # ", subsequent_indent="  # ")
        lines.append(
            f"  {field.name}:" + ("  # must be given" if field.default is MISSING else f" {json.dumps(field.default)}")
        )
    return "\n".join(lines)


def _sentences(settings: type[Any]) -> dict[str, str]:
    """Setting -> the first paragraph of the string below it, of a dataclass and those it inherits from."""
    found: dict[str, str] = {}
    for cls in reversed(settings.__mro__[:-1]):
        try:
            (tree,) = ast.parse(inspect.getsource(cls)).body
        except (OSError, TypeError, SyntaxError, ValueError):  # a user's class whose source is not at hand
            continue
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for one, after in pairwise(body):
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                text = ast.literal_eval(after.value) if _is_text(after) else ""  # type: ignore[attr-defined]
                first = " ".join(text.split("\n\n")[0].split())
                # one that leads to a table ends with the sentence before
                found[one.target.id] = first.rpartition(". ")[0] + "." if first.endswith(":") else first
    return found


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
