"""YAML 1.2: `5e-4` is a number, `yes` and `2026-01-01` are strings, and duplicate keys are refused.

PyYAML implements version 1.1. Its safe loader is used with the scalars of version 1.2: null, true and false, decimal
integers and floats. Everything else is a string, including `0x10` and `.inf`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml


def parse(text: str) -> Any:
    """The value of a YAML document; raises yaml.YAMLError."""
    try:
        return yaml.load(text, _Loader)
    except (ValueError, AttributeError, RecursionError) as error:  # a wrong tag, a cycle, too many levels
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's way)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuse duplicate keys, of which PyYAML would silently keep the last."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key that is no scalar", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_SCALARS = {
    "null": (r"~|null|Null|NULL|", "~nN", lambda text: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true"),
    "int": (r"[-+]?[0-9]+", "-+0123456789", int),
    "float": (r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789", float),
}


def _constructor(read: Any) -> Any:
    return lambda loader, node: read(loader.construct_scalar(node))


for _kind, (_pattern, _first, _convert) in _SCALARS.items():
    _tag = f"tag:yaml.org,2002:{_kind}"
    _Loader.add_implicit_resolver(
        _tag, re.compile(f"^(?:{_pattern})$"), [*_first, ""] if _kind == "null" else [*_first]
    )
    _Loader.add_constructor(_tag, _constructor(_convert))
